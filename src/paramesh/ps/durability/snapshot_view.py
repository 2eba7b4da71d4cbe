"""A version of a store that is read in pieces while updates continue: the input of a snapshot.

Glossary
    snapshot view   a Parameter at one version. Dense arrays are never written to while they are
                    referenced; rows are, so an update saves the rows that it is about to change
    saved           the rows of a viewed table before the first update that changed them, if they
                    had not been read by then
    piece           some elements or rows with all their fields, and the name of their Parameter

An update waits at most until one piece has been copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from threading import Lock
from typing import Any, NamedTuple, Protocol

import numpy as np

from paramesh.errors import ParameterStateError
from paramesh.ps.specification.id_range import NO_ID

Array = np.ndarray[Any, Any]
Piece = tuple[dict[str, Any], dict[str, Array]]

#: About how many bytes of a field a piece has.
PIECE = 1 << 21
#: No chunk of a slab ends inside so many slots.
_SLOTS = 1 << 14


class Slots(Protocol):
    """One kind of value for all slots of a table (see `slab_index.Slab`)."""

    @property
    def row_bytes(self) -> int:
        """Bytes of the value of a slot."""
        ...

    def block(self, first: int, stop: int) -> Array:
        """A copy of consecutive slots."""
        ...


class Life(Protocol):
    """What decides which rows exist (see `row_life.RowLife`)."""

    def dump(self) -> dict[str, Array]:
        """All of it, by field; copies."""
        ...


class Viewed(Protocol):
    """What a view needs of a table (see `tables.Table`).

    Attributes:
        used: how many slots were ever used.
        lock: held by updates, and by readers of a view.
    """

    name: str
    spec: dict[str, Any]
    used: int
    lock: Lock

    def columns(self) -> Mapping[str, Slots]:
        """The values of all slots by field: `ids` (NO_ID where there is no row), `last`, and "
        "others.
        """
        ...

    def row_count(self) -> int:
        """How many rows exist."""
        ...

    @property
    def life(self) -> Life:
        """Which rows are created and dropped."""
        ...

    def release(self, view: TableView) -> None:
        """Save nothing for a view any more."""
        ...


class Change(Protocol):
    """What an update of a table changed (see `tables.RowsUndo`)."""

    ids: Array
    slots: Array
    before: dict[str, Array]
    last: Array
    created: Array
    expired: tuple[Array, dict[str, Array], Array, Array] | None


class _Saved(NamedTuple):
    slots: Array  # sorted
    fields: dict[str, Array]


class DenseView:
    """A dense Parameter at a moment."""

    def __init__(self, spec: dict[str, Any], arrays: dict[str, Array], size: int) -> None:
        self._spec = spec
        self._arrays = dict(arrays)
        self._size = size

    def pieces(self) -> Iterator[Piece]:
        """What `Store.load` takes."""
        name = self._spec["name"]
        yield {"spec": self._spec}, {}
        widest = max((array.itemsize for array in self._arrays.values()), default=1)
        step = PIECE // widest
        for at in range(0, self._size, step) if self._arrays else ():
            parts = {field: array[at : at + step] for field, array in self._arrays.items()}
            yield {"name": name, "at": at}, parts

    def release(self) -> None:
        """Nothing has to be saved any more."""
        self._arrays = {}


class TableView:
    """The rows of a table at a moment; made by `Table.view`, under the table's lock."""

    def __init__(self, table: Viewed) -> None:
        self._table = table
        self._used = table.used
        self._count = table.row_count()
        self._life = table.life.dump()
        #: Slots below it were read; which of the others were saved.
        self._read = 0
        self._is_saved = np.zeros(self._used, bool)
        self._saved: list[_Saved] = []
        self.broken = False

    def changing(self, undo: Change) -> None:
        """Save what an update has just changed, from its undo; under the table's lock."""
        fresh = np.isin(undo.ids, undo.created, assume_unique=True)
        self._save(undo.slots, np.where(fresh, NO_ID, undo.ids), undo.last, undo.before)
        if undo.expired is not None:
            ids, values, last, slots = undo.expired
            self._save(slots, ids, last, values)

    def _save(self, slots: Array, ids: Array, last: Array, values: dict[str, Array]) -> None:
        wanted = np.flatnonzero((slots >= self._read) & (slots < self._used))
        wanted = wanted[~self._is_saved[slots[wanted]]]
        if not len(wanted):
            return
        wanted = wanted[np.argsort(slots[wanted])]
        self._is_saved[slots[wanted]] = True
        fields = {"ids": ids[wanted], "last": last[wanted]}
        fields |= {field: rows[wanted] for field, rows in values.items()}
        self._saved.append(_Saved(slots[wanted], fields))

    def pieces(self) -> Iterator[Piece]:
        """What `Store.load` takes; rows that an update meets meanwhile are as they were.

        Raises:
            ParameterStateError: an update was taken back, or rows were put, since.
        """
        table = self._table
        name = table.name
        yield {"spec": table.spec, "rows": self._count}, {}
        columns = table.columns().items()
        widest = max(c.row_bytes for field, c in columns if field not in ("ids", "last"))
        step = min(_SLOTS, 1 << max(0, (PIECE // max(1, widest)).bit_length() - 1))
        for first in range(0, self._used, step):
            fields = self._block(first, min(first + step, self._used))
            there = fields["ids"] != NO_ID
            if not there.all():
                fields = {field: rows[there] for field, rows in fields.items()}
            if len(fields["ids"]):
                yield {"name": name}, fields
        if self._life:
            yield {"name": name}, self._life

    def _block(self, first: int, stop: int) -> dict[str, Array]:
        table = self._table
        columns = table.columns()
        with table.lock:
            if self.broken:
                raise ParameterStateError(
                    f"table '{table.name}' was changed by something other than an update while "
                    f"it was read."
                )
            fields = {field: column.block(first, stop) for field, column in columns.items()}
            for slots, saved in self._saved:
                low, high = np.searchsorted(slots, (first, stop))
                if low < high:
                    for field, rows in fields.items():
                        rows[slots[low:high] - first] = saved[field][low:high]
            self._read = stop
        return fields

    def release(self) -> None:
        """Nothing has to be saved any more."""
        self._table.release(self)
        self._saved = []


class SnapshotView:
    """All Parameters of a store at a moment; to be released."""

    def __init__(self, parts: list[DenseView | TableView]) -> None:
        self._parts = parts

    def pieces(self) -> Iterator[Piece]:
        """Everything, once; `Store.load` takes it.

        Raises:
            ParameterStateError: an update was taken back meanwhile.
        """
        for part in self._parts:
            yield from part.pieces()
            part.release()

    def release(self) -> None:
        """Nothing has to be saved any more."""
        for part in self._parts:
            part.release()
