"""The calls of a server's actor that are about checkpoints.

They are short whatever there is to write or to read: who waits asks again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from paramesh.array_types import Json
from paramesh.errors import ParameterServerError
from paramesh.ps.client.peer import Reply
from paramesh.ps.deployment.host import Host
from paramesh.ps.durability.log import Fenced
from paramesh.ps.processes.shortage import names_shortage
from paramesh.ps.server.loading import load_some
from paramesh.ps.server.server import Server
from paramesh.ps.specification.checkpoints import taken_load, taken_order

#: Seconds that a call waits for a part to be written; between two looks; and that a call loads.
_WAIT, _LOOK, _LOAD = 2.0, 0.02, 1.0
#: Between two looks whether parts are written that nobody may ask for any more.
_END = 0.5


class CheckpointCalls:
    """The part of `ServerActor` that is about checkpoints."""

    _host: Host
    _ends_saves = False

    @property
    def title(self) -> str:
        """Who this is, in messages."""
        raise NotImplementedError

    def _state(self) -> Server:
        raise NotImplementedError

    def _reply(self, step: int | None, names: Iterable[str]) -> Reply:
        raise NotImplementedError

    @names_shortage
    async def save(self, worker: int, incarnation: int, order: Json) -> Reply:
        """As `Server.save`; back when later steps do not change what is saved."""
        self._state().save(worker, incarnation, taken_order(order))
        self._end_saves_soon()
        return self._reply(None, ())

    def _end_saves_soon(self) -> None:
        """Have the log say that parts are written, also if nobody asks for them any more.

        The worker that has wanted them may be dead. Until the log says so no snapshot is written,
        and the run cannot be moved.
        """
        if not self._ends_saves and self._state().saves.unfinished:
            self._ends_saves = True
            self._host.spawn(self._end_saves(self._state()))

    async def _end_saves(self, server: Server) -> None:
        while server.saves.unfinished:
            await self._host.pause(_END)
            try:
                server.end_saves()
            except Fenced:
                break  # another one serves
            except (ParameterServerError, OSError):
                pass  # of the log: who asks, or pushes, hears of it
        self._ends_saves = False

    @names_shortage
    async def saved(self, identity: str) -> dict[str, Any]:
        """Whether this server's part of a checkpoint is written; waits for it for a while.

        Returns:
            `done`, and `failure`: why it cannot be written; "" if it is, or it is not done.

        Raises:
            ParameterServerError: as `Server.saved`.
        """
        left = _WAIT
        result = self._state().saved(identity)
        while result is None and left > 0:
            await self._host.pause(_LOOK)
            left -= _LOOK
            result = self._state().saved(identity)
        return self._where() | {"done": result is not None, "failure": result or ""}

    @names_shortage
    async def load(self, order: Json, first: int, stop: int, at: int) -> dict[str, Any]:
        """As `loading.load_some`, for about a second.

        Returns:
            `next`: the virtual shard to go on with.
        """
        until = time.monotonic() + _LOAD
        following = load_some(
            self._state(),
            taken_load(order),
            range(first, stop),
            at,
            lambda: time.monotonic() > until,
        )
        if following >= stop:
            self._host.give_back()
        return self._where() | {"next": following}

    def _where(self) -> dict[str, Any]:
        server = self._state()
        return {"incarnation": server.incarnation, "version": server.version}
