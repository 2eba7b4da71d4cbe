"""Inputs and outputs of a worker's state machine (see `caller`), as plain values.

Glossary
    event       something happened: an answer, an error of the server, a death, a broken lifeline
    action      something to do: send a message, kill a process
    request     one message, by its number; events name the request that they belong to
    floor       the incarnation and version that a server was known to have when a request was sent
    tie         a lifeline, by its number: a late break of one must not count against a later one
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from paramesh.array_types import Json

#: The method of a server's actor, and its arguments.
Call = tuple[str, tuple[Any, ...]]
Floor = tuple[int, int]


class Timing(NamedTuple):
    """Seconds of a worker's patience.

    Attributes:
        probe: of silence until a server is asked whether it is alive; until a claim that is not
            answered is made of the other actor.
        frozen: until the silence of one that was asked means that it is frozen.
        pause: between two tries.
        lost: without an answer from a server that is alive, until a call counts as lost and is
            repeated.
        fenced: until a server without a standby that says it was replaced is believed: Ray needs a
            while to tell where the successor is.
        starting: that a server has to start at the beginning, until its standby is asked to serve.
        moving: between two tries while the run moves to other servers.
        look: between two looks at lifelines.
        idle: the longest wait for an event where there are none.
    """

    probe: float = 2.0
    frozen: float = 5.0
    pause: float = 0.02
    lost: float = 20.0
    fenced: float = 10.0
    starting: float = 30.0
    moving: float = 0.1
    look: float = 0.02
    idle: float = 0.25


class Request(NamedTuple):
    """A message that was sent, with what was known of the server at that moment.

    Attributes:
        number: of the request.
        kind: "call"; "earlier", a push that may have died with the server before; "hello", to one
            that came back; "claim"; "ping"; "check", whether one that refuses has lost its state.
        server: to which.
        at: to which of its actors.
        floor: of the server.
        since: when.
    """

    number: int
    kind: str
    server: int
    at: int
    floor: Floor
    since: float


# Events.


class Replied(NamedTuple):
    """A request was answered."""

    request: int
    answer: Json


class Missing(NamedTuple):
    """The server does not have the pushes before this one (`PushesMissing`)."""

    request: int


class NotServed(NamedTuple):
    """The actor does not serve: it is a standby, or (`fenced`) it was replaced.

    Attributes:
        request: which.
        latest: the incarnation that serves, as far as the actor knows.
        fenced: it has served.
        error: what it raised.
    """

    request: int
    latest: int
    fenced: bool
    error: Exception


class Moves(NamedTuple):
    """The run moves to other servers (see `moves`), and this actor does not serve.

    Attributes:
        request: which.
        over: it has moved: nobody will serve here.
        error: what the actor raised.
    """

    request: int
    over: bool
    error: Exception


class Refused(NamedTuple):
    """The server raised an error about the request."""

    request: int
    error: Exception


class Died(NamedTuple):
    """The process is dead or cannot be reached; the request may have been carried out or not.

    Attributes:
        request: which.
        ended: why it will not be started again; empty if it will.
    """

    request: int
    ended: str = ""


class Broke(NamedTuple):
    """A lifeline broke: the process at its other end is dead, or its host unreachable."""

    server: int
    tie: int


class Killed(NamedTuple):
    """What came of a `Kill`."""

    request: int
    done: bool


class ClusterGone(NamedTuple):
    """There is nobody to call any more."""

    reason: str


Event = Replied | Missing | NotServed | Moves | Refused | Died | Broke | Killed | ClusterGone


# Actions.


class Send(NamedTuple):
    """Send a message to one of a server's actors."""

    request: int
    server: int
    at: int
    call: Call


class Forget(NamedTuple):
    """Nobody waits for the answer to this request any more."""

    request: int


class Tie(NamedTuple):
    """Tie a lifeline to a process, in the place of any that there is."""

    server: int
    tie: int
    address: tuple[str, int]


class Untie(NamedTuple):
    """Let go of the lifeline of a server."""

    server: int


class Kill(NamedTuple):
    """Kill the process of a server, if it is on this host; `Killed` is the answer."""

    request: int
    server: int
    pid: int
    host: str


class Note(NamedTuple):
    """Write down for people what happened (see `events`)."""

    event: str
    facts: Mapping[str, Any]


Action = Send | Forget | Tie | Untie | Kill | Note
