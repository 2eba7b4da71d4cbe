"""What several devices cost: data-parallel steps, sums over processes, and the start of cut arrays.

Run `python benchmarks/parallel.py [--part step|reduce|start|all] [--network B] [--mib 1024]`.

    step    a training step in data_parallel at 1, 2, 4 and 8 virtual devices of one process,
            beside the same step written by hand with `jax.shard_map`, in turns, from the same
            weights; both are given the batch by numpy at every step. A loss that differs is marked.
    reduce  the sum over two processes of one array, and of the gradients of 200 small layers,
            beside `lax.psum` in `jax.shard_map`: gloo through JAX, as it is. Bytes per second.
    start   a parameter that is sharded 8 ways over four processes, made slice by slice, beside
            making it whole in every process and cutting it there: seconds of the slowest process,
                and the
            peak of memory of the greediest, in terms of what it keeps.

Virtual devices share the processor, so steps do not get faster with them; the ratios are what
counts. The other parts start processes with `paramesh launch`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console

import paramesh
import record
from paramesh import Parameter, Tensor, context, nn
from paramesh.initializer import initializer
from paramesh.parallel import all_devices
from paramesh.state import placement
from paramesh.tensor.base import raw, wrap

DEVICES = 8
AXIS = "devices"
COUNTS = (1, 2, 4, 8)
STEPS = {"A": 60, "B": 200, "C": 20, "D": 10}
TURN = 5
#: MiB of the array to sum, and how often; 0: the gradients of 200 x Dense 32x32.
SUMS = ((1, 60), (16, 20), (64, 10), (0, 60))
WAYS = ("slice by slice", "whole, then cut")
PROCESSES = {"reduce": (2, 1), "start": (4, 2)}

Step = Callable[[], Any]


def mesh(count: int) -> Mesh:
    return Mesh(np.array(all_devices()[:count]), (AXIS,))


def mapped(body: Any, over: Mesh, cut: Sequence[bool], outputs: int, donated: Sequence[int]) -> Any:
    """`jax.shard_map`, jitted; `cut`: which arguments are, along axis 0. Outputs are whole."""
    specs = tuple(PartitionSpec(AXIS) if c else PartitionSpec() for c in cut)
    out = (PartitionSpec(),) * outputs
    program = jax.shard_map(body, mesh=over, in_specs=specs, out_specs=out, check_vma=False)
    return jax.jit(program, donate_argnums=tuple(donated))


def step_by_hand(network: Any, start: Any, batch: Any, count: int) -> Step:
    """Gradients of each device's part of the batch, their mean, and the same update everywhere."""
    from networks import by_hand
    from networks.rules import optimizer

    rule, gradients = optimizer(network), jax.value_and_grad(by_hand.loss_of(network))

    def body(weights: Any, state: Any, x: Any, y: Any) -> Any:
        loss, grads = gradients(weights, x, y)
        loss, grads = lax.pmean((loss, grads), AXIS)
        updates, state = rule.update(grads, state, weights)
        return jax.tree.map(jnp.add, weights, updates), state, loss

    over = mesh(count)
    program = mapped(body, over, (False, False, True, True), 3, (0, 1))
    everywhere = NamedSharding(over, PartitionSpec())
    parts = NamedSharding(over, PartitionSpec(AXIS))
    weights = jax.device_put(by_hand.tree(network, start), everywhere)
    held = [weights, jax.jit(rule.init, out_shardings=everywhere)(weights)]

    def run() -> Any:
        x, y = jax.device_put(batch, parts)
        held[0], held[1], loss = program(held[0], held[1], x, y)
        return loss.block_until_ready()

    return run


class Loss(nn.Cell):
    """A network with its loss."""

    def __init__(self, network: Any, net: Any) -> None:
        from networks import of_paramesh

        super().__init__(auto_prefix=False)
        self.net = net
        self._loss = of_paramesh.loss_of(network, net)

    def construct(self, x: Any, y: Any) -> Any:
        """The loss of a batch."""
        return self._loss(x, y)


def step_of_paramesh(network: Any, start: Any, batch: Any, count: int) -> Step:
    """A Cell in data_parallel; every step runs in that setting."""
    from networks import of_paramesh
    from paramesh.train.cells import TrainOneStepCell

    data_parallel(count)
    net = of_paramesh.filled(network, start)
    rule = of_paramesh.optimizer(network, net.trainable_params())
    step = TrainOneStepCell(Loss(network, net), rule)

    def run() -> Any:
        return jax.block_until_ready(step(*map(Tensor, batch)))

    return run


def data_parallel(count: int) -> None:
    context.reset_auto_parallel_context()
    context.set_auto_parallel_context(
        parallel_mode="data_parallel", device_num=count, gradients_mean=True
    )


def in_turns(steps: dict[str, Step], count: int, turn: int = TURN) -> dict[str, list[float]]:
    """The seconds of every step; a first turn of each does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for at in range(1 + max(1, round(count / turn))):
        for name, step in steps.items():
            for _ in range(turn):
                begin = time.perf_counter()
                step()
                if at:
                    times[name].append(time.perf_counter() - begin)
    return times


def measure_steps(network: Any, console: Console) -> None:
    from harness import TOLERANCE, table
    from networks import definitions

    start, batch = definitions.start_values(network), definitions.batch(network)
    rows = []
    for count in COUNTS:
        steps = {
            "hand": step_by_hand(network, start, batch, count),
            "paramesh": step_of_paramesh(network, start, batch, count),
        }
        times = in_turns(steps, STEPS[network.key])
        hand, ours = (statistics.median(times[name]) for name in ("hand", "paramesh"))
        losses = [float(step()) for step in steps.values()]
        off = abs(losses[0] - losses[1]) > TOLERANCE * abs(losses[0])
        rows.append(
            (
                str(count),
                f"{hand * 1e3:.2f}",
                f"{ours * 1e3:.2f}",
                f"{ours / hand:.2f}",
                f"{losses[1]:.5f}" + (f" (by hand {losses[0]:.5f})" if off else ""),
            )
        )
    columns = ("devices", "shard_map by hand (ms)", "paramesh (ms)", "ratio", "loss")
    console.print(table(f"data_parallel: {network.title}", columns, rows))


# Sums over processes.


def shapes_of(mib: int) -> list[tuple[int, ...]]:
    if mib:
        return [(mib << 18,)]
    return [shape for _ in range(200) for shape in ((32, 32), (32,))]


def sum_by_hand(shapes: Any) -> Step:
    over = mesh(jax.device_count())

    def body(arrays: Any) -> Any:
        return ([array * 0.5 for array in lax.psum(arrays, AXIS)],)

    program = mapped(body, over, (False,), 1, (0,))
    everywhere = NamedSharding(over, PartitionSpec())
    made = jax.jit(lambda: [jnp.ones(s) for s in shapes], out_shardings=everywhere)
    held = [made()]

    def run() -> None:
        held[0] = jax.block_until_ready(program(held[0])[0])

    return run


def sum_of_paramesh(shapes: Any) -> Step:
    """What a training step does with its gradients."""
    params = [Parameter(initializer("ones", shape), name=f"p{i}") for i, shape in enumerate(shapes)]

    @paramesh.jit
    def program() -> Any:
        sums = placement.current().reduce_gradients(params, [raw(p) for p in params])
        for param, total in zip(params, sums, strict=True):
            param.set_data(wrap(total * 0.5))

    def run() -> None:
        program()
        jax.block_until_ready([p._concrete() for p in params])

    return run


def work_reduce(options: Any) -> Any:
    """In one of two processes: [(MiB, seconds by hand, seconds of paramesh)]."""
    context.set_auto_parallel_context(parallel_mode="data_parallel")
    found = []
    for mib, count in SUMS:
        shapes = shapes_of(mib)
        times = in_turns({"hand": sum_by_hand(shapes), "ours": sum_of_paramesh(shapes)}, count)
        size = sum(int(np.prod(shape)) for shape in shapes) * 4
        found.append((size, *(statistics.median(times[name]) for name in ("hand", "ours"))))
    return found


def measure_sums(options: Any, console: Console) -> None:
    from harness import table

    rows = []
    for (mib, _), (size, hand, ours) in zip(SUMS, launched("reduce", options)[0], strict=True):
        rows.append(
            (
                f"{mib} MiB in one array" if mib else "400 arrays, 0.8 MiB in all",
                f"{size / hand / 2**20:.0f}",
                f"{size / ours / 2**20:.0f}",
                f"{ours / hand:.2f}",
            )
        )
    columns = ("summed over two processes", "psum (MiB/s)", "paramesh (MiB/s)", "time ratio")
    console.print(table("all-reduce over gloo", columns, rows))


# The start of a cut parameter.


def status(field: str) -> int:
    """Bytes of a line of /proc/self/status."""
    with open("/proc/self/status") as lines:
        return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def slice_by_slice(shape: tuple[int, int], count: int) -> Any:
    param = Parameter(initializer("normal", shape), name="table")
    param.layout = (count, 1)
    return param.init_data()._value


def whole_then_cut(shape: tuple[int, int], count: int) -> Any:
    whole = Parameter(initializer("normal", shape), name="table")._concrete()
    cut = NamedSharding(mesh(count), PartitionSpec(AXIS))
    rows = shape[0] // count
    mine = [d for d in all_devices() if d.process_index == jax.process_index()]
    parts = [jax.device_put(whole[all_devices().index(d) * rows :][:rows], d).copy() for d in mine]
    del whole
    return jax.make_array_from_single_device_arrays(shape, cut, parts)


def work_start(options: Any) -> Any:
    """In one of four processes: [(seconds, peak of memory, bytes that it keeps)] of every way."""
    from jax.experimental.multihost_utils import sync_global_devices

    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel")
    count = jax.device_count()
    found = []
    for make in (slice_by_slice, whole_then_cut):
        make((count * 1024, 64), count)  # XLA's own memory, and programs of another shape
        sync_global_devices("begin")
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, begin = status("VmRSS"), time.perf_counter()
        array = jax.block_until_ready(make((options.mib << 10, 256), count))
        taken = time.perf_counter() - begin
        kept = sum(shard.data.nbytes for shard in array.addressable_shards)
        found.append((taken, status("VmHWM") - before, kept))
        del array
    return found


def measure_start(options: Any, console: Console) -> None:
    from harness import table

    rows = []
    for way, seen in zip(WAYS, zip(*launched("start", options), strict=True), strict=True):
        taken = max(seconds for seconds, _, _ in seen)
        peak = max(peak / kept for _, peak, kept in seen)
        rows.append((way, f"{taken:.2f}", f"{seen[0][2] / 2**20:.0f}", f"{peak:.2f}"))
    title = f"a parameter of {options.mib} MiB, 8 ways over four processes"
    columns = ("made", "seconds", "MiB kept by each", "peak / kept")
    console.print(table(title, columns, rows))


def launched(part: str, options: Any) -> list[Any]:
    """What the processes of a part have found, by process."""
    processes, devices = PROCESSES[part]
    with tempfile.TemporaryDirectory(prefix="paramesh-bench-") as folder:
        words = ["-n", processes, "--devices-per-process", devices, __file__]
        words += ["--worker", part, "--folder", folder, "--mib", options.mib]
        command = [sys.executable, "-c", "from paramesh.cli import main; main()", "launch"]
        done = subprocess.run([*command, *map(str, words)], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"part {part} failed:\n{done.stderr}")
        return [json.loads(path.read_text()) for path in sorted(Path(folder).iterdir())]


WORK = {"reduce": work_reduce, "start": work_start}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("step", "reduce", "start", "all"), default="all")
    parser.add_argument("--network", default="BC", help="letters of benchmarks/networks, or all")
    parser.add_argument("--mib", type=int, default=1024, help="size of the parameter to start")
    parser.add_argument("--worker", choices=tuple(WORK), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        found = WORK[options.worker](options)
        (options.folder / f"{jax.process_index()}.json").write_text(json.dumps(found))
        return
    # Read when the first device is used, which is later.
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={DEVICES}"
    import harness

    console = harness.console()
    if options.part in ("step", "all"):
        for network in harness.networks(options.network):
            measure_steps(network, console)
    if options.part in ("reduce", "all"):
        measure_sums(options, console)
    if options.part in ("start", "all"):
        measure_start(options, console)


if __name__ == "__main__":
    record.run(main)
