"""Memory in which values wait for the thread that saves them, kept from one save to the next.

A save beside training needs the values as they were at the call. Training is about to give its
arrays away, so somebody has to copy them before the next step. Fresh memory would cost more than
the copy itself, since the system hands it out page by page; so the memory of the last save is used
again, and the copy is made by several threads.

At most one save is under way (see `background.py`), so one piece of memory is enough. It is as
large as the values, and stays until the program ends or a save needs less than half of it.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

#: Values begin at multiples of so many bytes.
_ALIGNED = 64
#: Longer arrays are copied in pieces of so many bytes, so that all threads end at the same time.
_PIECE = 4 << 20
_MOST_THREADS = 4


class Staging:
    """The memory; `copies` gives views of it, which hold until the next call."""

    def __init__(self) -> None:
        self._memory: Array = np.empty(0, np.uint8)

    def copies(self, arrays: Sequence[Array]) -> list[Array]:
        """Copies of arrays, of the same shapes and element types, in row-major order."""
        sizes = [-(-array.nbytes // _ALIGNED) * _ALIGNED for array in arrays]
        starts = list(itertools.accumulate(sizes, initial=0))
        total = starts.pop()
        if not total <= len(self._memory) <= 2 * total:
            self._memory = np.empty(0, np.uint8)  # first, so that not both are there
            self._memory = np.empty(total, np.uint8)
        found = [
            self._memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
            for start, array in zip(starts, arrays, strict=True)
        ]
        _copy(found, arrays)
        return found


def aligned_copies(arrays: Sequence[Array]) -> list[Array]:
    """Copies of arrays, each in memory of its own, which begins where JAX can use it as it is."""
    found: list[Array] = []
    for array in arrays:
        memory = np.empty(array.nbytes + _ALIGNED, np.uint8)
        start = -memory.__array_interface__["data"][0] % _ALIGNED
        part = memory[start : start + array.nbytes]
        found.append(part.view(array.dtype).reshape(array.shape))
    _copy(found, arrays)
    return found


def _copy(targets: Sequence[Array], sources: Sequence[Array]) -> None:
    work = list(_pieces(targets, sources))
    threads = min(_MOST_THREADS, os.cpu_count() or 1, len(work))
    if threads < 2:
        _copy_all(work)
        return
    with ThreadPoolExecutor(threads - 1, "paramesh-copy") as pool:
        parts = [work[i::threads] for i in range(threads)]
        others = [pool.submit(_copy_all, part) for part in parts[1:]]
        _copy_all(parts[0])
        for other in others:
            other.result()


def _pieces(targets: Sequence[Array], sources: Sequence[Array]) -> Iterator[list[Any]]:
    """Lists of (target, source) of about equal work."""
    small: list[Any] = []
    gathered = 0
    for target, source in zip(targets, sources, strict=True):
        if source.nbytes > _PIECE and source.flags.c_contiguous:
            flat, values = target.reshape(-1), source.reshape(-1)
            step = _PIECE // source.itemsize
            for at in range(0, source.size, step):
                yield [(flat[at : at + step], values[at : at + step])]
            continue
        small.append((target, source))
        gathered += source.nbytes
        if gathered > _PIECE:
            yield small
            small, gathered = [], 0
    if small:
        yield small


def _copy_all(work: Sequence[Any]) -> None:
    for pairs in work:
        for target, source in pairs:
            np.copyto(target, source)
