"""A worker's calls to the servers, as a state machine: events in, messages and timers out.

Glossary
    peer                a server, as this worker knows it (see `peer`): one actor, or two of which
                        one serves
    fan-out             one call to each of several servers; complete when all are answered, or one
                        cannot be
    endpoint failure    a peer has died, is frozen or was replaced: its call has to be sent again
    claim               asking the other actor of a peer to serve (see `serving`)
    ping                a question to a silent server, whether it is alive
    stale request       one to an actor that was found dead or replaced after it was sent

No network, no threads, and no clock except the one that it is given. The caller's host (see
`delivery`) carries out the actions of `out`, passes events to `take`, and calls `tick` at `due`.

A reply is known to be lost only when the server has died, and then the call may or may not have
been carried out. Repeating a call is safe: the server knows what it has applied (see `server`). So
is an unnecessary claim: the replaced server is fenced, and nothing it has answered is lost. The
answer to a request is judged by what was known when the request was sent, never by what has become
known since.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from paramesh.array_types import Json
from paramesh.errors import ParameterServerError
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
    Moves,
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
from paramesh.ps.client.peer import Peer
from paramesh.ps.client.timeouts import timeout_error
from paramesh.ps.specification.protocol import Replaced

Earlier = Callable[[int, Call], Iterable[Call]]

#: What a later round still wants to hear.
_LASTING = "hello"


def _nothing(server: int, call: Call) -> Iterable[Call]:
    return ()


class Caller:
    """One worker's calls.

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
        self._begin_fan_out({}, _nothing)

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

    # What is asked of it.

    def send(self, calls: Mapping[int, Call]) -> dict[int, Request]:
        """Send a call to each server, for a round to wait for later; by number."""
        sent = [self._send("call", server, call) for server, call in calls.items()]
        return {request.number: request for request in sent}

    def drop(self, sent: Iterable[int]) -> None:
        """Nobody will wait for what was sent, by `send`."""
        for number in sent:
            self._forget(number)

    def begin(
        self,
        calls: Mapping[int, Call],
        earlier: Earlier = _nothing,
        sent: Mapping[int, Request] | None = None,
    ) -> None:
        """Begin a round; what is left of one that was broken off is forgotten.

        Args:
            calls: by server.
            earlier: what has to be sent before, to a server that may have lost it.
            sent: how the calls were sent, by `send`; None: they are sent now.
        """
        self._end_fan_out()
        self._begin_fan_out(calls, earlier)
        if self.gone:
            self.outcome = self._cluster_gone()
            return
        now = self._clock()
        for number, request in (self.send(calls) if sent is None else sent).items():
            self._waiting[request.server] = number
            self._signs[request.server] = self._sent[request.server] = now

    @property
    def done(self) -> bool:
        """Whether the round is over."""
        return self.outcome is not None or len(self._answers) == len(self._calls)

    def result(self) -> dict[int, Any]:
        """The answers of a round that is over, by server.

        Raises:
            ParameterServerError: no answer in time, or a server that cannot start.
            Exception: what the server raised about the call.
        """
        self._end_fan_out()
        if self.outcome is not None:
            raise self.outcome
        return self._answers

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

    # What it asks for.

    def out(self) -> list[Action]:
        """What is to be done now, in this order; each is given once."""
        out, self._out = self._out, []
        return out

    def awaited(self) -> list[int]:
        """The requests whose answers it wants to hear of now."""
        found = [*self._waiting.values(), *self._claims, *self._pings, *self._before]
        for number, request in self._requests.items():
            if request.kind in (_LASTING, "check"):
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

    # What comes in.

    def take(self, event: Event) -> None:
        """Something has happened."""
        if isinstance(event, Broke):
            self._take_broken(event)
            return
        if isinstance(event, ClusterGone):
            self.gone = self.gone or event.reason
            self.outcome = self._cluster_gone()
            return
        request = self._requests.get(event.request)
        if request is None:
            return  # the answer to a message that was repeated, or forgotten
        if isinstance(event, Killed):
            if not self.done:
                self._take_killed(request, event.done)
            return
        del self._requests[request.number]
        if self.done and request.kind != _LASTING:
            return
        self._before.discard(request.number)
        if isinstance(event, Moves):
            self._take_moves(request, event)
            return
        try:
            match request.kind:
                case "call" | "earlier":
                    self._take_answer(request, event)
                case "claim":
                    self._claims.discard(request.number)
                    self._asked.pop((request.server, request.at), None)
                    self._take_claim(request, event)
                case "ping":
                    self._pings.pop(request.number, None)
                    self._take_ping(request, event)
                case "hello":
                    self._take_hello(request, event)
                case _:
                    self._take_check(request, event)
        except ParameterServerError as error:
            self.outcome = self.outcome or error

    def _learn(self, request: Request, answer: Json) -> None:
        peer = self.peers[request.server]
        address = peer.learn(answer, request.floor)
        if address is not None:
            self._numbers += 1
            peer.tie, peer.tied_to = self._numbers, peer.incarnation
            self._out.append(Tie(peer.server, peer.tie, address))

    def _take_answer(self, request: Request, event: Event) -> None:
        peer = self.peers[request.server]
        call = self._waiting.get(peer.server) == request.number
        if not call and request.kind == "call":
            return
        # Sent to one that others have found dead since: who serves now knows nothing of it.
        stale = request.at != peer.at or request.floor[0] < peer.incarnation
        if call:
            del self._waiting[peer.server]
        match event:
            case Replied(_, answer):
                self._learn(request, answer)
                if call:
                    self._answers[peer.server] = answer
                    self._failures.pop(peer.server, None)
            case Missing():
                if call:
                    self._send_again_soon(peer.server)
            case Refused(_, error):
                if not stale:
                    self._refuse(peer, error)
                elif call:
                    self._send_again_soon(peer.server)
            case NotServed(_, latest, fenced, error) if call:
                if stale:
                    self._send_again_soon(peer.server)
                elif self._believed(peer, latest):
                    self._refuse(peer, error)
                else:
                    peer.latest = max(peer.latest, latest)
                    # Where nobody has served yet, the one that was asked may as well.
                    first = not fenced and not latest
                    self._record_failure(peer, str(error), request.at if first else None)
            case Died(_, ended) if call:
                if ended:
                    peer.ended[request.at] = ended
                    self._check_ended(peer)
                if stale:
                    self._send_again_soon(peer.server)
                else:
                    self._record_failure(peer, "its process has died")
            case _:
                pass  # a push before the call: the call tells

    def _take_claim(self, request: Request, event: Event) -> None:
        peer = self.peers[request.server]
        other = (peer.server, 1 - request.at)
        if isinstance(event, Refused):
            self.outcome = event.error
            return
        if isinstance(event, Died) and event.ended:
            peer.ended[request.at] = event.ended
            self._check_ended(peer)
        if peer.server not in self._failures:
            return
        if not isinstance(event, Replied):
            self._claim_soon(*other)
            return
        said = event.answer
        if said["serves"] and said["incarnation"] >= peer.incarnation:
            del self._failures[peer.server]
            peer.at = request.at
            self._learn(request, said)
            self._send_again_soon(peer.server)
        elif said["incarnation"] < request.floor[0]:
            raise peer.gone_back(f"incarnation {said['incarnation']}", request.floor)
        else:  # another one serves, or it has been replaced since it said so
            # Less than was heard of before, if a power failure has taken a start that nobody has
            # met.
            peer.latest = max(peer.incarnation, said["incarnation"])
            self._claim_soon(*other)

    def _take_ping(self, request: Request, event: Event) -> None:
        peer = self.peers[request.server]
        now = self._clock()
        self._signs[peer.server] = now
        if request.at != peer.at:
            return
        if isinstance(event, Died) and event.ended:
            peer.ended[request.at] = event.ended
            self._check_ended(peer)
            self._record_failure(peer, "its process has died")
        if not isinstance(event, Replied):
            return
        self._alive.add(peer.server)
        self._failures.pop(peer.server, None)
        if now - self._sent[peer.server] > self.timing.lost:
            self._forget_call(peer.server)
            self._send_again_soon(peer.server)

    def _take_hello(self, request: Request, event: Event) -> None:
        # One that has died again, or was replaced, is found out by the call itself.
        if isinstance(event, Replied):
            # A ping that was sent while it was starting does not count against it.
            self._forget_pings(request.server)
            self._signs[request.server] = self._clock()
            self._learn(request, event.answer)

    def _take_check(self, request: Request, event: Event) -> None:
        assert self._refusal is not None
        refusal, self._refusal = self._refusal[0], None
        if isinstance(event, Refused) and isinstance(event.error, Replaced):
            refusal = event.error
        elif isinstance(event, Replied):
            self._learn(request, event.answer)
        self.outcome = refusal

    def _take_moves(self, request: Request, event: Moves) -> None:
        """The run moves to other servers: who makes the move is alive, or it would be ended."""
        server = request.server
        self._pings.pop(request.number, None)
        self._claims.discard(request.number)
        self._asked.pop((server, request.at), None)
        if self.done:
            return
        if event.over:
            self.outcome = event.error
            return
        now = self._clock()
        self._deadline = max(self._deadline, now + self.timeout)
        if request.kind == "check" and self._refusal is not None:
            self.outcome = self._refusal[0]
        elif request.kind == "claim" and server in self._failures:
            self._claim_again.setdefault((server, 1 - request.at), now + self.timing.moving)
        elif self._waiting.get(server) == request.number:
            del self._waiting[server]
            self._forget_pings(server)
            self._failures.pop(server, None)
            self._fenced.clear()
            self._again[server] = now + self.timing.moving

    def _take_broken(self, event: Broke) -> None:
        peer = self.peers[event.server]
        if peer.tie != event.tie:
            return
        if peer.tied_to < peer.incarnation or event.server not in self._waiting or self.done:
            self._untie(peer)  # of one that was replaced, or that nobody waits for
        else:
            self._record_failure(peer, "its process has died")

    def _take_killed(self, ping: Request, done: bool) -> None:
        peer = self.peers[ping.server]
        if done:
            self._out.append(Note("killed", {"server": peer.server, "pid": peer.pid}))
        if done or peer.actors > 1:
            self._record_failure(peer, "it was frozen" if peer.pid else "it did not start")
        self._forget_pings(peer.server)
        self._signs[peer.server] = self._clock()

    # What goes wrong.

    def _refuse(self, peer: Peer, error: Exception) -> None:
        """A call was refused. Ask whether because the server has lost its state.

        Or because this worker was replaced: what it asks for may be gone since.
        """
        if self._refusal is not None:
            return
        if self.greeting is None or not peer.incarnation:
            self.outcome = error
            return
        check = self._send("check", peer.server, self.greeting)
        self._refusal = (error, check.number, self._clock() + self.timing.probe)

    def _believed(self, peer: Peer, latest: int) -> bool:
        if peer.actors > 1:
            return False
        now = self._clock()
        return now - self._fenced.setdefault((peer.server, latest), now) > self.timing.fenced

    def _check_ended(self, peer: Peer) -> None:
        if len(peer.ended) == peer.actors:
            reasons = "; ".join(dict.fromkeys(peer.ended.values()))
            raise ParameterServerError(
                f"server {peer.server} cannot start, or was ended: {reasons.rstrip('.')}. Fix "
                f"the cause, then start the run again with the same wal_dir: it continues from "
                f"the last step that the servers have."
            )

    def _record_failure(self, peer: Peer, what: str, first: int | None = None) -> None:
        """Take note that a server does not serve, and have its other actor do so, or `first`."""
        server = peer.server
        self._forget_call(server)
        self._forget_pings(server)
        if server not in self._failures and first is None:
            self._out.append(Note("lost", {"server": server, "reason": what}))
        self._failures[server] = what
        self._alive.discard(server)
        self._again.pop(server, None)
        self._untie(peer)
        if peer.actors == 1:
            self._send_again_soon(server)
        else:
            self._claim(peer, 1 - peer.at if first is None else first)

    def _untie(self, peer: Peer) -> None:
        if peer.tie:
            peer.tie = 0
            self._out.append(Untie(peer.server))

    def _claim_soon(self, server: int, at: int) -> None:
        self._claim_again.setdefault((server, at), self._clock() + self.timing.pause)

    def _claim(self, peer: Peer, at: int) -> None:
        """Ask an actor to serve, unless it was asked, and has not had the time to answer."""
        if at in peer.ended:
            at = 1 - at
        if (peer.server, at) not in self._asked:
            claim = self._send("claim", peer.server, ("promote", (peer.latest,)), at)
            self._claims.add(claim.number)
            self._asked[peer.server, at] = claim.since

    def _overdue(self, server: int, at: int) -> float:
        """When an actor has not answered a claim for so long that the other one is asked."""
        # It may be starting, or frozen: whoever comes first.
        known = self.peers[server].incarnation
        return self._asked[server, at] + (self.timing.probe if known else self.timing.starting)

    def _patience_of(self, ping: Request) -> float:
        return ping.since + (
            self.timing.frozen if self.peers[ping.server].pid else self.timing.starting
        )

    def _send_again_soon(self, server: int) -> None:
        self._again[server] = self._clock() + self.timing.pause

    # Timers.

    def tick(self) -> None:
        """Time has passed."""
        if self.done:
            return
        now = self._clock()
        if self._refusal is not None and now >= self._refusal[2]:
            self.outcome = self._refusal[0]
            return
        if now >= self._deadline:
            self.outcome = self._late()
            return
        for (server, at), when in list(self._claim_again.items()):
            if now >= when:
                del self._claim_again[server, at]
                if server in self._failures:
                    self._claim(self.peers[server], at)
        for server, when in list(self._again.items()):
            if now >= when:
                del self._again[server]
                self._repeat(server)
        self._look_at_silence(now)

    def _look_at_silence(self, now: float) -> None:
        for server, at in list(self._asked):
            if (server, at) in self._asked and now >= self._overdue(server, at):
                del self._asked[server, at]
                if server in self._failures:
                    self._claim(self.peers[server], 1 - at)
        pinged = {ping.server for ping in self._pings.values()}
        for server in self._waiting:
            if server not in pinged and now >= self._signs[server] + self.timing.probe:
                ping = self._send("ping", server, ("ping", ()))
                self._pings[ping.number] = ping
        for ping in list(self._pings.values()):
            if ping.number not in self._pings or now < self._patience_of(ping):
                continue
            peer = self.peers[ping.server]
            if ping.at != peer.at or ping.floor[0] < peer.incarnation:
                self._forget_pings(peer.server)  # of one that was replaced meanwhile
                self._signs[peer.server] = now
            elif peer.pid:
                # One that is starting, or alone and on another host, is others' affair.
                self._pings[ping.number] = ping._replace(since=now)  # until `Killed` comes
                self._out.append(Kill(ping.number, peer.server, peer.pid, peer.host))
            else:
                self._take_killed(ping, False)

    def _repeat(self, server: int) -> None:
        self.retries += 1
        if self.greeting is not None:
            for number, other in list(self._requests.items()):
                if other.kind == "hello" and other.server == server:
                    self._forget(number)
            self._send("hello", server, self.greeting)
        call = self._calls[server]
        for before in self._earlier(server, call):
            self._before.add(self._send("earlier", server, before).number)
        self._waiting[server] = self._send("call", server, call).number
        self._signs[server] = self._sent[server] = self._clock()

    # Requests.

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

    # Errors.

    def _cluster_gone(self) -> ParameterServerError:
        return ParameterServerError(
            f"worker {self.rank}: the Ray cluster is gone ({self.gone}): its head, or the node on "
            "this host, has ended. Start it and the run again with the same wal_dir: it "
            "continues from the last step that the servers have."
        )

    def _late(self) -> ParameterServerError:
        missing = sorted(self._calls.keys() - self._answers.keys())
        return timeout_error(
            self.rank,
            self.workers,
            self.timeout,
            {server: self._calls[server][0] for server in missing},
            all(server in self._alive for server in missing),
            self._failures,
        )
