"""Staging memory for values that a background save will write, reused by the next save.

A save in the background needs the values at the time of the call. The next step donates their
arrays, so they have to be copied before. New memory would cost more than the copy itself, since the
system maps it page by page; so the memory of the last save is reused, and several threads copy.

At most one save is in progress (see `background.py`), so one buffer is enough. It is as large as
the values, and is kept until the program ends or a save needs less than half of it.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Alignment of values, in bytes.
_ALIGNED = 64
#: Larger arrays are copied in blocks of so many bytes, so that all threads end at the same time.
_BLOCK = 4 << 20
_MAX_THREADS = 4


class Staging:
    """The memory; `copies` returns views of it, which are valid until the next call."""

    def __init__(self) -> None:
        self._memory: Array = np.empty(0, np.uint8)

    def copies(self, arrays: Sequence[Array]) -> list[Array]:
        """Copies of arrays, of the same shapes and element types, in row-major order."""
        sizes = [-(-array.nbytes // _ALIGNED) * _ALIGNED for array in arrays]
        starts = list(itertools.accumulate(sizes, initial=0))
        total = starts.pop()
        if not total <= len(self._memory) <= 2 * total:
            self._memory = np.empty(0, np.uint8)  # freed first, so that both are never allocated
            self._memory = np.empty(total, np.uint8)
        found = [
            self._memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
            for start, array in zip(starts, arrays, strict=True)
        ]
        _copy(found, arrays)
        return found


def aligned_copies(arrays: Sequence[Array]) -> list[Array]:
    """Copies of arrays, each in its own memory, aligned so that JAX can use it without a copy."""
    found = [aligned_empty(array.shape, array.dtype) for array in arrays]
    _copy(found, arrays)
    return found


def aligned_empty(shape: Sequence[int], dtype: np.dtype[Any]) -> Array:
    """An array in its own memory, aligned so that JAX can use it without a copy."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNED, np.uint8)
    start = -memory.__array_interface__["data"][0] % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)


def _copy(targets: Sequence[Array], sources: Sequence[Array]) -> None:
    work = list(_batches(targets, sources))
    threads = min(_MAX_THREADS, os.cpu_count() or 1, len(work))
    if threads < 2:
        _copy_all(work)
        return
    with ThreadPoolExecutor(threads - 1, "paramesh-copy") as pool:
        shares = [work[i::threads] for i in range(threads)]
        others = [pool.submit(_copy_all, share) for share in shares[1:]]
        _copy_all(shares[0])
        for other in others:
            other.result()


def _batches(targets: Sequence[Array], sources: Sequence[Array]) -> Iterator[list[Any]]:
    """Lists of (target, source) with about the same number of bytes."""
    small: list[Any] = []
    gathered = 0
    for target, source in zip(targets, sources, strict=True):
        if source.nbytes > _BLOCK and source.flags.c_contiguous:
            flat, values = target.reshape(-1), source.reshape(-1)
            step = _BLOCK // source.itemsize
            for at in range(0, source.size, step):
                yield [(flat[at : at + step], values[at : at + step])]
            continue
        small.append((target, source))
        gathered += source.nbytes
        if gathered > _BLOCK:
            yield small
            small, gathered = [], 0
    if small:
        yield small


def _copy_all(work: Sequence[Any]) -> None:
    for pairs in work:
        for target, source in pairs:
            np.copyto(target, source)
