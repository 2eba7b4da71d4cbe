"""One of several processes that save and load an array cut over all of them; see `sharded.py`.

`python sharded_worker.py KIND ADDRESS PROCESSES PROCESS TENSORS ELEMENTS FOLDER`, KIND
`paramesh` or `orbax`. It prints a line of JSON with its version, and then for every line of its
input one with the seconds of a save and of a load. Every process starts a round when all have come
to it.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)

import jax  # noqa: E402
import numpy as np  # noqa: E402
from jax.experimental import multihost_utils  # noqa: E402
from jax.sharding import Mesh, NamedSharding, PartitionSpec  # noqa: E402

Work = Callable[[Path], Any]


def arrays(tensors: int, elements: int) -> dict[str, Any]:
    """Float32 arrays of shape (processes, elements / processes), a row in each process."""
    count = jax.process_count()
    mesh = Mesh(np.array(sorted(jax.devices(), key=lambda d: d.process_index)), ("d",))
    sharding = NamedSharding(mesh, PartitionSpec("d"))
    shape = (count, elements // count)
    draw = np.random.default_rng(jax.process_index())
    return {
        f"w{i}": jax.make_array_from_process_local_data(
            sharding, draw.random((1, shape[1]), np.float32), shape
        )
        for i in range(tensors)
    }


def of_paramesh(values: dict[str, Any]) -> tuple[str, Work, Work]:
    """(version, how to save, how to load) of paramesh."""
    from paramesh import context, load_checkpoint, nn, save_checkpoint
    from paramesh.parameter import Parameter
    from paramesh.tensor import Tensor
    from paramesh.tensor.base import wrap

    context.set_auto_parallel_context(parallel_mode="semi_auto_parallel")

    def cell(start: Callable[[Any], Any]) -> Any:
        made = nn.Cell()
        for name, value in values.items():
            param = Parameter(start(value), name=name)
            param.layout = (jax.process_count(), 1)
            made.insert_param_to_cell(name, param)
        return made

    full = cell(wrap)
    other = cell(lambda value: Tensor(np.zeros(value.shape, np.float32)))

    def load(path: Path) -> Any:
        load_checkpoint(path, other)
        return [param._get() for param in other.get_parameters()]

    version = importlib.metadata.version("paramesh")
    return version, lambda path: save_checkpoint(full, path, format="sharded"), load


def of_orbax(values: dict[str, Any]) -> tuple[str, Work, Work]:
    """(version, how to save, how to load) of orbax's StandardCheckpointer."""
    import orbax.checkpoint as ocp  # pyright: ignore[reportMissingImports]

    about = {
        name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=value.sharding)
        for name, value in values.items()
    }
    checkpointer = ocp.StandardCheckpointer()

    def save(path: Path) -> None:
        checkpointer.save(path, values)
        checkpointer.wait_until_finished()

    version = importlib.metadata.version("orbax-checkpoint")
    return version, save, lambda path: checkpointer.restore(path, about)


def main() -> None:
    kind, address, count, index, tensors, elements, folder = sys.argv[1:]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, int(count), int(index))
    values = arrays(int(tensors), int(elements))
    build = {"paramesh": of_paramesh, "orbax": of_orbax}[kind]
    version, save, load = build(values)
    print(json.dumps({"version": version}), file=ANSWERS, flush=True)
    for number, _ in enumerate(sys.stdin):
        path = Path(folder) / f"{kind}-{number}"
        seconds: list[float] = []
        for work in (save, load):
            multihost_utils.sync_global_devices(f"{kind} {number}")
            start = time.perf_counter()
            done = work(path)
            jax.block_until_ready([one for one in jax.tree.leaves(done) if hasattr(one, "shape")])
            seconds.append(time.perf_counter() - start)
        multihost_utils.sync_global_devices(f"{kind} {number} done")
        if int(index) == 0:
            shutil.rmtree(path)
        print(json.dumps(seconds), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
