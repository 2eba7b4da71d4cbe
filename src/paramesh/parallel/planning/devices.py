"""The devices of a target by name, whether or not they are there.

    h100:8          one host with 8 devices
    h100:2x8        2 hosts with 8 devices each
    v5e:8x8         a slice of TPUs, as its topology is called
    v5p:4x4x4
    cpu:8           virtual devices of this host's CPU

TPUs and GPUs need not exist: the compiler of the hardware is asked for the topology, and compiles
for it. Both compilers are Python packages (the extras `plan-tpu` and `plan-cuda`) and need no
driver.
"""

from __future__ import annotations

import glob
import importlib.util
import math
import os
import re
from dataclasses import dataclass
from typing import Any

import jax

from paramesh._compat.jax import absent_devices, devices_are_open
from paramesh.errors import ContextError
from paramesh.parallel.search.targets import TARGETS, Target

_NAME = re.compile(r"(\w+):(\d+(?:x\d+)*)")
#: The kinds that a compiler of TPUs knows, by our names.
_TPUS = {"v5e": "v5e", "v5p": "v5p", "v6e": "v6e"}
#: How many axes a slice of them has.
_AXES = {"v5e": 2, "v5p": 3, "v6e": 2}
#: Chips along an axis of the largest slice: a pod is 16 x 16 (Google's pages on v5e and v6e), or
#: 16 x 20 x 28 (v5p). The compiler ends the process if there are more.
_LONGEST = {"v5e": 16, "v6e": 16, "v5p": 28}
#: Virtual devices: JAX makes so many in ten seconds.
_MOST_OF_CPU = 4096
_EXAMPLES = "h100:8, h100:2x8, v5e:8x8, v5p:4x4x4 or cpu:8"

#: For libtpu on a host without TPUs. Otherwise it asks the network who it is and says on stderr
#: that nobody knew, and lets no second process of the host compile at the same time.
_NO_TPU_HERE = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

#: Files of the drivers of GPUs and TPUs.
_ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/kfd", "/dev/accel*", "/dev/vfio/[0-9]*")

#: What the compiler of GPUs has to know of them (XLA's GpuTargetConfigProto, as it prints it for
#: such a device): the data sheets of `targets.py`, and the limits of the compute capability in
#: NVIDIA's CUDA C++ Programming Guide.
_GPU_CONFIG = """
gpu_device_info {{
  threads_per_block_limit: 1024 threads_per_warp: 32 shared_memory_per_block: 49152
  shared_memory_per_core: {shared_core} threads_per_core_limit: 2048 core_count: {cores}
  fpus_per_core: {fpus} block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535 memory_bandwidth: {bandwidth} l2_cache_size: {cache}
  clock_rate_ghz: {clock} device_memory_size: {memory}
  shared_memory_per_block_optin: {shared_block}
  cuda_compute_capability {{ major: {major} }} }}
platform_name: "CUDA" dnn_version_info {{ major: 9 minor: 10 }}
device_description_str: "{title}"
"""
_GPUS: dict[str, dict[str, Any]] = {
    "a100": {
        "shared_core": 167936,
        "shared_block": 166912,
        "cores": 108,
        "fpus": 64,
        "bandwidth": 2039000000000,
        "cache": 41943040,
        "clock": 1.41,
        "memory": 85899345920,
        "major": 8,
        "title": "NVIDIA A100-SXM4-80GB",
    },
    "h100": {
        "shared_core": 233472,
        "shared_block": 232448,
        "cores": 132,
        "fpus": 128,
        "bandwidth": 3352320000000,
        "cache": 52428800,
        "clock": 1.98,
        "memory": 84942979072,
        "major": 9,
        "title": "NVIDIA H100 80GB HBM3",
    },
    "h200": {
        "shared_core": 233472,
        "shared_block": 232448,
        "cores": 132,
        "fpus": 128,
        "bandwidth": 4800000000000,
        "cache": 62914560,
        "clock": 1.98,
        "memory": 150754820096,
        "major": 9,
        "title": "NVIDIA H200",
    },
}


class MissingCompilerError(ContextError):
    """The compiler of a target is not installed."""


@dataclass(frozen=True)
class TargetDevices:
    """Devices to plan for.

    Attributes:
        name: as it was given.
        target: what they can do.
        shape: hosts and devices of each for GPUs, the topology for TPUs.
        hosts: how many there are with an interconnect of their own.
        devices: of JAX, by rank; only compiled for if they are not there.
    """

    name: str
    target: Target
    shape: tuple[int, ...]
    hosts: int
    devices: tuple[Any, ...]

    @property
    def count(self) -> int:
        """How many devices there are."""
        return len(self.devices)


def parsed(name: str) -> tuple[str, tuple[int, ...]]:
    """The kind and the shape of a target: "h100:2x8" is ("h100", (2, 8)).

    Raises:
        ValueError: it is not of that form, or of an unknown kind.
    """
    match = _NAME.fullmatch(name.strip().lower()) if isinstance(name, str) else None
    if match is None:
        raise ValueError(f"target={name!r}: a target is a kind and a shape, such as {_EXAMPLES}.")
    kind, shape = match[1], tuple(int(n) for n in match[2].split("x"))
    if kind not in TARGETS:
        raise ValueError(f"target={name!r}: there are {', '.join(TARGETS)}, such as {_EXAMPLES}.")
    if 0 in shape:
        raise ValueError(f"target={name!r}: a target has at least one device.")
    most, what = 2, "hosts x devices"
    if kind in _TPUS:
        most = _AXES[kind]
        what = "the chips of a slice along each of its " + ("two", "three")[most - 2] + " axes"
    elif kind == "cpu":
        most, what = 1, "devices"
    if len(shape) > most:
        raise ValueError(f"target={name!r}: the shape of '{kind}' is {what}, such as {_EXAMPLES}.")
    slice_shape = _slice(kind, shape[0]) if kind in _TPUS and len(shape) == 1 else shape
    if max(slice_shape) > _LONGEST.get(kind, math.inf):
        raise ValueError(
            f"target={name!r}: a slice of '{kind}' has at most {_LONGEST[kind]} chips along an "
            f"axis, such as {_EXAMPLES}."
        )
    if kind == "cpu" and shape[0] > _MOST_OF_CPU:
        raise ValueError(
            f"target={name!r}: at most {_MOST_OF_CPU} virtual devices of a CPU can be planned for; "
            "JAX needs minutes to make more."
        )
    return kind, shape


def look_for_none_in_vain() -> None:
    """Have JAX open the CPU alone where there is no accelerator, and it was not told what to open.

    The compilers of hardware that is not there are plugins. JAX would ask each of them for devices,
    and print how that fails.
    """
    given = os.environ.get("JAX_PLATFORMS")
    if devices_are_open() or given or any(map(glob.glob, _ACCELERATORS)):
        return
    jax.config.update("jax_platforms", "cpu")


def target_devices(name: str) -> TargetDevices:
    """The devices of a target.

    Raises:
        ValueError: there is no such target, or its hardware does not come in this shape.
        MissingCompilerError: the compiler of its hardware is not installed.
        ContextError: there are fewer devices of the CPU, and it is too late to make more.
    """
    kind, shape = parsed(name)
    target = TARGETS[kind]
    if kind == "cpu":
        return TargetDevices(name, target, shape, 1, _of_cpu(name, shape[0]))
    try:
        if kind in _TPUS:
            devices, hosts = _of_tpu(kind, shape), 1
        else:
            devices = _of_gpu(kind, shape)
            hosts = shape[0] if len(shape) == 2 else 1
    except ValueError as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(f"target={name!r}: its compiler knows no such devices: {first}") from error
    if len(devices) != math.prod(shape):
        raise ValueError(
            f"target={name!r}: its compiler makes {len(devices)} devices of that shape, not "
            f"{math.prod(shape)}."
        )
    return TargetDevices(name, target, shape, hosts, devices)


def _of_cpu(name: str, count: int) -> tuple[Any, ...]:
    if not devices_are_open() and "xla_force_host_platform_device_count" not in os.environ.get(
        "XLA_FLAGS", ""
    ):
        jax.config.update("jax_num_cpu_devices", max(count, 1))
    devices = jax.local_devices(backend="cpu")
    if len(devices) < count:
        raise ContextError(
            f"target={name!r}: JAX has opened {len(devices)} devices of the CPU already. Set "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={count} before it starts, or plan "
            "before anything is computed."
        )
    return tuple(devices[:count])


def _of_tpu(kind: str, shape: tuple[int, ...]) -> tuple[Any, ...]:
    _need("libtpu", "plan-tpu", "TPUs")
    if not glob.glob("/dev/accel*") and not glob.glob("/dev/vfio/[0-9]*"):
        for variable, value in _NO_TPU_HERE.items():
            os.environ.setdefault(variable, value)
    if len(shape) == 1:
        shape = _slice(kind, shape[0])
    name = f"{_TPUS[kind]}:{'x'.join(map(str, shape))}"
    one_host = math.prod(shape) < (8 if kind != "v5p" else 4)
    options: dict[str, Any] = {}
    if one_host:
        bounds = (*shape, *(1,) * (3 - len(shape)))
        options = {"chips_per_host_bounds": bounds, "num_slices": 1}
    return _found("tpu", name, "plan-tpu", **options)


def _slice(kind: str, count: int) -> tuple[int, ...]:
    """The squarest slice with so many chips, the last axis longest."""
    axes = _AXES[kind]
    best: tuple[int, ...] = (1,) * (axes - 1) + (count,)
    for first in range(1, count + 1):
        if count % first:
            continue
        rest = count // first
        ways = [(first, rest)]
        if axes == 3:
            ways = [(first, n, rest // n) for n in range(1, rest + 1) if rest % n == 0]
        for way in ways:
            if list(way) == sorted(way) and sum(way) < sum(best):
                best = way
    return best


def _of_gpu(kind: str, shape: tuple[int, ...]) -> tuple[Any, ...]:
    _need("jax_cuda12_plugin", "plan-cuda", "GPUs of NVIDIA")
    hosts, each = shape if len(shape) == 2 else (1, shape[0])
    return _found(
        "cuda",
        "",
        "plan-cuda",
        topology=f"1x{hosts}x{each}",
        target_config=_GPU_CONFIG.format(**_GPUS[kind]),
    )


def _found(platform: str, name: str, extra: str, **options: object) -> tuple[Any, ...]:
    try:
        devices = absent_devices(platform, name, **options)
    except ImportError as error:
        raise MissingCompilerError(_missing(extra, platform.upper())) from error
    return tuple(sorted(devices, key=lambda d: (d.process_index, d.id)))


def _need(module: str, extra: str, what: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise MissingCompilerError(_missing(extra, what))


def _missing(extra: str, what: str) -> str:
    return (
        f"the compiler for {what} is not installed: pip install 'paramesh[{extra}]' (it needs no "
        "driver and no device)."
    )
