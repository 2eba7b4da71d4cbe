"""How calls get to the actors of servers, and answers back: a part that can be changed.

Glossary
    ticket      what is given for a call that was sent; its answer is found by it. An object that
                can be a key
    transport   sends calls and waits for answers. `RayTransport` is the reference: it can carry
                all calls to all actors. Another one carries some of them, and leaves the rest to it

A transport decides nothing: what a call that is not answered means is for the state machine (see
`caller`). It may not answer a call twice, and may carry out a call that it reports as lost.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol

from paramesh.ps.client.exchange import (
    Call,
    Died,
    Event,
    Missing,
    Moves,
    NotServed,
    Refused,
    Replied,
)
from paramesh.ps.deployment.actors import SIGNS
from paramesh.ps.durability.log import Fenced
from paramesh.ps.specification.protocol import Moving, NotServing, PushesMissing

#: See the glossary.
Ticket = Any


class Transport(Protocol):
    """Carries calls to the actors of servers."""

    def submit(self, server: int, call: Call, at: int) -> Ticket:
        """Send a call to one of a server's actors.

        Raises:
            OSError, RayError: the cluster is gone.
        """
        ...

    def wait(self, tickets: Sequence[Ticket], count: int, seconds: float) -> list[Ticket]:
        """Those whose answers are there, when so many are, or this time is over.

        Raises:
            OSError, RayError: the cluster is gone.
        """
        ...

    def event(self, request: int, ticket: Ticket) -> Event:
        """What came of a call whose answer is there, as what came of a request."""
        ...

    def answer(self, ticket: Ticket, seconds: float) -> Any:
        """What a call is answered with; fails with anything where `event` would be an error."""
        ...

    def abandon(self, ticket: Ticket) -> None:
        """Nobody waits for the answer any more."""
        ...

    def describe(self) -> dict[str, str]:
        """What carries the calls of a step to each server now, by the server's name."""
        ...

    def close(self) -> None:
        """Let go of all connections; nothing is sent afterwards."""
        ...


def event_of(request: int, error: Exception) -> Event:
    """What an error of the server's own means."""
    if isinstance(error, PushesMissing):
        return Missing(request)
    if isinstance(error, Moving):
        return Moves(request, bool(error.latest), error)
    if isinstance(error, NotServing | Fenced):
        return NotServed(request, error.latest, isinstance(error, Fenced), error)
    return Refused(request, error)


class RayTransport:
    """Calls as those of Ray's actors; tickets are Ray's references.

    Ray says that a process died by exceptions: of these two are told apart, whether the actor is
    started again (`RayError`) or not (`ActorDiedError`). An exception of the server's own travels
    in a `RayTaskError`.

    Args:
        ray: the module.
        actors: of each server: one, or two of which one serves.
    """

    def __init__(self, ray: ModuleType, actors: Sequence[Sequence[Any]]) -> None:
        self.ray = ray
        self.actors = actors
        #: What `submit` and `wait` raise where the cluster is gone.
        self.errors: tuple[type[Exception], ...] = (OSError, ray.exceptions.RayError)
        #: Answers that nobody waits for. Ray prints the errors of those that nobody looks at.
        self._unwanted: list[Any] = []

    def submit(self, server: int, call: Call, at: int) -> Ticket:
        """As in `Transport`."""
        self._sweep()
        method, arguments = call
        if method == "step":  # Ray's work is by the argument
            arguments = (arguments,)
        send = getattr(self.actors[server][at], method)
        if method == "ping":
            send = send.options(concurrency_group=SIGNS)
        return send.remote(*arguments)

    def wait(self, tickets: Sequence[Ticket], count: int, seconds: float) -> list[Ticket]:
        """As in `Transport`."""
        if not tickets:
            return []
        count = min(count, len(tickets))
        return self.ray.wait(list(tickets), num_returns=count, timeout=max(0.0, seconds))[0]

    def event(self, request: int, ticket: Ticket) -> Event:
        """As in `Transport`."""
        errors = self.ray.exceptions
        try:
            return Replied(request, self.ray.get(ticket))
        except errors.RayTaskError as error:
            return event_of(request, error.cause)
        except errors.ActorDiedError as error:
            return Died(request, _reason(error))
        except errors.RayError:
            return Died(request)

    def answer(self, ticket: Ticket, seconds: float) -> Any:
        """As in `Transport`."""
        return self.ray.get(ticket, timeout=seconds)

    def abandon(self, ticket: Ticket) -> None:
        """As in `Transport`."""
        self._unwanted.append(ticket)

    def describe(self) -> dict[str, str]:
        """As in `Transport`."""
        return {f"server-{server}": "ray" for server in range(len(self.actors))}

    def close(self) -> None:
        """As in `Transport`."""

    def _sweep(self) -> None:
        if self._unwanted:
            unwanted, self._unwanted = self._unwanted, []
            ready = self.ray.wait(unwanted, num_returns=len(unwanted), timeout=0)[0]
            there = set(ready)
            self._unwanted = [ref for ref in unwanted if ref not in there]
            for ref in ready:
                with contextlib.suppress(Exception):
                    self.ray.get(ref)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[-1] if text else type(error).__name__
