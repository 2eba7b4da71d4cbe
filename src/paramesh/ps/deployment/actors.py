"""A server as a Ray actor: `Server` behind messages.

One coroutine runs at a time, so the server needs no locks; one that waits for other workers lets
the others, and the questions about its health, pass. Ray restarts a killed actor
(`max_restarts=-1`) and repeats no call by itself (`max_task_retries=0`): its retries may run a call
twice and are used up while an actor restarts. The client repeats, and the server knows what it has
applied.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.errors import ParameterServerError
from paramesh.ps.client.peer import Reply
from paramesh.ps.deployment import frames
from paramesh.ps.deployment.change_calls import ChangeCalls
from paramesh.ps.deployment.checkpoint_calls import CheckpointCalls
from paramesh.ps.deployment.door import Door
from paramesh.ps.deployment.host import Host
from paramesh.ps.deployment.serving import Kill, Serving
from paramesh.ps.deployment.shared_arena import Whereabouts
from paramesh.ps.deployment.update_check import check_update
from paramesh.ps.deployment.zmq_module import Admission
from paramesh.ps.durability import whose_folder
from paramesh.ps.durability.log import Fenced
from paramesh.ps.durability.moves import MoveWatch
from paramesh.ps.processes.descriptors import RESERVE, raise_limit
from paramesh.ps.processes.shortage import names_shortage, shortage
from paramesh.ps.server.refresh import Watch, news_of
from paramesh.ps.server.server import Server
from paramesh.ps.server.standby import STANDBY_POINTS, Standby
from paramesh.ps.specification.id_range import NO_ID
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
    PushesMissing,
    Replaced,
    RunConfig,
)

Array = np.ndarray[Any, Any]

#: The concurrency group of `ping`. Whoever is asked to wait has to learn that a server is busy, not
#: frozen, also while a large table is made or a rule compiled on the thread of all other calls.
SIGNS = "signs"


class ServerActor(Serving, CheckpointCalls, ChangeCalls):
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
                whose_folder.check_server(self._folder, *run)
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
        """As `Server.hello`, and what this is.

        That is: `pid`, `host`, the address of a `beacon`, or None, and the versions of `packages`.
        """
        said = self._state().hello(worker, incarnation, life)
        self._end_saves_soon()  # those that it has recovered
        return said | self._whereabouts()

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
        if ids is not None:
            self._host.give_back_after(_bytes(pieces))
            self._host.give_back_soon()
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

        The rows that are sent are among these. Of a table of several blocks, freed memory is given
        back before the first one, and with the last.
        """
        server, first = self._state(), after == NO_ID
        if first and server.store.row_count(name) > count:
            self._host.give_back()
        fields, left = server.dump_rows(name, after, count)
        if not first and left == len(fields["ids"]):
            self._host.give_back()
        else:
            self._host.give_back_after(_bytes({name: fields}))
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
        self._host.give_back_soon()

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


def _bytes(pieces: Mapping[str, Mapping[str, Array]]) -> int:
    return sum(array.nbytes for fields in pieces.values() for array in fields.values())
