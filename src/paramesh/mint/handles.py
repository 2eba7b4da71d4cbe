"""What functions of `mint.distributed` have in common: where results go, and what is waited for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from paramesh.array_types import Array
from paramesh.tensor.base import Tensor, raw


class CommHandle:
    """What is waited for: `wait()` comes back when the results are there."""

    def __init__(self, *tensors: Tensor, later: Callable[[], None] | None = None) -> None:
        self._tensors = tensors
        self._later = later

    def wait(self) -> None:
        """Wait until the results are there. A second time there is nothing to wait for."""
        later, self._later = self._later, None
        if later is not None:
            later()
        for tensor in self._tensors:
            getattr(raw(tensor), "block_until_ready", int)()


def check_tensors(call: str, **tensors: object) -> None:
    """Refuse arguments that are no Tensors, with a TypeError that names them."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{call}: {name} must be a Tensor, got {type(tensor).__name__}.")


def check_list(call: str, name: str, tensors: object, count: int | None = None) -> None:
    """Refuse what is no list of Tensors, or not so many."""
    if not isinstance(tensors, list | tuple) or not all(isinstance(t, Tensor) for t in tensors):
        raise TypeError(f"{call}: {name} must be a list of Tensors, got {tensors!r}.")
    if count is not None and len(tensors) != count:
        raise ValueError(f"{call}: {name} needs {count} Tensors, one a rank; got {len(tensors)}.")


def give(call: str, name: str, tensor: Tensor, value: Array) -> None:
    """Write a result into a Tensor.

    Raises:
        TypeError: it has another shape or element type.
    """
    there = raw(tensor)
    if tuple(there.shape) != tuple(value.shape) or there.dtype != value.dtype:
        raise TypeError(
            f"{call}: {name} must have shape {tuple(value.shape)} and type {value.dtype}, got "
            f"{tuple(there.shape)} and {there.dtype}."
        )
    tensor._put(value)


def done(async_op: bool, tensors: Sequence[Tensor] = ()) -> CommHandle | None:
    """The handle that a caller gets who asked for one."""
    return CommHandle(*tensors) if async_op else None
