"""Errors in the protocol that the simulation has to find: each is put in while it runs.

The first is what the worker's side once did, and "question registers", "fenced serves", "successor
does not sync" and "name is not synced" what the simulation found when it was new.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from unittest import mock

from paramesh.checkpoint.sharded.source import INDEX
from paramesh.checkpoint.sharded.ticket import Ticket
from paramesh.files.atomic import write_atomically
from paramesh.ps.client.caller import Caller
from paramesh.ps.client.worker import Worker
from paramesh.ps.deployment.actors import ServerActor
from paramesh.ps.durability import log, moves, record, snapshot
from paramesh.ps.durability.log import Log
from paramesh.ps.resizing import live
from paramesh.ps.server import snapshot_writer, standby, worker_changes
from paramesh.ps.server.saves import Bases, Saves
from paramesh.ps.server.server import Server
from paramesh.ps.server.worker_changes import WorkerChanges
from paramesh.ps.server.worker_registry import WorkerRegistry
from simulation.configs import Config

Patches = list[Any]


class Mutation(NamedTuple):
    """An error.

    Attributes:
        name: of it.
        what: is wrong, in words.
        patches: makes what puts it in.
        shows: whether a run can show it; the seeds of others are passed over.
        seldom: it takes more seeds, or more time, than `make test` has.
        made_for: what a run is that shows it: chance alone would hardly ever come there.
    """

    name: str
    what: str
    patches: Callable[[], Patches]
    shows: Callable[[Config], bool] = lambda config: True
    seldom: bool = False
    made_for: Callable[[Config], Config] = lambda config: config


def _on(owner: Any, name: str, new: Any) -> Any:
    return mock.patch.object(owner, name, new)


def _hello_judged_now() -> Patches:
    real = Caller._learn

    def learn(self: Caller, request: Any, answer: Any) -> None:
        if request.kind == "hello":
            peer = self.peers[request.server]
            if answer["incarnation"] < peer.incarnation:
                return
            request = request._replace(floor=peer.floor)
        real(self, request, answer)

    return [_on(Caller, "_learn", learn)]


def _applied_twice() -> Patches:
    real = Server._push_async

    def push(self: Server, worker: int, step: int, *more: Any) -> None:
        real(self, worker, max(step, self.workers.next_push.get(worker, 0)), *more)

    return [_on(Server, "_push_async", push)]


def _no_fsync() -> Patches:
    real = Log.append

    def append(self: Log, *more: Any) -> None:
        self._fsync, kept = False, self._fsync
        try:
            real(self, *more)
        finally:
            self._fsync = kept

    return [_on(Log, "append", append)]


def _before_the_log() -> Patches:
    """The record of an update is written with the one after it."""
    real = Log.append

    def append(self: Log, meta: Any, arrays: Any) -> None:
        waiting = self.__dict__.setdefault("waiting", [])
        waiting.append((meta, dict(arrays)))
        if meta["kind"] != "update" or len(waiting) > 1:
            while waiting:
                real(self, *waiting.pop(0))

    return [_on(Log, "append", append)]


def _no_fence() -> Patches:
    def start(folder: Any, after: int | None = None) -> int:
        """The counter is read, and nothing is entered."""
        latest = log.latest_incarnation(folder)
        return real(folder, after) if latest == 0 else latest

    real = log.start_incarnation
    return [_on(standby, "start_incarnation", start), _on(Log, "check_fence", lambda self: None)]


def _one_look() -> Patches:
    real = Log.append

    def append(self: Log, *more: Any) -> None:
        looks: list[None] = []

        def check() -> None:
            if not looks:
                looks.append(None)
                Log.check_fence(self)

        with mock.patch.object(self, "check_fence", check):
            real(self, *more)

    return [_on(Log, "append", append)]


def _frozen_often(config: Config) -> Config:
    """A server is frozen between its look and its write until its standby has begun.

    It has to wake up before the standby has made up for the update: answers take long.
    """
    return dataclasses.replace(
        config,
        workers=1,
        servers=1,
        snapshot_every=0,
        standby=True,
        table=False,
        latency=0.5,
        same_host=False,
        duplicated=0.0,
        late=0.0,
        lost=0.0,
        killed=0.0,
        frozen=0.1,
        slow=0.0,
        kinds={},
        calm=60.0,
    )


def _torn_anywhere() -> Patches:
    """What is damaged counts as torn off."""
    real = record.read_record

    def read(*more: Any, **named: Any) -> Any:
        try:
            return real(*more, **named)
        except record.ParameterServerError:
            return None

    return [_on(record, "read_record", read)]


class _NoSum:
    def __init__(self, *data: Any) -> None:
        pass

    def update(self, data: Any) -> None:
        pass

    def digest(self) -> bytes:
        return b"unsummed"


def _nothing_before() -> Patches:
    return [_on(Worker, "earlier", lambda self, server, call: [])]


def _anybody() -> Patches:
    return [_on(WorkerRegistry, "check", lambda self, worker, incarnation: None)]


def _newest_is_read() -> Patches:
    real = Server.read

    def read(self: Server, step: int, name: str, ids: Any = None) -> Any:
        if self.config.mode == "stale":
            return self.store.read(name, ids)
        return real(self, step, name, ids)

    return [_on(Server, "read", read)]


def _log_dropped_early() -> Patches:
    def drop(folder: Any, behind: int) -> Any:
        kept = snapshot.snapshots(folder)
        for old in kept[1:]:
            old.path.unlink(missing_ok=True)
        return kept[0]

    return [_on(snapshot_writer, "drop_snapshots", drop)]


def _never_lost() -> Patches:
    return [_on(Caller, "_take_ping", _only_alive)]


def _only_alive(self: Caller, request: Any, event: Any) -> None:
    self._signs[request.server] = self._clock()


def _asked_once() -> Patches:
    real = Caller._claim

    def claim(self: Caller, peer: Any, at: int) -> None:
        asked = self.__dict__.setdefault("asked_ever", set())
        if (peer.server, at, peer.latest) not in asked:
            asked.add((peer.server, at, peer.latest))
            real(self, peer, at)

    return [_on(Caller, "_claim", claim)]


def _question_registers() -> Patches:
    real = Server.hello

    def hello(self: Server, worker: int, incarnation: int | None, life: int = 0) -> Any:
        if incarnation is None:
            incarnation = self.workers.incarnations.get(worker, 0) + 1
        return real(self, worker, incarnation)

    return [_on(Server, "hello", hello)]


def _fenced_serves() -> Patches:
    real = ServerActor.promote

    async def promote(self: ServerActor, after: int) -> dict[str, Any]:
        serving = self._server
        if serving is None:
            return await real(self, after)
        said = {"incarnation": serving.incarnation, "version": serving.version}
        return {"serves": True, **said, **self._whereabouts()}

    return [_on(ServerActor, "promote", promote)]


def _not_undone() -> Patches:
    def update(self: Server, updates: Any, hyper: Any, pushed: Any) -> None:
        meta: dict[str, Any] = {"kind": "update", "version": self.version, "hyper": hyper}
        if pushed is not None:
            meta |= {"worker": pushed[0], "step": pushed[1]}
        undo = self._apply(updates, hyper, checked=True)
        self._append(meta, record.updates_to_arrays(updates))
        self._committed(undo, pushed)

    return [_on(Server, "_update", update)]


def _saving(config: Config, **more: Any) -> Config:
    """One server, and workers that save all the time; of faults there are those that are named."""
    plain: dict[str, Any] = {
        "mode": "sync",
        "staleness": 0,
        "servers": 1,
        "standby": False,
        "snapshot_every": 0,
        "latency": 0.001,
        "restart": 0.3,
        "duplicated": 0.0,
        "late": 0.0,
        "lost": 0.0,
        "killed": 0.0,
        "frozen": 0.0,
        "slow": 0.0,
        "kinds": {},
        "calm": 30.0,
        "saves": 1.0,
        "behind": 0,
        "increments": False,
        "loaded": 0,
    }
    return dataclasses.replace(config, **plain | more)


def _replaced_in_a_commit(config: Config) -> Config:
    return _saving(config, frozen=0.02)


def _killed_in_a_step(config: Config) -> Config:
    """A worker dies when only one of two servers has its push, and saves when it is back."""
    more = {"kinds": {"kill worker": 1.0, "kill server": 1.0}, "pause": 1.0, "restart": 3.0}
    return _saving(config, servers=2, workers=1, latency=0.1, calm=10.0, **more)


def _snapshots_beside(config: Config) -> Config:
    """A server dies when a snapshot is there that was due while a part was written."""
    more = {"kinds": {"kill server": 1.0}, "pause": 0.5, "calm": 6.0}
    more |= {"snapshot_every": 1, "behind": 2, "slow": 0.5, "steps": 7, "latency": 0.05}
    return _saving(config, workers=1, table=False, **more)


def _any_commit() -> Patches:
    def commit(self: Ticket, index: bytes) -> bool:
        write_atomically(self.folder / INDEX, index)
        kept = json.loads(index)["files"]
        for name in [path.name for path in self.folder.glob("part-*")]:
            if name not in kept:
                self._remove(name)
        return True

    return [_on(Ticket, "commit", commit), _on(Ticket, "overtaken", False)]


def _done_at_once() -> Patches:
    return [_on(Saves, "done", lambda self: [(identity, "") for identity in self._pending])]


def _changed_meanwhile() -> Patches:
    real = Saves.begin

    def begin(self: Saves, order: Any, *more: Any) -> None:
        real(self, order, *more)
        for table in self._pending[order.identity].view.tables:
            table.changing = lambda undo: None  # type: ignore[method-assign]

    return [_on(Saves, "begin", begin)]


def _forgotten() -> Patches:
    return [_on(Saves, "unfinished", False)]


def _lacking() -> Patches:
    real = Bases.since

    def since(self: Bases, order: Any, offsets: Any) -> Any:
        found = real(self, order, offsets)
        return {name: None if clock is None else clock + 1 for name, clock in found.items()}

    return [_on(Bases, "since", since)]


def _moving(config: Config, **more: Any) -> Config:
    """A run that is moved to one server more; of faults there are those that are named."""
    plain = {"servers": 2, "steps": 10, "standby": False, "latency": 0.05, "table": True}
    plain |= {"saves": 0.0, "snapshot_every": 0, "calm": 40.0, "mover": 0.0}
    return _saving(config, **plain | {"resizes": ((1.0, 3),)} | more)


def _mover_is_frozen(config: Config) -> Config:
    """Who moves the run is frozen for so long that its servers end the move."""
    more: dict[str, Any] = {"mover": 0.01, "latency": 0.2, "steps": 60, "calm": 50.0}
    return _moving(config, workers=1, table=False, **more)


def _servers_start_meanwhile(config: Config) -> Config:
    """Servers die while the run is moved, and start again before that has ended."""
    more: dict[str, Any] = {"kinds": {"kill server": 1.0}, "pause": 0.3, "restart": 0.3}
    return _moving(config, workers=1, table=False, calm=5.0, **more)


def _stale_workers(config: Config) -> Config:
    """Servers have applied different pushes of a worker that goes on when the run is moved."""
    more: dict[str, Any] = {"mode": "stale", "staleness": 3, "workers": 2, "late": 0.2}
    return _moving(config, resizes=((4.0, 3), (6.0, 2)), steps=40, table=False, **more)


def _ended_all_the_same() -> Patches:
    def create(folder: Any, name: str, said: Any) -> bool:
        if said.get("run") is None:
            return real(folder, name, said)
        write_atomically(folder / name, json.dumps({**said, "mark": ""}).encode())
        return True

    real = moves.create
    return [_on(moves, "create", create)]


def _left_behind() -> Patches:
    def introduce(self: Worker) -> Any:
        if self.caller.greeting is not None:
            yield self._all(self.caller.greeting)
        self.moves = False

    real = Worker.change_servers

    def change(self: Worker, *more: Any) -> None:
        real(self, *more)
        for unconfirmed in self._unconfirmed:
            unconfirmed.clear()

    return [_on(Worker, "introduce", introduce), _on(Worker, "change_servers", change)]


def _changing(config: Config, **more: Any) -> Config:
    """A run that gets a third worker, and loses two; of faults there are those that are named."""
    plain = {"mode": "sync", "staleness": 0, "workers": 2, "steps": 40, "table": False}
    return _moving(config, **plain | {"resizes": (), "changes": ((0.5, 3), (4.0, 1))} | more)


def _changing_async(config: Config, **more: Any) -> Config:
    """As `_changing`, and workers are not at the same steps."""
    plain: dict[str, Any] = {"mode": "async", "servers": 2, "late": 0.3, "latency": 0.05}
    return _changing(config, **plain | {"calm": 15.0, "changes": ((0.5, 3), (4.0, 2))} | more)


def _changing_often(config: Config) -> Config:
    """A worker leaves and joins all the time, in async mode."""
    changes = tuple((0.3 + 0.4 * place, 2 + place % 2) for place in range(20))
    return _changing_async(config, changes=changes, steps=80)


def _servers_die_meanwhile(config: Config) -> Config:
    """Servers die, and start again, while the number of workers changes."""
    more: dict[str, Any] = {"kinds": {"kill server": 1.0}, "pause": 0.3, "restart": 0.3}
    return _changing(config, calm=8.0, **more)


def _changed_and_moved(config: Config) -> Config:
    """The number of workers changes, and then that of servers."""
    return _changing(config, resizes=((6.0, 3),), steps=80, calm=50.0)


def _verdict_not_logged() -> Patches:
    def set_workers(self: Server, verdict: Any) -> None:
        self.changes.replay(self.changes.record(verdict), self.workers)

    return [_on(Server, "_set_workers", set_workers)]


def _counted() -> Patches:
    real = WorkerRegistry.pushed
    return [_on(WorkerRegistry, "pushed", lambda self, worker, step: real(self, worker, None))]


MUTATIONS = [
    Mutation(
        "hello judged now",
        "the answer to a late hello is compared with what has become known since it was sent",
        _hello_judged_now,
    ),
    Mutation(
        "applied twice",
        "a repeated push is applied again",
        _applied_twice,
        lambda config: config.mode == "async",
    ),
    Mutation(
        "acknowledged early",
        "an update is answered before its record is written",
        _before_the_log,
    ),
    Mutation(
        "no fsync",
        "with `fsync=True`, an update is answered before its record is on the disk",
        _no_fsync,
        lambda config: config.fsync and "power cut" in config.kinds,
    ),
    Mutation(
        "no fence",
        "a standby takes over without a new incarnation",
        _no_fence,
        lambda config: config.standby,
    ),
    Mutation(
        "one look",
        "a server that wakes up after its write does not check whether it was replaced",
        _one_look,
        made_for=_frozen_often,
        seldom=True,
    ),
    Mutation(
        "damage is torn",
        "a corrupted record is treated as incomplete",
        _torn_anywhere,
        lambda config: "flip log" in config.kinds,
    ),
    Mutation(
        "no checksum",
        "a flipped bit in a record is not noticed",
        lambda: [_on(record, "_xxh3", lambda: _NoSum)],
        lambda config: "flip log" in config.kinds,
    ),
    Mutation(
        "nothing again",
        "pushes that died with their server are not sent again",
        _nothing_before,
        lambda config: config.mode == "stale",
    ),
    Mutation("anybody", "messages of a replaced worker are accepted", _anybody),
    Mutation(
        "newest",
        "in stale mode a read gets the newest version",
        _newest_is_read,
        lambda config: config.mode == "stale",
    ),
    Mutation(
        "log dropped early",
        "one snapshot replaces the log",
        _log_dropped_early,
        lambda config: bool(config.snapshot_every),
        seldom=True,
    ),
    Mutation(
        "never lost",
        "a call whose answer was lost is never sent again while its server lives",
        _never_lost,
        lambda config: bool(config.lost),
    ),
    Mutation(
        "asked once",
        "an actor that did not answer is never asked again to serve",
        _asked_once,
        lambda config: config.standby,
    ),
    Mutation(
        "not undone",
        "an update whose record could not be written stays applied",
        _not_undone,
        lambda config: "full disk" in config.kinds,
        seldom=True,
    ),
    Mutation(
        "not truncated",
        "half a record stays in the log when the disk was full",
        lambda: [_on(Log, "_truncate", lambda self: None)],
        lambda config: "full disk" in config.kinds,
    ),
    Mutation(
        "question registers",
        "a late first message of a dead worker locks out its successor",
        _question_registers,
        seldom=True,
    ),
    Mutation(
        "fenced serves",
        "a server that was replaced says that it serves",
        _fenced_serves,
        lambda config: config.standby,
        seldom=True,
    ),
    Mutation(
        "successor does not sync",
        "the records from which a server continues are not on the disk",
        lambda: [_on(log, "_to_disk", lambda folder: None)],
        lambda config: config.fsync and "power cut" in config.kinds,
        seldom=True,
    ),
    Mutation(
        "name is not synced",
        "a new segment is gone after a power failure",
        lambda: [_on(log, "directory_to_disk", lambda folder: None)],
        lambda config: config.fsync and "power cut" in config.kinds,
    ),
    Mutation(
        "done at once",
        "a server says that its part of a checkpoint is there, and writes it still",
        _done_at_once,
        lambda config: bool(config.saves),
    ),
    Mutation(
        "changed meanwhile",
        "a checkpoint has rows as they became while it was written",
        _changed_meanwhile,
        lambda config: bool(config.saves and config.behind and config.table),
    ),
    Mutation(
        "saved as it is now",
        "a server that is ahead of the worker saves its newest version",
        lambda: [_on(Server, "_undos_of", lambda self, order: [])],
        made_for=_killed_in_a_step,
        seldom=True,
    ),
    Mutation(
        "forgotten save",
        "a snapshot is written while a part of a checkpoint is not",
        _forgotten,
        made_for=_snapshots_beside,
    ),
    Mutation(
        "lacking rows",
        "an increment lacks the rows of the first step after its base",
        _lacking,
        lambda config: bool(config.saves and config.increments and config.table),
    ),
    Mutation(
        "any commit",
        "a save of a replaced worker may commit after that of its successor",
        _any_commit,
        made_for=_replaced_in_a_commit,
    ),
    Mutation(
        "moves unfenced",
        "a run is moved while its servers still answer pushes",
        lambda: [_on(live, "start_incarnation", lambda folder: None)],
        made_for=_moving,
    ),
    Mutation(
        "serves meanwhile",
        "a server that starts while the run is moved serves",
        lambda: [_on(ServerActor, "_check_home", lambda self: None)],
        made_for=_servers_start_meanwhile,
    ),
    Mutation(
        "ended all the same",
        "a run is moved although its servers have ended the move",
        _ended_all_the_same,
        made_for=_mover_is_frozen,
        seldom=True,
    ),
    Mutation(
        "left behind",
        "pushes that only some servers had are not sent to those that take their place",
        _left_behind,
        made_for=_stale_workers,
    ),
    Mutation(
        "no notice",
        "the number of workers changes at a step that workers may have begun",
        lambda: [_on(worker_changes, "AHEAD", 0)],
        made_for=_changing,
    ),
    Mutation(
        "verdict not logged",
        "a server that starts again does not know what it has decided about the workers",
        _verdict_not_logged,
        made_for=_servers_die_meanwhile,
    ),
    Mutation(
        "border of the slowest",
        "in async mode the border is counted from the worker that is behind all",
        lambda: [_on(WorkerChanges, "front", WorkerChanges.rear)],
        made_for=_changing_async,
    ),
    Mutation(
        "pushes counted",
        "in async mode the pushes of a worker that joins are counted from 0",
        _counted,
        made_for=_changing_async,
    ),
    Mutation(
        "borders overtake",
        "in async mode a number is changed again before all servers know it",
        lambda: [_on(WorkerChanges, "_is_past", lambda self, border, version, registry: True)],
        made_for=_changing_often,
    ),
    Mutation(
        "number of its own",
        "a server waits for as many pushes of a step as it knows workers, not as they say",
        lambda: [_on(Server, "_workers_of", lambda self, step: self.changes.sets.at(step))],
        made_for=_changing,
    ),
    Mutation(
        "sets not kept",
        "snapshots, and servers that take the place of others, lack the numbers of workers",
        lambda: [_on(WorkerChanges, "state", lambda self: {})],
        made_for=_changed_and_moved,
    ),
]


@contextlib.contextmanager
def mutated(mutation: Mutation) -> Iterator[None]:
    """The error is there."""
    with contextlib.ExitStack() as stack:
        for patch in mutation.patches():
            stack.enter_context(patch)
        yield
