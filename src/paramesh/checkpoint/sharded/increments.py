"""Reading an increment together with the checkpoints that it goes on from.

Glossary
    level       an increment, or the complete checkpoint at the end of a chain of bases
    chain       the levels of a checkpoint, the newest first

The newest level that has a row says what it is. A table that drops rows names in each level all
that there are: the others are gone. Only the ids of one group are in memory at a time.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from paramesh.checkpoint.formats.interface import Array, Entry, Source, frozen
from paramesh.checkpoint.formats.tables import Table, rows_at_once
from paramesh.checkpoint.sharded.source import FORMAT, ShardedSource
from paramesh.errors import CheckpointError

#: The longest chain that is followed.
_LONGEST = 10_000


def open_sharded(path: Path) -> ShardedSource | IncrementSource:
    """Open a sharded checkpoint, which may be an increment.

    Raises:
        CheckpointError: it, or what it goes on from, is not valid, not complete, missing, or
            another checkpoint.
    """
    source = ShardedSource(path, increments=True)
    return source if source.base is None else IncrementSource(source)


class _Level(NamedTuple):
    """A table in one checkpoint of a chain; `edges`: where its groups begin."""

    source: ShardedSource
    table: Table
    edges: Array


class _Rows(NamedTuple):
    """Where the rows of a group are: the level and the row of each, sorted by both."""

    levels: Array
    rows: Array


class IncrementSource(Source):
    """An increment, and the checkpoints that it goes on from, as one complete checkpoint.

    Args:
        newest: the increment; it is closed with this source.

    Attributes:
        chain: all of its checkpoints, the newest first.
        identity: of the increment.
        tables: all complete, by name.

    Raises:
        CheckpointError: a checkpoint of the chain is missing, or is not the one that the increment
            goes on from, or does not fit.
    """

    format = FORMAT

    def __init__(self, newest: ShardedSource) -> None:
        super().__init__(newest.path)
        self.chain = [newest]
        try:
            while self.chain[-1].base is not None:
                self.chain.append(self._base_of(self.chain[-1]))
            self.identity = newest.identity
            self.appended, self.metadata = newest.appended, newest.metadata
            self.tables: dict[str, Table] = {}
            self._levels: dict[str, list[_Level]] = {}
            self._totals: dict[str, Array] = {}
            self._table_of: dict[str, str] = {}
            for name, table in newest.tables.items():
                self._add_table(name, table)
            self._add_entries(newest)
        except BaseException:
            self.close()
            raise
        self._located = functools.lru_cache(4)(self._locate)

    def _base_of(self, one: ShardedSource) -> ShardedSource:
        assert one.base is not None
        path = Path(os.path.normpath(one.path / one.base.path))
        what = f"Checkpoint '{one.path}' has the rows that have changed since '{path}'"
        try:
            found = ShardedSource(path, increments=True)
        except (CheckpointError, OSError) as error:
            raise CheckpointError(
                f"{what}, which cannot be read: {error} Put it back where it was, or use another "
                "checkpoint. Nothing was loaded."
            ) from error
        if found.identity != one.base.identity or len(self.chain) > _LONGEST:
            found.close()
            raise CheckpointError(
                f"{what}, and another checkpoint is there now: it was saved again since, or "
                "exchanged. Use another checkpoint. Nothing was loaded."
            )
        return found

    def _unfit(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"Checkpoint '{self.path}' does not fit the ones that it goes on from: {what}. Nothing "
            "was loaded."
        )

    def _add_table(self, name: str, table: Table) -> None:
        levels: list[_Level] = []
        for source in self.chain:
            mine = source.tables.get(name)
            if mine is None or {*mine.names} != {*table.names}:
                raise self._unfit(f"'{source.path}' has no such table '{name}'")
            counts = source.counts(name)
            levels.append(_Level(source, mine, np.concatenate([[0], np.cumsum(counts)])))
            if mine.complete:
                break
        totals = self.chain[0].totals(name)
        if any(len(level.edges) != len(totals) + 1 for level in levels):
            raise self._unfit(f"the table '{name}' has other groups")
        self.tables[name] = table._replace(complete=True, totals="", kept="")
        self._levels[name], self._totals[name] = levels, totals
        self._table_of |= dict.fromkeys(table.names, name)

    def _add_entries(self, newest: ShardedSource) -> None:
        left_out = {n for t in newest.tables.values() for n in (t.totals, t.kept) if n}
        self._counts = {table.counts: name for name, table in self.tables.items()}
        for entry in newest.entries():
            if entry.name in left_out:
                continue
            table = self._table_of.get(entry.name)
            if table is not None:
                rows = int(self._totals[table].sum())
                entry = Entry.of(entry.name, entry.dtype, (rows, *entry.shape[1:]))
            self._entries[entry.name] = entry

    # Tables.

    def counts(self, table: str) -> Array:
        """How many rows of a table each group has."""
        return self._totals[table]

    def blocks(self, table: str, first: int, stop: int) -> Iterator[dict[str, Array]]:
        """The rows of the groups from `first` to `stop` of a table, in blocks.

        Yields:
            The arrays of the table, by their names; at most about 4 MiB of each.

        Raises:
            CheckpointError: a group does not have the rows that it should.
        """
        names = self.tables[table].names
        step = rows_at_once(self.chain[0], names)
        for group in range(first, stop):
            found = self._located(table, group)
            for at in range(0, len(found.rows), step):
                part = _Rows(found.levels[at : at + step], found.rows[at : at + step])
                yield {name: self._gathered_rows(table, name, part) for name in names}

    def _locate(self, table: str, group: int) -> _Rows:
        """The rows of a group."""
        ids: list[Array] = []
        levels: list[Array] = []
        rows: list[Array] = []
        for at, (source, mine, edges) in enumerate(self._levels[table]):
            first, stop = int(edges[group]), int(edges[group + 1])
            ids.append(source.read_rows(mine.ids, first, stop))
            levels.append(np.full(stop - first, at))
            rows.append(np.arange(first, stop))
        # Of rows that several levels have, `unique` gives the first: the newest one.
        known, newest = np.unique(np.concatenate(ids), return_index=True)
        kept = self._kept(table, group)
        if kept is not None:
            newest = newest[np.isin(known, kept)]
        if len(newest) != self._totals[table][group]:
            raise self._unfit(
                f"group {group} of the table '{table}' has {len(newest)} rows, and should have "
                f"{self._totals[table][group]}"
            )
        newest = np.sort(newest)
        return _Rows(np.concatenate(levels)[newest], np.concatenate(rows)[newest])

    def _kept(self, table: str, group: int) -> Array | None:
        newest = self._levels[table][0]
        if not newest.table.kept:
            return None
        edges = np.concatenate([[0], np.cumsum(self._totals[table])])
        first, stop = int(edges[group]), int(edges[group + 1])
        return newest.source.read_rows(newest.table.kept, first, stop)

    def _gathered_rows(self, table: str, name: str, found: _Rows) -> Array:
        """The values of some rows; the levels are in order, and in each the rows."""
        entry = self._entries[name]
        out = np.empty((len(found.rows), *entry.shape[1:]), entry.dtype.np_dtype)
        edges = np.searchsorted(found.levels, range(len(self._levels[table]) + 1))
        for level, (first, stop) in enumerate(itertools.pairwise(edges)):
            if first < stop:
                rows = found.rows[first:stop]
                source = self._levels[table][level].source
                span = source.read_rows(name, int(rows[0]), int(rows[-1]) + 1)
                out[first:stop] = span[rows - rows[0]]
        return out

    # What a `Source` has.

    def read_flat(self, name: str, start: int, stop: int) -> Array:
        """Elements `start` to `stop`; see `Source.read_flat`."""
        entry = self._with_elements(name, start, stop)
        if name in self._counts:
            return frozen(self._totals[self._counts[name]][start:stop].copy())
        table = self._table_of.get(name)
        if table is None:
            return self.chain[0].read_flat(name, start, stop)
        if start == stop:
            return frozen(np.empty(0, entry.dtype.np_dtype))
        row = max(1, entry.size // max(1, entry.shape[0]))
        first, last = start // row, -(-stop // row)
        rows = np.empty((last - first, *entry.shape[1:]), entry.dtype.np_dtype)
        at = 0
        for part in self._rows(table, name, first, last):
            rows[at : at + len(part)] = part
            at += len(part)
        return frozen(rows.reshape(-1)[start - first * row : stop - first * row])

    def _rows(self, table: str, name: str, first: int, stop: int) -> Iterator[Array]:
        edges = np.concatenate([[0], np.cumsum(self._totals[table])])
        group = int(np.searchsorted(edges, first, "right")) - 1
        while first < stop:
            begin, end = int(edges[group]), int(edges[group + 1])
            if first < end:
                found = self._located(table, group)
                part = slice(first - begin, min(stop, end) - begin)
                mine = _Rows(found.levels[part], found.rows[part])
                yield self._gathered_rows(table, name, mine)
                first = min(stop, end)
            group += 1

    def verify(self) -> bool:
        """Compare the checksums of all checkpoints of the chain; see `Source.verify`."""
        return all([source.verify() for source in self.chain])

    def parts(self) -> Sequence[Source]:
        """The checkpoints of the chain, the newest first."""
        return self.chain

    def forget(self) -> None:
        """Release the pages of all files; see `Source.forget`."""
        for source in self.chain:
            source.forget()

    def close(self) -> None:
        """Close all files."""
        for source in self.chain:
            source.close()
