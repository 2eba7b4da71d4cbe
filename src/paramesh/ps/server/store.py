"""The state of a parameter server, and how a step changes it. No files, no network.

Glossary
    store       the state of one virtual shard, or of a full server; two stores that received the
                same calls hold the same bits
    spec        what a Parameter is, as JSON (see `Store.declare`)
    update      the aggregated gradients of one step, by the names of Parameters
    hyper       the hyperparameters of one step: learning rates and the like
    undo        the previous values of what one update changed
    field       "value", or a slot of the optimizer, by the local optimizer's name ("moment1")

One store per server is faster than one per virtual shard: an update is processed in blocks, and
many small stores have many small blocks. `Store.rows` and `put` move single rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from paramesh.dtype import to_dtype
from paramesh.errors import ParameterShapeError, ParameterStateError
from paramesh.ps.durability.snapshot_view import DenseView, Piece, Room, SnapshotView, TableView
from paramesh.ps.server.dense import VALUE, Dense, DenseUndo
from paramesh.ps.server.shared_index import SharedIndex, find_many
from paramesh.ps.server.tables import RowsUndo, Table, initial_rows, read_rows
from paramesh.ps.server.update_rules import Powers, numbers_of
from paramesh.ps.specification.specs import differences, same_spec

Array = np.ndarray[Any, Any]
Update = Mapping[str, Mapping[str, Any]]

_KINDS = ("dense", "rows")


class Undo(NamedTuple):
    """The state before an update, where the update changed it."""

    step: int
    parts: dict[str, DenseUndo | RowsUndo]


class Store:
    """Parameters with their optimizer state; deterministic."""

    def __init__(self) -> None:
        self._parts: dict[str, Dense | Table] = {}
        self._powers = Powers()
        self._index = SharedIndex()

    def declare(self, spec: dict[str, Any], *, empty: bool = False) -> None:
        """Say what a Parameter is; a second time with the same spec does nothing.

        Args:
            empty: compute no values from a recipe: they will be loaded.
            spec: JSON-able. For all: `name`, `kind` ("dense" or "rows"), `dtype` ("float32"),
                `optimizer` (see `update_rules.make_update_rule`; None for what is not trained),
                `recipe` (see `initial_values.initial_values_of`; None: values come by `put`).
                Dense: `shape`, and `offset`, the position of its first element in the recipe's
                array; for a shard `whole`, the shape of that array. Rows: `row_shape`, `rows` (of
                the full table; `id_range.UNBOUNDED`: any id), and what `row_life` reads: `admit`
                (pushes until a row exists, 1), `admit_probability` (with which it then does, 1),
                `expire` (steps without a push until a row is dropped, 0: never) and `max_rows`
                (of this store, 0: any number).

        Raises:
            ValueError: the spec is not valid, or there is another spec of the same name.
        """
        spec = json.loads(json.dumps(spec))
        name = spec.get("name")
        if not isinstance(name, str) or spec.get("kind") not in _KINDS:
            raise ValueError(
                f"a spec needs a name and a kind, {' or '.join(_KINDS)}; got {spec!r}."
            )
        known = self._parts.get(name)
        if known is not None:
            if not same_spec(known.spec, spec):
                there, here = differences(known.spec, spec)
                raise ValueError(
                    f"Parameter '{name}' is declared on the server as {there}, and cannot be "
                    f"declared as {here}. All workers run the same script, and a run that "
                    f"continues keeps its optimizer, its initial values and its seed; to change "
                    f"them, load a checkpoint into a run with a new wal_dir."
                )
            return
        if spec["kind"] == "dense":
            self._parts[name] = Dense(spec, empty=empty)
        else:
            if spec.get("recipe") is None:
                raise ValueError(f"Parameter '{name}': a table of rows needs a recipe.")
            self._parts[name] = Table(spec, self._index)

    def specs(self) -> dict[str, dict[str, Any]]:
        """The specs by name."""
        return {name: part.spec for name, part in self._parts.items()}

    def has(self, name: str) -> bool:
        """Whether a Parameter was declared."""
        return name in self._parts

    def _part(self, name: str) -> Dense | Table:
        part = self._parts.get(name)
        if part is None:
            raise ParameterStateError(
                f"Parameter '{name}' does not exist on this server; it has {sorted(self._parts)}."
            )
        return part

    def put(
        self,
        name: str,
        values: Array,
        at: int = 0,
        *,
        ids: Array | None = None,
        field: str = VALUE,
    ) -> None:
        """Give elements of a dense Parameter, or rows of a table, other values.

        Args:
            name: of the Parameter.
            values: the elements from `at` on in row-major order, or (ids, *row_shape).
            at: dense: where they begin.
            ids: of the rows; each once.
            field: "value", or a slot of the optimizer.

        Raises:
            ParameterStateError: no such Parameter or field.
            ParameterShapeError: values that do not fit.
        """
        part = self._part(name)
        self._check_field(part, field)
        if isinstance(part, Dense):
            part.put(values, at, field)
            return
        if ids is None:
            raise ParameterShapeError(f"Parameter '{name}' is a table: put needs the rows' ids.")
        ids, values = part.check_ids(ids), np.asarray(values)
        if values.shape != (len(ids), *part.shapes[field]):
            raise ParameterShapeError(
                f"Parameter '{name}': {len(ids)} rows of shape {part.shapes[field]} were expected, "
                f"but the values have shape {values.shape}."
            )
        part.put(ids, values, field)

    def check_rows(self, name: str, fields: Mapping[str, Array]) -> None:
        """Raise what `take_rows` would raise; changes nothing."""
        table = self._table(name)
        ids = table.check_ids(fields["ids"])
        if len(np.unique(ids)) != len(ids):
            raise ValueError(f"Parameter '{name}': a row was given twice.")
        for field, values in fields.items():
            if field == "ids":
                continue
            if field != "last":
                self._check_field(table, field)
            shape, dtype = table.shapes.get(field, ()), table.dtype
            if field == "last":
                dtype = np.dtype(np.int64)
            if values.shape != (len(ids), *shape) or values.dtype != dtype:
                raise ParameterShapeError(
                    f"Parameter '{name}': {field} of {len(ids)} rows must be "
                    f"{dtype}{[len(ids), *shape]}, got {values.dtype}{list(values.shape)}."
                )

    def take_rows(self, name: str, fields: Mapping[str, Array]) -> None:
        """Take over rows of a table from a checkpoint.

        Args:
            name: of the table.
            fields: `ids`, each once; values and state; and `last` (see `Table.take`).

        Raises:
            ParameterStateError: no such table or field.
            ParameterShapeError: values that do not fit.
            ValueError: ids that the table does not have, or twice.
        """
        self.check_rows(name, fields)
        table = self._table(name)
        others = {field: values for field, values in fields.items() if field != "ids"}
        table.take(table.check_ids(fields["ids"]), others)

    def take_life(self, name: str, fields: dict[str, Array]) -> None:
        """Take over which rows of a table were met and dropped (see `RowLife.load`).

        Raises:
            ParameterStateError: no such table.
        """
        self._table(name).life.load(fields)

    def _table(self, name: str) -> Table:
        part = self._part(name)
        if not isinstance(part, Table):
            raise ParameterStateError(f"Parameter '{name}' is dense and has no rows.")
        return part

    def clock_offset(self, name: str) -> int:
        """By how much the clock of a table is ahead of the server's version (see `row_life`).

        Raises:
            ParameterStateError: no such table.
        """
        return self._table(name).life.offset

    def _check_field(self, part: Dense | Table, field: str) -> None:
        fields = self.fields(part.name)
        if field not in fields:
            raise ParameterStateError(
                f"Parameter '{part.name}' has no {field!r} on the server; it has {fields}."
            )

    def check(self, updates: Update) -> None:
        """Raise what `apply` would raise about the shapes of updates; changes nothing.

        Raises:
            ParameterStateError: no such Parameter, no values yet, or no optimizer.
            ParameterShapeError: gradients that do not fit.
            ValueError: ids that are not sorted, or outside the table.
        """
        for name, update in updates.items():
            part = self._part(name)
            if part.update_rule is None:
                raise ParameterStateError(f"Parameter '{name}' was declared without an optimizer.")
            grad = update["grad"]
            if to_dtype(grad.dtype).kind != "float":
                raise ParameterShapeError(
                    f"Parameter '{name}': the gradient must be floating point, got {grad.dtype}."
                )
            if isinstance(part, Dense):
                if grad.size != part.size:
                    raise ParameterShapeError(
                        f"Parameter '{name}' has {part.size} elements on this server, but its "
                        f"gradient has {grad.size}."
                    )
                part.read(VALUE, None)
                continue
            ids = part.check_ids(update["ids"])
            if len(ids) > 1 and not (ids[1:] > ids[:-1]).all():
                raise ValueError(
                    f"Parameter '{name}': the ids of a push must be sorted and unique."
                )
            if grad.shape != (len(ids), *part.row_shape):
                raise ParameterShapeError(
                    f"Parameter '{name}': {len(ids)} rows of shape {part.row_shape} were pushed, "
                    f"but the gradients have shape {grad.shape}."
                )

    def apply(
        self,
        step: int,
        updates: Update,
        hyper: Mapping[str, float],
        spare: Undo | None = None,
        *,
        checked: bool = False,
    ) -> Undo:
        """Update Parameters from the gradients of one step; all of them, or none.

        Args:
            step: how many updates there were before.
            updates: {name: {"grad"}} for dense Parameters, {name: {"ids", "grad"}} for tables, the
                ids sorted and each once.
            hyper: `learning_rate`, and what else the rules need (see `rules.numbers_of`).
            spare: an undo that nobody needs any more; its memory is written to.
            checked: `check` was called with these, or with all that they are the sum of.

        Returns:
            What `undo` and `read` need to go back behind this update.

        Raises:
            As `check`; ValueError: `hyper` lacks a number. Nothing was changed.
        """
        if not checked:
            self.check(updates)
        numbers: dict[str, Any] = {}
        tables: list[tuple[Table, Array]] = []
        for name, update in updates.items():
            part = self._parts[name]
            assert part.update_rule is not None
            assert part.optimizer is not None
            numbers[name] = numbers_of(
                name, part.optimizer, part.update_rule, step, hyper, self._powers, part.work.type
            )
            if isinstance(part, Table):
                tables.append((part, np.asarray(update["ids"], np.int64)))
        found: dict[str, DenseUndo | RowsUndo] = {}
        if tables:
            found |= self._apply_rows(step, tables, updates, numbers)
        for name, update in updates.items():
            part = self._parts[name]
            if isinstance(part, Dense):
                old = None if spare is None else spare.parts.get(name)
                assert old is None or isinstance(old, DenseUndo)
                found[name] = part.apply(update["grad"], numbers[name], old)
        return Undo(step, found)

    def _apply_rows(
        self,
        step: int,
        tables: Sequence[tuple[Table, Array]],
        updates: Update,
        numbers: Mapping[str, Any],
    ) -> dict[str, RowsUndo]:
        """Update tables from the gradients of some of their rows."""
        slots = find_many([(table.index, ids) for table, ids in tables])
        initial = _initial_values(tables, slots)
        found: dict[str, RowsUndo] = {}
        with self._index.deferred():
            for (table, ids), mine in zip(tables, slots, strict=True):
                name = table.name
                found[name] = table.apply(
                    step, ids, updates[name]["grad"], numbers[name], mine, initial
                )
        return found

    def read_tables(
        self, wanted: Mapping[str, Array], undos: Sequence[Undo] = ()
    ) -> dict[str, Array]:
        """Rows of several tables, as they are or were before some updates.

        Args:
            wanted: ids by table, in any order.
            undos: of the last updates, the earliest first.

        Returns:
            (ids, *row_shape) by table.

        Raises:
            ParameterStateError: no such table.
            ValueError: ids out of range.
        """
        tables: list[tuple[Table, Array]] = []
        for name, ids in wanted.items():
            part = self._table(name)
            tables.append((part, part.check_ids(ids)))
        rows = read_rows(tables)
        # The earliest update that touched a row has its value: it is put in last.
        for undo in reversed(undos):
            for (table, ids), out in zip(tables, rows, strict=True):
                change = undo.parts.get(table.name)
                if isinstance(change, RowsUndo):
                    table.restore(out, ids, change)
        return dict(zip(wanted, rows, strict=True))

    def undo(self, undo: Undo) -> None:
        """Go back behind the last update."""
        for name, change in reversed(undo.parts.items()):
            part = self._parts[name]
            if isinstance(part, Table):
                assert isinstance(change, RowsUndo)
                part.undo(change)
            else:
                assert isinstance(change, DenseUndo)
                part.undo(change)

    def read(
        self, name: str, ids: Array | None = None, undo: Undo | None = None, field: str = VALUE
    ) -> Array:
        """The present values, or those before the last update. Changes nothing.

        Args:
            name: of the Parameter.
            ids: of the rows of a table, in any order; rows that were never trained are computed
                from the recipe.
            undo: of the last update: the values before it.
            field: "value", or a slot of the optimizer.

        Returns:
            The elements here in the declared shape (not to be written to), or (ids, *row_shape).

        Raises:
            ParameterStateError: no such Parameter or field, or no values yet.
            ValueError: ids outside the table.
        """
        part = self._part(name)
        self._check_field(part, field)
        change = None if undo is None else undo.parts.get(name)
        if isinstance(part, Dense):
            assert change is None or isinstance(change, DenseUndo)
            return part.read(field, change)
        if ids is None:
            raise ParameterShapeError(f"Parameter '{name}' is a table: read needs the rows' ids.")
        assert change is None or isinstance(change, RowsUndo)
        return part.read(part.check_ids(ids), field, change)

    def fields(self, name: str) -> list[str]:
        """The fields: "value" and the slots of the optimizer of a Parameter.

        Raises:
            ParameterStateError: no such Parameter.
        """
        part = self._part(name)
        return [VALUE, *(part.update_rule.slots if part.update_rule else ())]

    def row_count(self, name: str) -> int:
        """How many rows of a table exist here.

        Raises:
            ParameterStateError: no such table.
        """
        return self._table(name).row_count()

    def rows(self, name: str) -> Array:
        """The ids of the rows of a table that exist here, sorted.

        Raises:
            ParameterStateError: no such table.
        """
        return self._table(name).existing_ids()

    def dump(self) -> Iterator[tuple[str, Array]]:
        """Everything, as (key, array), each key once; equal stores give equal ones.

        A key is `field/name`: `spec/NAME` comes first, a JSON text as bytes.
        """
        for name, part in self._parts.items():
            yield f"spec/{name}", np.frombuffer(json.dumps(part.spec).encode(), np.uint8)
            if isinstance(part, Table):
                yield from ((f"{field}/{name}", array) for field, array in part.dump())
            else:
                yield from ((f"{field}/{name}", array) for field, array in part.arrays.items())

    def view(self, undos: Sequence[Undo] = ()) -> SnapshotView:
        """Everything as it is now, or was before some updates, to be read while updates go on.

        Args:
            undos: of the last updates, the earliest first.

        Returns:
            The view, which has to be released.
        """
        room = Room()
        parts: list[DenseView | TableView] = []
        for name, part in self._parts.items():
            changes = [undo.parts[name] for undo in undos if name in undo.parts]
            if isinstance(part, Table):
                rows = [change for change in changes if isinstance(change, RowsUndo)]
                parts.append(part.view(rows, room))
            else:
                parts.append(part.view([c for c in changes if isinstance(c, DenseUndo)]))
        return SnapshotView(parts, room)

    def load(self, pieces: Iterable[Piece]) -> None:
        """Take over what another store gave by `view().pieces()`, into one that is empty.

        Raises:
            ParameterStateError: this store is not empty, or has no such Parameter.
            ParameterShapeError: a piece that does not fit.
        """
        if self._parts:
            raise ParameterStateError("only an empty store can load a snapshot.")
        for meta, fields in pieces:
            if "spec" in meta:
                self.declare(meta["spec"], empty=True)
                part = self._part(meta["spec"]["name"])
                if isinstance(part, Table):
                    part.reserve(meta["rows"])
                continue
            part = self._part(meta["name"])
            if isinstance(part, Table):
                part.load(fields)
            else:
                part.load(meta["at"], fields)

    def life(self) -> dict[str, dict[str, Any]]:
        """Of the tables that admit or drop rows: how many exist, and `RowLife.report`."""
        return {
            name: part.life.report() | {"rows": part.row_count()}
            for name, part in self._parts.items()
            if isinstance(part, Table) and part.life.limited
        }

    def stats(self) -> dict[str, Any]:
        """By name: kind, and the elements or rows and the bytes that exist here."""
        return {
            name: {"kind": part.spec["kind"], **part.stats()} for name, part in self._parts.items()
        }


def _initial_values(
    tables: Sequence[tuple[Table, Array]], slots: Sequence[Array]
) -> dict[str, Array]:
    """The initial values of the rows that an update creates, by table.

    Tables with admission are left out: they do not create all of them.
    """
    created = [
        (table, ids[mine < 0])
        for (table, ids), mine in zip(tables, slots, strict=True)
        if not table.life.admits and len(mine) and mine.min() < 0
    ]
    rows = initial_rows(created)
    return {table.name: mine for (table, _), mine in zip(created, rows, strict=True)}
