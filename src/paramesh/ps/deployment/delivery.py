"""A worker's state machine over Ray: messages become calls of actors, what Ray says becomes events.

Nothing is decided here (see `caller`). Ray says that a process died by exceptions: of these two are
distinguished: whether the actor is started again (`RayError`) or not (`ActorDiedError`). An
exception of the server's own travels in a `RayTaskError`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from paramesh.ps.client.caller import Caller, Earlier
from paramesh.ps.client.exchange import (
    Action,
    Broke,
    Call,
    ClusterGone,
    Died,
    Event,
    Forget,
    Kill,
    Killed,
    Missing,
    Note,
    NotServed,
    Refused,
    Replied,
    Request,
    Send,
    Tie,
    Timing,
    Untie,
)
from paramesh.ps.deployment.actors import SIGNS, NotServing
from paramesh.ps.durability.log import Fenced
from paramesh.ps.processes.lifeline import Lifeline, host_identity
from paramesh.ps.specification.protocol import PushesMissing


class Delivery:
    """One worker's way to the servers.

    Args:
        ray: the module.
        actors: of each server: one, or two of which one serves.
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
        ray: Any,
        actors: Sequence[Sequence[Any]],
        *,
        rank: int,
        workers: int,
        timeout: float,
        note: Callable[..., None],
    ) -> None:
        self.ray = ray
        self.waited = 0
        self._note = note
        self._actors = actors
        self.caller = Caller(
            [len(mine) for mine in actors],
            rank=rank,
            workers=workers,
            timeout=timeout,
            clock=time.monotonic,
            timing=self.timing,
        )
        self._look = self.timing.idle
        if any(len(mine) > 1 for mine in actors):
            self._look = self.timing.look
        #: By number of the request: Ray's references, of those that somebody may wait for.
        self._refs: dict[int, Any] = {}
        self._lifelines: dict[int, tuple[int, Lifeline]] = {}
        #: Answers that nobody waits for. Ray prints the errors of those that nobody looks at.
        self._unwanted: list[Any] = []

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

    def submit(self, server: int, call: Call, at: int = 0) -> Any:
        """Send a call to one of a server's actors; the answer as Ray's reference.

        Raises:
            OSError, RayError: the cluster is gone.
        """
        method, arguments = call
        if method == "step":  # Ray's work is by the argument
            arguments = (arguments,)
        send = getattr(self._actors[server][at], method)
        if method == "ping":
            send = send.options(concurrency_group=SIGNS)
        return send.remote(*arguments)

    def answered(self, sent: Mapping[int, Request]) -> bool:
        """Whether what was sent is answered already."""
        refs = [self._refs[number] for number in sent if number in self._refs]
        return len(self._wait(refs, len(refs), 0)) == len(sent)

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
        self._sweep()
        caller.begin(calls, earlier, sent)
        self.carry_out()
        self._expect()
        while not caller.done:
            self._look_at_lifelines()
            left = min(self._look, caller.due - time.monotonic())
            awaited = {self._refs[n]: n for n in caller.awaited() if n in self._refs}
            if awaited:
                for ref in self._wait(list(awaited), 1, left):
                    self._hand_in(awaited[ref], ref)
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
                    self._refs[request] = self.submit(server, call, at)
                except (OSError, self.ray.exceptions.RayError) as error:
                    self.caller.take(ClusterGone(str(error)))
            case Forget(request):
                ref = self._refs.pop(request, None)
                if ref is not None:
                    self._unwanted.append(ref)
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
        """The usual case with fewer calls of Ray: one server, and its answer comes at once."""
        only = self.caller.only
        if only is None or only not in self._refs:
            return
        ref = self._refs[only]
        try:
            answer = self.ray.get(ref, timeout=min(self._look, self.timeout))
        except Exception:
            return  # it is met again, and dealt with, by those who wait for all
        del self._refs[only]
        self.caller.take(Replied(only, answer))
        self.carry_out()

    def _hand_in(self, request: int, ref: Any) -> None:
        self._refs.pop(request, None)
        self.caller.take(self._event(request, ref))

    def _event(self, request: int, ref: Any) -> Event:
        errors = self.ray.exceptions
        try:
            return Replied(request, self.ray.get(ref))
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, PushesMissing):
                return Missing(request)
            if isinstance(cause, NotServing | Fenced):
                return NotServed(request, cause.latest, isinstance(cause, Fenced), cause)
            return Refused(request, cause)
        except errors.ActorDiedError as error:
            return Died(request, _reason(error))
        except errors.RayError:
            return Died(request)

    def _look_at_lifelines(self) -> None:
        for server in self.caller.tied:
            tied = self._lifelines.get(server)
            if tied is not None and tied[1].broken():
                self.caller.take(Broke(server, tied[0]))
        self.carry_out()

    def _wait(self, refs: list[Any], count: int, seconds: float) -> list[Any]:
        """Which of these answers are there."""
        if not refs:
            return []
        try:
            return self.ray.wait(refs, num_returns=count, timeout=max(0.0, seconds))[0]
        except (OSError, self.ray.exceptions.RayError) as error:
            self.caller.take(ClusterGone(str(error)))
            return []

    def _sweep(self) -> None:
        if self._unwanted:
            ready = self._wait(self._unwanted, len(self._unwanted), 0)
            there = set(ready)
            self._unwanted = [ref for ref in self._unwanted if ref not in there]
            for ref in ready:
                with contextlib.suppress(Exception):
                    self.ray.get(ref)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[-1] if text else type(error).__name__
