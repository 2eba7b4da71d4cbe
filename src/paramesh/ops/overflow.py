"""The status of overflows that scripts for Ascend ask for, as what it means here.

Ascend has a register that every operator sets at an overflow; scripts clear it, compute gradients,
and ask it. There is no such register elsewhere. What the scripts want to know is whether gradients
had an overflow: here all gradients that are computed between `NPUClearFloatStatus` and
`NPUGetFloatStatus` are looked at, and the status says whether all of them are finite.

The status is a Tensor (8,) that is written in place, as in MindSpore.
"""

import threading
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp

from paramesh.ops.table import other_function, primitive
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import Tensor, raw

# fmt: off
__all__ = [
    "npu_alloc_float_status", "npu_clear_float_status", "npu_get_float_status",
    "NPUAllocFloatStatus",
    "NPUClearFloatStatus", "NPUGetFloatStatus",
]
# fmt: on

_SIZE = 8


class _Watch(threading.local):
    """What gradients on this thread came to since the status was cleared; None: nobody asked."""

    overflow: Any = None


_watch = _Watch()


def saw(gradients: Iterable[Any]) -> None:
    """Take note of raw gradients, if somebody will ask for the status."""
    if _watch.overflow is None:
        return
    for gradient in gradients:
        if jnp.issubdtype(gradient.dtype, jnp.inexact):
            _watch.overflow = _watch.overflow | ~jnp.all(jnp.isfinite(gradient))


def _set(status: TensorLike, overflow: Any) -> Any:
    value = jnp.zeros(_SIZE, jnp.float32).at[0].set(jnp.asarray(overflow, jnp.float32))
    if isinstance(status, Tensor):
        status._put(value)
    elif raw(status).shape != (_SIZE,):
        raise ValueError(f"the status must be of shape ({_SIZE},): make it by NPUAllocFloatStatus.")
    return value


@other_function
def npu_alloc_float_status() -> Any:
    """A status without overflow: Float32 (8,)."""
    return jnp.zeros(_SIZE, jnp.float32)


@other_function
def npu_clear_float_status(status: TensorLike) -> Any:
    """Begin to look at gradients; the status is written, and given."""
    _watch.overflow = jnp.asarray(False)
    return _set(status, 0)


@other_function
def npu_get_float_status(status: TensorLike) -> Any:
    """Write 1 into the status if a gradient since the last clearing is not finite; gives it."""
    overflow, _watch.overflow = _watch.overflow, None
    return _set(status, 0 if overflow is None else overflow)


NPUAllocFloatStatus = primitive("NPUAllocFloatStatus", npu_alloc_float_status)
NPUClearFloatStatus = primitive("NPUClearFloatStatus", npu_clear_float_status)
NPUGetFloatStatus = primitive("NPUGetFloatStatus", npu_get_float_status)
