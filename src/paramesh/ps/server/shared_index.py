"""One index for the rows of many tables, so that looking rows up costs the same for any number.

Glossary
    key     a row among those of all tables that share an index: its id, and the offset of its table
    part    the rows of one table in a shared index
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from paramesh.ps.server.slab_index import Index

Array = np.ndarray[Any, Any]

#: Keys are Int64.
_MOST = 1 << 62
#: So many keys are remembered.
_REMEMBERED = 1 << 18


class SharedIndex:
    """The index of several tables."""

    def __init__(self) -> None:
        self.index = Index()
        self._end = 0
        self._deferred: list[tuple[Array, Array]] | None = None
        #: What was found last: a step reads the rows that its push changes. None: there are others
        #: now.
        self._found: tuple[Array, Array] | None = None

    def part(self, rows: int) -> IndexPart | None:
        """A part for a table of so many rows; None if there is no room for its keys."""
        if self._end + rows > _MOST:
            return None
        found = IndexPart(self, self._end)
        self._end += rows
        return found

    def find(self, parts: Sequence[tuple[IndexPart, Array]]) -> list[Array]:
        """The slots of ids of several tables (see `Index.find`)."""
        if not parts:
            return []
        keys = np.concatenate([ids + part.first for part, ids in parts])
        found = self._found
        if found is not None and np.array_equal(found[0], keys):
            slots = found[1].copy()
        else:
            slots = self.index.find(keys)
            self._found = (keys, slots.copy()) if len(keys) <= _REMEMBERED else None
        return np.split(slots, np.cumsum([len(ids) for _, ids in parts])[:-1])

    def remove(self, keys: Array) -> None:
        """Take keys away; the rest is indexed again."""
        self._found = None
        self.index.remove(keys)

    def add(self, keys: Array, slots: Array) -> None:
        """Add keys that are not there; at the end of `deferred`, inside of it."""
        self._found = None
        if self._deferred is None:
            self.index.add(keys, slots)
        else:
            self._deferred.append((keys, slots))

    @contextlib.contextmanager
    def deferred(self) -> Generator[None]:
        """What is added in this block is found when it has ended; it is added at once."""
        self._deferred = []
        try:
            yield
        finally:
            added, self._deferred = self._deferred, None
            if added:
                keys, slots = (np.concatenate(arrays) for arrays in zip(*added, strict=True))
                self._found = None
                self.index.add(keys, slots)


class IndexPart:
    """As `Index`, for the rows of one table; made by `SharedIndex.part`."""

    def __init__(self, shared: SharedIndex, first: int) -> None:
        self.shared = shared
        self.first = first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def find(self, ids: Array) -> Array:
        """As `Index.find`."""
        return self.shared.index.find(ids + self.first)

    def add(self, ids: Array, slots: Array) -> None:
        """As `Index.add`."""
        self._count += len(ids)
        self.shared.add(ids + self.first, slots)

    def remove(self, ids: Array) -> None:
        """As `Index.remove`; everything is indexed again, so it has to be rare."""
        self._count -= len(ids)
        self.shared.remove(ids + self.first)

    def reserve(self, rows: int) -> None:
        """As `Index.reserve`."""
        self.shared.index.reserve(rows)


def find_many(parts: Sequence[tuple[Index | IndexPart, Array]]) -> list[Array]:
    """The slots of ids of several tables, of which any may share an index."""
    found: list[Array | None] = [None] * len(parts)
    together: dict[int, list[tuple[int, IndexPart, Array]]] = {}
    for at, (index, ids) in enumerate(parts):
        if isinstance(index, IndexPart):
            together.setdefault(id(index.shared), []).append((at, index, ids))
        else:
            found[at] = index.find(ids)
    for members in together.values():
        slots = members[0][1].shared.find([(part, ids) for _, part, ids in members])
        for (at, _, _), mine in zip(members, slots, strict=True):
            found[at] = mine
    return [slots for slots in found if slots is not None]
