"""Devices, memory and waiting: MindSpore's `runtime`, `hal` and `device_context` over JAX.

What only Ascend's or MindSpore's own allocator has is accepted, and noted in the log of `paramesh`
as having no effect.
"""

from __future__ import annotations

import logging
from typing import Any

import jax

__all__ = [
    "aclinit_config",
    "conv_allow_hf32",
    "device_count",
    "dispatch_threads_num",
    "empty_cache",
    "get_device_name",
    "is_available",
    "is_initialized",
    "launch_blocking",
    "matmul_allow_hf32",
    "max_memory_allocated",
    "max_memory_reserved",
    "memory_allocated",
    "memory_reserved",
    "memory_stats",
    "op_precision_mode",
    "op_timeout",
    "precision_mode",
    "reset_peak_memory_stats",
    "set_cpu_affinity",
    "set_kernel_launch_group",
    "set_memory",
    "synchronize",
]

#: MindSpore has modules below it (see `compat`).
__path__: list[str] = []

_logger = logging.getLogger("paramesh")
_said: set[str] = set()


def _ignored(name: str, doc: str) -> Any:
    def call(*args: object, **kwargs: object) -> None:
        if name not in _said:
            _said.add(name)
            _logger.warning("%s has no effect here: XLA decides it.", name)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"Accepted, without effect: {doc}."
    return call


launch_blocking = _ignored("launch_blocking", "whether each operator is waited for")
dispatch_threads_num = _ignored("dispatch_threads_num", "threads that start operators")
set_cpu_affinity = _ignored("set_cpu_affinity", "which cores threads run on")
set_kernel_launch_group = _ignored("set_kernel_launch_group", "groups of operators")
set_memory = _ignored("set_memory", "XLA_PYTHON_CLIENT_MEM_FRACTION says it to JAX")
empty_cache = _ignored("empty_cache", "memory of arrays is free when they are deleted")
reset_peak_memory_stats = _ignored("reset_peak_memory_stats", "peaks are those of the process")
precision_mode = _ignored("precision_mode", "Ascend's choice of element types")
op_precision_mode = _ignored("op_precision_mode", "Ascend's choice of element types")
matmul_allow_hf32 = _ignored("matmul_allow_hf32", "jax.default_matmul_precision is JAX's")
conv_allow_hf32 = _ignored("conv_allow_hf32", "jax.default_matmul_precision is JAX's")
op_timeout = _ignored("op_timeout", "how long an operator may take")
aclinit_config = _ignored("aclinit_config", "Ascend's settings")


def synchronize() -> None:
    """Wait for what the devices of this process are doing."""
    jax.effects_barrier()
    for device in jax.local_devices():
        jax.device_put(0, device).block_until_ready()


def device_count(device_target: str | None = None) -> int:
    """How many devices there are.

    Args:
        device_target: MindSpore's; the devices are those that JAX has.
    """
    return jax.device_count()


def is_available(device_target: str | None = None) -> bool:
    """Whether there are devices of a kind: "CPU", "GPU", "TPU"; None: any."""
    if device_target is None:
        return True
    try:
        return bool(jax.devices(device_target.lower()))
    except RuntimeError:
        return False


def is_initialized(device_target: str | None = None) -> bool:
    """True: JAX opens devices when they are asked for."""
    return True


def get_device_name(device_id: int = 0, device_target: str | None = None) -> str:
    """What kind of device it is."""
    return jax.devices()[device_id].device_kind


def memory_stats(device_target: str | None = None) -> dict[str, Any]:
    """What the first device says of its memory, in bytes; empty if it says nothing (a CPU)."""
    return dict(jax.local_devices()[0].memory_stats() or {})


def memory_allocated(device_target: str | None = None) -> int:
    """Bytes in use on the first device; 0 if it does not say."""
    return int(memory_stats().get("bytes_in_use", 0))


def max_memory_allocated(device_target: str | None = None) -> int:
    """The most bytes that were in use on the first device; 0 if it does not say."""
    return int(memory_stats().get("peak_bytes_in_use", 0))


def memory_reserved(device_target: str | None = None) -> int:
    """Bytes that the first device's allocator holds; 0 if it does not say."""
    return int(memory_stats().get("bytes_reserved", memory_allocated()))


max_memory_reserved = max_memory_allocated
