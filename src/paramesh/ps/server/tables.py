"""A table of rows on a server: rows are created when they are first trained, and may expire.

Glossary
    trained     a row that occurred in a push: it exists here. Every other row has its initial
                values, computed when it is read; a read changes nothing
    dropped     of a row: it does not exist any more, and has its initial values again. `row_life`
                decides which rows are created and dropped

A table takes the memory of its trained rows, whatever its shape.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from paramesh.dtype import to_dtype
from paramesh.ps.durability.snapshot_view import Room, TableView
from paramesh.ps.server.row_life import LifeUndo, RowLife
from paramesh.ps.server.shared_index import IndexPart, SharedIndex, find_many
from paramesh.ps.server.slab_index import Array, Index, Slab, set_rows
from paramesh.ps.server.update_rules import (
    BLOCK,
    Numbers,
    UpdateRule,
    arithmetic,
    make_update_rule,
    updated,
)
from paramesh.ps.specification.id_range import NO_ID, all_inside, inside, range_of
from paramesh.ps.specification.initial_values import rows_of_many

VALUE = "value"


@dataclasses.dataclass
class RowsUndo:
    """What one update changed: the rows as they were."""

    ids: Array
    slots: Array
    before: dict[str, Array]
    last: Array
    created: Array
    life: LifeUndo
    #: Of dropped rows: ids, values by field after the update, when they were met last, slots.
    expired: tuple[Array, dict[str, Array], Array, Array] | None = None


class Table:
    """The rows of one table that live in a store.

    Args:
        spec: as for `Store.declare`, with `kind` "rows".
        shared: the index that tables of the store share; None: it has one of its own.
    """

    def __init__(self, spec: dict[str, Any], shared: SharedIndex | None = None) -> None:
        self.name: str = spec["name"]
        self.spec = spec
        self.row_shape = tuple(spec["row_shape"])
        self.width = math.prod(self.row_shape)
        self.rows: int = spec["rows"]
        self.dtype = to_dtype(spec["dtype"]).np_dtype
        self.work = arithmetic(self.dtype)
        self.optimizer: dict[str, Any] | None = spec.get("optimizer")
        self.update_rule: UpdateRule | None = (
            make_update_rule(self.name, self.optimizer) if self.optimizer else None
        )
        self.life = RowLife(spec)
        slots = self.update_rule.slots if self.update_rule else {}
        self.firsts = dict(slots)
        of_rows = self.update_rule.row_slots if self.update_rule else ()
        one = (1,) * len(self.row_shape)
        #: The shape of each field of a row.
        self.shapes: dict[str, tuple[int, ...]] = {
            name: one if name in of_rows else self.row_shape for name in (VALUE, *slots)
        }
        self.slabs = {name: Slab(shape, self.dtype) for name, shape in self.shapes.items()}
        self.last = Slab((), np.int64)
        #: The id of the row in each slot, NO_ID where there is none; how many slots were ever used.
        self.ids = Slab((), np.int64)
        # Rows that come and go would have the others indexed again.
        part = None if shared is None or self.life.limited else shared.part(self.rows)
        self.index: Index | IndexPart = Index() if part is None else part
        self._free = np.empty(0, np.int64)
        self.used = 0
        #: Held by updates, and by readers of a held version.
        self.lock = threading.Lock()
        self._views: list[TableView] = []

    def existing(self) -> tuple[Array, Array]:
        """All ids, sorted, and their slots."""
        ids = self.ids.take(np.arange(self.used, dtype=np.int64))
        slots = np.flatnonzero(ids != NO_ID)
        ids = ids[slots]
        order = np.argsort(ids)
        return ids[order], slots[order]

    def existing_ids(self) -> Array:
        """All ids, sorted; of their number, nothing else is made meanwhile."""
        ids = self.ids.filled(self.used)
        ids = ids[ids != NO_ID]
        ids.sort()
        return ids

    def check_ids(self, ids: Array) -> Array:
        """Ids as int64.

        Raises:
            ValueError: not one axis of integers, or outside the table.
        """
        given = np.asarray(ids)
        if given.ndim != 1 or given.dtype.kind not in "iu":
            raise ValueError(
                f"Parameter '{self.name}': row ids must be a 1-D array of integers, got "
                f"{given.dtype}{list(given.shape)}."
            )
        ids = given.astype(np.int64, copy=False)
        if not all_inside(ids, self.rows):
            wrong = given[~inside(ids, self.rows)][0]
            raise ValueError(
                f"Parameter '{self.name}' has {range_of(self.rows)}; row {wrong} is out of range."
            )
        return ids

    def start(self, ids: Array, field: str = VALUE) -> Array:
        """The initial values of rows, or of a slot of the optimizer."""
        if field != VALUE:
            return np.full((len(ids), *self.shapes[field]), self.firsts[field], self.dtype)
        return initial_rows([(self, ids)])[0]

    # Reading.

    def read(self, ids: Array, field: str = VALUE, undo: RowsUndo | None = None) -> Array:
        """Rows as they are, or as they were before an update."""
        slots = self.index.find(ids)
        known = slots >= 0
        if known.all():
            out = self.slabs[field].take(slots)
        else:
            out = np.empty((len(ids), *self.shapes[field]), self.dtype)
            out[known] = self.slabs[field].take(slots[known])
            out[~known] = self.start(ids[~known], field)
        if undo is not None:
            self.restore(out, ids, undo, field)
        return out

    def restore(self, out: Array, ids: Array, undo: RowsUndo, field: str = VALUE) -> None:
        """Put the values before an update into rows as they were after it."""
        # A dropped row may be one that the update changed: then what was before is in `before`.
        if undo.expired is not None:
            self._overlay(out, ids, undo.expired[0], undo.expired[1][field])
        self._overlay(out, ids, undo.ids, undo.before[field])

    def _overlay(self, out: Array, ids: Array, others: Array, values: Array) -> None:
        if len(others):
            at = np.minimum(np.searchsorted(others, ids), len(others) - 1)
            hit = others[at] == ids
            out[hit] = values[at[hit]]

    # Changing.

    def put(self, ids: Array, values: Array, field: str) -> None:
        """Give rows other values; they exist from then on."""
        self._break()
        slots = self.index.find(ids)
        fresh = ids[slots < 0]
        if len(fresh):
            self._create(np.unique(fresh), 0)
            slots = self.index.find(ids)
        self.slabs[field].put(slots, values.astype(self.dtype, copy=False))

    def take(self, ids: Array, fields: Mapping[str, Array]) -> None:
        """Take over rows of a checkpoint; they exist from then on, and have what is given.

        Args:
            ids: each once.
            fields: values and state, and `last`: the update that each row occurred in last, on the
                clock of the table.
        """
        self._break()
        slots = self.index.find(ids)
        fresh = slots < 0
        if fresh.any():
            slots[fresh] = self._place(ids[fresh])
        for field, slab in self.slabs.items():
            if field in fields:
                slab.put(slots, fields[field])
            elif fresh.any():
                slab.put(slots[fresh], self.start(ids[fresh], field))
        # Before the first update; where rows expire, counts begin at zero.
        slab, unknown = self.last, 0 if self.life.limited else -1
        slab.put(slots, fields.get("last", unknown))

    def _create(self, ids: Array, step: int, values: Array | None = None) -> Array:
        slots = self._place(ids)
        self.slabs[VALUE].put(slots, self.start(ids) if values is None else values)
        for field, first in self.firsts.items():
            self.slabs[field].put(slots, first)
        self.last.put(slots, step)
        return slots

    def _place(self, ids: Array) -> Array:
        recycled = min(len(self._free), len(ids))
        fresh = len(ids) - recycled
        slots = np.concatenate(
            [
                self._free[len(self._free) - recycled :][::-1],
                np.arange(self.used, self.used + fresh, dtype=np.int64),
            ]
        )
        self._free = self._free[: len(self._free) - recycled]
        self.used += fresh
        for slab in (*self.slabs.values(), self.last, self.ids):
            slab.grow(self.used)
        self.index.add(ids, slots)
        self.ids.put(slots, ids)
        return slots

    def _drop(self, ids: Array) -> None:
        slots = self.index.find(ids)
        self.index.remove(ids)
        self.ids.put(slots, NO_ID)
        self._free = np.concatenate([self._free, slots])

    def apply(
        self,
        step: int,
        ids: Array,
        grad: Array,
        numbers: Numbers,
        slots: Array | None = None,
        initial: dict[str, Array] | None = None,
    ) -> RowsUndo:
        """Update the rows that occur in a push.

        Args:
            step: how many updates there were before.
            ids: sorted and without repetition.
            grad: of each row.
            numbers: the hyperparameters.
            slots: of the rows, -1 for those that do not exist, if they are known.
            initial: by table, the initial values of the rows that do not exist, if they are known:
                those of this table are taken out. Only without admission.
        """
        for view in tuple(self._views):
            view.make_room()
        with self.lock:
            undo = self._apply(step + self.life.offset, ids, grad, numbers, slots, initial)
            for view in self._views:
                view.changing(undo)
            return undo

    def _apply(
        self,
        step: int,
        ids: Array,
        grad: Array,
        numbers: Numbers,
        slots: Array | None,
        initial: dict[str, Array] | None,
    ) -> RowsUndo:
        if slots is None:
            slots = self.index.find(ids)
        missing = slots < 0
        created, life = self.life.meet(step, ids[missing])
        if missing.any():
            # Nobody holds them from then on: they are as large as the undo.
            fresh = self._create(created, step, (initial or {}).pop(self.name, None))
            if not self.life.admits:
                slots[missing] = fresh
            else:
                slots = self.index.find(ids)
                there = slots >= 0
                ids, grad, slots = ids[there], grad[there], slots[there]
        last = self.last.take(slots) if len(slots) else ids
        fields = list(self.slabs)
        before = {f: np.empty((len(ids), *self.shapes[f]), self.dtype) for f in fields}
        self._update(slots, grad, numbers, before)
        if len(slots):
            self.last.put(slots, step)
        undo = RowsUndo(ids, slots, before, last, created, life)
        if self.life.due(step, len(self.index)):
            self._sweep(step, undo)
        return undo

    def _update(
        self, slots: Array, grad: Array, numbers: Numbers, before: dict[str, Array]
    ) -> None:
        assert self.update_rule is not None
        if not len(slots):
            return
        block = max(1, BLOCK // max(1, self.width))
        parts = [slab.parts(slots) for slab in self.slabs.values()]
        fields = list(self.slabs)
        for chunks in zip(*parts, strict=True):
            mine, rows = chunks[0][1], chunks[0][2]
            for first in range(0, len(rows), block):
                some = rows[first : first + block]
                if isinstance(mine, slice):
                    at: Any = slice(mine.start + first, mine.start + first + len(some))
                    g = grad[at]
                else:
                    at = mine[first : first + block]
                    g = np.take(grad, at, axis=0)
                held: list[Array] = []
                for field, (chunk, _, _) in zip(fields, chunks, strict=True):
                    if isinstance(at, slice):
                        target = before[field][at]
                        np.take(chunk, some, axis=0, out=target, mode="clip")
                    else:
                        target = np.take(chunk, some, axis=0)
                        set_rows(before[field], at, target)
                    held.append(target.astype(self.work, copy=False))
                g = g.astype(self.work, copy=False)
                new = updated(self.update_rule, held[0], g, numbers, held[1:])
                for (chunk, _, _), value in zip(chunks, new, strict=True):
                    set_rows(chunk, some, value)

    def _sweep(self, step: int, undo: RowsUndo) -> None:
        ids, slots = self.existing()
        last = self.last.take(slots) if len(slots) else ids
        gone, undo.life = self.life.leaving(step, ids, last, undo.life)
        if gone.any():
            ids, slots = ids[gone], slots[gone]
            values = {field: slab.take(slots) for field, slab in self.slabs.items()}
            undo.expired = (ids, values, last[gone], slots)
            self._drop(ids)

    def undo(self, undo: RowsUndo) -> None:
        """Take the last update back."""
        self._break()
        if undo.expired is not None and len(undo.expired[0]):
            ids, values, last, _ = undo.expired
            slots = self._create(ids, 0)
            for field, rows in values.items():
                self.slabs[field].put(slots, rows)
            self.last.put(slots, last)
        if len(undo.ids):
            slots = self.index.find(undo.ids)
            for field, rows in undo.before.items():
                self.slabs[field].put(slots, rows)
            self.last.put(slots, undo.last)
        if len(undo.created):
            self._drop(undo.created)
        self.life.undo(undo.life)

    # Checkpointing.

    def view(self, undos: Sequence[RowsUndo] = (), room: Room | None = None) -> TableView:
        """The rows as they are now, or were before some updates, to be read while updates go on.

        Args:
            undos: of the last updates of this table, the earliest first.
            room: for what has to be saved meanwhile; None: of its own.
        """
        with self.lock:
            held = TableView(self, self.life.before([undo.life for undo in undos]), room)
            for undo in undos:  # what an update has changed first is what was before all of them
                held.changing(undo)
            self._views.append(held)
            return held

    def release(self, view: TableView) -> None:
        """Save nothing for it any more."""
        with self.lock:
            if view in self._views:
                self._views.remove(view)

    def _break(self) -> None:
        with self.lock:
            for view in self._views:
                view.give_up("was changed by something other than an update while it was read")

    def columns(self) -> dict[str, Slab]:
        """The values of all slots by field: `ids` (NO_ID where there is no row), `last`, and "
        "others.
        """
        return {"ids": self.ids, "last": self.last} | self.slabs

    def row_count(self) -> int:
        """How many rows exist."""
        return len(self.index)

    def dump(self) -> list[tuple[str, Array]]:
        """All that makes the table, but its spec; rows sorted by id."""
        ids, slots = self.existing()
        found: list[tuple[str, Array]] = [("ids", ids)]
        if len(ids):
            found.append(("last", self.last.take(slots)))
            found += [(field, slab.take(slots)) for field, slab in self.slabs.items()]
        return [*found, *self.life.dump().items()]

    def load(self, fields: dict[str, Array]) -> None:
        """Take over a piece of a held table, into one that has none of its rows."""
        if "ids" not in fields:
            self.life.load(fields)
            return
        first = self.used  # nothing was dropped here: the slots follow one another
        self._place(fields["ids"])
        for field, slab in self.slabs.items():
            slab.fill(first, fields[field])
        self.last.fill(first, fields["last"])

    def reserve(self, rows: int) -> None:
        """Have an index for so many rows, in a table without rows."""
        self.index.reserve(rows)

    def stats(self) -> dict[str, int]:
        """Rows and bytes that exist."""
        return {"rows": len(self.index), "bytes": self._row_bytes() * len(self.index)}

    def _row_bytes(self) -> int:
        return 8 + sum(slab.row_bytes for slab in self.slabs.values())


def initial_rows(wanted: Sequence[tuple[Table, Array]]) -> list[Array]:
    """The initial values of rows of several tables, computed at once."""
    values = rows_of_many(
        [(table.spec["recipe"], ids, table.width, table.rows) for table, ids in wanted]
    )
    return [
        mine.reshape(len(ids), *table.row_shape)
        for (table, ids), mine in zip(wanted, values, strict=True)
    ]


def read_rows(wanted: Sequence[tuple[Table, Array]]) -> list[Array]:
    """Rows of several tables as they are (see `Table.read`)."""
    found: list[Array] = []
    unknown: list[Array] = []
    everywhere = find_many([(table.index, ids) for table, ids in wanted])
    for (table, ids), slots in zip(wanted, everywhere, strict=True):
        missing = np.flatnonzero(slots < 0)
        out = np.empty((len(ids), *table.row_shape), table.dtype)
        if not len(missing):
            table.slabs[VALUE].read_into(slots, out)
        elif len(missing) < len(ids):
            known = slots >= 0
            out[known] = table.slabs[VALUE].take(slots[known])
        found.append(out)
        unknown.append(missing)
    lacking = [at for at, missing in enumerate(unknown) if len(missing)]
    values = initial_rows([(wanted[at][0], wanted[at][1][unknown[at]]) for at in lacking])
    for at, rows in zip(lacking, values, strict=True):
        found[at][unknown[at]] = rows
    return found
