"""What a worker does about servers that do not serve: whom it asks, and when it gives up.

Glossary
    failure     why a server does not serve, as far as this worker knows; until one does

An unnecessary claim is safe: the replaced server is fenced, and nothing it has answered is lost.
"""

from __future__ import annotations

from paramesh.errors import ParameterServerError
from paramesh.ps.client.exchange import (
    Note,
    Untie,
)
from paramesh.ps.client.peer import Peer
from paramesh.ps.client.round import Round
from paramesh.ps.client.timeouts import timeout_error


class Failures(Round):
    """The part of `Caller` that is about servers that do not serve."""

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
