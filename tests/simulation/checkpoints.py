"""Checkpoints in the simulation: what workers ask for, and what has to be in the folder.

What has to hold, whatever happens:

    complete    the index of a folder names parts that are there, and that have the bits of one
                version, in sync and stale mode (and in async mode of a single worker; when that
                was started again, each server may have the push that its former life had begun)
    kept        a save that has returned is there, or a newer one is
"""

from __future__ import annotations

import functools
import itertools
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paramesh.checkpoint.formats.apart import Base, Served
from paramesh.checkpoint.sharded.increments import open_sharded
from paramesh.checkpoint.sharded.index import index_bytes
from paramesh.checkpoint.sharded.ticket import SAVE, Order, Ticket, order_of, read_index
from paramesh.ps.client import checkpoints
from paramesh.ps.client.fan_out import Operation
from paramesh.ps.client.joined_parts import joined_parts
from paramesh.ps.client.worker import ServersChanged, Worker
from paramesh.ps.server.part_writer import write_part
from paramesh.ps.server.store import Store
from paramesh.ps.specification.checkpoints import LoadOrder, SaveOrder, TableOrder
from paramesh.ps.specification.partition import Partition
from simulation.disk import SimPath
from simulation.model import DENSE, LOADED, TABLES, Model, slots_of, started_from
from simulation.world import Violation

if TYPE_CHECKING:
    from simulation.run import Run
    from simulation.workers import SimWorker

#: Virtual shards: fewer than there are outside.
SHARDS = 16
#: Where checkpoints are: those of the run, and the one that it begins from.
FOLDER, START_FOLDER = "/checkpoints", "/start"


class Commit(NamedTuple):
    """A checkpoint that was committed."""

    folder: str
    identity: str
    order: Order


def arrays_of(name: str, slots: Sequence[str], rows: bool) -> dict[str, str]:
    """The names of a Parameter's arrays, by field."""
    suffix = ".rows" if rows else ""
    return {
        field: f"{name}{suffix}" if field == "value" else f"{field}.{name}{suffix}"
        for field in ("value", *slots)
    }


class SimSave:
    """One save of a worker.

    Args:
        run: which it belongs to.
        who: asks.
        step: that the worker is at.
        base: what an increment goes on from; None: it is a complete one.
    """

    def __init__(self, run: Run, who: SimWorker, step: int, base: Commit | None) -> None:
        self.run, self.step, self.base = run, step, base
        self.who, self.worker = who, who.worker
        number = run.disk.token(16)
        self.identity, token = number, number[-8:]
        # Increments need their bases: each has a folder of its own.
        name = f"{FOLDER}/{token}" if run.config.increments else f"{FOLDER}/x"
        self.folder = SimPath(name)
        self.folder.mkdir()
        self.order = Order(step, self.worker.incarnation, who.rank)
        self.ticket = Ticket(self.folder, token, self.order)
        self.orders: list[SaveOrder] = []

    def begin(self) -> Operation[None]:
        """Ask the servers."""
        run, config = self.run, self.run.config
        slots = slots_of(config.mode)
        complete = self.base is None
        tables = {
            name: TableOrder(name, arrays_of(name, slots, True), complete)
            for name in (TABLES if config.table else ())
        }
        dense = {name: arrays_of(name, slots, False) for name in DENSE}
        self.ticket.take()
        version = None if config.mode == "async" else self.step
        base = "" if self.base is None else self.base.identity
        while True:
            common = (self.identity, self.ticket.token, str(self.folder), self.ticket.name)
            count = self.worker.servers
            self.orders = [
                SaveOrder(
                    *common, version, server, count, server, SHARDS, tables, dense, base, False
                )
                for server in range(count)
            ]
            run.world.say(
                f"save {self.identity[-4:]} at {self.step}{' on ' + base[-4:] if base else ''}"
            )
            try:
                yield from self.who.go(lambda: checkpoints.save(self.worker, self.orders))
            except ServersChanged:
                self.identity = run.disk.token(16)
            else:
                return

    def end(self) -> Operation[None]:
        """Wait for the servers, and commit."""
        failures = yield from self.who.go(
            lambda: checkpoints.saved(self.identity, range(self.worker.servers))
        )
        if failures:
            if not self.ticket.overtaken:
                self.run.save_failed(failures)
            self.give_up()
            return
        if self.ticket.overtaken:
            self.give_up()
            return
        joined = joined_parts([order.part for order in self.orders], self.identity, 0)
        base = None
        if self.base is not None:
            base = Base(f"../{self.base.folder.rpartition('/')[2]}", self.base.identity)
        index = index_bytes(
            [order.part.name for order in self.orders],
            joined.arrays,
            joined.texts,
            {SAVE: self.order.text()},
            (),
            Served(self.identity, joined.tables, base),
        )
        if self.ticket.commit(index):
            self.run.committed(Commit(str(self.folder), self.identity, self.order))

    def give_up(self) -> None:
        """Nothing is committed."""
        self.ticket.give_up()


def load_start(worker: Worker, config: Any, identity: str) -> Operation[None]:
    """Have the servers load what the run begins from."""
    slots = slots_of(config.mode)
    for name in DENSE:
        source = started_from(config.mode, config.table)
        values = {slot: source.read(name, field=slot) for slot in slots}
        if values:
            yield from worker.put(name, values, None)
    for name in TABLES if config.table else ():
        arrays = arrays_of(name, slots, True)
        order = LoadOrder(START_FOLDER, identity, name, name, arrays, SHARDS)
        yield from checkpoints.load(worker, order)


def check_complete(
    folder: str, mode: str, table: bool, model: Model, exact: bool, apart: int = 1
) -> Order | None:
    """What is in a folder is a complete checkpoint of one version; None: there is none.

    Args:
        folder: of it.
        mode: of the run.
        table: whether it has tables.
        model: of it.
        exact: its bits are those of the model.
        apart: of so many servers each may be a version ahead of the worker.
    """
    index = read_index(SimPath(folder))
    if not index:
        return None
    order = order_of(index)
    assert order is not None
    with open_sharded(SimPath(folder)) as source:
        found = {name: source.read(name) for name in source.names()}
    if exact:
        ahead = (0, 1) if apart > 1 else (0,)
        wrong = [
            _difference(found, expected_of(model, versions, mode, table))
            for versions in itertools.product([order.version + one for one in ahead], repeat=apart)
        ]
        if "" not in wrong:
            raise Violation(f"the checkpoint in {folder} of version {order.version} has {wrong[0]}")
    return order


def _difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str:
    """What a checkpoint has that was not expected; "": nothing."""
    for name, array in expected.items():
        if array.tobytes() != _sorted(name, found)[name].tobytes():
            return f"other bits of {name}: {found[name].tolist()}, not {array.tolist()}"
    return ""


def _sorted(name: str, found: Mapping[str, Any]) -> Mapping[str, Any]:
    """Rows in the order of their ids."""
    table = _table_of(name)
    if table not in TABLES:
        return found
    return {**found, name: found[name][np.argsort(found[f"{table}.ids"])]}


def _table_of(array: str) -> str:
    """The name of the table that an array is of."""
    return array.removesuffix(".rows").removesuffix(".ids").removesuffix(".last").split(".")[-1]


@functools.cache
def expected_arrays(model: Model, version: int, mode: str, table: bool) -> dict[str, Any]:
    """What a checkpoint of a version has."""
    expected: dict[str, Any] = {}
    store = model.store_at(version)
    for spec in store.specs().values():
        name, rows = spec["name"], spec["kind"] == "rows"
        ids = store.rows(name) if rows else None
        for field, array in arrays_of(name, slots_of(mode), rows).items():
            expected[array] = store.read(name, ids, field=field)
        if rows:
            assert ids is not None
            expected[f"{name}.ids"] = ids
            if "expire" in spec:
                last = dict(store.dump())[f"last/{name}"] if len(ids) else np.zeros(0, np.int64)
                expected[f"{name}.last"] = last
    return expected


def expected_of(model: Model, versions: Sequence[int], mode: str, table: bool) -> dict[str, Any]:
    """As `expected_arrays`, of servers that are at these versions."""
    sources = [expected_arrays(model, version, mode, table) for version in versions]
    partition = Partition(len(versions), SHARDS)
    found: dict[str, Any] = {}
    slots = slots_of(mode)
    for name in DENSE:
        for array in arrays_of(name, slots, False).values():
            pieces = partition.pieces(name, sources[0][array].size)
            parts = [sources[p.server][array].reshape(-1)[p.start : p.stop] for p in pieces]
            found[array] = np.concatenate(parts)
    for name in TABLES if table else ():
        mine = [partition.split_rows(source[f"{name}.ids"])[i] for i, source in enumerate(sources)]
        ids = np.concatenate(
            [source[f"{name}.ids"][rows] for source, rows in zip(sources, mine, strict=True)]
        )
        for array in [one for one in sources[0] if one not in found and _table_of(one) == name]:
            rows = [source[array][places] for source, places in zip(sources, mine, strict=True)]
            found[array] = np.concatenate(rows)[np.argsort(ids)]
    assert found.keys() == sources[0].keys()
    return found


@functools.cache
def start_checkpoint(mode: str, table: bool, servers: int) -> dict[str, bytes]:
    """The files of the checkpoint that runs begin from, as so many servers have written it."""
    store, version = started_from(mode, table), LOADED
    parts = split(store, Partition(servers, SHARDS))
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        ticket = Ticket(folder, "00000001", Order(version, 1, 0))
        ticket.take()
        tables: dict[str, TableOrder] = {}
        dense: dict[str, dict[str, str]] = {}
        for spec in store.specs().values():
            slots = [f for f in store.fields(spec["name"]) if f != "value"]
            arrays = arrays_of(spec["name"], slots, spec["kind"] == "rows")
            if spec["kind"] == "rows":
                tables[spec["name"]] = TableOrder(spec["name"], arrays)
            else:
                dense[spec["name"]] = arrays
        identity = f"{1:032x}"
        common = (identity, ticket.token, str(folder), ticket.name, version)
        orders = [
            SaveOrder(*common, number, servers, number, SHARDS, tables, dense)
            for number in range(servers)
        ]
        for part, order in zip(parts, orders, strict=True):
            write_part(order, part.view(), version, dict.fromkeys(tables), lambda name: None)
        joined = joined_parts([order.part for order in orders], identity, 0)
        files = [order.part.name for order in orders]
        served = Served(identity, joined.tables)
        metadata = {SAVE: ticket.order.text()}
        ticket.commit(index_bytes(files, joined.arrays, joined.texts, metadata, (), served))
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def split(store: Store, partition: Partition) -> list[Store]:
    """The parts of several servers of what a store has."""
    parts = [Store() for _ in range(partition.servers)]
    arrays = dict(store.dump())
    for spec in store.specs().values():
        name = spec["name"]
        for part, mine in zip(parts, partition.split_spec(spec), strict=True):
            for piece in mine:
                part.declare(piece)
        if spec["kind"] == "dense":
            for field in store.fields(name):
                values = partition.split_values(name, store.read(name, field=field))
                for part, mine in zip(parts, values, strict=True):
                    for piece, array in mine.items():
                        part.put(piece, array, field=field)
            continue
        ids = arrays[f"ids/{name}"]
        fields = {f: arrays[f"{f}/{name}"] for f in (*store.fields(name), "last") if len(ids)}
        for part, places in zip(parts, partition.split_rows(ids), strict=True):
            if len(places):
                rows = {field: values[places] for field, values in fields.items()}
                part.take_rows(name, rows | {"ids": ids[places]})
            part.take_life(name, {})
    return parts
