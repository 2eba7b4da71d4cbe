"""A server as a Ray actor: `Server` behind messages.

One coroutine runs at a time, so the server needs no locks; one that waits for other workers lets
the others, and the questions about its health, pass. Ray restarts a killed actor
(`max_restarts=-1`) and repeats no call by itself (`max_task_retries=0`): its retries may run a call
twice and are used up while an actor restarts. The client repeats, and the server knows what it has
applied.

With a standby there are two such actors for each server. Both begin by following the log, and so
does one that Ray has started again: an actor never takes over by itself, a worker asks it to. The
log decides which of them serves: the one that has the latest incarnation. The other one, when it
learns that it was the server before, ends, and is started again as the standby.

While the run is moved to another number of servers (see `moves`) an actor that starts is parked: it
tells whoever asks. It ends when the move is given up, and is started again. If the run has moved,
it stays parked until a worker has it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from paramesh.array_types import Tree
from paramesh.errors import ParameterServerError
from paramesh.ps.client.peer import Reply
from paramesh.ps.deployment import frames
from paramesh.ps.deployment.checkpoint_calls import CheckpointCalls
from paramesh.ps.deployment.door import Door
from paramesh.ps.deployment.host import Host
from paramesh.ps.deployment.shared_arena import Whereabouts
from paramesh.ps.deployment.zmq_module import Admission
from paramesh.ps.durability import identity, moves, worker_files
from paramesh.ps.durability.log import Fenced, latest_incarnation
from paramesh.ps.durability.moves import MoveWatch
from paramesh.ps.processes.descriptors import RESERVE, raise_limit
from paramesh.ps.processes.shortage import names_shortage, shortage
from paramesh.ps.server.refresh import Watch, news_of
from paramesh.ps.server.server import Server
from paramesh.ps.server.standby import STANDBY_POINTS, Standby
from paramesh.ps.specification.packing import (
    PackedIds,
    PackedUpdates,
    pack_rows,
    unpack_ids,
    unpack_updates,
)
from paramesh.ps.specification.protocol import (
    POINTS,
    SAVE_POINTS,
    Moving,
    NotServing,
    PushesMissing,
    Replaced,
    RunConfig,
)

Array = np.ndarray[Any, Any]

#: A message has at most so many arrays, and each array so many axes.
_MOST_ARRAYS = 1 << 20
_MOST_AXES = 16

#: The concurrency group of `ping`. Whoever is asked to wait has to learn that a server is busy, not
#: frozen, also while a large table is made or a rule compiled on the thread of all other calls.
SIGNS = "signs"

#: Seconds between two looks of a standby at the log, and of a server whether it was replaced.
FOLLOW, WATCH = 0.05, 0.2
#: The most seconds between two tries of a standby that cannot follow the log.
SEEK = 10.0
#: Between two looks of one that is parked for good.
PARKED = 3600.0
#: Between two looks of the first server whether another number of workers is wanted; and how long
#: a worker that wants to join waits for an answer.
LOOK, JOIN = 0.2, 2.0
#: Between two times at which a server gives back what the largest of its steps have left: it takes
#: some hundredths of a second, of which the next step takes half.
GIVE_BACK = 5.0


class Kill(NamedTuple):
    """A planned death, for tests: at a point, at a version, of one incarnation."""

    point: str
    version: int
    incarnation: int


def check_update(updates: Tree) -> None:
    """Raise ParameterServerError unless this is an update: names, fields, plain arrays.

    Nothing has been allocated for it by then; `Store.check` compares it with the Parameters.
    """
    wrong = None
    if not isinstance(updates, Mapping) or len(updates) > _MOST_ARRAYS:
        wrong = f"an update is a mapping of at most {_MOST_ARRAYS} names, got {type(updates)}"
    else:
        for name, update in updates.items():
            if not isinstance(name, str) or not isinstance(update, Mapping):
                wrong = f"an update maps names to gradients, got {name!r}: {type(update)}"
            elif set(update) not in ({"grad"}, {"ids", "grad"}):
                wrong = f"the update of '{name}' has {sorted(map(str, update))}"
            elif not all(
                type(array) is np.ndarray and not array.dtype.hasobject and array.ndim <= _MOST_AXES
                for array in update.values()
            ):
                wrong = f"the update of '{name}' holds something else than plain arrays"
            if wrong is not None:
                break
    if wrong is not None:
        raise ParameterServerError(f"the message is not valid: {wrong}.")


class ServerActor(CheckpointCalls):
    """A server in a process of its own; made by `cluster`, through Ray.

    Args:
        folder: of its log and snapshots.
        config: the fields of `RunConfig`.
        kills: planned deaths (see `Kill`).
        pair: one of two actors: begins as a standby.
        fsync: as for `Server`.
        job: the name of the run.
        run: its name in its folder, and which of its servers this is (see `identity`); None: nobody
            looks whose the folder is.
        home: the folder of the run, whose servers may be moved (see `moves`); None: they are not.
        output: where what this process writes to its output goes: the path of a file, to which the
            name of the host is added (see `Host.speak_to`); None: where Ray has it.
        host: the process that it is; None: this one.
    """

    def __init__(
        self,
        folder: str,
        config: dict[str, Any],
        kills: Iterable[tuple[str, int, int]] = (),
        *,
        pair: bool = False,
        fsync: bool = False,
        job: str = "default",
        run: tuple[str, int] | None = None,
        home: str | None = None,
        output: str | None = None,
        host: Host | None = None,
    ) -> None:
        if host is None:
            raise_limit(RESERVE)
        self._host = host or Host()
        if output is not None:
            self._host.speak_to(output)
        self._run = None if run is None else run[0]
        self._kills = [Kill(*kill) for kill in kills]
        for kill in self._kills:
            if kill.point not in (*POINTS, *STANDBY_POINTS, *SAVE_POINTS):
                raise ValueError(
                    f"the point {kill.point!r} is not known; expected one of "
                    f"{(*POINTS, *STANDBY_POINTS, *SAVE_POINTS)}."
                )
        self._server: Server | None = None
        self._standby: Standby | None = None
        self._folder = Path(folder)
        self._config = RunConfig(**config)
        self._options: dict[str, Any] = {
            "point": self._at if self._kills else None,
            "fsync": fsync,
            "snapshots_beside": True,
            "claimed": self._check_home,
            "elastic": home is not None,
            "leads": run is None or run[1] == 0,
        }
        #: When the folder was looked at for another number of workers.
        self._looked = float("-inf")
        self._gave_back = self._host.clock()
        self._moved = self._host.event()
        self._failure: Exception | None = None
        self._watcher = self._host.watch(self._folder, job)
        self._beacon: tuple[str, int] | None = None
        self._door: Door | None = None
        self._home = None if home is None else Path(home)
        self._moves = None if home is None else MoveWatch(Path(home))
        #: Why it does not serve: its run moves, or has moved.
        self._parked: Moving | None = None
        if pair:
            self._beacon = self._host.beacon()
            self._promotion = self._host.lock()
        try:
            self._check_home()
            if run is not None:
                identity.check_server(self._folder, *run)
            if pair:
                self._follow()
            else:
                self._server = Server(self._folder, self._config, **self._options)
        except (Moving, Fenced) as late:
            if isinstance(late, Fenced):
                if home is None:
                    raise
                # A mover has fenced it while it recovered; its death would count as a failure.
                late = Moving(f"{self.title} was fenced before it served: {late}", 0)
            self._parked = late
            self._host.repeat("parked", self._stay)
            return
        self._host.give_back()
        server = self._server
        if server is not None:
            self._watcher.look(server)
            if home is not None:
                self._host.repeat("fence", lambda stop: self._watch(server))

    @property
    def title(self) -> str:
        """Who this is, in messages."""
        return f"{self._folder.name} ({self._host.where()})"

    # Moves of the run.

    def _check_home(self) -> None:
        """Raise Moving if the run is moved to other servers, or has moved."""
        if self._home is None or self._moves is None:
            return
        number = self._moves.look()
        place = self._folder.parent
        mine = 0 if place == self._home else moves.generation_of({"folder": place.name})
        latest = identity.generation(self._home)
        if latest != mine:
            raise Moving(f"the run of {self.title} has other servers now.", latest)
        if number:
            raise Moving(f"the run of {self.title} is being moved to other servers.", 0)

    def _stay(self, stop: Callable[[], bool]) -> Iterator[float]:
        """Wait for the end of the move. If the run has not moved, this is started again."""
        while True:
            try:
                self._check_home()
            except Moving as moving:
                self._parked = moving
                yield PARKED if moving.latest else WATCH
            except (OSError, ParameterServerError):
                yield WATCH  # the folder is away, or being removed
            else:
                self._host.end(0)

    # Another number of workers.

    def _look_for_changes(self, *, now: bool = False) -> bool:
        """Decide about the number of workers, if somebody wants another one and it is time.

        Args:
            now: also if it has just been looked for.

        Returns:
            False: what is wanted could not be read, or not be decided.
        """
        server, home, at = self._server, self._home, self._host.clock()
        if server is None or home is None or not self._options["leads"]:
            return True
        if not now and at < self._looked + LOOK:
            return True
        self._looked = at
        try:
            change = worker_files.open_change(home)
            verdict = None if change is None else server.change_workers(change)
            if verdict is not None:
                worker_files.tell(home, verdict)
        except (ParameterServerError, OSError):
            # It is tried again; if another server was started, that one decides.
            return False
        return True

    @names_shortage
    async def join(self, worker: int, incarnation: int) -> dict[str, Any]:
        """Whether there are steps for a worker; waits a little for that.

        Returns:
            `sets`, as `Server.hello`, and `waits` and `why`, see `worker_changes.Place`.

        Raises:
            Replaced: a later incarnation of the worker is known.
        """
        server, until = self._state(), self._host.clock() + JOIN
        while True:
            server.workers.check(worker, incarnation)
            looked = self._look_for_changes(now=True)
            place = server.changes.place_of(worker, server.version, server.workers)
            waits = place.waits or (bool(place.why) and not looked)
            if not waits or self._host.clock() > until:
                said = {"incarnation": server.incarnation, "version": server.version}
                sets = server.changes.sets.others
                return {"sets": sets, "waits": waits, "why": place.why, **said}
            await self._host.pause(LOOK)
            server = self._state()

    # A standby. It belongs to a thread until it is promoted.

    def _follow(self) -> None:
        self._standby = standby = Standby(self._folder, self._config, **self._options)
        self._unfollow = self._host.repeat("standby", lambda stop: self._following(standby, stop))

    def _following(self, standby: Standby, stop: Callable[[], bool]) -> Iterator[float]:
        # A standby that cannot follow the log is useless: it exits, and is restarted.
        pause = FOLLOW
        while True:
            if standby.follow(stop):
                pause = FOLLOW
                yield 0.0
            else:  # starting over reads everything: not all the time, if it does not help
                yield pause
                pause = min(2 * pause, SEEK) if standby.failure else FOLLOW

    def _take_over(self, after: int) -> Server:
        self._unfollow()
        assert self._standby is not None
        try:
            server = self._standby.promote(after)
        except BaseException:
            self._follow()
            raise
        self._host.repeat("fence", lambda stop: self._watch(server))
        return server

    def _watch(self, server: Server) -> Iterator[float]:
        """End when another has taken over: calls that wait here would never be answered."""
        while True:
            yield WATCH
            try:
                replaced = latest_incarnation(self._folder) > server.incarnation
            except (OSError, ParameterServerError):
                continue  # the next write tells
            if replaced:
                self._host.end(0)

    @names_shortage
    async def promote(self, after: int) -> dict[str, Any]:
        """Serve, if no later incarnation than `after` does; one that serves already goes on.

        Returns:
            `serves`, whether this one does now, and `incarnation`, of the one that does. If this
            one does, as `hello`, without `next` and `worker`.

        Raises:
            ParameterServerError, OSError: as `Standby.promote`; this one is a standby still.
        """
        if self._parked is not None:
            raise Moving(str(self._parked), self._parked.latest)
        async with self._promotion:
            if self._server is None:
                self._check_home()
                try:
                    # In a thread: whoever is asked to wait has to hear that it is alive.
                    self._server = await self._host.beside(self._take_over, after)
                except Fenced as error:
                    return {"serves": False, "incarnation": error.latest}
        server = self._server
        latest = latest_incarnation(self._folder)
        if latest > server.incarnation:  # it was replaced while it was frozen, and will end
            return {"serves": False, "incarnation": latest}
        said = {"incarnation": server.incarnation, "version": server.version}
        return {"serves": True, **said, **self._whereabouts()}

    def _whereabouts(self) -> dict[str, Any]:
        host = self._host
        return {"pid": host.pid, "host": host.identity(), "beacon": self._beacon}

    def _at(self, name: str) -> None:
        server = self._server
        if server is None:  # it recovers, or follows: the counter is on the disk already
            incarnation = latest_incarnation(self._folder)
            version = 0 if self._standby is None else self._standby.version
        else:
            incarnation, version = server.incarnation, server.version
        for kill in self._kills:
            if (kill.point, kill.incarnation) == (name, incarnation) and version >= kill.version:
                self._host.kill()

    def _state(self) -> Server:
        if self._parked is not None:
            raise Moving(str(self._parked), self._parked.latest)
        if self._server is None:
            raise NotServing(
                f"this is the standby of '{self._folder}'.", latest_incarnation(self._folder)
            )
        return self._server

    def _reply(self, step: int | None, names: Iterable[str]) -> Reply:
        server = self._state()
        values = {} if step is None else {name: server.read(step, name) for name in names}
        if self._kills:
            self._at("reply")
        self._watcher.sent(values)
        self._watcher.look(server)
        sets = server.sets_to_tell()
        return Reply(self._host.pid, server.incarnation, server.version, values, sets=sets)

    def _move(self, failure: Exception | None = None) -> None:
        self._failure = failure
        self._moved.set()
        self._moved = self._host.event()

    async def _released(self, step: int) -> None:
        while not self._state().released(step):
            await self._moved.wait()
            if self._failure is not None:
                raise self._failure

    @names_shortage
    async def hello(self, worker: int, incarnation: int | None, life: int = 0) -> dict[str, Any]:
        """As `Server.hello`, and where: `pid`, `host` and the address of a `beacon`, or None."""
        return self._state().hello(worker, incarnation, life) | self._whereabouts()

    @names_shortage
    async def declare(self, specs: list[dict[str, Any]], values: dict[str, Array]) -> Reply:
        """As `Server.declare`; back when all of them can be read."""
        self._state().declare(specs, values)
        self._move()
        names = [spec["name"] for spec in specs]
        while not self._state().ready(names):
            await self._moved.wait()
        return self._reply(None, ())

    @names_shortage
    async def put(self, pieces: dict[str, dict[str, Array]], ids: Array | None) -> Reply:
        """As `Server.put`, of several pieces."""
        for name, fields in pieces.items():
            self._state().put(name, fields, ids)
        self._move()
        return self._reply(None, ())

    @names_shortage
    async def known(self) -> list[dict[str, Any]]:
        """As `Server.known`."""
        return self._state().known()

    @names_shortage
    async def dump(self, names: list[str]) -> dict[str, dict[str, Array]]:
        """As `Server.dump`, by name."""
        return {name: self._state().dump(name) for name in names}

    @names_shortage
    async def dump_rows(self, name: str, after: int, count: int) -> Reply:
        """As `Server.dump_rows`; the values are `ids`, fields of the rows, and how many are `left`.

        The rows that are sent are among these.
        """
        fields, left = self._state().dump_rows(name, after, count)
        self._watcher.sent(fields)
        return self._reply(None, ())._replace(values=fields | {"left": np.array([left])})

    @names_shortage
    async def push(
        self,
        worker: int,
        incarnation: int,
        step: int,
        packed: PackedUpdates,
        hyper: dict[str, float],
        of: int,
        divides: bool,
    ) -> Reply:
        """As `Server.push`; does not wait for the other workers."""
        self._push(worker, incarnation, step, packed, hyper, of, divides)
        return self._reply(None, ())

    def _push(
        self,
        worker: int,
        incarnation: int,
        step: int,
        packed: PackedUpdates,
        hyper: dict[str, float],
        of: int,
        divides: bool,
    ) -> None:
        self._look_for_changes()
        updates = unpack_updates(packed)
        check_update(updates)
        server = self._state()
        before = server.version
        try:
            server.push(worker, incarnation, step, updates, hyper, of, divides)
        except (Replaced, PushesMissing):
            raise  # only the worker that spoke is concerned
        except (ParameterServerError, OSError, MemoryError, RuntimeError) as error:
            reported = shortage(self.title, "push", error) or error
            if isinstance(reported, ParameterServerError | OSError):
                # Those who wait for this update would wait for ever.
                self._move(reported)
                self._watcher.failed(reported, worker, step)
            if reported is error:
                raise
            raise reported from None
        if server.version != before:
            self._move()
        now = self._host.clock()
        if now > self._gave_back + GIVE_BACK:
            self._gave_back = now
            self._host.give_back()

    @names_shortage
    async def step(self, asked: tuple[Any, ...]) -> Reply:
        """Push the gradients of a step, and the values that a later one reads once it may.

        With them come the news of tables (see `refresh`).

        Args:
            asked: the arguments of `push`, the names of the values that are wanted, the step that
                reads them, of each table that is watched its watch, or None, and the version of the
                last news.
        """
        *push, names, reader, watches, last_seen = asked
        step = push[2]
        self._push(*push)
        await self._released(reader)
        reply = self._reply(reader, names)
        if watches is None:
            return reply
        server = self._state()
        news = {
            name: news_of(
                Watch(*asked),
                server.moved(name, step, last_seen),
                lambda ids, n=name: server.read(reader, n, ids),
            )
            for name, asked in watches.items()
        }
        self._watcher.sent({name: one.rows for name, one in news.items()})
        return reply._replace(news=news)

    @names_shortage
    async def pull(self, step: int, names: list[str]) -> Reply:
        """Dense Parameters as a step reads them; waits until it may."""
        await self._released(step)
        return self._reply(step, names)

    @names_shortage
    async def pull_tables(self, step: int, wanted: PackedIds) -> Reply:
        """Rows of tables as a step reads them; waits until it may."""
        await self._released(step)
        rows = self._state().read_tables(step, unpack_ids(wanted))
        self._watcher.sent(rows)
        return self._reply(None, ())._replace(rows=pack_rows(list(rows.values())))

    @names_shortage
    async def pull_items(self, name: str, after: int, count: int) -> Reply:
        """As `Server.items`; the values are `ids` and `rows`."""
        ids, rows = self._state().items(name, after, count)
        values = {"ids": ids, "rows": rows}
        self._watcher.sent(values)
        return self._reply(None, ())._replace(values=values)

    @names_shortage
    async def settle(self, worker: int, version: int) -> Reply:
        """Back when the server is at a version, with all of a worker's pushes before it applied.

        Raises:
            PushesMissing: some of them are not here.
        """
        self._state().check_pushed(worker, version)
        while self._state().version < version:
            await self._moved.wait()
            if self._failure is not None:
                raise self._failure
        return self._reply(None, ())

    @names_shortage
    async def leave(self, worker: int, incarnation: int) -> int:
        """As `Server.leave`."""
        left = self._state().leave(worker, incarnation)
        if self._door is not None:
            self._door.sign_off(worker)
        return left

    @names_shortage
    async def door(
        self, worker: int, key: bytes, version: int, arena: Whereabouts | None
    ) -> Admission | None:
        """Let a worker in that speaks to this process without Ray (see `door`).

        Args:
            worker: its rank.
            key: its public key.
            version: of the frames that it speaks.
            arena: the memory that it shares with servers on its host.

        Returns:
            Where and how it is heard; None: this process speaks through Ray alone.
        """
        if version != frames.VERSION:
            return None
        if self._door is None:
            self._door = self._host.door(self._called)
        return None if self._door is None else self._door.admit(worker, key, arena)

    def _called(self, method: str, arguments: tuple[Any, ...]) -> Coroutine[Any, Any, Any]:
        if method == "step":
            arguments = (arguments,)
        return getattr(self, method)(*arguments)

    async def whose(self) -> str | None:
        """The name of the run that this is a server of."""
        return self._run

    async def ping(self) -> int:
        """The process of the server; on a thread of its own, see `SIGNS`."""
        return self._host.pid

    @names_shortage
    async def stats(self) -> dict[str, Any]:
        """As `Server.stats`, with `pid`."""
        return self._state().stats() | {
            "pid": self._host.pid,
            "bytes_pulled": self._watcher.bytes_pulled,
            "over_zmq": [] if self._door is None else self._door.heard,
            "workers": self._state().workers_now(),
        }

    async def look(self) -> dict[str, Any]:
        """As `stats`, with the name of the `host`, and `role`: "server", or "standby".

        A standby has few numbers.
        """
        host = self._host.name()
        if self._server is not None:
            return await self.stats() | {"role": "server", "host": host}
        if self._standby is None:  # of a run that is moved to other servers
            return {"pid": self._host.pid, "role": "standby", "host": host, "record": 0} | {
                "version": 0,
                "fresh_starts": 0,
                "trouble": str(self._parked or "it starts"),
            }
        said = {"pid": self._host.pid, "role": "standby", "host": host}
        return self._standby.stats() | said
