"""The calls of the first server's actor that are about another number of workers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.host import Host
from paramesh.ps.durability import worker_files
from paramesh.ps.processes.shortage import names_shortage
from paramesh.ps.server.server import Server

#: Seconds between two looks whether another number of workers is wanted; and how long a worker that
#: wants to join waits for an answer.
LOOK, JOIN = 0.2, 2.0


class ChangeCalls:
    """The part of `ServerActor` that is about the number of workers."""

    _host: Host
    _home: Path | None
    _server: Server | None
    _options: dict[str, Any]
    #: When the folder was looked at for another number of workers.
    _looked: float

    def _state(self) -> Server:
        raise NotImplementedError

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
