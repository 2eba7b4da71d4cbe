"""Devices, memory and waiting: MindSpore's `runtime`, `hal` and `device_context` over JAX.

What only Ascend's or MindSpore's own allocator has is accepted, and noted in the log of `paramesh`
as having no effect.
"""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Any

import jax

__all__ = [
    "Event",
    "Stream",
    "StreamCtx",
    "aclinit_config",
    "communication_stream",
    "conv_allow_hf32",
    "current_stream",
    "default_stream",
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
    "memory_summary",
    "op_precision_mode",
    "op_timeout",
    "precision_mode",
    "reset_max_memory_allocated",
    "reset_max_memory_reserved",
    "reset_peak_memory_stats",
    "set_cpu_affinity",
    "set_cur_stream",
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
reset_max_memory_allocated = _ignored(
    "reset_max_memory_allocated", "peaks are those of the process"
)
reset_max_memory_reserved = _ignored("reset_max_memory_reserved", "peaks are those of the process")
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


def memory_summary(device_target: str | None = None) -> str:
    """What the first device says of its memory, as a text with a line for each number."""
    rows = [f"{name:<32} {value}" for name, value in sorted(memory_stats().items())]
    return "\n".join(rows or ["This device says nothing of its memory."])


# Streams: XLA has what computes and what sends in an order of its own.


class Event:
    """A moment in what devices do.

    Args:
        enable_timing: whether `elapsed_time` is to be asked for. `record` waits for the devices
            then, so that the moment is that at which they came to it.
        blocking: MindSpore's.
    """

    def __init__(self, enable_timing: bool = False, blocking: bool = False) -> None:
        self.enable_timing = enable_timing
        self._at: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Make it the present moment."""
        if self.enable_timing:
            synchronize()
        self._at = time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        """Nothing: what is asked for later is computed later, in the one stream."""

    def synchronize(self) -> None:
        """Wait for what the devices are doing."""
        synchronize()

    def query(self) -> bool:
        """True: what was asked for before comes first in any case."""
        return True

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this event to another one.

        Raises:
            RuntimeError: one of them was not recorded, or made without `enable_timing`.
        """
        if self._at is None or end_event._at is None:
            raise RuntimeError("Event.elapsed_time: record() both events first.")
        if not (self.enable_timing and end_event.enable_timing):
            raise RuntimeError("Event.elapsed_time: make both events with enable_timing=True.")
        return (end_event._at - self._at) * 1000.0


class Stream:
    """The one stream: XLA orders what computes and what sends, and overlaps it by itself.

    Args:
        priority: MindSpore's, without effect.
        **kwargs: likewise.
    """

    def __init__(self, priority: int = 0, **kwargs: object) -> None:
        self.id = 0
        self.device_name = jax.default_backend().upper()

    def synchronize(self) -> None:
        """Wait for what the devices are doing."""
        synchronize()

    def query(self) -> bool:
        """Whether the devices have done what they were asked; here it is waited for."""
        synchronize()
        return True

    def record_event(self, event: Event | None = None) -> Event:
        """An event at the present moment."""
        found = Event() if event is None else event
        found.record(self)
        return found

    def wait_event(self, event: Event) -> None:
        """Nothing: what is asked for later is computed later."""

    def wait_stream(self, stream: Stream) -> None:
        """Nothing: there is one stream."""

    def __repr__(self) -> str:
        return f"Stream(device={self.device_name}, id={self.id})"


class StreamCtx:
    """A block that MindSpore would run in another stream; here it runs as everything does.

    Args:
        ctx_stream: a stream, or None.
    """

    def __init__(self, ctx_stream: Stream | None) -> None:
        if ctx_stream is not None and not isinstance(ctx_stream, Stream):
            raise TypeError(
                f"StreamCtx: ctx_stream must be a Stream or None, got {type(ctx_stream).__name__}."
            )
        self.stream = ctx_stream

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        return None


def current_stream() -> Stream:
    """The one stream."""
    return Stream()


default_stream = communication_stream = current_stream


def set_cur_stream(stream: Stream | None) -> None:
    """Nothing: there is one stream.

    Raises:
        TypeError: not a stream.
    """
    StreamCtx(stream)
