"""Sums of gradients over devices, in few large collectives.

A collective costs a meeting of all devices, so small gradients of one type are joined and summed
together, as far as their bytes stay under a limit. A larger one is summed alone and not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

#: Gradients of at most `SMALL_BYTES` each are joined up to this size. Above them, the copies cost
#: more than the meetings.
BUCKET_BYTES = 1 << 20
SMALL_BYTES = 64 << 10


class Fusion:
    """Which gradients are summed together.

    Args:
        setting: `comm_fusion` of the parallel context.
    """

    def __init__(self, setting: dict[str, Any] | None) -> None:
        setting = setting or {}
        entry = setting.get("allreduce", {})
        mode, config = entry.get("mode", "auto"), entry.get("config")
        self.most = config << 20 if mode == "size" else BUCKET_BYTES
        self.largest = self.most if mode == "size" else SMALL_BYTES
        self.splits: frozenset[int] | None = frozenset(config) if mode == "index" else None
        if not setting.get("openstate", True):
            self.most, self.splits = 0, None
        #: Equal for those that sum the same gradients together.
        self.key = (self.most, self.largest, self.splits)

    def buckets(self, arrays: Sequence[Any]) -> list[list[int]]:
        """Indices of arrays that are summed together, all of one type."""
        found: list[list[int]] = []
        filling: dict[Any, tuple[list[int], int]] = {}
        for i, array in enumerate(arrays):
            size = array.size * np.dtype(array.dtype).itemsize
            if self.splits is not None and i in self.splits:
                filling.clear()
            if self.splits is None and size > self.largest:
                found.append([i])
                continue
            bucket, used = filling.get(array.dtype, (None, 0))
            if bucket is None or (self.splits is None and used + size > self.most):
                bucket, used = [], 0
                found.append(bucket)
            bucket.append(i)
            filling[array.dtype] = (bucket, used + size)
        return found

    def summed(self, arrays: Sequence[Any], total: Callable[[Any], Any]) -> list[Any]:
        """`total` of every array, called with several of them joined; traceable.

        Args:
            arrays: of any shapes and types.
            total: an elementwise collective, such as a sum over devices.
        """
        results: list[Any] = [None] * len(arrays)
        for bucket in self.buckets(arrays):
            if len(bucket) == 1:
                results[bucket[0]] = total(arrays[bucket[0]])
                continue
            flat = total(jnp.concatenate([jnp.ravel(arrays[i]) for i in bucket]))
            start = 0
            for i in bucket:
                size = arrays[i].size
                results[i] = flat[start : start + size].reshape(arrays[i].shape)
                start += size
        return results
