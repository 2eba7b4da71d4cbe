"""How long the search for layouts takes, and what its plans cost beside layouts known by name.

Run `python benchmarks/search.py [--only time quality …] [--networks mlp …] [--meshes 8 2x4 …]`.
Everything is on eight virtual devices; the cost model counts with the figures of a target
(`--target`), so that modelled times are of that.

    time        processor seconds of tracing and of searching a GPT's whole training step, gradients
                and Adam included, over meshes (`--layers`); the bound that proves the plan beside
                its cost
    quality     modelled time of the plan, bytes that a device sends and in how many collectives,
                beside the best of the layouts that people give by hand (`searched/peers.py`);
                `--every` prints all
    peers       bytes that a device sends as XLA compiled them: the plan beside the same layouts
    compiled    bytes that a device holds and sends as predicted, beside what XLA's
                `memory_analysis` and its program say (`--devices`); devices without their compiler
                (extras plan-cuda and plan-tpu) are left out, with the reason
    step        time of a step on the virtual devices: data parallel and Megatron beside the plan
                for the CPU, in turns: the median of their ratios in a turn, and the least and the
                most

Meshes are 8, 2x4 and 2x2x2 in one host, and 2hosts: two hosts of four devices. `--unseen` takes the
networks that predictions were not fitted to (`searched/unseen.py`), and `--fresh` those that were
written after the prediction for GPUs (`searched/fresh.py`); `--dropped` those with dropout
(`searched/dropped.py`). `--kept FILE` keeps the costs
of `quality` and what compilers said for `compiled`, so that a run may be stopped and go on. With
`--record`, a part that is asked for as `--only=PART` has a section of its own, and so have
`--unseen`, `--fresh`, `--dropped` and `--meshes=MESH`.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
)
sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

import record
from compiled_collectives import collectives
from paramesh.parallel.partitioning.rewriting import rewritten
from paramesh.parallel.partitioning.rules import has_own_rule, own_partitioning
from paramesh.parallel.planning.devices import (
    MissingCompilerError,
    TargetDevices,
    target_devices,
)
from paramesh.parallel.planning.memory.predicted import arguments, passing
from paramesh.parallel.planning.sent import sent_by
from paramesh.parallel.planning.step import platform_of
from paramesh.parallel.search.apply import Shower, applied
from paramesh.parallel.search.machine import TARGETS, Target
from paramesh.parallel.search.plan import Plan, Program, find
from paramesh.transforms.stages import compiled_for_target
from searched import drec
from searched.dropped import DROPPED
from searched.fresh import FRESH
from searched.networks import MEDIUM, NETWORKS, Network, gpt
from searched.peers import compiled as compiled_peer
from searched.peers import modelled, peers_of, problem_of, program_of
from searched.unseen import UNSEEN

ALL = {**NETWORKS, **UNSEEN, **FRESH, **DROPPED}
#: Name -> (mesh, hosts).
MESHES: dict[str, tuple[tuple[int, ...], int]] = {
    "8": ((8,), 1),
    "2x4": ((2, 4), 1),
    "2x2x2": ((2, 2, 2), 1),
    "2hosts": ((2, 2, 2), 2),
}


class Cost(NamedTuple):
    """What a layout comes to: modelled seconds, bytes that a device sends, in how many sends."""

    name: str
    seconds: float
    nbytes: float
    sends: int


def cost_of(name: str, plan: Plan) -> Cost:
    sends = plan.collectives()
    return Cost(name, plan.seconds, sum(s.nbytes for s in sends), sum(s.times for s in sends))


# Time of the search.


def times(console: Console, layers: list[int], target: Target) -> None:
    table = Table("layers", "mesh", "trace s", "search s", "modelled ms", "bound / cost")
    for count in layers:
        started = time.process_time()
        program = program_of(gpt(count))
        traced = time.process_time() - started
        for sizes in ((8,), (2, 4), (2, 2, 2)):
            started = time.process_time()
            plan = find(program, target, sizes=sizes)
            spent = time.process_time() - started
            row = (count, sizes, f"{traced:.1f}", f"{spent:.1f}", f"{plan.seconds * 1e3:.2f}")
            table.add_row(*map(str, row), f"{plan.solution.low / plan.seconds:.6f}")
    console.print("Processor seconds of tracing and of searching a GPT of width 1024", table)


# Costs in the model.


class Kept:
    """What took long, in a file (`--kept`), so that a run that was stopped goes on where it was."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known: dict[str, Any] = {}
        if path is not None and path.exists():
            self._known = json.loads(path.read_text())

    def get(self, key: str, make: Callable[[], Any]) -> Any:
        """What the file has of a key, or what is made then: of what JSON has."""
        if key not in self._known:
            self._known[key] = make()
            if self._path is not None:
                self._path.write_text(json.dumps(self._known))
        return self._known[key]

    def cost(self, key: str, make: Callable[[], Cost]) -> Cost:
        return Cost(*self.get(key, make))


class Peers:
    """The costs of the layouts that a network has by hand; each is searched once."""

    def __init__(self, name: str, network: Network, target: Target, kept: Kept) -> None:
        self._name, self._network, self._target, self._kept = name, network, target, kept

    def of(self, mesh: str) -> list[Cost]:
        """On one axis, on two where the mesh has more, and D-Rec, which has a mesh of its own."""
        sizes, hosts = MESHES[mesh]
        found = self._on((8,), hosts)
        if len(sizes) > 1:
            found = found + self._on((2, 4), hosts)
        return found + self._by_drec(hosts)

    def _on(self, sizes: tuple[int, ...], hosts: int) -> list[Cost]:
        shape = "x".join(map(str, sizes))

        def cost(name: str, peer: Any) -> Cost:
            plan = modelled(self._network, peer, sizes, self._target, hosts)
            return cost_of(f"{name} ({shape})", plan)

        return [
            self._kept.cost(
                f"{self._name} {shape} {hosts} {name}", functools.partial(cost, name, peer)
            )
            for name, peer in peers_of(self._network, sizes).items()
        ]

    def _by_drec(self, hosts: int) -> list[Cost]:
        def cost() -> Cost:
            program = program_of(self._network, hosts)
            problem = problem_of(program, (2, 2, 2), self._target)
            return cost_of("D-Rec", drec.found_by_drec(program, problem))

        return [self._kept.cost(f"{self._name} D-Rec {hosts}", cost)]


def cost_of_plan(network: Network, mesh: str, target: Target) -> Cost:
    sizes, hosts = MESHES[mesh]
    return cost_of("the plan", find(program_of(network, hosts), target, sizes=sizes))


def quality(
    console: Console,
    target: Target,
    networks: list[str],
    meshes: list[str],
    every: bool,
    kept: Kept,
) -> None:
    table = Table("network", "mesh", "ms", "best by hand", "ms", "gain", "MB", "sends")
    for title in ("fewest MB by hand", "sends", "gain"):
        table.add_column(title, justify="right")
    listed = Table("network", "mesh", "layout", "modelled ms", "of the plan's", "MB sent", "sends")
    gains: list[tuple[float, float]] = []
    for name in networks:
        network = ALL[name]()
        peers = Peers(name, network, target, kept)
        for mesh in meshes:
            of_plan = functools.partial(cost_of_plan, network, mesh, target)
            plan = kept.cost(f"{name} {mesh} plan", of_plan)
            others = peers.of(mesh)
            best = min(others, key=lambda cost: cost.seconds)
            least = min(others, key=lambda cost: cost.nbytes)
            gain = best.seconds / plan.seconds, least.nbytes / max(plan.nbytes, 1.0)
            gains.append(gain)
            row = (name, mesh, f"{plan.seconds * 1e3:.3f}", best.name, f"{best.seconds * 1e3:.3f}")
            sent = f"{plan.nbytes / 1e6:.1f}", str(plan.sends)
            fewest = f"{least.nbytes / 1e6:.1f} ({least.name})", str(least.sends)
            table.add_row(*row, f"{gain[0]:.2f}", *sent, *fewest, f"{gain[1]:.2f}")
            for cost in (plan, *others):
                ratio = f"{cost.seconds / plan.seconds:.2f}"
                numbers = (f"{cost.seconds * 1e3:.3f}", ratio, f"{cost.nbytes / 1e6:.1f}")
                listed.add_row(name, mesh, cost.name, *numbers, str(cost.sends))
    title = f"The plan and the best layouts by hand, modelled for eight '{target.name}' devices"
    console.print(title, table)
    for number, what in enumerate(("modelled time", "bytes")):
        ratios = [gain[number] for gain in gains]
        console.print(
            f"{what}: no worse in {sum(r > 1 - 1e-6 for r in ratios)} of {len(ratios)}, at least "
            f"10 % better in {sum(r >= 1.1 for r in ratios)}, least gain {min(ratios):.3f}"
        )
    if every:
        console.print("All layouts", listed)


# What XLA compiles.


def lowered(program: Program, plan: Plan, devices: Any, donate: bool) -> Any:
    """The program with the plan pinned, for these devices."""
    sizes = plan.machine.sizes
    mesh = Mesh(np.array(devices).reshape(sizes), tuple(f"a{axis}" for axis in range(len(sizes))))
    new = applied(program.closed, plan.problem, plan.solution.choice, mesh, program.tied)
    new = rewritten(new, has_own_rule, own_partitioning(mesh, platform_of(devices[0])))
    shower = Shower(sizes, mesh)
    avals = [var.aval for var in program.closed.jaxpr.invars]
    places = [shower.sharding(plan.input_spec(n), a.ndim) for n, a in enumerate(avals)]
    back = [None, *(places[program.tied[n]] for n in sorted(program.tied))]
    return jax.jit(
        jaxpr_as_fun(new),
        donate_argnums=tuple(sorted(program.tied.values())) if donate else (),
        in_shardings=tuple(places),
        out_shardings=back,
    ).lower(*[jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals])


def sends_of(compiled: Any, target: str = "cpu:8") -> float:
    """The compilers of GPUs and TPUs have reduce-scatters, or fusions that are read as such."""
    text = compiled.as_text()
    if target.startswith("cpu"):
        return sum(collectives(text).values())
    return sum(one.nbytes for one in sent_by(text))


def peers_compiled(
    console: Console, target: Target, networks: list[str], meshes: list[str]
) -> None:
    table = Table("network", "mesh", "layout", "compiled MB", "of the plan's")
    for name in networks:
        network = ALL[name]()
        for mesh in meshes:
            sizes, hosts = MESHES[mesh]
            program = program_of(network, hosts)
            plan = find(program, target, sizes=sizes)
            own = sends_of(lowered(program, plan, jax.devices()[:8], False).compile())
            table.add_row(name, mesh, "the plan", f"{own / 1e6:.1f}", "1.00")
            on = (8,) if len(sizes) == 1 else (2, 4)
            for layout, peer in peers_of(network, on).items():
                got = sends_of(compiled_peer(network, peer, on, jax.devices()[:8]))
                table.add_row("", "", layout, f"{got / 1e6:.1f}", f"{got / own:.2f}")
    console.print("Bytes that a device sends in a step, as compiled for the CPU", table)


def said_by_compiler(program: Program, plan: Plan, on: TargetDevices) -> list[float]:
    """Bytes that a device holds, of those that are temporary, and that it sends."""
    stage = compiled_for_target(lowered(program, plan, on.devices, True))
    said = stage.memory_analysis()
    if said is None:
        raise RuntimeError(f"the compiler for {on.name} says nothing about memory")
    results = said.output_size_in_bytes - said.alias_size_in_bytes
    holds = said.argument_size_in_bytes + said.temp_size_in_bytes + results
    return [holds, said.temp_size_in_bytes, sends_of(stage, on.name)]


def compiled(
    console: Console, networks: list[str], meshes: list[str], devices: list[str], kept: Kept
) -> None:
    table = Table("network", "devices", "mesh")
    for title in ("holds MB", "compiled", "off", "temporary", "sends MB", "compiled", "off"):
        table.add_column(title, justify="right")
    left_out: dict[str, str] = {}
    for name, mesh, target in itertools.product(networks, meshes, devices):
        try:
            on = target_devices(target)
        except MissingCompilerError as error:
            left_out[target] = str(error)
            continue
        sizes, hosts = MESHES[mesh]
        program = program_of(ALL[name](), hosts)
        plan = find(program, on.target.of_dtype("float32"), sizes=sizes)
        got, temporary, sent = kept.get(
            f"{name} {mesh} {target}", functools.partial(said_by_compiler, program, plan, on)
        )
        holds = compared(arguments(plan) + passing(plan), got)
        sends = compared(sum(plan.sent().values()), sent)
        table.add_row(name, target, mesh, *holds, f"{temporary / 1e6:.1f}", *sends)
    console.print("Bytes that a device holds and sends in a step, as predicted", table)
    for target, reason in left_out.items():
        console.print(f"{target} is left out: {reason}", markup=False)


def compared(predicted: float, got: float) -> tuple[str, str, str]:
    return f"{predicted / 1e6:.1f}", f"{got / 1e6:.1f}", f"{predicted / max(got, 1.0) - 1:+.1%}"


# Steps that run.


class Running:
    """A compiled step with the values that it works on."""

    def __init__(self, compiled: Any, shapes: list[Any]) -> None:
        rng = np.random.default_rng(0)
        self._step = compiled
        places = jax.tree.leaves(compiled.input_shardings[0])
        values = [
            rng.integers(0, 64, s.shape).astype(s.dtype)
            if np.issubdtype(s.dtype, np.integer)
            else (rng.normal(size=s.shape) * 0.02).astype(s.dtype) ** 2
            for s in shapes
        ]
        self._values = [jax.device_put(v, p) for v, p in zip(values, places, strict=True)]

    def seconds(self, turns: int) -> float:
        """Of one step, by the clock."""
        started = time.perf_counter()
        out = None
        for _ in range(turns):
            out = self._step(*self._values)
        jax.block_until_ready(out)
        return (time.perf_counter() - started) / turns


def flat(network: Network, peer: Any, sizes: tuple[int, ...]) -> Any:
    """A peer's step over a flat list of arguments."""
    step = compiled_peer(network, peer, sizes, jax.devices()[:8], donate=False)
    tree = jax.tree.structure(((network.weights,) * 3, network.batch))

    def run(*values: Any) -> Any:
        states, batch = jax.tree.unflatten(tree, values)
        return step(*states, batch)

    run.input_shardings = step.input_shardings  # type: ignore[attr-defined]
    return run


def steps(console: Console, networks: list[str], rounds: int = 7) -> None:
    table = Table("network", "layout", "ms", "of the plan's", "in a turn")
    for name in networks:
        if name not in MEDIUM:
            continue
        network = MEDIUM[name]()
        program = program_of(network)
        shapes = [var.aval for var in program.closed.jaxpr.invars]
        plan = find(program, TARGETS["cpu"], sizes=(2, 2, 2))
        peers = {
            n: p for n, p in peers_of(network, (8,)).items() if n in ("data parallel", "Megatron")
        }
        runs = {
            "the plan": Running(lowered(program, plan, jax.devices()[:8], False).compile(), shapes)
        }
        runs |= {n: Running(flat(network, p, (8,)), shapes) for n, p in peers.items()}
        turns = {n: max(1, math.ceil(0.2 / run.seconds(2))) for n, run in runs.items()}
        taken: dict[str, list[float]] = {n: [] for n in runs}
        for _ in range(rounds):
            for n, run in runs.items():
                taken[n].append(run.seconds(turns[n]))
        for n, own in taken.items():
            ratios = [a / b for a, b in zip(own, taken["the plan"], strict=True)]
            spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
            median = f"{statistics.median(own) * 1e3:.1f}"
            table.add_row(name, n, median, f"{statistics.median(ratios):.2f}", spread)
    console.print("A step on eight virtual devices of the CPU", table)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("time", "quality", "peers", "compiled", "step")
    few = ("peers", "compiled", "step")
    parser.add_argument("--only", nargs="+", choices=parts, default=("time", "quality", *few))
    parser.add_argument("--layers", nargs="+", type=int, default=[2, 12, 48])
    parser.add_argument("--networks", nargs="+", choices=tuple(ALL))
    parser.add_argument("--unseen", action="store_true", help="take `searched/unseen.py`")
    parser.add_argument("--fresh", action="store_true", help="take `searched/fresh.py`")
    parser.add_argument("--dropped", action="store_true", help="take `searched/dropped.py`")
    parser.add_argument("--devices", nargs="+", default=["cpu:8", "h100:8", "v5e:2x4"])
    parser.add_argument("--meshes", nargs="+", choices=tuple(MESHES), default=list(MESHES))
    parser.add_argument("--every", action="store_true", help="print all layouts of `quality`")
    parser.add_argument("--kept", type=Path, help="a file for what took long")
    parser.add_argument("--target", choices=sorted(TARGETS), default="h100")
    given = parser.parse_args()
    console, target, kept = Console(), TARGETS[given.target], Kept(given.kept)
    sets = UNSEEN if given.unseen else FRESH if given.fresh else NETWORKS
    sets = DROPPED if given.dropped else sets
    given.networks = given.networks or list(sets)
    todo: dict[str, Callable[[], None]] = {
        "time": lambda: times(console, given.layers, target),
        "quality": lambda: quality(
            console, target, given.networks, given.meshes, given.every, kept
        ),
        "peers": lambda: peers_compiled(console, target, given.networks, given.meshes),
        "compiled": lambda: compiled(console, given.networks, given.meshes, given.devices, kept),
        "step": lambda: steps(console, given.networks),
    }
    for part in parts:
        if part in given.only:
            todo[part]()


if __name__ == "__main__":
    sets = ("--unseen", "--fresh", "--dropped")
    record.run(main, ("--only", *sets, "--devices", *(f"--meshes={m}" for m in MESHES)))
