"""What a worker knows of a server, and the check that a server never goes back.

An answer is compared with two things. It cannot report less than the worker knew when it sent the
request (the floor of the request): the server had that much before it received the message. And of
two incarnations the later one cannot have less than the earlier one has answered, whichever answer
arrives first. Any other answer that reports less than is known by now is merely late.
"""

from __future__ import annotations

from typing import NamedTuple

from paramesh.array_types import Json
from paramesh.errors import ParameterServerError
from paramesh.ps.client.exchange import Floor
from paramesh.ps.durability.record import Array
from paramesh.ps.server.refresh import News
from paramesh.ps.specification.packing import PackedRows
from paramesh.ps.specification.worker_sets import Entries


class Reply(NamedTuple):
    """What a server answers.

    Attributes:
        pid: of its process.
        incarnation: of the server.
        version: of the server.
        values: of dense Parameters, by name.
        news: of tables that the worker caches.
        rows: of the tables that were requested.
        sets: of workers, where their number changes (see `worker_sets`).
    """

    pid: int
    incarnation: int
    version: int
    values: dict[str, Array]
    news: dict[str, News] = {}  # noqa: RUF012 (nobody writes to it)
    rows: PackedRows | None = None
    sets: Entries = ()


def state_in(answer: Json) -> Floor | None:
    """The incarnation and version that an answer says; None: it says nothing of them."""
    if isinstance(answer, Reply):
        return answer.incarnation, answer.version
    if isinstance(answer, dict) and {"incarnation", "version"} <= answer.keys():
        return answer["incarnation"], answer["version"]
    return None


class Peer:
    """A server, as a worker knows it: one actor, or two of which one serves.

    Args:
        server: its number.
        actors: how many there are.

    Attributes:
        at: which of the actors serves.
        incarnation: the latest that has answered; 0: none has.
        version: the latest that was answered.
        latest: the latest incarnation that was heard of.
        pid: of its process, and `host`, where it is; 0 and "": not known.
        tie: the number of the lifeline to it, 0 if there is none; `tied_to`: its incarnation then.
        ended: why an actor will not be started again, by its place.
    """

    def __init__(self, server: int, actors: int) -> None:
        self.server = server
        self.actors = actors
        self.at = 0
        self.version = 0
        self.incarnation = 0
        self.latest = 0
        self.pid = 0
        self.host = ""
        self.tie = self.tied_to = 0
        self.ended: dict[int, str] = {}

    @property
    def floor(self) -> Floor:
        """The incarnation and version that the server is known to have."""
        return self.incarnation, self.version

    def learn(self, answer: Json, floor: Floor) -> tuple[str, int] | None:
        """Take note of what an answer says of the server.

        Args:
            answer: of any request.
            floor: of the request.

        Returns:
            The address of its beacon, if it says one and there is no lifeline to the process yet.

        Raises:
            ParameterServerError: it has gone back.
        """
        said = state_in(answer)
        if said is None:
            return None
        incarnation, version = said
        where = f"version {version} (incarnation {incarnation})"
        if incarnation < floor[0] or version < floor[1]:
            raise self.gone_back(where, floor)
        if (incarnation > self.incarnation and version < self.version) or (
            incarnation < self.incarnation and version > self.version
        ):
            raise self.gone_back(where, self.floor)
        if incarnation < self.incarnation or version < self.version:
            return None  # a late answer, which says less than is known
        if incarnation != self.incarnation:
            self.pid, self.host = 0, ""
        self.incarnation, self.version = incarnation, version
        self.latest = max(self.latest, incarnation)
        if not isinstance(answer, dict) or "host" not in answer:
            return None
        known = self.tie and self.pid == answer["pid"]
        self.pid, self.host = answer["pid"], answer["host"]
        beacon = answer["beacon"]
        return None if known or beacon is None else (beacon[0], beacon[1])

    def gone_back(self, where: str, floor: Floor) -> ParameterServerError:
        """The error for a server that has an older state than was seen."""
        return ParameterServerError(
            f"server {self.server} was at version {floor[1]} (incarnation {floor[0]}) and answers "
            f"from {where}: its log was lost or replaced. Restore it, or start a new run."
        )
