"""What a server takes from a checkpoint: the rows of its virtual shards, and nothing else.

Rows come in blocks, and each is a record of the log: what a server has taken is there again when it
was killed, and the checkpoint is not needed any more. A call takes some shards; the worker asks
again from where it has come to (see `client.checkpoints`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from paramesh.checkpoint.sharded.increments import IncrementSource, open_sharded
from paramesh.checkpoint.sharded.source import ShardedSource
from paramesh.errors import CheckpointError, ParameterStateError
from paramesh.ps.durability.record import Array
from paramesh.ps.server.row_life import LATEST, RowLife
from paramesh.ps.server.store import Store
from paramesh.ps.specification.checkpoints import LIFE, LoadOrder
from paramesh.ps.specification.partition import shards_of_rows

Readable = ShardedSource | IncrementSource

#: So many candidates are read at once.
_CANDIDATES = 1 << 18


class Target(Protocol):
    """What is loaded: a `Server`, or a store without one.

    Attributes:
        store: of it.
    """

    store: Store

    def may_load(self, name: str) -> bool:
        """As `Checkpointed.may_load`."""
        ...

    def has_loaded(self, name: str, identity: str, stored: str) -> bool:
        """As `Checkpointed.has_loaded`."""
        ...

    def load(self, name: str, rows: Mapping[str, Array]) -> None:
        """As `Checkpointed.load`."""
        ...

    def load_life(self, name: str, fields: dict[str, Array]) -> None:
        """As `Checkpointed.load_life`."""
        ...

    def loaded(self, name: str, identity: str, stored: str, whole: bool) -> None:
        """As `Checkpointed.loaded`."""
        ...


def open_checkpoint(folder: str, identity: str) -> Readable:
    """Open a checkpoint that a worker has told of.

    Raises:
        CheckpointError: it is not valid, not there, or another one.
    """
    try:
        source = open_sharded(Path(folder))
    except OSError as error:
        raise CheckpointError(f"Checkpoint '{folder}' cannot be read: {error}") from error
    if source.identity != identity:
        source.close()
        raise CheckpointError(
            f"Checkpoint '{folder}' was replaced since it was loaded: load it again, and keep it "
            "until the first step is made."
        )
    return source


def load_some(
    server: Target, order: LoadOrder, shards: range, at: int, enough: Callable[[], bool]
) -> int:
    """Take over some of a table.

    Args:
        server: gets it.
        order: which table, from where.
        shards: the virtual shards of this server.
        at: the one to begin with.
        enough: asked after each shard whether to leave the rest for the next call.

    Returns:
        The shard to go on with; that behind the last one: it is complete.

    Raises:
        CheckpointError: the checkpoint is not valid, not there, another one, or does not fit.
        ParameterStateError: there is no such table.
        ParameterServerError: there was a step already, and nothing was loaded before it.
    """
    if not server.may_load(order.param):
        return shards.stop
    if server.has_loaded(order.param, order.identity, order.name):
        return shards.stop
    with open_checkpoint(order.folder, order.identity) as source:
        table = StoredTable(source, order, server.store.specs().get(order.param, {}))
        while at < shards.stop:
            for rows in table.rows(at):
                server.load(order.param, rows)
            source.forget()
            at += 1
            if at < shards.stop and enough():
                return at
        for fields in table.life(shards):
            server.load_life(order.param, fields)
        whole = set(order.fields) >= set(server.store.fields(order.param))
        server.loaded(order.param, order.identity, order.name, whole)
    return shards.stop


class StoredTable:
    """A table in a checkpoint, as a server takes it.

    Args:
        source: the checkpoint.
        order: which table.
        spec: of the table on the server; {}: it has none of this name.

    Raises:
        CheckpointError: the checkpoint does not have it, or it does not fit.
        ParameterStateError: the server has no such table.
    """

    def __init__(self, source: Readable, order: LoadOrder, spec: Mapping[str, Any]) -> None:
        if spec.get("kind") != "rows":
            raise ParameterStateError(f"there is no table '{order.param}' on this server.")
        self._source = source
        self._order = order
        table = source.tables.get(order.name)
        known = set() if table is None else set(table.names)
        missing = [array for array in order.fields.values() if array not in known]
        if table is None or missing or len(source.counts(order.name)) != order.shards:
            raise CheckpointError(
                f"Checkpoint '{source.path}' has no table '{order.name}' of {order.shards} "
                f"virtual shards with {', '.join(order.fields.values())}."
            )
        self._ids = table.ids
        last = f"{order.name}.last"
        self._clock, self._last = 0, ""
        if RowLife(dict(spec)).limited and last in table.names:
            self._clock, self._last = clock_of(source, order.name), last

    def rows(self, shard: int) -> Iterator[dict[str, Array]]:
        """The rows of a virtual shard, in blocks, for `Store.take_rows`."""
        order = self._order
        for block in self._source.blocks(order.name, shard, shard + 1):
            ids = np.array(block[self._ids])
            if (shards_of_rows(ids, order.shards) != shard).any():
                raise CheckpointError(
                    f"Checkpoint '{self._source.path}' has rows of '{order.name}' that do not "
                    "belong where they are: it was changed. Use another one."
                )
            rows = {field: np.array(block[array]) for field, array in order.fields.items()}
            if self._last:
                rows["last"] = np.array(block[self._last])
            yield rows | {"ids": ids}

    def life(self, shards: range) -> Iterator[dict[str, Array]]:
        """What was met and dropped of the ids of a server, for `Store.take_life`."""
        if not self._last:
            return
        yield {"offset": np.array([self._clock], np.int64)}
        names = {field: f"{self._order.name}.{name}" for field, (name, _) in LIFE.items()}
        source = self._source
        for first in range(0, source.entry(names["candidates"]).shape[0], _CANDIDATES):
            stop = min(first + _CANDIDATES, source.entry(names["candidates"]).shape[0])
            ids = source.read_rows(names["candidates"], first, stop)
            mine = self._mine(ids, shards)
            if mine.any():
                met = {"candidates": ids[mine]}
                for field in ("meetings", "met_last"):
                    met[field] = source.read_rows(names[field], first, stop)[mine]
                yield met
        counts = source.read(names["account"]).sum(axis=0)
        account = {"account": counts if shards.start == 0 else np.zeros_like(counts)}
        for field in ("admitted", "dropped"):
            events = source.read(names[field])
            events = events[np.argsort(events[:, 0], kind="stable")]
            account[field] = events[self._mine(events[:, 1], shards)][-LATEST:]
        yield account

    def _mine(self, ids: Array, shards: range) -> Array:
        found = shards_of_rows(ids, self._order.shards)
        return (found >= shards.start) & (found < shards.stop)


def clock_of(source: Readable, name: str) -> int:
    """The clock of a table when it was saved (see `row_life`).

    Raises:
        CheckpointError: the checkpoint does not say.
    """
    try:
        clock = json.loads(source.appended[f"{name}.life"])["clock"]  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError):
        clock = None
    if type(clock) is not int:
        raise CheckpointError(
            f"Checkpoint '{source.path}' does not say at which step the rows of '{name}' were "
            "saved: it was changed. Use another one."
        )
    return clock
