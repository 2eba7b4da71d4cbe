"""Rows of tables that were loaded and that no server has yet: in memory, or in their checkpoint.

A table in a sharded checkpoint that servers have written stays there until servers take it, each
its own rows. Until then it is read there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paramesh.checkpoint.formats.interface import Source
from paramesh.checkpoint.sharded.increments import IncrementSource
from paramesh.checkpoint.sharded.source import ShardedSource
from paramesh.nn.cell import Cell
from paramesh.ps.server.loading import Readable, open_checkpoint
from paramesh.ps.specification.checkpoints import LoadOrder
from paramesh.ps.specification.partition import shards_of_rows
from paramesh.tensor.base import Tensor

Array = np.ndarray[Any, Any]


class InFile(NamedTuple):
    """An array of a checkpoint that is left there.

    Attributes:
        folder: of the checkpoint.
        identity: of the checkpoint.
        table: that it belongs to.
        name: of it.
        shape: of it.
        dtype: of it.
    """

    folder: Path
    identity: str
    table: str
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


def left_in_file(source: Source, names: list[str], net: Cell) -> dict[str, InFile]:
    """Which arrays of a checkpoint need not be read to load it into a network.

    Args:
        source: the checkpoint.
        names: of its arrays, and of what is stored beside them, that are to be loaded.
        net: the network.
    """
    if not isinstance(source, ShardedSource | IncrementSource) or not source.tables:
        return {}
    mine, there = net.parameters_dict(), set(names)
    found: dict[str, InFile] = {}
    for name, table in source.tables.items():
        if name not in mine or f"{name}.recipe" not in there or table.ids not in there:
            continue
        of_table = {*table.names, table.counts}
        for array in source.names():
            if array in there and (array in of_table or array.startswith(f"{name}.")):
                entry = source.entry(array)
                kind = (entry.shape, entry.dtype.np_dtype)
                found[array] = InFile(source.path.resolve(), source.identity, name, array, *kind)
    return found


@dataclasses.dataclass
class Waiting:
    """Rows in memory.

    Args:
        ids: sorted.
        fields: values and state of the optimizer.
        order: in which others have to be taken to be in the order of the ids.
    """

    ids: Array
    fields: dict[str, Array]
    order: Array | slice = dataclasses.field(default_factory=lambda: slice(None))

    def add(self, slot: str, given: object) -> None:
        """Add a state of the optimizer, a Tensor; what does not fit is left out."""
        if isinstance(given, Tensor) and given.shape[:1] == self.ids.shape:
            self.fields[slot] = given.asnumpy()[self.order]

    def find(self, ids: Array) -> tuple[Array, Array]:
        """Which of some ids are there, and the values of those."""
        if not len(self.ids):
            return np.zeros(len(ids), bool), self.fields["value"][:0]
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        hit = self.ids[at] == ids
        return hit, self.fields["value"][at[hit]]

    def blocks(self, count: int) -> Iterator[tuple[Array, Array]]:
        """Ids and values, at most so many rows at once."""
        for first in range(0, len(self.ids), count):
            part = slice(first, first + count)
            yield self.ids[part], self.fields["value"][part]

    def parts(self) -> Iterator[dict[str, Array]]:
        """`ids`, values and state, in blocks."""
        yield self.everything()

    def everything(self) -> dict[str, Array]:
        """`ids`, values and state."""
        return {"ids": self.ids, **self.fields}


class WaitingInFile:
    """Rows in a checkpoint.

    Args:
        param: the name of the table.
        ids: the array of its ids.
        fields: the arrays of values and state.
    """

    def __init__(self, param: str, ids: InFile, fields: Mapping[str, str]) -> None:
        self._ids = ids
        self._fields = dict(fields)
        self._param = param

    def _open(self) -> Readable:
        return open_checkpoint(str(self._ids.folder), self._ids.identity)

    def add(self, slot: str, given: object) -> None:
        """Add a state of the optimizer, an `InFile`; what does not fit is left out."""
        if isinstance(given, InFile) and given.shape[:1] == self._ids.shape:
            self._fields[slot] = given.name

    def order(self, shards: int) -> LoadOrder:
        """What servers have to do to have them."""
        ids = self._ids
        return LoadOrder(
            str(ids.folder), ids.identity, self._param, ids.table, self._fields, shards
        )

    def find(self, ids: Array) -> tuple[Array, Array]:
        """Which of some ids are there, and the values of those."""
        name = self._fields["value"]
        hit = np.zeros(len(ids), bool)
        with self._open() as source:
            entry = source.entry(name)
            values = np.empty((len(ids), *entry.shape[1:]), entry.dtype.np_dtype)
            shards = shards_of_rows(ids, len(source.counts(self._ids.table)))
            for shard in np.unique(shards).tolist():
                wanted = np.flatnonzero(shards == shard)
                for block in source.blocks(self._ids.table, shard, shard + 1):
                    there = block[self._ids.name]
                    order = np.argsort(there)
                    at = np.searchsorted(there, ids[wanted], sorter=order)
                    at = order[np.minimum(at, len(there) - 1)]
                    mine = there[at] == ids[wanted]
                    hit[wanted[mine]] = True
                    values[wanted[mine]] = block[name][at[mine]]
        return hit, values[hit]

    def parts(self) -> Iterator[dict[str, Array]]:
        """`ids`, values and state, in blocks."""
        with self._open() as source:
            shards = len(source.counts(self._ids.table))
            for block in source.blocks(self._ids.table, 0, shards):
                fields = {field: block[name] for field, name in self._fields.items()}
                yield {"ids": block[self._ids.name], **fields}
                source.forget()

    def blocks(self, count: int) -> Iterator[tuple[Array, Array]]:
        """Ids and values, at most so many rows at once."""
        for part in self.parts():
            yield from Waiting(part["ids"], {"value": np.array(part["value"])}).blocks(count)

    def everything(self) -> dict[str, Array]:
        """`ids`, values and state: all of them in memory."""
        parts = [{field: np.array(rows) for field, rows in part.items()} for part in self.parts()]
        if not parts:
            with self._open() as source:
                names = {"ids": self._ids.name, **self._fields}
                return {field: np.array(source.read(name)) for field, name in names.items()}
        joined = {field: np.concatenate([part[field] for part in parts]) for field in parts[0]}
        order = np.argsort(joined["ids"])
        return {field: rows[order] for field, rows in joined.items()}
