"""How a worker's calls get to the servers: each is repeated until it is answered, or time is up.

Glossary
    peer        a server, as this worker knows it: one actor, or two of which one serves
    round       one call to each of some servers
    trouble     a peer that has died, is frozen or was replaced: its call has to be sent again
    claim       asking the other actor of a peer to serve (see `actors`)
    ping        a question to a server that has been silent, whether it is alive
    floor       the incarnation and version that a server was known to have when a call was sent

A reply is known to be lost only when the server has died, and then the call may have been carried
out or not. Repeating is safe: the server knows what it has applied (see `server`). So is a claim
that was not needed: the server that is replaced is fenced, and nothing it has answered is lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from paramesh.errors import ParameterServerError
from paramesh.ps.actors import SIGNS, NotServing, Reply
from paramesh.ps.lifeline import Lifeline, host_identity
from paramesh.ps.log import Fenced
from paramesh.ps.protocol import PushesMissing, Replaced

Call = tuple[str, tuple[Any, ...]]

#: Seconds of silence until a ping, until a ping's silence means that the server is frozen, and
#: between two tries.
PROBE, FROZEN, PAUSE = 2.0, 5.0, 0.02
#: Seconds without an answer from a server that is alive until a call counts as lost and is
#: repeated, and until a server without a standby that says it was replaced is believed: Ray needs a
#: while to tell where the successor is.
LOST, FENCED = 20.0, 10.0
#: Seconds that a server has to start at the beginning, until its standby is asked to serve.
STARTING = 30.0
#: Seconds between two looks at the lifelines, and at what is silent where there are none.
LOOK, IDLE = 0.02, 0.25


class Sent(NamedTuple):
    """How a call was sent: to which server, to which of its actors, and the server's floor."""

    server: int
    at: int
    floor: tuple[int, int]


class Peer:
    """A server, as this worker knows it.

    Args:
        server: its number.
        actors: one, or two of which one serves.
    """

    def __init__(self, server: int, actors: Sequence[Any]) -> None:
        self.server = server
        self.actors = list(actors)
        #: Which of the actors serves.
        self.at = 0
        self.version = 0
        self.incarnation = 0
        #: The latest incarnation that was heard of.
        self.latest = 0
        self.pid = 0
        self.host = ""
        self.lifeline: Lifeline | None = None
        #: Why an actor will not be started again.
        self.ended: dict[int, str] = {}

    @property
    def floor(self) -> tuple[int, int]:
        """The incarnation and version that the server is known to have."""
        return self.incarnation, self.version

    def learn(self, answer: Any, floor: tuple[int, int] | None = None) -> None:
        """Take note of what an answer says of the server.

        Args:
            answer: of any call.
            floor: when the call was sent, if that was before others that are answered; None: now.

        Raises:
            ParameterServerError: it has gone back.
        """
        if isinstance(answer, Reply):
            incarnation, version = answer.incarnation, answer.version
        elif isinstance(answer, dict) and {"incarnation", "version"} <= answer.keys():
            incarnation, version = answer["incarnation"], answer["version"]
        else:
            return
        least = self.floor if floor is None else floor
        if incarnation < least[0] or version < least[1]:
            raise self.gone_back(f"version {version} (incarnation {incarnation})")
        if incarnation < self.incarnation or version < self.version:
            return  # a late answer, which says less than is known
        if incarnation != self.incarnation:
            self.pid, self.host = 0, ""
        self.incarnation, self.version = incarnation, version
        self.latest = max(self.latest, incarnation)
        if isinstance(answer, dict) and "host" in answer:
            self.pid, self.host = answer["pid"], answer["host"]
            if answer["beacon"] is not None and self.lifeline is None:
                self._tie(answer["beacon"])

    def gone_back(self, where: str) -> ParameterServerError:
        """The error for a server that has an older state than was seen."""
        return ParameterServerError(
            f"server {self.server} was at version {self.version} (incarnation "
            f"{self.incarnation}) and answers from {where}: its log was lost or replaced. Restore "
            "it, or start a new run."
        )

    def _tie(self, address: tuple[str, int]) -> None:
        try:
            self.lifeline = Lifeline((address[0], address[1]))
        except OSError:
            self.lifeline = None  # Ray reports the death, later

    def untie(self) -> None:
        """Let go of the lifeline."""
        if self.lifeline is not None:
            self.lifeline.close()
            self.lifeline = None

    def kill(self) -> bool:
        """Kill the process that serves, if it is on this host: a frozen one does not hear Ray."""
        if not self.pid or not self.host or self.host != host_identity():
            return False
        try:
            if b"ServerActor" not in Path(f"/proc/{self.pid}/cmdline").read_bytes():
                return False
            os.kill(self.pid, signal.SIGKILL)
        except OSError:
            return False
        return True


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
        incarnation: of this worker, once a server has given it one.
        retries: how many calls were sent again.
        gone: the Ray cluster has ended: there is nobody to call.
    """

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
        self.note = note
        self.peers = [Peer(server, mine) for server, mine in enumerate(actors)]
        self.rank = rank
        self.workers = workers
        self.timeout = timeout
        self.incarnation: int | None = None
        self.retries = 0
        self.gone = False
        #: What servers that came back say of themselves.
        self.hellos: dict[Any, Peer] = {}
        #: Answers that nobody waits for. Ray prints the errors of those that nobody looks at.
        self.unwanted: list[Any] = []

    def send(self, calls: Mapping[int, Call]) -> dict[Any, Sent]:
        """Send a call to each server, for `call` to wait for later."""
        return {
            self.submit(server, call): Sent(server, self.peers[server].at, self.peers[server].floor)
            for server, call in calls.items()
        }

    def submit(self, server: int, call: Call, at: int | None = None) -> Any:
        """Send a call; the answer as Ray's reference."""
        peer = self.peers[server]
        method, arguments = call
        if method == "step":  # Ray's work is by the argument
            arguments = (arguments,)
        send = getattr(peer.actors[peer.at if at is None else at], method)
        try:
            if method == "ping":
                send = send.options(concurrency_group=SIGNS)
            return send.remote(*arguments)
        except (OSError, self.ray.exceptions.RayError) as error:
            raise self._cluster_gone(error) from error

    def heard(self, peer: Peer, answer: Any, floor: tuple[int, int] | None = None) -> None:
        """An answer has come from a server; see `Peer.learn`."""
        peer.learn(answer, floor)

    def wait(self, refs: list[Any], count: int, seconds: float) -> tuple[list[Any], list[Any]]:
        """Which of these answers are there, and which are not."""
        try:
            return self.ray.wait(refs, num_returns=count, timeout=max(0.0, seconds))
        except (OSError, self.ray.exceptions.RayError) as error:
            raise self._cluster_gone(error) from error

    def _cluster_gone(self, error: Exception) -> ParameterServerError:
        self.gone = True
        return ParameterServerError(
            f"worker {self.rank}: the Ray cluster is gone ({error}): its head, or the node on this "
            "host, has ended. Start it and the run again with the same wal_dir: it goes on from "
            "the last step that the servers have."
        )

    def call(
        self,
        calls: Mapping[int, Call],
        earlier: Callable[[int, Call], Iterable[Call]] = lambda server, call: (),
        sent: Mapping[Any, Sent] | None = None,
    ) -> dict[int, Any]:
        """The answers to one call for each server.

        Args:
            calls: by server.
            earlier: what has to be sent before, to a server that may have lost it.
            sent: how the calls were sent; None: they are sent now.

        Raises:
            ParameterServerError: no answer in time, or a server that cannot start.
            Exception: what the server raises about the call.
        """
        self._sweep()
        return Round(self, calls, earlier).run(self.send(calls) if sent is None else sent)

    def _sweep(self) -> None:
        if self.unwanted:
            ready, self.unwanted = self.wait(self.unwanted, len(self.unwanted), 0)
            for ref in ready:
                with contextlib.suppress(Exception):
                    self.ray.get(ref)


class Round:
    """One call to each of some servers; see `Delivery.call`."""

    def __init__(
        self,
        delivery: Delivery,
        calls: Mapping[int, Call],
        earlier: Callable[[int, Call], Iterable[Call]],
    ) -> None:
        self._delivery = delivery
        self._ray = delivery.ray
        self._peers = {server: delivery.peers[server] for server in calls}
        self._calls = calls
        self._earlier = earlier
        self._first: Mapping[Any, Sent] = {}
        self._answers: dict[int, Any] = {}
        self._waiting: dict[Any, int] = {}
        self._again: set[int] = set()
        #: By reference: server, which of its actors, and since when.
        self._claims: dict[Any, tuple[int, int, float]] = {}
        self._claim_again: set[tuple[int, int]] = set()
        self._pings: dict[Any, tuple[int, float]] = {}
        #: When a server gave its last sign of life, or was last given time.
        self._signs: dict[int, float] = {}
        self._alive: set[int] = set()
        self._sent: dict[int, float] = {}
        self._fenced: dict[int, float] = {}
        self._troubles: dict[int, str] = {}

    def run(self, sent: Mapping[Any, Sent]) -> dict[int, Any]:
        """The answers by server."""
        began = time.monotonic()
        deadline = began + self._delivery.timeout
        look = LOOK if any(len(peer.actors) > 1 for peer in self._peers.values()) else IDLE
        for ref, how in sent.items():
            self._signs[how.server] = self._sent[how.server] = began
            self._waiting[ref] = how.server
        self._first = sent
        if len(self._waiting) == 1 and not self._delivery.hellos:
            self._expect(*next(iter(self._waiting.items())), min(look, self._delivery.timeout))
        while len(self._answers) < len(self._calls):
            self._look_at_lifelines()
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._late()
            refs = [*self._waiting, *self._claims, *self._pings, *self._delivery.hellos]
            ready = self._delivery.wait(refs, 1, min(look, left))[0] if refs else []
            for ref in ready:
                self._take(ref)
            if self._again or self._claim_again:
                time.sleep(PAUSE)
                self._send_again()
            self._look_at_silence()
        self._delivery.unwanted += [*self._claims, *self._pings]
        return self._answers

    # What comes in.

    def _expect(self, ref: Any, server: int, seconds: float) -> None:
        """The usual case with fewer calls of Ray: one server, and its answer comes at once."""
        try:
            answer = self._ray.get(ref, timeout=seconds)
        except Exception:
            return  # it is met again, and dealt with, by those who wait for all
        del self._waiting[ref]
        self._delivery.heard(self._peers[server], answer, self._first[ref].floor)
        self._answers[server] = answer

    def _take(self, ref: Any) -> None:
        if ref in self._waiting:
            self._take_answer(ref, self._waiting.pop(ref))
        elif ref in self._claims:
            server, at, _ = self._claims.pop(ref)
            self._take_claim(ref, server, at)
        elif ref in self._pings:
            server, _ = self._pings.pop(ref)
            self._signs[server] = time.monotonic()
            if self._found(ref) is not None:
                self._take_ping(server)
        elif ref in self._delivery.hellos:
            peer = self._delivery.hellos.pop(ref)
            said = self._found(ref)
            # A ping that was sent while it was starting does not count against it.
            self._forget_pings(peer.server)
            self._signs[peer.server] = time.monotonic()
            # One that has died again, or was replaced, is found out by the call itself.
            if said is not None and said["incarnation"] >= peer.incarnation:
                self._delivery.heard(peer, said)

    def _take_ping(self, server: int) -> None:
        self._alive.add(server)
        self._troubles.pop(server, None)
        if self._signs[server] - self._sent[server] > LOST:
            self._forget_calls(server)
            self._again.add(server)

    def _found(self, ref: Any) -> Any:
        try:
            return self._ray.get(ref)
        except (self._ray.exceptions.RayError, NotServing, Fenced):
            return None

    def _take_answer(self, ref: Any, server: int) -> None:
        peer, errors = self._peers[server], self._ray.exceptions
        how = self._first.get(ref) or Sent(server, peer.at, peer.floor)
        # Sent to one that others have found dead since: who serves now knows nothing of it.
        replaced = how.at != peer.at or how.floor[0] < peer.incarnation
        try:
            answer = self._ray.get(ref)
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, PushesMissing) or (
                replaced and isinstance(cause, NotServing | Fenced)
            ):
                self._again.add(server)
                return
            if not isinstance(cause, NotServing | Fenced) or self._believed(peer):
                self._check_state(peer)
                raise cause from None
            peer.latest = max(peer.latest, cause.latest)
            # Where nobody has served yet, the one that was asked may as well.
            first = isinstance(cause, NotServing) and not cause.latest
            self._trouble(server, str(cause), how.at if first else None)
        except errors.RayError as error:
            if replaced and not self._over(error):
                self._again.add(server)
                return
            if self._over(error):
                peer.ended[how.at] = _reason(error)
                self._check_ended(peer)
            self._trouble(server, "its process has died")
        else:
            self._delivery.heard(peer, answer, how.floor)
            self._answers[server] = answer

    def _check_state(self, peer: Peer) -> None:
        """Raise the reason, if a server refuses a call because it has lost its state.

        Or because this worker was replaced: what it asks for may be gone since.
        """
        delivery = self._delivery
        if delivery.incarnation is None or not peer.incarnation:
            return
        hello = ("hello", (delivery.rank, delivery.incarnation))
        ref = delivery.submit(peer.server, hello)
        ready, _ = delivery.wait([ref], 1, PROBE)
        try:
            said = self._ray.get(ref) if ready else None
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Replaced):
                raise error.cause from None
            return
        except self._ray.exceptions.RayError:
            return
        if said is not None and said["incarnation"] >= peer.incarnation:
            delivery.heard(peer, said)

    def _believed(self, peer: Peer) -> bool:
        now = time.monotonic()
        return len(peer.actors) == 1 and now - self._fenced.setdefault(peer.server, now) > FENCED

    def _take_claim(self, ref: Any, server: int, at: int) -> None:
        peer, errors = self._peers[server], self._ray.exceptions
        settled = server not in self._troubles
        try:
            said = self._ray.get(ref)
        except errors.RayTaskError as error:
            raise error.cause from None
        except errors.RayError as error:
            if self._over(error):
                peer.ended[at] = _reason(error)
                self._check_ended(peer)
            if not settled:
                self._claim_again.add((server, 1 - at))
            return
        if settled:
            return
        if said["serves"]:
            del self._troubles[server]
            peer.at = at
            self._delivery.heard(peer, said)
            self._again.add(server)
        elif said["incarnation"] < peer.incarnation:
            raise peer.gone_back(f"incarnation {said['incarnation']}")
        else:
            peer.latest = max(peer.latest, said["incarnation"])
            self._claim_again.add((server, 1 - at))

    def _over(self, error: Exception) -> bool:
        return "creation task" in str(error) or "ActorDiedError" in type(error).__name__

    def _check_ended(self, peer: Peer) -> None:
        if len(peer.ended) == len(peer.actors):
            reasons = "; ".join(dict.fromkeys(peer.ended.values()))
            raise ParameterServerError(
                f"server {peer.server} cannot start, or was ended: {reasons.rstrip('.')}. Once "
                "the reason is mended, start the run again with the same wal_dir: it goes on from "
                "the last step that the servers have."
            )

    # What goes wrong.

    def _trouble(self, server: int, what: str, first: int | None = None) -> None:
        """Take note that a server does not serve, and have its other actor do so, or `first`."""
        peer = self._peers[server]
        self._forget_calls(server)
        self._forget_pings(server)
        if server not in self._troubles and first is None:
            self._delivery.note("lost", server=server, reason=what)
        self._troubles[server] = what
        self._alive.discard(server)
        peer.untie()
        if len(peer.actors) == 1:
            self._again.add(server)
        else:
            self._claim(server, 1 - peer.at if first is None else first)

    def _forget_calls(self, server: int) -> None:
        for ref in [ref for ref, of in self._waiting.items() if of == server]:
            del self._waiting[ref]
            self._delivery.unwanted.append(ref)

    def _forget_pings(self, server: int) -> None:
        for ref in [ref for ref, (of, _) in self._pings.items() if of == server]:
            del self._pings[ref]
            self._delivery.unwanted.append(ref)

    def _claim(self, server: int, at: int) -> None:
        peer = self._peers[server]
        if at in peer.ended:
            at = 1 - at
        if (server, at) not in [(s, a) for s, a, _ in self._claims.values()]:
            ref = self._delivery.submit(server, ("promote", (peer.latest,)), at)
            self._claims[ref] = (server, at, time.monotonic())

    def _look_at_lifelines(self) -> None:
        for server in list(self._waiting.values()):
            lifeline = self._peers[server].lifeline
            if lifeline is not None and lifeline.broken():
                self._trouble(server, "its process has died")

    def _look_at_silence(self) -> None:
        now = time.monotonic()
        for server, at, since in list(self._claims.values()):
            # It may be starting, or frozen: whoever comes first.
            patience = PROBE if self._peers[server].incarnation else STARTING
            if now - since > patience and server in self._troubles:
                self._claim(server, 1 - at)
        pinged = {server for server, _ in self._pings.values()}
        for server in self._waiting.values():
            if server not in pinged and now - self._signs[server] > PROBE:
                self._pings[self._delivery.submit(server, ("ping", ()))] = (server, now)
        for ref, (server, since) in list(self._pings.items()):
            peer = self._peers[server]
            patience = FROZEN if peer.pid else STARTING
            if ref not in self._pings or now - since <= patience:
                continue
            # One that is starting, or alone and on another host, is Ray's affair.
            killed = peer.kill()
            if killed:
                self._delivery.note("killed", server=server, pid=peer.pid)
            if killed or len(peer.actors) > 1:
                self._trouble(server, "it was frozen" if peer.pid else "it did not start")
            self._forget_pings(server)
            self._signs[server] = now

    def _send_again(self) -> None:
        for server, at in self._claim_again:
            if server in self._troubles:
                self._claim(server, at)
        self._claim_again.clear()
        delivery = self._delivery
        for server in self._again:
            delivery.retries += 1
            peer, call = self._peers[server], self._calls[server]
            if delivery.incarnation is not None:
                hello = ("hello", (delivery.rank, delivery.incarnation))
                delivery.hellos[delivery.submit(server, hello)] = peer
            for before in self._earlier(server, call):
                delivery.unwanted.append(delivery.submit(server, before))
            self._waiting[delivery.submit(server, call)] = server
            self._signs[server] = self._sent[server] = time.monotonic()
        self._again.clear()

    def _late(self) -> ParameterServerError:
        missing = sorted(self._calls.keys() - self._answers.keys())
        what = sorted({self._calls[server][0] for server in missing})
        workers = self._delivery.workers
        others = f"another of the {workers} workers has stopped"
        if all(server in self._alive for server in missing):
            busy = "the servers are busier than timeout= allows for"
            why = f"Servers and network are well, so {others if workers > 1 else busy}."
        elif workers > 1:
            why = f"Either a server cannot come back, or {others}."
        else:
            why = "The server cannot come back: is its host overloaded, or its wal_dir damaged?"
        said = "; ".join(
            f"server {server}: {what}" for server, what in sorted(self._troubles.items())
        )
        return ParameterServerError(
            f"worker {self._delivery.rank}: server {missing} did not answer {what} within "
            f"{self._delivery.timeout:g} s ({said or 'no answer'}). {why}"
        )


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[-1] if text else type(error).__name__
