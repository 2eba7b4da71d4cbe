"""The calls of a step over ZeroMQ, and everything else through Ray.

Glossary
    channel     a connection to one actor: asked for through Ray, then opened, then used
    Ray's own   a call that goes through Ray: of a method that frames do not carry, of more bytes
                than they carry, or to an actor to which there is no open channel (yet, or any more)

Ray's way is always there, and every channel begins and ends with it. A worker asks an actor to be
let in by a call of Ray's, which asks for the cluster's token; the keys of both travel by it. When a
connection breaks, what was sent on it is reported as lost, as Ray does when a process dies, and the
repetition goes through Ray, which knows whether the process will be back. So all that this does not
know of, Ray still tells.

A call goes on a channel only when no earlier one to the same actor is on its way through Ray: both
together would lose the order, which costs a repetition.
"""

from __future__ import annotations

import contextlib
import importlib
import time
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from paramesh.array_types import Json
from paramesh.ps.client.exchange import Call, Died, Event, Replied
from paramesh.ps.client.peer import Reply
from paramesh.ps.deployment import frames
from paramesh.ps.deployment.frame_pipe import PipeReader
from paramesh.ps.deployment.frames import BadFrame, Unfit
from paramesh.ps.deployment.messages import CARRIED, call_text, taken_answer, taken_error
from paramesh.ps.deployment.shared_arena import (
    MOST,
    PIPED_FROM,
    SHARED_FROM,
    Arena,
    Receipts,
    Window,
    arena_if_any,
    window_if_any,
)
from paramesh.ps.deployment.transport import RayTransport, Ticket, event_of
from paramesh.ps.deployment.zmq_module import Admission, configure

#: Seconds until an actor that did not let this worker in is asked again, at first and at most.
PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: Seconds that a connection may take to open.
_OPENING = 10.0
#: Seconds between two looks at Ray while answers of both kinds are awaited.
_LOOK = 0.005

#: What a worker does while it has no channel: nothing, asks, opens one, has one.
_NONE, _ASKING, _OPENING_ONE, _OPEN = range(4)


class _Sent:
    """The ticket of a call on a channel.

    Attributes:
        channel: which.
        number: of the call there.
        call: which.
        outcome: what came of it; None: nothing yet.
        instead: Ray's reference, where the call was made through Ray in the end.
    """

    __slots__ = ("call", "channel", "instead", "number", "outcome")

    def __init__(self, channel: _Channel, number: int, call: Call) -> None:
        self.channel, self.number, self.call = channel, number, call
        self.outcome: Replied | Died | Exception | None = None
        self.instead: Ticket | None = None


class _Channel:
    """The connection to one actor."""

    def __init__(self, server: int, at: int) -> None:
        self.server, self.at = server, at
        self.state = _NONE
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
        self.sent: dict[int, _Sent] = {}
        #: Methods of the calls of a step that are on their way through Ray.
        self.by_ray: dict[Ticket, str] = {}
        #: Methods whose last answer was too long for this connection.
        self.long: set[str] = set()

    @property
    def pipe(self) -> PipeReader | None:
        """What the actor's short frames come by; None: they come by the socket."""
        return self.window.pipe if self.piped and self.window is not None else None

    def send_by_pipe(self, frame: bytes) -> bool:
        """Send a short frame; False: it goes by the socket."""
        # The first one does: the actor knows by its answer which connection this is.
        if not self.piped or not self.receipts.last or self.arena is None:
            return False
        return self.arena.pipe is not None and self.arena.pipe.send(frame)


class ZmqTransport:
    """Calls over ZeroMQ where they fit; the rest through Ray.

    Args:
        zmq: the module.
        through_ray: carries the rest.
        rank: of this worker.
    """

    def __init__(self, zmq: ModuleType, through_ray: RayTransport, rank: int) -> None:
        self._zmq = zmq
        self._by_ray = through_ray
        self._rank = rank
        # Numbers: operators of ZeroMQ's own enumerations take longer than all else here.
        self._events, self._there = int(zmq.EVENTS), int(zmq.POLLIN)
        self._at_once = int(zmq.DONTWAIT)
        self._context = zmq.Context()
        self._poller = zmq.Poller()
        self._channels = {
            (server, at): _Channel(server, at)
            for server, mine in enumerate(through_ray.actors)
            for at in range(len(mine))
        }
        #: Those that are being opened: few, and at the beginning.
        self._opening: set[_Channel] = set()

    # What a transport does.

    def submit(self, server: int, call: Call, at: int) -> Ticket:
        """As in `Transport`."""
        channel = self._channels[server, at]
        method = call[0]
        if self._opening:
            self._go_on()
        if channel.state == _NONE and method in (*CARRIED, "hello"):
            self._ask(channel)
        if method not in CARRIED:
            return self._by_ray.submit(server, call, at)
        if channel.state == _OPEN and not self._busy(channel) and method not in channel.long:
            if not channel.piped:  # with a pipe, whoever waits for the answer looks soon enough
                self._look(channel)
            sent = self._send(channel, call)
            if sent is not None:
                return sent
        ref = self._by_ray.submit(server, call, at)
        channel.by_ray[ref] = method
        return ref

    def wait(self, tickets: Sequence[Ticket], count: int, seconds: float) -> list[Ticket]:
        """As in `Transport`."""
        until = time.monotonic() + seconds
        while True:
            self._look_at_all()
            ready = [one for one in tickets if isinstance(one, _Sent) and one.outcome is not None]
            mine = sum(isinstance(one, _Sent) and one.instead is None for one in tickets)
            refs = {
                (one.instead if isinstance(one, _Sent) else one): one
                for one in tickets
                if not isinstance(one, _Sent) or one.instead is not None
            }
            left = until - time.monotonic()
            enough = len(ready) >= min(count, len(tickets))
            alone = not mine and not self._opening
            there = self._by_ray.wait(
                list(refs), count if alone else len(refs), left if alone and not enough else 0.0
            )
            ready += [refs[ref] for ref in there]
            if len(ready) >= min(count, len(tickets)) or left <= 0:
                return ready
            if not alone:
                self._poller.poll(
                    max(0.0, min(left, _LOOK if refs or self._opening else left)) * 1e3
                )

    def event(self, request: int, ticket: Ticket) -> Event:
        """As in `Transport`."""
        if not isinstance(ticket, _Sent):
            event = self._by_ray.event(request, ticket)
            self._forget_ref(ticket, event.answer if isinstance(event, Replied) else None)
            return event
        if ticket.instead is not None:
            return self._by_ray.event(request, ticket.instead)
        outcome = ticket.outcome
        if isinstance(outcome, Replied | Died):
            return outcome._replace(request=request)
        assert outcome is not None
        return event_of(request, outcome)

    def answer(self, ticket: Ticket, seconds: float) -> Any:
        """As in `Transport`."""
        if not isinstance(ticket, _Sent):
            answer = self._by_ray.answer(ticket, seconds)
            self._forget_ref(ticket, answer)
            return answer
        until = time.monotonic() + seconds
        while ticket.outcome is None and ticket.instead is None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if self._opening:
                self._go_on()
            if ticket.outcome is None and ticket.instead is None:
                self._hear(min(left, _OPENING))
        if isinstance(ticket.outcome, Replied):
            return ticket.outcome.answer
        raise LookupError

    def abandon(self, ticket: Ticket) -> None:
        """As in `Transport`."""
        if not isinstance(ticket, _Sent):
            self._forget_ref(ticket)
            self._by_ray.abandon(ticket)
        elif ticket.instead is not None:
            self._by_ray.abandon(ticket.instead)
        else:
            ticket.channel.sent.pop(ticket.number, None)

    def describe(self) -> dict[str, str]:
        """As in `Transport`."""
        found: dict[str, str] = {}
        for (server, at), channel in self._channels.items():
            how = "ray"
            if channel.state == _OPEN:
                how = "zmq" if channel.window is None else "zmq, shared memory"
            found[f"server-{server}" + ("-standby" if at else "")] = how
        return found

    def close(self) -> None:
        """As in `Transport`."""
        for channel in self._channels.values():
            self._shut(channel)
        self._context.destroy(linger=0)

    # Channels.

    def open_all(self, seconds: float) -> dict[int, bool]:
        """Wait until there is a channel to each server's first actor.

        Args:
            seconds: the most that it waits.

        Returns:
            By server: whether there is one. Those that speak through Ray alone are False at once,
            those that are not as far yet are left out.
        """
        until = time.monotonic() + seconds
        first = [channel for (_, at), channel in self._channels.items() if not at]
        for channel in first:
            if channel.state == _NONE:
                self._ask(channel)
        while self._opening and time.monotonic() < until:
            self._go_on()
            self._poller.poll(_LOOK * 1e3)
        return {
            channel.server: channel.state == _OPEN
            for channel in first
            if channel.state == _OPEN or channel.refused
        }

    def _ask(self, channel: _Channel) -> None:
        """Ask an actor through Ray to let this worker in."""
        now = time.monotonic()
        if now < channel.again:
            return
        channel.again, channel.pause = now + channel.pause, min(2 * channel.pause, LONGEST_PAUSE)
        channel.keys = self._zmq.curve_keypair()
        channel.arena = arena_if_any()
        shared = None if channel.arena is None else channel.arena.whereabouts
        asked = ("door", (self._rank, channel.keys[0], frames.VERSION, shared))
        channel.asked = self._by_ray.submit(channel.server, asked, channel.at)
        channel.state, channel.since = _ASKING, now
        self._opening.add(channel)

    def _go_on(self) -> None:
        """See how far those are that are being opened."""
        asked = {channel.asked: channel for channel in self._opening if channel.state == _ASKING}
        for ref in self._by_ray.wait(list(asked), len(asked), 0.0):
            channel = asked[ref]
            channel.asked = None
            event = self._by_ray.event(0, ref)
            if isinstance(event, Replied) and isinstance(event.answer, Admission):
                self._open(channel, event.answer)
                continue
            channel.refused = isinstance(event, Replied)
            if channel.refused:  # it says the same until it is another process
                channel.again = time.monotonic() + LONGEST_PAUSE
            self._shut(channel)
        for channel in [one for one in self._opening if one.state == _OPENING_ONE]:
            self._look(channel)
            if channel.state == _OPENING_ONE and time.monotonic() > channel.since + _OPENING:
                self._shut(channel)

    def _open(self, channel: _Channel, admission: Admission) -> None:
        zmq = self._zmq
        if not admission.window and channel.arena is not None:
            channel.arena.close()
            channel.arena = None
        channel.window = window = window_if_any(admission.arena)
        channel.piped = admission.pipe and window is not None and window.pipe is not None
        channel.socket = socket = self._context.socket(zmq.DEALER)
        configure(zmq, socket, admission.address)
        # A connection that broke is not the same one any more: what was sent may be lost.
        socket.setsockopt(zmq.RECONNECT_IVL, -1)
        socket.curve_serverkey = admission.key
        socket.curve_publickey, socket.curve_secretkey = channel.keys
        channel.monitor = socket.get_monitor_socket(
            zmq.EVENT_HANDSHAKE_SUCCEEDED
            | zmq.EVENT_HANDSHAKE_FAILED_AUTH
            | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
            | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
            | zmq.EVENT_DISCONNECTED
            | zmq.EVENT_CLOSED
        )
        self._poller.register(socket, zmq.POLLIN)
        self._poller.register(channel.monitor, zmq.POLLIN)
        if channel.pipe is not None:
            self._poller.register(channel.pipe.file, zmq.POLLIN)
        channel.state, channel.since = _OPENING_ONE, time.monotonic()
        channel.number = 0
        channel.receipts = Receipts(channel.window)
        socket.connect(admission.address)

    def _shut(self, channel: _Channel) -> None:
        """There is no channel any more; what was sent on it is lost."""
        if channel.asked is not None:
            self._by_ray.abandon(channel.asked)
            channel.asked = None
        if channel.socket is not None:
            self._poller.unregister(channel.socket)
            self._poller.unregister(channel.monitor)
            channel.socket.disable_monitor()
            channel.monitor.close(linger=0)
            channel.socket.close(linger=0)
            channel.socket = channel.monitor = None
            if channel.pipe is not None:
                self._poller.unregister(channel.pipe.file)
            channel.piped = False
        for part in (channel.arena, channel.window):
            if part is not None:
                part.close()
        channel.arena = channel.window = None
        channel.state = _NONE
        self._opening.discard(channel)
        lost, channel.sent = channel.sent, {}
        for sent in lost.values():
            sent.outcome = Died(0)

    def _busy(self, channel: _Channel) -> bool:
        """Whether calls of a step are on their way through Ray."""
        refs = list(channel.by_ray)
        return bool(refs) and len(self._by_ray.wait(refs, len(refs), 0.0)) < len(refs)

    def _forget_ref(self, ref: Ticket, answer: Json = None) -> None:
        """A call that went through Ray is over; its answer says which way the next one is to go."""
        for channel in self._channels.values():
            method = channel.by_ray.pop(ref, None)
            if method is None or not isinstance(answer, Reply):
                continue
            shared = MOST // 2 if channel.window is not None else 0
            if _size(answer) > max(shared, frames.MOST_PARTED):
                channel.long.add(method)
            else:
                channel.long.discard(method)

    # Frames.

    def _send(self, channel: _Channel, call: Call) -> _Sent | None:
        """Send a call; None: it does not fit, or the channel is shut."""
        if channel.state != _OPEN:
            return None
        number = channel.number + 1
        try:
            ready = frames.draft(frames.CALL, number, *call_text(call))
        except Unfit:
            return None
        at = None
        least = PIPED_FROM if channel.piped else SHARED_FROM
        if ready.size > least and channel.arena is not None:
            at = channel.arena.write(number, ready.arrays, ready.offsets, ready.size)
        if at is None and not ready.fits_inline() and not ready.fits_parts():
            return None
        frame = frames.encoded(ready, sequence=number, taken=channel.receipts.taken, shared_at=at)
        if (at is None and not ready.fits_inline()) or not channel.send_by_pipe(frame):
            try:
                parts = frames.parts_of(ready) if at is None else []
                channel.socket.send_multipart((frame, *parts), self._at_once)
            except self._zmq.ZMQError:
                self._shut(channel)
                return None
        channel.number = number
        sent = channel.sent[number] = _Sent(channel, number, call)
        return sent

    def _look_at_all(self) -> None:
        if self._opening:
            self._go_on()
        for channel in self._channels.values():
            if channel.state == _OPEN:
                self._look(channel)

    def _hear(self, seconds: float) -> None:
        """Wait until something has come, and read it."""
        ready = {
            socket if isinstance(socket, int) else id(socket)
            for socket, _ in self._poller.poll(seconds * 1e3)
        }
        for channel in self._channels.values():
            if channel.state == _NONE:
                continue
            monitor = id(channel.monitor) in ready
            if monitor or id(channel.socket) in ready:
                self._look(channel, monitor)
            elif channel.pipe is not None and channel.pipe.file in ready:
                self._look_at_pipe(channel, channel.pipe)

    def _look_at_pipe(self, channel: _Channel, pipe: PipeReader) -> None:
        """Read the next frame in a pipe; whoever waits for more is told that it is there."""
        frame = pipe.read()
        if frame is not None:
            try:
                self._take(channel, [frame])
            except BadFrame:
                self._end(channel)
        elif pipe.ended:
            self._look(channel)

    def _look(self, channel: _Channel, monitor: bool = True) -> None:
        """Read what has come, and see, by its `monitor`, whether the connection is still there."""
        for message in self._messages(channel):
            try:
                self._take(channel, message)
            except BadFrame:
                self._end(channel)
                return
        if channel.pipe is not None and channel.pipe.ended:
            # Whether its process has died, or has dismissed this worker, the connection tells.
            self._poller.unregister(channel.pipe.file)
            channel.piped = False
        if not monitor or channel.monitor is None:
            return
        zmq = self._zmq
        while channel.monitor.getsockopt(self._events) & self._there:
            event = _read_monitor()(channel.monitor)["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                channel.state, channel.pause = _OPEN, PAUSE
                self._opening.discard(channel)
                continue
            # What it has answered before its end is there by now.
            for message in self._messages(channel):
                with contextlib.suppress(BadFrame):
                    self._take(channel, message)
            self._shut(channel)
            return

    def _messages(self, channel: _Channel) -> Iterator[list[bytes]]:
        while channel.pipe is not None and (frame := channel.pipe.read()) is not None:
            yield [frame]
        while channel.socket is not None and channel.socket.getsockopt(self._events) & self._there:
            yield channel.socket.recv_multipart(self._at_once)

    def _take(self, channel: _Channel, message: list[bytes]) -> None:
        told = frames.decoded(message[0], channel.receipts.reading, message[1:])
        if told.kind == frames.END:
            raise BadFrame(str(told.text))
        channel.receipts.got(told.sequence)
        if channel.arena is not None:
            channel.arena.taken(told.taken)
        sent = channel.sent.pop(told.number, None)
        if sent is None:
            return  # nobody waits for it
        if told.kind == frames.LONG:
            channel.long.add(sent.call[0])
            self._instead(channel, sent)
        elif told.kind == frames.ERROR:
            sent.outcome = taken_error(told.text, told.arrays)
        else:
            sent.outcome = Replied(0, taken_answer(told.text, told.arrays))

    def _instead(self, channel: _Channel, sent: _Sent) -> None:
        try:
            sent.instead = self._by_ray.submit(channel.server, sent.call, channel.at)
        except self._by_ray.errors:
            sent.outcome = Died(0)

    def _end(self, channel: _Channel) -> None:
        """One end has sent what the other does not understand: go on through Ray."""
        sent, channel.sent = channel.sent, {}
        channel.again = time.monotonic() + LONGEST_PAUSE
        self._shut(channel)
        for one in sent.values():
            self._instead(channel, one)


def _size(reply: Reply) -> int:
    """Bytes of the arrays of an answer."""
    rows = () if reply.rows is None else reply.rows.rows
    news = (array for one in reply.news.values() for array in one if array is not None)
    return sum(array.nbytes for array in (*reply.values.values(), *rows, *news))


def _read_monitor() -> Any:
    return importlib.import_module("zmq.utils.monitor").recv_monitor_message
