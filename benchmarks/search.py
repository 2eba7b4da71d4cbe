"""How long the search for layouts takes, and what its plans cost beside layouts known by name.

Run `python benchmarks/search.py [--only time quality compiled memory] [--layers N ...]`. Everything
is on eight virtual devices; the cost model counts with the figures of a target (`--target`), so
modelled times are of that, and no time of a step is measured here.

    time        processor seconds of tracing and of searching a GPT's whole training step, gradients
                and Adam included, over meshes; the bound that proves the plan beside its cost
    quality     modelled time and bytes that a device sends of the plan, beside the best plans in
    which
                Parameters and the states of Adam lie as in data parallel, ZeRO-1, ZeRO-3 and
                Megatron, and all else is searched: hand-made programs with these layouts cost no
                less in the model
    compiled    bytes that a device sends by the plan, beside what XLA compiled (tests/ has the
    reader)
    memory      bytes that a device holds as predicted, beside what XLA's `memory_analysis` says,
                for the CPU, an H100 and a v5e; those without their compiler (extras plan-cuda and
                plan-tpu) are left out, with the reason
"""

from __future__ import annotations

import argparse
import itertools
import os
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
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.sharding import Mesh
from rich.console import Console
from rich.table import Table

import record
from compiled_collectives import collectives
from paramesh.parallel.partitioning.rewriting import rewritten
from paramesh.parallel.partitioning.rules import is_ours, own_way
from paramesh.parallel.planning.devices import MissingCompilerError, target_devices
from paramesh.parallel.planning.predicted import arguments, passing
from paramesh.parallel.planning.step import platform_of
from paramesh.parallel.search.apply import Shower, applied
from paramesh.parallel.search.machine import TARGETS, Target
from paramesh.parallel.search.plan import (
    Plan,
    Program,
    cut_over_all,
    everywhere,
    find,
    restricted,
)
from paramesh.parallel.search.resharding import WHOLE

DEVICES = tuple(range(8))
Weights = dict[str, Any]


class Network(NamedTuple):
    """A loss of weights and a batch, their shapes, and the weights that Megatron cuts."""

    loss: Callable[..., Any]
    weights: Weights
    batch: Any
    #: Last part of a name -> the dimension.
    megatron: dict[str, int]


def f32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def i32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def normed(x: Any, scale: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * scale


def cross_entropy(logits: Any, labels: Any) -> Any:
    hit = jnp.where(labels[..., None] == jnp.arange(logits.shape[-1]), logits, 0.0).sum(-1)
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - hit)


def gpt(layers: int, width: int = 1024, heads: int = 16, words: int = 32768) -> Network:
    """Pre-norm blocks, tied embeddings; 16 rows of 512 tokens."""
    rows, length = 16, 512
    block = {
        "n1": f32(width),
        "n2": f32(width),
        "up": f32(width, 4 * width),
        "down": f32(4 * width, width),
        **{name: f32(width, width) for name in "qkvo"},
    }
    weights: Weights = {
        "words": f32(words, width),
        "places": f32(length, width),
        "blocks": [dict(block) for _ in range(layers)],
    }

    def attended(w: Weights, x: Any) -> Any:
        h = normed(x, w["n1"])
        q, k, v = ((h @ w[n]).reshape(rows, length, heads, -1).transpose(0, 2, 1, 3) for n in "qkv")
        scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) * (width // heads) ** -0.5
        scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
        mixed = jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, -1), v)
        x = x + mixed.transpose(0, 2, 1, 3).reshape(rows, length, width) @ w["o"]
        return x + jax.nn.gelu(normed(x, w["n2"]) @ w["up"]) @ w["down"]

    def loss(weights: Weights, batch: Any) -> Any:
        tokens, labels = batch
        x = jnp.take(weights["words"], tokens, axis=0, mode="clip") + weights["places"]
        for w in weights["blocks"]:
            x = attended(w, x)
        return cross_entropy(x @ weights["words"].T, labels)

    cut = {"q": 1, "k": 1, "v": 1, "up": 1, "o": 0, "down": 0, "words": 0}
    return Network(loss, weights, (i32(rows, length), i32(rows, length)), cut)


def mlp() -> Network:
    sizes = (1024, 4096, 1024, 4096, 1024)
    weights = {f"w{n}": f32(a, b) for n, (a, b) in enumerate(itertools.pairwise(sizes))}

    def loss(weights: Weights, batch: Any) -> Any:
        x, y = batch
        for n in range(4):
            x = jax.nn.relu(x @ weights[f"w{n}"]) if n < 3 else x @ weights[f"w{n}"]
        return jnp.mean((x - y) ** 2)

    batch = (f32(1024, sizes[0]), f32(1024, sizes[-1]))
    return Network(loss, weights, batch, {"w0": 1, "w1": 0, "w2": 1, "w3": 0})


def wide_and_deep() -> Network:
    rows, width, batch = (1_000_000, 262_144, 262_144, 262_144), 64, 8192
    dims = (len(rows) * width, 1024, 256, 1)
    weights: Weights = {
        "deep": [f32(n, width) for n in rows],
        "wide": [f32(n, 1) for n in rows],
        "layers": [f32(a, b) for a, b in itertools.pairwise(dims)],
    }

    def loss(weights: Weights, batch: Any) -> Any:
        ids, y = batch
        taken = [jnp.take(t, ids[:, n], axis=0, mode="clip") for n, t in enumerate(weights["deep"])]
        x = jnp.concatenate(taken, -1)
        for n, w in enumerate(weights["layers"]):
            x = jax.nn.relu(x @ w) if n < 2 else x @ w
        x += sum(jnp.take(t, ids[:, n], axis=0, mode="clip") for n, t in enumerate(weights["wide"]))
        x = x[:, 0]
        return jnp.mean(jnp.maximum(x, 0) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x))))

    return Network(loss, weights, (i32(batch, len(rows)), f32(batch)), {})


def step_of(network: Network) -> tuple[Program, float]:
    """The training step with Adam, and the processor seconds of tracing it."""

    def step(weights: Weights, first: Weights, second: Weights, batch: Any) -> Any:
        value, grads = jax.value_and_grad(network.loss)(weights, batch)
        first = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, first, grads)
        second = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, second, grads)
        weights = jax.tree.map(
            lambda w, m, v: w - 1e-3 * m / (jnp.sqrt(v) + 1e-8), weights, first, second
        )
        return value, weights, first, second

    started = time.process_time()
    states = (network.weights,) * 3
    closed = jax.make_jaxpr(step)(*states, network.batch)
    spent = time.process_time() - started
    paths = jax.tree_util.tree_flatten_with_path(states)[0]
    names = [jax.tree_util.keystr(path) for path, _ in paths]
    names += [""] * len(jax.tree.leaves(network.batch))
    tied = {n + 1: n for n in range(len(paths))}
    return Program(closed, tuple(names), tied, {}, DEVICES), spent


def planned(program: Program, sizes: tuple[int, ...], target: Target) -> Plan:
    return find(program, target, sizes=sizes)


def times(console: Console, layers: list[int], target: Target) -> None:
    table = Table("layers", "mesh", "trace s", "search s", "modelled ms", "bound / cost")
    for count in layers:
        program, traced = step_of(gpt(count))
        for sizes in ((8,), (2, 4), (2, 2, 2)):
            started = time.process_time()
            plan = planned(program, sizes, target)
            spent = time.process_time() - started
            row = (count, sizes, f"{traced:.1f}", f"{spent:.1f}", f"{plan.seconds * 1e3:.2f}")
            table.add_row(*map(str, row), f"{plan.solution.low / plan.seconds:.6f}")
    console.print("Processor seconds of tracing and of searching a GPT of width 1024", table)


def named_layouts(plan: Plan, network: Network) -> dict[str, dict[int, Any]]:
    """Where Parameters and states lie, for each known name."""
    count = len(plan.program.tied) // 3
    inputs = [n for n in range(3 * count) if n in plan.problem.source]
    whole, axes = everywhere(plan), len(plan.machine.sizes)
    known = {
        "data parallel": {n: whole for n in inputs},
        "ZeRO-1": {n: whole if n < count else cut_over_all(plan, n) for n in inputs},
        "ZeRO-3": {n: cut_over_all(plan, n) for n in inputs},
    }
    if network.megatron:

        def cut(number: int) -> Any:
            name = plan.program.names[number].rpartition("['")[2].removesuffix("']")
            dim = network.megatron.get(name, WHOLE)
            return (dim,) * axes

        known["Megatron"] = {n: cut(n) for n in inputs}
    return known


def quality(console: Console, target: Target) -> None:
    table = Table("network", "layout", "modelled ms", "of the plan's", "MB sent")
    networks = {
        "MLP": mlp(),
        "GPT, 2 layers, width 1024": gpt(2),
        "GPT, 2 layers, width 4096": gpt(2, 4096, 32),
        "wide and deep": wide_and_deep(),
    }
    for name, network in networks.items():
        program, _ = step_of(network)
        plan = planned(program, (2, 2, 2), target)
        sent = f"{sum(plan.sent().values()) / 1e6:.1f}"
        table.add_row(name, "the plan", f"{plan.seconds * 1e3:.3f}", "1.00", sent)
        for layout, specs in named_layouts(plan, network).items():
            seconds = restricted(plan, specs)
            ratio = f"{seconds / plan.seconds:.2f}"
            table.add_row("", layout, f"{seconds * 1e3:.3f}", ratio, "")
    console.print(f"Modelled for eight '{target.name}' devices, mesh (2, 2, 2)", table)


def lowered(program: Program, plan: Plan, devices: Any, donate: bool) -> Any:
    """The program with the plan pinned, for these devices."""
    sizes = plan.machine.sizes
    mesh = Mesh(np.array(devices).reshape(sizes), tuple(f"a{axis}" for axis in range(len(sizes))))
    new = applied(program.closed, plan.problem, plan.solution.choice, mesh, program.tied)
    new = rewritten(new, is_ours, own_way(mesh, platform_of(devices[0])))
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


def memory(console: Console) -> None:
    table = Table("network", "target", "predicted MB", "compiled MB", "off", "temporary MB")
    networks = {
        "MLP": mlp(),
        "GPT, 2 layers, width 1024": gpt(2),
        "GPT, 2 layers, width 4096": gpt(2, 4096, 32),
        "wide and deep": wide_and_deep(),
    }
    left_out: dict[str, str] = {}
    for name, network in networks.items():
        program, _ = step_of(network)
        for target in ("cpu:8", "h100:8", "v5e:2x4"):
            try:
                on = target_devices(target)
            except MissingCompilerError as error:
                left_out[target] = str(error)
                continue
            plan = planned(program, (2, 2, 2), on.target.of_dtype("float32"))
            said = lowered(program, plan, on.devices, True).compile().memory_analysis()
            results = said.output_size_in_bytes - said.alias_size_in_bytes
            got = said.argument_size_in_bytes + said.temp_size_in_bytes + results
            predicted = arguments(plan) + passing(plan)
            row = (f"{predicted / 1e6:.1f}", f"{got / 1e6:.1f}", f"{predicted / got - 1:+.1%}")
            table.add_row(name, target, *row, f"{said.temp_size_in_bytes / 1e6:.1f}")
    console.print("Bytes that a device holds in a step, mesh (2, 2, 2)", table)
    for target, reason in left_out.items():
        console.print(f"{target} is left out: {reason}", markup=False)


def compiled(console: Console, target: Target) -> None:
    table = Table("network", "mesh", "predicted MB", "compiled MB", "off")
    for name, network in (("MLP", mlp()), ("GPT, 2 layers", gpt(2))):
        for sizes in ((8,), (2, 4), (2, 2, 2)):
            program, _ = step_of(network)
            plan = planned(program, sizes, target)
            text = lowered(program, plan, jax.devices()[:8], False).compile().as_text()
            got = sum(collectives(text).values())
            said = sum(plan.sent().values())
            row = (f"{said / 1e6:.1f}", f"{got / 1e6:.1f}", f"{got / said - 1:+.1%}")
            table.add_row(name, str(sizes), *row)
    console.print("Bytes that a device sends in a step", table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("time", "quality", "compiled", "memory")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts)
    parser.add_argument("--layers", nargs="+", type=int, default=[2, 12, 48])
    parser.add_argument("--target", choices=sorted(TARGETS), default="h100")
    given = parser.parse_args()
    console, target = Console(), TARGETS[given.target]
    if "time" in given.only:
        times(console, given.layers, target)
    if "quality" in given.only:
        quality(console, target)
    if "compiled" in given.only:
        compiled(console, target)
    if "memory" in given.only:
        memory(console)


if __name__ == "__main__":
    record.run(main)
