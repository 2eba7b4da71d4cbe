"""ZeroMQ, which is an optional package; and what both ends of a connection agree on."""

from __future__ import annotations

import functools
import importlib
from typing import Any, NamedTuple

from paramesh.ps.deployment.frames import MOST_FRAME
from paramesh.ps.deployment.shared_arena import Whereabouts

WITHOUT_ZMQ = (
    "transport='zmq' needs pyzmq with CURVE, which is not installed: pip install 'paramesh[ps]'. "
    "transport='auto' uses Ray where it is missing."
)

#: Milliseconds: a connection that has not shown a key by then is closed; between two signs of life
#: of a connection that says nothing, and until one without any is closed. A server that is frozen
#: is found out before, by the worker's own questions (see `exchange.Timing`).
_HANDSHAKE, _HEARTBEAT, _SILENT = 10_000, 5_000, 20_000
#: Connections that the kernel holds for a server that is at work.
_BACKLOG = 1024


class Admission(NamedTuple):
    """What a server tells a worker that it lets in; sent through Ray alone.

    Attributes:
        address: where the server listens.
        key: its public key.
        version: of its frames.
        arena: what it writes payloads to, for this worker; None: it shares no memory with it.
        window: whether it reads the worker's arena.
        pipe: whether it reads the worker's pipe.
    """

    address: str
    key: bytes
    version: int
    arena: Whereabouts | None
    window: bool
    pipe: bool


@functools.cache
def zmq_module() -> Any:
    """pyzmq; None if it is not installed, or cannot encrypt."""
    try:
        zmq = importlib.import_module("zmq")
    except ImportError:
        return None
    return zmq if zmq.has("curve") else None


def configure(zmq: object, socket: Any, address: str) -> None:
    """Set what both ends need: bounds, signs of life, and the kind of the address (IPv6, or 4)."""
    for name, value in {
        "LINGER": 0,
        "MAXMSGSIZE": MOST_FRAME,
        "SNDHWM": 0,  # a request has one answer: as many as there are requests
        "HANDSHAKE_IVL": _HANDSHAKE,
        "HEARTBEAT_IVL": _HEARTBEAT,
        "HEARTBEAT_TIMEOUT": _SILENT,
        "BACKLOG": _BACKLOG,
        "IPV6": int("[" in address),
    }.items():
        socket.setsockopt(getattr(zmq, name), value)
