"""What scripts ask a Tensor about its memory: MindSpore's names, and what they mean here.

XLA sees to the memory of arrays: elements lie row by row, no two Tensors share them, and they are
where the program runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Self

import jax
import jax.core

from paramesh.array_types import HostArray, Tree
from paramesh.errors import ValueNeededError


class MemoryMethods:
    """See the module."""

    __slots__ = ()
    _get: Callable[[], Tree]
    asnumpy: Callable[[], HostArray]

    def stride(self, dim: int | None = None) -> Any:
        """By how many elements the next one along an axis is further, or a list for all axes.

        Raises:
            IndexError: there is no such axis.
        """
        shape = tuple(self._get().shape)
        strides = [math.prod(shape[at + 1 :]) for at in range(len(shape))]
        if dim is None:
            return strides
        if not -len(shape) <= dim < len(shape):
            raise IndexError(f"Tensor.stride: {len(shape)} axes have no axis {dim}.")
        return strides[dim]

    def storage_offset(self) -> int:
        """0: no Tensor is a part of another's memory."""
        return 0

    def is_pinned(self) -> bool:
        """False: the runtime sees to the memory of transfers."""
        return False

    def is_shared(self) -> bool:
        """False: no other process has the memory."""
        return False

    def pin_memory(self) -> Self:
        """The Tensor itself: the runtime sees to the memory of transfers."""
        return self

    def get_bytes(self) -> bytes:
        """The elements' bytes, row by row, in the order of this machine."""
        return self.asnumpy().tobytes()

    def data_ptr(self) -> int:
        """The address of the first element, on one device.

        Raises:
            ValueNeededError: the Tensor is traced.
            ValueError: it lies on several devices.
        """
        value: Tree = self._get()
        if isinstance(value, jax.core.Tracer):
            raise ValueNeededError("Tensor.data_ptr: a compiled program has no addresses.")
        held = jax.numpy.asarray(value)
        if len(held.addressable_shards) != 1:
            raise ValueError(
                f"Tensor.data_ptr: the Tensor lies on {len(held.addressable_shards)} devices."
            )
        return held.addressable_shards[0].data.unsafe_buffer_pointer()

    @property
    def device(self) -> str:
        """Where the program runs, as MindSpore writes it: `CPU`, `GPU:0`, `TPU:3`."""
        value: Tree = self._get()
        kind, number = jax.default_backend(), 0
        if isinstance(value, jax.Array) and not isinstance(value, jax.core.Tracer):
            first = min(value.devices(), key=lambda each: each.id)
            kind, number = first.platform, first.id
        return "CPU" if kind == "cpu" else f"{kind.upper()}:{number}"
