"""A worker's state machine at work: its messages go to a transport, what comes back becomes events.

Nothing is decided here (see `caller`), and nothing sent (see `transport`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from paramesh.ps.client.caller import Caller
from paramesh.ps.client.exchange import (
    Action,
    Broke,
    Call,
    ClusterGone,
    Forget,
    Kill,
    Killed,
    Note,
    Replied,
    Request,
    Send,
    Tie,
    Timing,
    Untie,
)
from paramesh.ps.client.round import Earlier
from paramesh.ps.deployment.transport import Ticket, Transport
from paramesh.ps.processes.lifeline import Lifeline, host_identity


class Delivery:
    """One worker's way to the servers.

    Args:
        ray: the module.
        actors: how many each server has: one, or two of which one serves.
        transport: carries the calls.
        rank: of this worker.
        workers: how many there are.
        timeout: seconds until a call that is not answered is an error.
        note: writes down an event (see `events`).

    Attributes:
        caller: the state machine.
        waited: how many rounds were not answered already when they began.
    """

    #: The patience of all that are made from now on; tests have less.
    timing = Timing()

    def __init__(
        self,
        ray: ModuleType,
        actors: Sequence[int],
        transport: Transport,
        *,
        rank: int,
        workers: int,
        timeout: float,
        note: Callable[..., None],
    ) -> None:
        self.ray = ray
        self.waited = 0
        self.transport = transport
        self._note = note
        self.caller = Caller(
            actors,
            rank=rank,
            workers=workers,
            timeout=timeout,
            clock=time.monotonic,
            timing=self.timing,
        )
        self._look = self.timing.idle
        if max(actors) > 1:
            self._look = self.timing.look
        #: By number of the request, of those that somebody may wait for.
        self._tickets: dict[int, Ticket] = {}
        self._lifelines: dict[int, tuple[int, Lifeline]] = {}

    @property
    def timeout(self) -> float:
        """Seconds until a call that is not answered is an error."""
        return self.caller.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self.caller.timeout = seconds

    @property
    def gone(self) -> bool:
        """Whether the cluster has ended: there is nobody to call."""
        return bool(self.caller.gone)

    def submit(self, server: int, call: Call, at: int = 0) -> Ticket:
        """Send a call to one of a server's actors; see `Transport.submit`."""
        return self.transport.submit(server, call, at)

    def answered(self, sent: Mapping[int, Request]) -> bool:
        """Whether what was sent is answered already."""
        tickets = [self._tickets[number] for number in sent if number in self._tickets]
        return len(self._wait(tickets, len(tickets), 0)) == len(sent)

    def call(
        self,
        calls: Mapping[int, Call],
        earlier: Earlier,
        sent: Mapping[int, Request] | None = None,
    ) -> dict[int, Any]:
        """The answers to one call for each server; see `Caller.begin`.

        Raises:
            ParameterServerError: no answer in time, or a server that cannot start.
            Exception: what the server raises about the call.
        """
        caller = self.caller
        caller.begin(calls, earlier, sent)
        self.carry_out()
        self._expect()
        while not caller.done:
            self._look_at_lifelines()
            left = min(self._look, caller.due - time.monotonic())
            awaited = {self._tickets[n]: n for n in caller.awaited() if n in self._tickets}
            if awaited:
                for ticket in self._wait(list(awaited), 1, left):
                    self._hand_in(awaited[ticket], ticket)
            else:
                time.sleep(max(0.0, left))
            caller.tick()
            self.carry_out()
        answers = caller.result()
        self.carry_out()
        return answers

    # Actions.

    def carry_out(self) -> None:
        """Do what the state machine asks for."""
        while actions := self.caller.out():
            for action in actions:
                self._do(action)

    def _do(self, action: Action) -> None:
        match action:
            case Send(request, server, at, call):
                try:
                    self._tickets[request] = self.submit(server, call, at)
                except (OSError, self.ray.exceptions.RayError) as error:
                    self.caller.take(ClusterGone(str(error)))
            case Forget(request):
                ticket = self._tickets.pop(request, None)
                if ticket is not None:
                    self.transport.abandon(ticket)
            case Tie(server, tie, address):
                self._untie(server)
                with contextlib.suppress(OSError):  # Ray reports the death, later
                    self._lifelines[server] = tie, Lifeline(address)
            case Untie(server):
                self._untie(server)
            case Kill(request, _, pid, host):
                self.caller.take(Killed(request, self.kill(pid, host)))
            case Note(event, facts):
                self._note(event, **facts)

    def _untie(self, server: int) -> None:
        tied = self._lifelines.pop(server, None)
        if tied is not None:
            tied[1].close()

    def kill(self, pid: int, host: str) -> bool:
        """Kill a server's process, if it is on this host: a frozen one does not hear Ray."""
        if not host or host != host_identity():
            return False
        try:
            if b"ServerActor" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                return False
            os.kill(pid, signal.SIGKILL)
        except OSError:
            return False
        return True

    # Events.

    def _expect(self) -> None:
        """The usual case in fewer calls: one server, and its answer comes at once."""
        only = self.caller.only
        if only is None or only not in self._tickets:
            return
        try:
            answer = self.transport.answer(self._tickets[only], min(self._look, self.timeout))
        except Exception:
            return  # it is met again, and dealt with, by those who wait for all
        del self._tickets[only]
        self.caller.take(Replied(only, answer))
        self.carry_out()

    def _hand_in(self, request: int, ticket: Ticket) -> None:
        self._tickets.pop(request, None)
        self.caller.take(self.transport.event(request, ticket))

    def _look_at_lifelines(self) -> None:
        for server in self.caller.tied:
            tied = self._lifelines.get(server)
            if tied is not None and tied[1].broken():
                self.caller.take(Broke(server, tied[0]))
        self.carry_out()

    def _wait(self, tickets: list[Ticket], count: int, seconds: float) -> list[Ticket]:
        """Which of these answers are there."""
        try:
            return self.transport.wait(tickets, count, max(0.0, seconds)) if tickets else []
        except (OSError, self.ray.exceptions.RayError) as error:
            self.caller.take(ClusterGone(str(error)))
            return []

    def close(self) -> None:
        """Let go of all connections."""
        for server in list(self._lifelines):
            self._untie(server)
        self.transport.close()
