"""A worker's requests to the servers, and the round that it waits for.

Glossary
    round       a fan-out whose answers are waited for, with all that was asked because of it

What is kept here says nothing of why something is asked (see `failures`), nor of what an answer
means (see `caller`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from paramesh.ps.client.exchange import (
    Action,
    Call,
    Forget,
    Request,
    Send,
    Timing,
)
from paramesh.ps.client.peer import Peer

Earlier = Callable[[int, Call], Iterable[Call]]

#: What a later round still wants to hear.
LASTING = "hello"


def nothing(server: int, call: Call) -> Iterable[Call]:
    """Nothing has to be sent before a call."""
    return ()


class Round:
    """The requests of one worker.

    Args:
        actors: how many each server has: one, or two of which one serves.
        rank: of this worker.
        workers: how many there are.
        timeout: seconds until a call that is not answered is an error.
        clock: seconds, from any beginning; never back.
        timing: the seconds of its patience.

    Attributes:
        peers: the servers.
        greeting: the call by which a server learns which this worker is; None: it has no
            incarnation yet.
        retries: how many calls were sent again.
        gone: why the cluster has ended, and there is nobody to call; empty otherwise.
        outcome: the error that the round has ended with.
    """

    def __init__(
        self,
        actors: Sequence[int],
        *,
        rank: int,
        workers: int,
        timeout: float,
        clock: Callable[[], float],
        timing: Timing | None = None,
    ) -> None:
        self.peers = [Peer(server, count) for server, count in enumerate(actors)]
        self.rank = rank
        self.workers = workers
        self.timeout = timeout
        self.timing = timing or Timing()
        self.greeting: Call | None = None
        self.retries = 0
        self.gone = ""
        self.outcome: Exception | None = None
        self._clock = clock
        self._out: list[Action] = []
        self._numbers = 0
        #: Those that are not answered and not forgotten: by number.
        self._requests: dict[int, Request] = {}
        self._begin_fan_out({}, nothing)

    def _begin_fan_out(self, calls: Mapping[int, Call], earlier: Earlier) -> None:
        self.outcome = None
        self._calls = calls
        self._earlier = earlier
        self._deadline = self._clock() + self.timeout
        self._answers: dict[int, Any] = {}
        #: Requests of this round by kind: calls by server, the others by number.
        self._waiting: dict[int, int] = {}
        self._claims: set[int] = set()
        self._pings: dict[int, Request] = {}
        self._before: set[int] = set()
        #: Since when an actor has been asked to serve, and has had the time to answer.
        self._asked: dict[tuple[int, int], float] = {}
        #: When a call is to be sent again, and a claim to be made: (server, actor).
        self._again: dict[int, float] = {}
        self._claim_again: dict[tuple[int, int], float] = {}
        #: When a server gave its last sign of life, or was last given time; when its call was sent.
        self._signs: dict[int, float] = {}
        self._sent: dict[int, float] = {}
        self._alive: set[int] = set()
        #: Since when a server without a standby has said that it was replaced, and by which.
        self._fenced: dict[tuple[int, int], float] = {}
        self._failures: dict[int, str] = {}
        #: What a server has refused a call with, and until when it is asked why.
        self._refusal: tuple[Exception, int, float] | None = None

    @property
    def done(self) -> bool:
        """Whether the round is over."""
        return self.outcome is not None or len(self._answers) == len(self._calls)

    def _end_fan_out(self) -> None:
        for number in (*self._waiting.values(), *self._claims, *self._pings, *self._before):
            self._forget(number)
        for number in [n for n, request in self._requests.items() if request.kind == "check"]:
            self._forget(number)
        self._waiting.clear()
        self._claims.clear()
        self._asked.clear()
        self._pings.clear()
        self._before.clear()

    def send(self, calls: Mapping[int, Call]) -> dict[int, Request]:
        """Send a call to each server, for a round to wait for later; by number."""
        sent = [self._send("call", server, call) for server, call in calls.items()]
        return {request.number: request for request in sent}

    def drop(self, sent: Iterable[int]) -> None:
        """Nobody will wait for what was sent, by `send`."""
        for number in sent:
            self._forget(number)

    def out(self) -> list[Action]:
        """What is to be done now, in this order; each is given once."""
        out, self._out = self._out, []
        return out

    def awaited(self) -> list[int]:
        """The requests whose answers it wants to hear of now."""
        found = [*self._waiting.values(), *self._claims, *self._pings, *self._before]
        for number, request in self._requests.items():
            if request.kind in (LASTING, "check"):
                found.append(number)
        return found

    @property
    def only(self) -> int | None:
        """The request that is awaited, if there is one alone and nothing else to look after."""
        if len(self._waiting) != 1 or self._claims or self._again or self._claim_again:
            return None
        found = self.awaited()
        return found[0] if len(found) == 1 else None

    @property
    def tied(self) -> dict[int, int]:
        """The lifelines to look at, by server."""
        return {s: self.peers[s].tie for s in self._waiting if self.peers[s].tie}

    @property
    def due(self) -> float:
        """When `tick` is to be called, at the latest."""
        times = [self._deadline, *self._again.values(), *self._claim_again.values()]
        if self._refusal is not None:
            times.append(self._refusal[2])
        times += [self._overdue(*asked) for asked in self._asked]
        pinged = {ping.server for ping in self._pings.values()}
        times += [self._patience_of(ping) for ping in self._pings.values()]
        times += [self._signs[s] + self.timing.probe for s in self._waiting if s not in pinged]
        return min(times)

    def _overdue(self, server: int, at: int) -> float:
        """When an actor has not answered a claim for so long that the other one is asked."""
        # It may be starting, or frozen: whoever comes first.
        known = self.peers[server].incarnation
        return self._asked[server, at] + (self.timing.probe if known else self.timing.starting)

    def _patience_of(self, ping: Request) -> float:
        return ping.since + (
            self.timing.frozen if self.peers[ping.server].pid else self.timing.starting
        )

    def _send(self, kind: str, server: int, call: Call, at: int | None = None) -> Request:
        peer = self.peers[server]
        at = peer.at if at is None else at
        self._numbers += 1
        request = Request(self._numbers, kind, server, at, peer.floor, self._clock())
        self._requests[request.number] = request
        self._out.append(Send(request.number, server, at, call))
        return request

    def _forget(self, number: int) -> None:
        if self._requests.pop(number, None) is not None:
            self._out.append(Forget(number))

    def _forget_call(self, server: int) -> None:
        number = self._waiting.pop(server, None)
        if number is not None:
            self._forget(number)

    def _forget_pings(self, server: int) -> None:
        for number in [n for n, ping in self._pings.items() if ping.server == server]:
            del self._pings[number]
            self._forget(number)

    def _send_again_soon(self, server: int) -> None:
        self._again[server] = self._clock() + self.timing.pause
