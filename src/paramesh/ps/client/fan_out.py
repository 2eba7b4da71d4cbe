"""What an operation of a worker asks for: a call to each of several servers (see `worker`)."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Any, NamedTuple, TypeVar

from paramesh.ps.client.exchange import Call, Request

T = TypeVar("T")


class FanOut(NamedTuple):
    """One call for each server.

    Attributes:
        calls: by server.
        sent: how they were sent already; None: they are sent now.
        fresh: they were sent just now: none of them can be answered yet.
        ahead: they ask for rows ahead.
    """

    calls: Mapping[int, Call]
    sent: Mapping[int, Request] | None = None
    fresh: bool = True
    ahead: bool = False


Operation = Generator[FanOut, dict[int, Any], T]
