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

What is under way is in `round`, and what is done about servers that do not serve in `failures`.

A reply is known to be lost only when the server has died, and then the call may or may not have
been carried out. Repeating a call is safe: the server knows what it has applied (see `server`). The
answer to a request is judged by what was known when the request was sent, never by what has become
known since.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paramesh.array_types import Json
from paramesh.errors import ParameterServerError
from paramesh.ps.client.exchange import (
    Broke,
    Call,
    ClusterGone,
    Died,
    Event,
    Kill,
    Killed,
    Missing,
    Moves,
    Note,
    NotServed,
    Refused,
    Replied,
    Request,
    Tie,
)
from paramesh.ps.client.failures import Failures
from paramesh.ps.client.round import LASTING, Earlier, nothing
from paramesh.ps.specification.protocol import Replaced


class Caller(Failures):
    """One worker's calls; made and asked as `Round` says."""

    def begin(
        self,
        calls: Mapping[int, Call],
        earlier: Earlier = nothing,
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
        if self.done and request.kind != LASTING:
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
