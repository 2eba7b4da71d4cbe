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
from paramesh.ps.deployment.frames import BadFrame
from paramesh.ps.deployment.messages import CARRIED, taken_answer, taken_error
from paramesh.ps.deployment.shared_arena import (
    MOST,
    arena_if_any,
)
from paramesh.ps.deployment.transport import RayTransport, Ticket, event_of
from paramesh.ps.deployment.zmq_channel import ASKING, NONE, OPEN, OPENING, PAUSE, Channel, Sent
from paramesh.ps.deployment.zmq_module import Admission

#: Seconds until an actor that did not let this worker in is asked again, at most.
LONGEST_PAUSE = 30.0
#: Seconds that a connection may take to open.
_PATIENCE = 10.0
#: Seconds between two looks at Ray while answers of both kinds are awaited.
_LOOK = 0.005


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
            (server, at): Channel(server, at)
            for server, mine in enumerate(through_ray.actors)
            for at in range(len(mine))
        }
        #: Those that are being opened: few, and at the beginning.
        self._opening: set[Channel] = set()

    # What a transport does.

    def submit(self, server: int, call: Call, at: int) -> Ticket:
        """As in `Transport`."""
        channel = self._channels[server, at]
        method = call[0]
        if self._opening:
            self._go_on()
        if channel.state == NONE and method in (*CARRIED, "hello"):
            self._ask(channel)
        if method not in CARRIED:
            return self._by_ray.submit(server, call, at)
        if channel.state == OPEN and not self._busy(channel) and method not in channel.long:
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
            ready = [one for one in tickets if isinstance(one, Sent) and one.outcome is not None]
            mine = sum(isinstance(one, Sent) and one.instead is None for one in tickets)
            refs = {
                (one.instead if isinstance(one, Sent) else one): one
                for one in tickets
                if not isinstance(one, Sent) or one.instead is not None
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
        if not isinstance(ticket, Sent):
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
        if not isinstance(ticket, Sent):
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
                self._hear(min(left, _PATIENCE))
        if isinstance(ticket.outcome, Replied):
            return ticket.outcome.answer
        raise LookupError

    def abandon(self, ticket: Ticket) -> None:
        """As in `Transport`."""
        if not isinstance(ticket, Sent):
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
            if channel.state == OPEN:
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
            if channel.state == NONE:
                self._ask(channel)
        while self._opening and time.monotonic() < until:
            self._go_on()
            self._poller.poll(_LOOK * 1e3)
        return {
            channel.server: channel.state == OPEN
            for channel in first
            if channel.state == OPEN or channel.refused
        }

    def _ask(self, channel: Channel) -> None:
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
        channel.state, channel.since = ASKING, now
        self._opening.add(channel)

    def _go_on(self) -> None:
        """See how far those are that are being opened."""
        asked = {channel.asked: channel for channel in self._opening if channel.state == ASKING}
        for ref in self._by_ray.wait(list(asked), len(asked), 0.0):
            channel = asked[ref]
            channel.asked = None
            event = self._by_ray.event(0, ref)
            if isinstance(event, Replied) and isinstance(event.answer, Admission):
                channel.connect(self._zmq, self._context, self._poller, event.answer)
                continue
            channel.refused = isinstance(event, Replied)
            if channel.refused:  # it says the same until it is another process
                channel.again = time.monotonic() + LONGEST_PAUSE
            self._shut(channel)
        for channel in [one for one in self._opening if one.state == OPENING]:
            self._look(channel)
            if channel.state == OPENING and time.monotonic() > channel.since + _PATIENCE:
                self._shut(channel)

    def _shut(self, channel: Channel) -> None:
        """There is no channel any more; what was sent on it is lost."""
        if channel.asked is not None:
            self._by_ray.abandon(channel.asked)
            channel.asked = None
        channel.close(self._poller)
        self._opening.discard(channel)
        lost, channel.sent = channel.sent, {}
        for sent in lost.values():
            sent.outcome = Died(0)

    def _busy(self, channel: Channel) -> bool:
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

    def _send(self, channel: Channel, call: Call) -> Sent | None:
        """Send a call; None: it does not fit, or the channel is shut."""
        if channel.state != OPEN:
            return None
        try:
            return channel.send(call, self._at_once)
        except self._zmq.ZMQError:
            self._shut(channel)
            return None

    def _look_at_all(self) -> None:
        if self._opening:
            self._go_on()
        for channel in self._channels.values():
            if channel.state == OPEN:
                self._look(channel)

    def _hear(self, seconds: float) -> None:
        """Wait until something has come, and read it."""
        ready = {
            socket if isinstance(socket, int) else id(socket)
            for socket, _ in self._poller.poll(seconds * 1e3)
        }
        for channel in self._channels.values():
            if channel.state == NONE:
                continue
            monitor = id(channel.monitor) in ready
            if monitor or id(channel.socket) in ready:
                self._look(channel, monitor)
            elif channel.pipe is not None and channel.pipe.file in ready:
                self._look_at_pipe(channel, channel.pipe)

    def _look_at_pipe(self, channel: Channel, pipe: PipeReader) -> None:
        """Read the next frame in a pipe; whoever waits for more is told that it is there."""
        frame = pipe.read()
        if frame is not None:
            try:
                self._take(channel, [frame])
            except BadFrame:
                self._end(channel)
        elif pipe.ended:
            self._look(channel)

    def _look(self, channel: Channel, monitor: bool = True) -> None:
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
                channel.state, channel.pause = OPEN, PAUSE
                self._opening.discard(channel)
                continue
            # What it has answered before its end is there by now.
            for message in self._messages(channel):
                with contextlib.suppress(BadFrame):
                    self._take(channel, message)
            self._shut(channel)
            return

    def _messages(self, channel: Channel) -> Iterator[list[bytes]]:
        while channel.pipe is not None and (frame := channel.pipe.read()) is not None:
            yield [frame]
        while channel.socket is not None and channel.socket.getsockopt(self._events) & self._there:
            yield channel.socket.recv_multipart(self._at_once)

    def _take(self, channel: Channel, message: list[bytes]) -> None:
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

    def _instead(self, channel: Channel, sent: Sent) -> None:
        try:
            sent.instead = self._by_ray.submit(channel.server, sent.call, channel.at)
        except self._by_ray.errors:
            sent.outcome = Died(0)

    def _end(self, channel: Channel) -> None:
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
