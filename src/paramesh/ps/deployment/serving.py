"""Which process of a server serves: it does, follows the log of who does, or is parked.

With a standby there are two such actors for each server. Both begin by following the log, and so
does one that Ray has started again: an actor never takes over by itself, a worker asks it to. The
log decides which of them serves: the one that has the latest incarnation. The other one, when it
learns that it was the server before, ends, and is started again as the standby.

While the run is moved to another number of servers (see `moves`) an actor that starts is parked: it
tells whoever asks. It ends when the move is given up, and is started again. If the run has moved,
it stays parked until a worker has it ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, NamedTuple

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.host import Host
from paramesh.ps.deployment.package_versions import package_versions
from paramesh.ps.durability import identity, moves
from paramesh.ps.durability.log import Fenced, latest_incarnation
from paramesh.ps.durability.moves import MoveWatch
from paramesh.ps.processes.shortage import names_shortage
from paramesh.ps.server.server import Server
from paramesh.ps.server.standby import Standby
from paramesh.ps.specification.protocol import Moving, NotServing, RunConfig

#: Seconds between two looks of a standby at the log, and of a server whether it was replaced.
FOLLOW, WATCH = 0.05, 0.2
#: The most seconds between two tries of a standby that cannot follow the log.
SEEK = 10.0
#: Between two looks of one that is parked for good.
PARKED = 3600.0


class Kill(NamedTuple):
    """A planned death, for tests: at a point, at a version, of one incarnation."""

    point: str
    version: int
    incarnation: int


class Serving:
    """The part of `ServerActor` that is about who serves."""

    _host: Host
    _folder: Path
    _config: RunConfig
    _kills: list[Kill]
    #: Of `Server` and `Standby`.
    _options: dict[str, Any]
    _server: Server | None
    _standby: Standby | None
    _beacon: tuple[str, int] | None
    #: The lock of who makes it the server, and what ends its following.
    _promotion: AbstractAsyncContextManager[object]
    _unfollow: Callable[[], None]
    #: The folder of its run, and its moves, if there can be any.
    _home: Path | None
    _moves: MoveWatch | None
    #: Why it does not serve: its run moves, or has moved.
    _parked: Moving | None

    @property
    def title(self) -> str:
        """Who this is, in messages."""
        return f"{self._folder.name} ({self._host.where()})"

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
        where = {"pid": host.pid, "host": host.identity(), "beacon": self._beacon}
        return where | {"packages": package_versions()}

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
