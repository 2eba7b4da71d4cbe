"""Tables in sharded checkpoints, as servers write them: some rows of each, with their ids.

Glossary
    table       several arrays of a checkpoint whose first axes are the same rows: their ids, and a
                column for each kind of value
    group       rows that stay together whatever number of servers there is (a virtual shard). The
                rows of a table are in the order of their groups, in any order within one
    counts      an array that has the number of rows of each group
    increment   a checkpoint that has only the rows that have changed since another one, its base;
                a table in it may be complete all the same
    kept        in an increment, the ids of all rows that there are, by group, of a table that drops
                rows

The index describes them under `tables`: {name: {"ids", "counts", "columns", …}}; see `Table`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from paramesh.array_types import Json
from paramesh.checkpoint.formats.interface import Array, Source

#: About so many bytes of a column are read at once.
BLOCK = 4 << 20


class Table(NamedTuple):
    """A table in an index; all are names of arrays.

    Attributes:
        ids: (rows,) Int64.
        counts: (groups,) Int64: of the rows that are stored.
        columns: (rows, …), without the ids.
        complete: all rows are stored; False only in increments.
        totals: (groups,) Int64: of all rows that there are, where they are not all stored.
        kept: (all rows,) Int64; "": what is not stored is as in the base.
    """

    ids: str
    counts: str
    columns: tuple[str, ...]
    complete: bool = True
    totals: str = ""
    kept: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The ids and the columns."""
        return (self.ids, *self.columns)

    @property
    def plain(self) -> Json:
        """For JSON."""
        return self._asdict() | {"columns": list(self.columns)}


def parsed_tables(said: Json, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Table]:
    """The tables that an index names.

    Args:
        said: what the index has under `tables`.
        shapes: of the arrays of the index.

    Raises:
        ValueError: it is not valid; the message says why.
    """
    if not isinstance(said, dict):
        raise ValueError("its tables are not an object")
    found: dict[str, Table] = {}
    for name, about in said.items():
        if not isinstance(about, dict) or set(about) != set(Table._fields):
            raise ValueError(f"the table '{name}' must have {', '.join(Table._fields)}")
        columns, complete = about["columns"], about["complete"]
        texts = [about[key] for key in ("ids", "counts", "totals", "kept")]
        if (
            not isinstance(columns, list)
            or not isinstance(complete, bool)
            or not all(isinstance(text, str) for text in (*texts, *columns))
        ):
            raise ValueError(f"the table '{name}' is not described by names of arrays")
        ids, counts, totals, kept = texts
        table = Table(ids, counts, tuple(columns), complete, totals, kept)
        missing = [n for n in (*table.names, table.counts, table.totals, table.kept) if n]
        missing = [n for n in missing if n not in shapes]
        if missing:
            raise ValueError(f"the table '{name}' has no array '{missing[0]}'")
        rows = {shapes[n][:1] for n in table.names}
        if len(rows) > 1 or shapes[table.ids] != (*next(iter(rows)),):
            raise ValueError(f"the arrays of the table '{name}' have different numbers of rows")
        groups = {shapes[n] for n in (table.counts, table.totals) if n}
        if len(groups) > 1 or len(next(iter(groups))) != 1 or (complete == bool(table.totals)):
            raise ValueError(f"the groups of the table '{name}' are not valid")
        found[name] = table
    return found


def group_counts(source: Source, name: str, rows: int) -> Array:
    """An array of counts, checked.

    Raises:
        ValueError: they are not the numbers of so many rows.
    """
    counts = source.read(name)
    if counts.dtype != np.int64 or (counts < 0).any() or int(counts.sum()) != rows:
        raise ValueError(f"'{name}' does not count {rows} rows")
    return counts


def rows_at_once(source: Source, names: Sequence[str]) -> int:
    """How many rows of these columns make a block."""
    widest = max(_row_bytes(source, name) for name in names)
    return max(1, BLOCK // max(1, widest))


def _row_bytes(source: Source, name: str) -> int:
    entry = source.entry(name)
    return entry.nbytes // max(1, entry.shape[0])


def stored_blocks(
    source: Source, table: Table, counts: Array, first: int, stop: int
) -> Iterator[dict[str, Any]]:
    """The stored rows of the groups from `first` to `stop`, in blocks."""
    edges = np.concatenate([[0], np.cumsum(counts)])
    start, end = int(edges[first]), int(edges[stop])
    step = rows_at_once(source, table.names)
    for at in range(start, end, step):
        upto = min(at + step, end)
        yield {name: source.read_rows(name, at, upto) for name in table.names}
