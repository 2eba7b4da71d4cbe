"""A worker's connection to one actor over ZeroMQ, and what is on its way there.

When it is opened and given up is for `zmq_transport` to decide. What is sent goes by a pipe and
through shared memory where both ends have them (see `frame_pipe` and `shared_arena`), and by the
socket otherwise.
"""

from __future__ import annotations

import time
from types import ModuleType
from typing import Any, Protocol

from paramesh.ps.client.exchange import Call, Died, Replied
from paramesh.ps.deployment import frames
from paramesh.ps.deployment.frame_pipe import PipeReader
from paramesh.ps.deployment.frames import Unfit
from paramesh.ps.deployment.messages import call_text
from paramesh.ps.deployment.shared_arena import (
    PIPED_FROM,
    SHARED_FROM,
    Arena,
    Receipts,
    Window,
    window_if_any,
)
from paramesh.ps.deployment.transport import Ticket
from paramesh.ps.deployment.zmq_module import Admission, configure

#: Seconds until an actor that did not let this worker in is asked again, at first.
PAUSE = 0.5

#: What a worker does: nothing, asks to be let in, opens a connection, has one.
NONE, ASKING, OPENING, OPEN = range(4)


class Context(Protocol):
    """What of ZeroMQ's context a connection needs."""

    def socket(self, socket_type: int) -> Any:
        """A new socket."""
        ...


class Poller(Protocol):
    """What of ZeroMQ's poller a connection needs."""

    def register(self, socket: object, flags: int) -> None:
        """Wait for a socket, or an open file, too."""
        ...

    def unregister(self, socket: object) -> None:
        """Wait for it no more."""
        ...


class Sent:
    """The ticket of a call on a channel.

    Attributes:
        channel: which.
        number: of the call there.
        call: which.
        outcome: what came of it; None: nothing yet.
        instead: Ray's reference, where the call was made through Ray in the end.
    """

    __slots__ = ("call", "channel", "instead", "number", "outcome")

    def __init__(self, channel: Channel, number: int, call: Call) -> None:
        self.channel, self.number, self.call = channel, number, call
        self.outcome: Replied | Died | Exception | None = None
        self.instead: Ticket | None = None


class Channel:
    """The connection to one actor."""

    def __init__(self, server: int, at: int) -> None:
        self.server, self.at = server, at
        self.state = NONE
        self.pause, self.again = PAUSE, 0.0
        #: Ray's reference of the question whether this worker is let in.
        self.asked: Ticket | None = None
        self.since = 0.0
        self.keys: tuple[bytes, bytes] = (b"", b"")
        self.arena: Arena | None = None
        self.window: Window | None = None
        #: The actor speaks through Ray alone.
        self.refused = False
        self.socket: Any = None
        self.monitor: Any = None
        #: The actor reads short frames from this worker's pipe, and answers by its own.
        self.piped = False
        self.number = 0
        self.receipts = Receipts(None)
        self.sent: dict[int, Sent] = {}
        #: Methods of the calls of a step that are on their way through Ray.
        self.by_ray: dict[Ticket, str] = {}
        #: Methods whose last answer was too long for this connection.
        self.long: set[str] = set()

    @property
    def pipe(self) -> PipeReader | None:
        """What the actor's short frames come by; None: they come by the socket."""
        return self.window.pipe if self.piped and self.window is not None else None

    def connect(
        self, zmq: ModuleType, context: Context, poller: Poller, admission: Admission
    ) -> None:
        """Begin to open the connection to an actor that lets this worker in.

        Args:
            zmq: the module.
            context: for the socket.
            poller: is told what to wait for.
            admission: what the actor has answered.
        """
        if not admission.window and self.arena is not None:
            self.arena.close()
            self.arena = None
        self.window = window = window_if_any(admission.arena)
        self.piped = admission.pipe and window is not None and window.pipe is not None
        self.socket = socket = context.socket(zmq.DEALER)
        configure(zmq, socket, admission.address)
        # A connection that broke is not the same one any more: what was sent may be lost.
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        socket.curve_serverkey = admission.key
        socket.curve_publickey, socket.curve_secretkey = self.keys
        self.monitor = socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CLOSED
        )
        poller.register(socket, zmq.POLLIN)
        poller.register(self.monitor, zmq.POLLIN)
        if self.pipe is not None:
            poller.register(self.pipe.file, zmq.POLLIN)
        self.state, self.since = OPENING, time.monotonic()
        self.number = 0
        self.receipts = Receipts(self.window)
        socket.connect(admission.address)

    def close(self, poller: Poller) -> None:
        """There is no connection any more, and nothing that is shared."""
        if self.socket is not None:
            poller.unregister(self.socket)
            poller.unregister(self.monitor)
            self.socket.disable_monitor()
            self.monitor.close(linger=0)
            self.socket.close(linger=0)
            self.socket = self.monitor = None
            if self.pipe is not None:
                poller.unregister(self.pipe.file)
            self.piped = False
        for part in (self.arena, self.window):
            if part is not None:
                part.close()
        self.arena = self.window = None
        self.state = NONE

    def send(self, call: Call, at_once: int) -> Sent | None:
        """Send a call; None: it does not fit.

        Args:
            call: which.
            at_once: the flag of ZeroMQ for not to wait.

        Raises:
            zmq.ZMQError: the connection cannot take it.
        """
        number = self.number + 1
        try:
            ready = frames.draft(frames.CALL, number, *call_text(call))
        except Unfit:
            return None
        at = None
        least = PIPED_FROM if self.piped else SHARED_FROM
        if ready.size > least and self.arena is not None:
            at = self.arena.write(number, ready.arrays, ready.offsets, ready.size)
        if at is None and not ready.fits_inline() and not ready.fits_parts():
            return None
        frame = frames.encoded(ready, sequence=number, taken=self.receipts.taken, shared_at=at)
        if (at is None and not ready.fits_inline()) or not self._send_by_pipe(frame):
            parts = frames.parts_of(ready) if at is None else []
            self.socket.send_multipart((frame, *parts), at_once)
        self.number = number
        sent = self.sent[number] = Sent(self, number, call)
        return sent

    def _send_by_pipe(self, frame: bytes) -> bool:
        """Send a short frame; False: it goes by the socket."""
        # The first one does: the actor knows by its answer which connection this is.
        if not self.piped or not self.receipts.last or self.arena is None:
            return False
        return self.arena.pipe is not None and self.arena.pipe.send(frame)
