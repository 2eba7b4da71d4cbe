"""Where the rows of a table are: an index from ids to slots, and slabs that hold the slots.

Glossary
    id          the number of a row in the full table, any Int64 but `NO_ID`
    slot        the place of a row that exists here, counted from 0
    slab        the memory of one kind of value (weights, a moment, …) for all slots

Both grow without copying a slab. The slot of a row has no influence on any number.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from paramesh.ps.specification.id_range import NO_ID

Array = np.ndarray[Any, Any]

_FACTOR = np.uint64(0x9E3779B97F4A7C15)
#: Rows of the first chunk of a slab, as a power of two; each later chunk doubles the slab. Memory
#: that no row was written to costs nothing: the system maps it at the first write.
_FIRST = 14


class Index:
    """ids -> slots: open addressing, at most half full, all ids of a call at once."""

    def __init__(self, room: int = 0) -> None:
        self._bits = max(10, (2 * room).bit_length())
        self._ids = np.full(1 << self._bits, NO_ID, np.int64)
        self._slots = np.empty(1 << self._bits, np.int64)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def _home(self, ids: Array) -> Array:
        spread = ids.astype(np.uint64) * _FACTOR
        return (spread >> np.uint64(64 - self._bits)).astype(np.int64)

    def find(self, ids: Array) -> Array:
        """The slot of each id (int64), -1 for those that have none."""
        slots = np.full(len(ids), -1, np.int64)
        mask = len(self._ids) - 1
        at = self._home(ids)
        left: Array | None = None  # all of them
        wanted = ids
        while len(at):
            there = self._ids[at]
            hit = there == wanted
            if left is None:
                slots[hit] = self._slots[at[hit]]
                left = np.flatnonzero(~hit & (there != NO_ID))
                wanted, at = ids[left], at[left]
            else:
                slots[left[hit]] = self._slots[at[hit]]
                go = ~hit & (there != NO_ID)
                left, wanted, at = left[go], wanted[go], at[go]
            at = (at + 1) & mask
        return slots

    def add(self, ids: Array, slots: Array) -> None:
        """Add ids that are not there; none twice."""
        self.reserve(len(ids))
        self._count += len(ids)
        self._enter(ids, slots)

    def reserve(self, more: int) -> None:
        """Make room for so many more ids."""
        count = self._count + more
        if 2 * count <= len(self._ids):
            return
        while 2 * count > 1 << self._bits:
            self._bits += 1
        before = self._ids != NO_ID
        ids, slots = self._ids[before], self._slots[before]
        self._ids = np.full(1 << self._bits, NO_ID, np.int64)
        self._slots = np.empty(1 << self._bits, np.int64)
        self._enter(ids, slots)

    def _enter(self, ids: Array, slots: Array) -> None:
        mask = len(self._ids) - 1
        at = self._home(ids)
        while len(ids):
            free = self._ids[at] == NO_ID
            self._ids[at[free]] = ids[free]  # of several for one place, one stays
            placed = self._ids[at] == ids
            self._slots[at[placed]] = slots[placed]
            ids, slots, at = ids[~placed], slots[~placed], (at[~placed] + 1) & mask

    def remove(self, ids: Array) -> None:
        """Take ids away; the rest is indexed again."""
        if not len(ids):
            return
        kept = (self._ids != NO_ID) & ~np.isin(self._ids, ids)
        present, slots = self._ids[kept], self._slots[kept]
        self.__init__()
        self.add(present, slots)

    def items(self) -> tuple[Array, Array]:
        """All ids, sorted, and their slots."""
        present = self._ids != NO_ID
        ids, slots = self._ids[present], self._slots[present]
        order = np.argsort(ids)
        return ids[order], slots[order]


def set_rows(target: Array, rows: Array, values: Array) -> None:
    """`target[rows] = values`, where a row is copied as one piece of memory if it can be.

    Args:
        target: of at least one axis, contiguous.
        rows: places in its first axis.
        values: one for each.
    """
    size = target.dtype.itemsize * math.prod(target.shape[1:])
    if target.ndim > 1 and size and len(rows) and values.dtype == target.dtype:
        # Numpy walks over the elements of each row otherwise, which takes twice as long.
        kind = np.dtype((np.void, size))
        flat = np.ascontiguousarray(values).reshape(len(rows), -1).view(kind)[:, 0]
        target.reshape(len(target), -1).view(kind)[:, 0][rows] = flat
    else:
        target[rows] = values


class Slab:
    """One kind of value for all slots, in chunks."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._shape = shape
        self._dtype = np.dtype(dtype)
        self._chunks: list[Array] = []

    def grow(self, slots: int) -> None:
        """Have room for so many slots."""
        while self.room() < slots:
            self._chunks.append(
                np.empty((max(self.room(), 1 << _FIRST), *self._shape), self._dtype)
            )

    def room(self) -> int:
        """So many slots have memory."""
        return sum(map(len, self._chunks))

    def parts(self, slots: Array) -> Iterator[tuple[Array, Any, Array]]:
        """(chunk, which of the slots are in it, their rows in it).

        Which: a slice, with a beginning, where they follow one another; otherwise their places.
        """
        if len(self._chunks) == 1:
            yield self._chunks[0], slice(0, len(slots)), slots
            return
        first = 0
        for chunk in self._chunks:
            mine = np.flatnonzero((slots >= first) & (slots < first + len(chunk)))
            if len(mine):
                begin, stop = int(mine[0]), int(mine[-1]) + 1
                which = slice(begin, stop) if stop - begin == len(mine) else mine
                yield chunk, which, slots[which] - first
            first += len(chunk)

    @property
    def row_bytes(self) -> int:
        """Bytes of the value of a slot."""
        return math.prod(self._shape) * self._dtype.itemsize

    def block(self, first: int, stop: int) -> Array:
        """A copy of slots that follow one another in one chunk."""
        start = 0
        for chunk in self._chunks:
            if first < start + len(chunk):
                return chunk[first - start : stop - start].copy()
            start += len(chunk)
        raise IndexError(f"slot {first} does not exist.")

    def filled(self, count: int) -> Array:
        """A copy of the values of the first slots."""
        out = np.empty((count, *self._shape), self._dtype)
        start = 0
        for chunk in self._chunks:
            mine = out[start : start + len(chunk)]
            mine[...] = chunk[: len(mine)]
            start += len(chunk)
        return out

    def take(self, slots: Array) -> Array:
        """Copies of the values of some slots."""
        if len(self._chunks) == 1:
            return np.take(self._chunks[0], slots, axis=0)
        out = np.empty((len(slots), *self._shape), self._dtype)
        self.read_into(slots, out)
        return out

    def read_into(self, slots: Array, out: Array) -> None:
        """As `take`, into an array."""
        if len(self._chunks) == 1:
            np.take(self._chunks[0], slots, axis=0, out=out, mode="clip")
            return
        for chunk, mine, rows in self.parts(slots):
            if isinstance(mine, slice):
                np.take(chunk, rows, axis=0, out=out[mine], mode="clip")
            else:
                set_rows(out, mine, np.take(chunk, rows, axis=0))

    def fill(self, first: int, values: Array) -> None:
        """Give slots that follow one another, from `first` on, other values."""
        start, stop = 0, first + len(values)
        for chunk in self._chunks:
            low, high = max(first, start), min(stop, start + len(chunk))
            if low < high:
                chunk[low - start : high - start] = values[low - first : high - first]
            start += len(chunk)

    def put(self, slots: Array, values: Any) -> None:
        """Give some slots other values: one for each, or one for all."""
        each = isinstance(values, np.ndarray) and values.ndim == len(self._shape) + 1
        for chunk, mine, rows in self.parts(slots):
            if each:
                set_rows(chunk, rows, values[mine])
            else:
                chunk[rows] = values
