"""A version of a store that is read in pieces while updates continue: the input of a snapshot,
and of a server's part of a checkpoint.

Glossary
    snapshot view   a Parameter at one version. Dense arrays are never written to while they are
                    referenced; rows are, so an update saves the rows that it is about to change
    saved           the rows of a viewed table before the first update that changed them, if they
                    had not been read by then; they are the next ones to be read
    piece           some elements or rows with all their fields, and the name of their Parameter
    room            the memory that saved rows may take, of all tables of a view together

An update waits until one piece has been copied; and, if it comes faster than the reader for so long
that there is no room left, for the reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from threading import Condition, Lock
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
#: Bytes of saved rows from which on updates wait, and the most seconds that one waits: a reader
#: that has made no room by then has stopped, and what it reads is given up.
ROOM, PATIENCE = 64 << 20, 30.0


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
        shapes: of each field of a row.
        dtype: of all of them.
        used: how many slots were ever used.
        lock: held by updates, and by readers of a view.
    """

    name: str
    spec: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    dtype: np.dtype[Any]
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

    @property
    def bytes(self) -> int:
        return self.slots.nbytes + sum(rows.nbytes for rows in self.fields.values())


class Room:
    """The memory that the saved rows of one view may take.

    Args:
        limit: in bytes.
        patience: the most seconds that an update waits for the reader; 0: nobody reads yet.
    """

    def __init__(self, limit: int = ROOM, patience: float = PATIENCE) -> None:
        self.limit = limit
        self.patience = patience
        self._taken = 0
        self._changed = Condition()

    @property
    def crowded(self) -> bool:
        """Whether the reader should read saved rows, of whatever table, before others."""
        return self._taken > self.limit // 4

    def take(self, count: int) -> None:
        """So many bytes were saved."""
        with self._changed:
            self._taken += count

    def give_back(self, count: int) -> None:
        """So many bytes were read, or are not needed any more."""
        with self._changed:
            self._taken -= count
            self._changed.notify_all()

    def wait(self) -> bool:
        """Wait until there is room; whether there is."""
        if self._taken <= self.limit:
            return True
        with self._changed:
            return self._changed.wait_for(lambda: self._taken <= self.limit, self.patience)


class DenseView:
    """A dense Parameter at a moment."""

    def __init__(self, spec: dict[str, Any], arrays: dict[str, Array], size: int) -> None:
        self.spec = spec
        self._arrays = dict(arrays)
        self._size = size

    def head(self) -> Piece:
        """What it is, for `Store.load`."""
        return {"spec": self.spec}, {}

    @property
    def fields(self) -> list[str]:
        """What there is of it: values, and the state of the optimizer."""
        return list(self._arrays)

    def pieces(self) -> Iterator[Piece]:
        """What it has, for `Store.load`."""
        name = self.spec["name"]
        widest = max((array.itemsize for array in self._arrays.values()), default=1)
        step = PIECE // widest
        for at in range(0, self._size, step) if self._arrays else ():
            parts = {field: array[at : at + step] for field, array in self._arrays.items()}
            yield {"name": name, "at": at}, parts

    def release(self) -> None:
        """Nothing has to be saved any more."""
        self._arrays = {}


class TableView:
    """The rows of a table at a moment; made by `Table.view`, under the table's lock.

    Args:
        table: with the rows.
        life: which rows are created and dropped, at that moment; None: as the table says now.
        room: for saved rows; None: of its own.
    """

    def __init__(
        self, table: Viewed, life: dict[str, Array] | None = None, room: Room | None = None
    ) -> None:
        self._table = table
        self._used = table.used
        self._count = table.row_count()
        #: As `Life.dump`.
        self.life = table.life.dump() if life is None else life
        self._room = room or Room()
        #: Slots below it were read; which of the others were saved.
        self._read = 0
        self._is_saved = np.zeros(self._used, bool)
        self._saved: list[_Saved] = []
        self._released = False
        self.broken = ""

    @property
    def spec(self) -> dict[str, Any]:
        """As for `Store.declare`."""
        return self._table.spec

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each field of a row."""
        return self._table.shapes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of all fields of a row."""
        return self._table.dtype

    def make_room(self) -> None:
        """Wait, before an update, until the reader has made room for the rows that it saves."""
        if not self._room.wait():
            with self._table.lock:
                self.give_up("was changed by updates faster than it could be read")

    def give_up(self, why: str) -> None:
        """Whoever reads it gets an error; under the table's lock."""
        self.broken = self.broken or why
        self._forget()

    def _forget(self) -> None:
        self._room.give_back(sum(saved.bytes for saved in self._saved))
        self._saved = []

    def changing(self, undo: Change) -> None:
        """Save what an update has just changed, from its undo; under the table's lock."""
        if self.broken or self._released:
            return
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
        saved = _Saved(slots[wanted], fields)
        self._saved.append(saved)
        self._room.take(saved.bytes)

    def head(self) -> Piece:
        """What it is, for `Store.load`."""
        return {"spec": self.spec, "rows": self._count}, {}

    def _edges(self) -> Iterator[tuple[int, int]]:
        columns = self._table.columns().items()
        widest = max(c.row_bytes for field, c in columns if field not in ("ids", "last"))
        step = min(_SLOTS, 1 << max(0, (PIECE // max(1, widest)).bit_length() - 1))
        for first in range(0, self._used, step):
            yield first, min(first + step, self._used)

    def ids(self) -> Iterator[tuple[Array, Array]]:
        """The ids of all rows, and when each occurred last, in blocks; before `pieces`.

        Raises:
            ParameterStateError: as `pieces`.
        """
        table, columns = self._table, self._table.columns()
        for first, stop in self._edges():
            with table.lock:
                self._check()
                found = {field: columns[field].block(first, stop) for field in ("ids", "last")}
                for slots, saved in self._saved:
                    low, high = np.searchsorted(slots, (first, stop))
                    if low < high:
                        for field, values in found.items():
                            values[slots[low:high] - first] = saved[field][low:high]
            there = found["ids"] != NO_ID
            yield found["ids"][there], found["last"][there]

    def pieces(self) -> Iterator[Piece]:
        """What it has, for `Store.load`, each row once; rows that an update meets meanwhile are as
        they were.

        Raises:
            ParameterStateError: an update was taken back, or rows were put, since; or updates have
                changed more rows than there is room for.
        """
        for first, stop in self._edges():
            yield from self.saved_pieces()
            fields = self._block(first, stop)
            if len(fields["ids"]):
                yield {"name": self._table.name}, fields
        yield from self.saved_pieces()
        if self.life:
            yield {"name": self._table.name}, self.life

    def saved_pieces(self) -> Iterator[Piece]:
        """The saved rows that were not read yet.

        Raises:
            ParameterStateError: as `pieces`.
        """
        while True:
            with self._table.lock:
                if self._released:
                    return
                self._check()
                if not self._saved:
                    return
                saved = self._saved.pop(0)
            there = saved.fields["ids"] != NO_ID
            if there.any():
                fields = {field: rows[there] for field, rows in saved.fields.items()}
                yield {"name": self._table.name}, fields
            self._room.give_back(saved.bytes)

    def _check(self) -> None:
        if self._released:
            raise ParameterStateError(f"table '{self._table.name}' is not held any more.")
        if self.broken:
            raise ParameterStateError(f"table '{self._table.name}' {self.broken}.")

    def _block(self, first: int, stop: int) -> dict[str, Array]:
        """The rows in these slots that were not saved."""
        columns = self._table.columns()
        with self._table.lock:
            self._check()
            fields = {field: column.block(first, stop) for field, column in columns.items()}
            there = ~self._is_saved[first:stop]
            self._read = stop
        there &= fields["ids"] != NO_ID
        return fields if there.all() else {field: rows[there] for field, rows in fields.items()}

    def release(self) -> None:
        """Nothing has to be saved any more."""
        self._table.release(self)
        with self._table.lock:
            self._released = True
            self._forget()


class SnapshotView:
    """All Parameters of a store at a moment; to be released.

    Attributes:
        room: for the saved rows of all tables.
    """

    def __init__(self, parts: Sequence[DenseView | TableView], room: Room) -> None:
        self.parts = list(parts)
        self.room = room

    @property
    def tables(self) -> list[TableView]:
        """Those that are tables."""
        return [part for part in self.parts if isinstance(part, TableView)]

    def pieces(self) -> Iterator[Piece]:
        """Everything, once; `Store.load` takes it.

        Raises:
            ParameterStateError: as `TableView.pieces`.
        """
        yield from (part.head() for part in self.parts)
        for part in self.parts:
            for piece in part.pieces():
                yield piece
                if self.room.crowded:
                    for table in self.tables:
                        yield from table.saved_pieces()
            part.release()

    def release(self) -> None:
        """Nothing has to be saved any more."""
        for part in self.parts:
            part.release()
