"""The figures of a target as measured on devices that exist, instead of published ones.

`measure` takes less than a minute and times products, reading and writing, and an all-reduce.
`keep` writes what it found into a small file, and `calibrated` reads it for each plan of that
target. The file is `targets.json` in `$PARAMESH_TARGETS`, or in `~/.cache/paramesh`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh.errors import ContextError
from paramesh.files.atomic import write_atomically
from paramesh.parallel.search.targets import Target, target_of

_FOLDER = "PARAMESH_TARGETS"
#: Seconds that a measurement takes at least, so that the clock does not matter.
_LEAST = 0.2
_DTYPES = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        target: the name of the target that the devices are.
        device_kind: as JAX calls them.
        devices: how many took part.
        peaks: operations in a second of one device, by element type.
        memory_bandwidth: bytes in a second that one device reads and writes.
        link: bytes in a second that a device sends in an all-reduce; None with one device.
        latency: seconds of the smallest all-reduce; None with one device.
    """

    target: str
    device_kind: str
    devices: int
    peaks: dict[str, float]
    memory_bandwidth: float
    link: float | None
    latency: float | None


def measure(devices: Sequence[Any] | None = None, size: int | None = None) -> Measured:
    """Time what the cost model counts with.

    Args:
        devices: of one host; None for all of the default backend.
        size: rows of the matrices; None for what keeps such a device busy.
    """
    devices = jax.local_devices() if devices is None else list(devices)
    first = devices[0]
    target = target_of(first.platform, first.device_kind)
    size = size or (1024 if target.name == "cpu" else 8192)
    mesh = Mesh(np.array(devices), ("all",))
    return Measured(
        target.name,
        str(first.device_kind),
        len(devices),
        {dtype: _products(mesh, size, dtype) for dtype in _DTYPES},
        _memory(mesh, size),
        *_sending(mesh, size),
    )


def _seconds(run: Callable[[], Any]) -> float:
    """The least time of a call, of as many as take long enough."""
    jax.block_until_ready(run())
    best, spent = float("inf"), 0.0
    while spent < _LEAST:
        started = time.perf_counter()
        jax.block_until_ready(run())
        best = min(best, last := time.perf_counter() - started)
        spent += last
    return best


def _ones(mesh: Mesh, shape: tuple[int, ...], dtype: str) -> jax.Array:
    """An array of which each device has a shard of this shape: all of them work at once."""
    sharding = NamedSharding(mesh, PartitionSpec("all"))
    global_shape = (mesh.size, *shape)
    return jax.jit(lambda: jnp.ones(global_shape, dtype), out_shardings=sharding)()


def _products(mesh: Mesh, size: int, dtype: str) -> float:
    a = _ones(mesh, (size, size), dtype)
    product = jax.jit(lambda a: jnp.einsum("dij,djk->dik", a, a))
    return 2.0 * size**3 / _seconds(lambda: product(a))


def _memory(mesh: Mesh, size: int) -> float:
    a = _ones(mesh, (16, size, size), "float32")
    added = jax.jit(lambda a: a + 1)
    return 2.0 * a.nbytes / mesh.size / _seconds(lambda: added(a))


def _sending(mesh: Mesh, size: int) -> tuple[float | None, float | None]:
    count = mesh.size
    if count == 1:
        return None, None
    everywhere = NamedSharding(mesh, PartitionSpec())
    total = jax.jit(lambda a: a.sum(0), out_shardings=everywhere)
    small, large = _ones(mesh, (1,), "float32"), _ones(mesh, (4, size, size), "float32")
    latency = _seconds(lambda: total(small))
    sent = 2 * large.nbytes / count * (count - 1) / count
    return sent / max(_seconds(lambda: total(large)) - latency, 1e-9), latency


def file() -> Path:
    """Where measured figures are kept."""
    folder = os.environ.get(_FOLDER)
    return Path(folder) / "targets.json" if folder else Path.home() / ".cache/paramesh/targets.json"


def keep(measured: Measured) -> Path:
    """Write measured figures for later plans; those of other targets stay.

    Raises:
        OSError: the file cannot be written.
        ContextError: there is one that cannot be read.
    """
    path = file()
    known = _read(path)
    known[measured.target] = dataclasses.asdict(measured)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(known, indent=2) + "\n").encode())
    return path


def calibrated(target: Target) -> tuple[Target, bool]:
    """A target with the figures that were measured, and whether there are any.

    Raises:
        ContextError: the file cannot be read.
    """
    path = file()
    found = _read(path).get(target.name)
    if found is None:
        return target, False
    try:
        peaks = {str(name): float(value) for name, value in found["peaks"].items()}
        link, latency = found["link"], found["latency"]
        changed = dataclasses.replace(
            target,
            flops=peaks.get("bfloat16" if target.name != "cpu" else "float32", target.flops),
            peaks={**target.peaks, **peaks},
            memory_bandwidth=float(found["memory_bandwidth"]),
            link=target.link if link is None else float(link),
            latency=target.latency if latency is None else float(latency),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContextError(_unreadable(path, repr(error))) from error
    return changed, True


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ContextError(_unreadable(path, str(error))) from error
    if not isinstance(found, dict):
        raise ContextError(_unreadable(path, "it holds no object"))
    return found


def _unreadable(path: Path, why: str) -> str:
    return (
        f"{path}: cannot be read as measured figures of targets ({why}). Remove it, or write it "
        "again with 'paramesh plan --calibrate'."
    )
