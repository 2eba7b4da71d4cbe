"""A server's part of a checkpoint: one version of what it has, as a safetensors file.

The rows of a table come as its view gives them, while updates go on; each goes to the place of its
virtual shard in the file, so that a server with other shards finds its rows together. The ids are
gone through once before, to know how many there are of each.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.safetensors_pieces import PiecewiseSink
from paramesh.dtype import int64, to_dtype
from paramesh.errors import ParameterStateError
from paramesh.ps.durability.snapshot_view import Array, DenseView, SnapshotView, TableView
from paramesh.ps.server.row_life import RowLife
from paramesh.ps.specification.checkpoints import (
    LIFE,
    PART,
    PartFacts,
    SaveOrder,
    TableOrder,
    shard_range,
)
from paramesh.ps.specification.partition import shards_of_rows
from paramesh.ps.specification.specs import owner_of

#: Bytes of rows that are collected, so that those of one shard are written together. Of about three
#: times as many the C library keeps the memory in the thread that writes, and gives none back.
_TOGETHER = 4 << 20


def write_part(
    order: SaveOrder,
    view: SnapshotView,
    version: int,
    since: Mapping[str, int | None],
    point: Callable[[str], None],
) -> None:
    """Write a server's part of a checkpoint.

    Args:
        order: what, and where.
        view: of the server's store; it is released as it is read.
        version: of the view.
        since: by table, the clock from which on its rows have changed; None: all are written.
        point: called with "saving" before each piece, and with "part" when the file is there.

    Raises:
        FileNotFoundError: nobody waits for it any more, or the folder is not seen here.
        ParameterStateError: the view lacks something, or updates were faster than the disk.
        OSError: from the file system; no file is left.
    """
    _check_awaited(order)
    tables = {
        table.spec["name"]: _TablePart(
            table, order, order.tables[table.spec["name"]], version, since.get(table.spec["name"])
        )
        for table in view.tables
        if table.spec["name"] in order.tables
    }
    pieces = {
        part.spec["name"]: _DensePart(part, order.dense[owner_of(part.spec)])
        for part in view.parts
        if isinstance(part, DenseView) and owner_of(part.spec) in order.dense
    }
    _check_complete(order, tables, pieces)
    entries = [entry for part in (*pieces.values(), *tables.values()) for entry in part.entries()]
    facts = PartFacts(
        order.identity,
        order.server,
        order.servers,
        version,
        {part.order.name: part.facts() for part in tables.values()},
        _dense_facts(pieces.values()),
    )
    metadata = {PART: json.dumps(facts._asdict())}
    with PiecewiseSink(order.part, entries, {}, metadata, order.checksums) as sink:
        for said, fields in view.pieces():
            point("saving")
            if said.get("name") in pieces:
                pieces[said["name"]].add(said["at"], fields, sink)
            elif said.get("name") in tables and "ids" in fields:
                tables[said["name"]].add(fields, sink)
        for part in tables.values():
            part.finish(sink)
        _check_awaited(order)
    point("part")


def _check_awaited(order: SaveOrder) -> None:
    if not (order.part.parent / order.ticket).exists():
        raise FileNotFoundError(
            f"'{order.folder}' has no file '{order.ticket}': the save was given up, or the folder "
            "is not one that the hosts of all servers share"
        )


def _check_complete(
    order: SaveOrder, tables: Mapping[str, _TablePart], pieces: Mapping[str, _DensePart]
) -> None:
    missing = sorted(order.tables.keys() - tables.keys())
    lacking = [
        f"{field} of {part.view.spec['name']}"
        for part in (*tables.values(), *pieces.values())
        for field in part.wanted
        if field not in part.there
    ]
    if missing or lacking:
        raise ParameterStateError(f"this server does not have {(missing + lacking)[0]}.")


def _dense_facts(pieces: Iterable[_DensePart]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for piece in pieces:
        for array in piece.wanted.values():
            about = found.setdefault(array, {"shape": piece.whole, "pieces": []})
            about["pieces"].append([piece.start, piece.stop])
    return found


class _DensePart:
    """A piece of a dense Parameter.

    Args:
        view: of it.
        wanted: the name of the array of each field.
    """

    def __init__(self, view: DenseView, wanted: Mapping[str, str]) -> None:
        self.view = view
        self.wanted = wanted
        self.there = view.fields
        spec = view.spec
        self.start: int = spec.get("offset", 0)
        self.stop = self.start + math.prod(spec["shape"])
        self.whole: list[int] = spec.get("whole", spec["shape"])

    def entries(self) -> Iterator[Entry]:
        """What it has in the file."""
        dtype = to_dtype(self.view.spec["dtype"])
        for array in self.wanted.values():
            yield Entry.of(f"{array}/{self.start}:{self.stop}", dtype, (self.stop - self.start,))

    def add(self, at: int, fields: Mapping[str, Array], sink: PiecewiseSink) -> None:
        """Write some elements."""
        for field, array in self.wanted.items():
            sink.put(f"{array}/{self.start}:{self.stop}", at, fields[field])


class _TablePart:
    """The rows of a table on this server.

    Args:
        view: of the table.
        order: of the server.
        table: the order of the table.
        version: of the view.
        since: the clock from which on rows have changed; None: all are written.
    """

    def __init__(
        self,
        view: TableView,
        order: SaveOrder,
        table: TableOrder,
        version: int,
        since: int | None,
    ) -> None:
        self.view = view
        self.order = table
        self.wanted = table.fields
        self.there = list(view.shapes)
        self._server = order.server
        self._shards = order.shards
        self._first, self._stop = shard_range(order.server, order.servers, order.shards)
        self._since = since
        self._limited = RowLife(view.spec).limited
        self._clock = version + int(view.life["offset"][0] if "offset" in view.life else 0)
        self._keeps = since is not None and self._limited
        stored, everything = self._count()
        self._stored, self._everything = stored, everything
        #: Of each shard, where its next row goes; and its next id among all.
        self._next = np.concatenate([[0], np.cumsum(stored)[:-1]])
        self._next_kept = np.concatenate([[0], np.cumsum(everything)[:-1]])
        self._held: list[dict[str, Array]] = []
        self._bytes = 0

    def _count(self) -> tuple[Array, Array]:
        """How many rows of each shard are stored, and how many there are."""
        stored, everything = (np.zeros(self._stop - self._first, np.int64) for _ in range(2))
        for ids, last in self.view.ids():
            shards = self._shards_of(ids)
            everything += np.bincount(shards, minlength=len(everything))
            changed = shards if self._since is None else shards[last >= self._since]
            stored += np.bincount(changed, minlength=len(stored))
        return stored, everything

    def _shards_of(self, ids: Array) -> Array:
        return shards_of_rows(ids, self._shards) - self._first

    # What is in the file.

    def _stored_as(self, array: str) -> str:
        return f"{array}/{self._server}"

    def facts(self) -> dict[str, Any]:
        """As `PartFacts.tables`."""
        order = self.order
        columns = [order.ids, *self.wanted.values()]
        extras = [order.groups]
        if self._limited:
            columns.append(order.extra("last"))
            extras += [order.extra(name) for name, _ in LIFE.values()]
        return {
            "columns": columns,
            "extras": extras,
            "complete": self._since is None,
            "totals": "" if self._since is None else order.extra("total_groups"),
            "kept": order.extra("kept") if self._keeps else "",
            "clock": self._clock if self._limited else None,
        }

    def _columns(self) -> Iterator[tuple[str, Any, tuple[int, ...]]]:
        order, dtype = self.order, to_dtype(self.view.dtype)
        yield order.ids, int64, ()
        for field, array in self.wanted.items():
            yield array, dtype, self.view.shapes[field]
        if self._limited:
            yield order.extra("last"), int64, ()

    def entries(self) -> Iterator[Entry]:
        """What it has in the file."""
        order, rows = self.order, int(self._stored.sum())
        for array, dtype, shape in self._columns():
            yield Entry.of(self._stored_as(array), dtype, (rows, *shape))
        for array, values in self._extras():
            yield Entry.of(self._stored_as(array), int64, values.shape)
        if self._keeps:
            kept = int(self._everything.sum())
            yield Entry.of(self._stored_as(order.extra("kept")), int64, (kept,))

    def _extras(self) -> Iterator[tuple[str, Array]]:
        """The arrays that are not by row."""
        order = self.order
        yield order.groups, self._stored
        if self._since is not None:
            yield order.extra("total_groups"), self._everything
        if not self._limited:
            return
        for field, (name, shape) in LIFE.items():
            values = self.view.life.get(field)
            if values is None:
                values = np.zeros(shape if field == "account" else (0, *shape), np.int64)
            yield order.extra(name), values[None] if field == "account" else values

    # Writing it.

    def add(self, fields: Mapping[str, Array], sink: PiecewiseSink) -> None:
        """Write a block of rows, with others."""
        ids, last = fields["ids"], fields["last"]
        if self._keeps:
            name = self._stored_as(self.order.extra("kept"))
            self._write({name: ids}, self._shards_of(ids), self._next_kept, sink)
        block = {self._stored_as(self.order.ids): ids}
        block |= {self._stored_as(array): fields[field] for field, array in self.wanted.items()}
        if self._limited:
            block[self._stored_as(self.order.extra("last"))] = last
        if self._since is not None:
            changed = last >= self._since
            block = {name: rows[changed] for name, rows in block.items()}
        self._held.append(block)
        self._bytes += sum(rows.nbytes for rows in block.values())
        if self._bytes >= _TOGETHER:
            self._flush(sink)

    def _flush(self, sink: PiecewiseSink) -> None:
        held, self._held, self._bytes = self._held, [], 0
        if not held:
            return
        shards = self._shards_of(np.concatenate([b[self._stored_as(self.order.ids)] for b in held]))
        columns: dict[str, Array] = {}
        for name in list(held[0]):
            columns[name] = np.concatenate([block.pop(name) for block in held])
        self._write(columns, shards, self._next, sink)

    def _write(
        self, columns: Mapping[str, Array], shards: Array, places: Array, sink: PiecewiseSink
    ) -> None:
        """Write rows to the next places of their shards."""
        order = np.argsort(shards, kind="stable")
        counts = np.bincount(shards, minlength=len(places))
        edges = np.concatenate([[0], np.cumsum(counts)])
        present = np.flatnonzero(counts)
        for name, values in columns.items():
            rows = values[order]
            for shard in present:
                first, stop = edges[shard], edges[shard + 1]
                sink.put(name, int(places[shard]), rows[first:stop])
        places += counts

    def finish(self, sink: PiecewiseSink) -> None:
        """Write what is left."""
        self._flush(sink)
        for array, values in self._extras():
            sink.put(self._stored_as(array), 0, values)
