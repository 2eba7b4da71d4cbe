"""Where a server listens for the calls of workers: a socket that only known keys pass (ZeroMQ).

Glossary
    guest       a worker that was let in: its key came through Ray, and with it what it shares
    stranger    whoever connects without a key that is known; the handshake (CURVE, ZeroMQ's RFC 26)
                does not end, and nothing of it is read

All that is received is handled on the loop that Ray runs the actor's calls on, in the order in
which it comes: for the server there is no difference between the two ways. ZeroMQ's own thread
encrypts, writes and reads; another one asks whether a key is known.

A guest is dismissed when it sends what is not a frame, when it leaves, and when its worker is let
in anew: its key is forgotten, it is told so, and what it has sent or sends later is not read. It
may come again with another key, through Ray.
"""

from __future__ import annotations

import asyncio
import hmac
import importlib
import logging
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from paramesh.ps.client.peer import Reply
from paramesh.ps.deployment import frames
from paramesh.ps.deployment.frame_pipe import PipeReader
from paramesh.ps.deployment.frames import BadFrame, Draft, Unfit
from paramesh.ps.deployment.messages import answer_text, error_text, taken_call
from paramesh.ps.deployment.shared_arena import (
    PIPED_FROM,
    SHARED_FROM,
    Arena,
    Receipts,
    Whereabouts,
    Window,
    arena_if_any,
    window_if_any,
)
from paramesh.ps.deployment.zmq_module import Admission, configure, zmq_module
from paramesh.ps.processes.descriptors import patiently

#: Makes the coroutine of a call.
Serve = Callable[[str, tuple[Any, ...]], Coroutine[Any, Any, Any]]

#: The most frames that are read in one turn of the loop: others, and Ray, have theirs.
_TURN = 64
#: Bytes of a key as text (ZeroMQ's RFC 32).
_KEY = 40

_log = logging.getLogger(__name__)


class _Guest:
    """A worker that was let in."""

    def __init__(self, worker: int, key: bytes, window: Window | None) -> None:
        self.worker, self.key, self.window = worker, key, window
        self.arena: Arena | None = None if window is None else arena_if_any()
        #: What its connection is called here; it has one.
        self.identity = b""
        self.sequence = 0
        self.receipts = Receipts(window)
        #: It sends by its pipe, so it reads the one from here.
        self.piped = False

    @property
    def pipe(self) -> PipeReader | None:
        """What its short frames come by."""
        return None if self.window is None else self.window.pipe

    def close(self) -> None:
        if self.window is not None:
            self.window.close()
        if self.arena is not None:
            self.arena.close()
        self.window = self.arena = None


async def _rest_of(work: Coroutine[Any, Any, None], waits_for: object) -> None:
    """A coroutine from where it waits for the first time."""
    await _resumed(work, waits_for)


@types.coroutine
def _resumed(work: Coroutine[Any, Any, None], waits_for: object) -> Generator[object, object, None]:
    while True:
        came: object = None
        thrown: BaseException | None = None
        try:
            came = yield waits_for
        except BaseException as error:
            thrown = error
        try:
            waits_for = work.send(came) if thrown is None else work.throw(thrown)
        except StopIteration:
            return


class Door:
    """A server's socket.

    Args:
        host: address of this node; the port is any that is free.
        serve: makes the coroutine of a call.

    Must be made, and used, on a running loop.

    Raises:
        OSError: there is no port, or no file, left.
    """

    def __init__(self, host: str, serve: Serve) -> None:
        self._zmq = zmq = zmq_module()
        # Numbers: operators of ZeroMQ's own enumerations take longer than all else here.
        self._events, self._there = int(zmq.EVENTS), int(zmq.POLLIN)
        self._at_once = int(zmq.DONTWAIT)
        self._more_at_once = int(zmq.DONTWAIT) | int(zmq.SNDMORE)
        self._serve = serve
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._guests: dict[bytes, _Guest] = {}
        #: By the name of a connection: whose it is; None: nobody's, any more.
        self._connections: dict[bytes, _Guest] = {}
        self._context = zmq.Context()
        self._authenticator = importlib.import_module("zmq.auth.thread").ThreadAuthenticator(
            self._context
        )
        patiently(self._authenticator.start)
        self._authenticator.configure_curve_callback("*", self)
        self.key, secret = zmq.curve_keypair()
        self._socket = patiently(lambda: self._context.socket(zmq.ROUTER))
        self._socket.curve_server = True
        self._socket.curve_publickey, self._socket.curve_secretkey = self.key, secret
        where = f"tcp://[{host}]:*" if ":" in host else f"tcp://{host}:*"
        configure(zmq, self._socket, where)
        patiently(lambda: self._socket.bind(where))
        self.address: str = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._loop.add_reader(self._socket.getsockopt(zmq.FD), self._read)
        self._reading = False

    def callback(self, domain: str, key: bytes) -> bool:
        """Whether a key is known; asked by another thread."""
        return any(hmac.compare_digest(key, known) for known in list(self._guests))

    def admit(self, worker: int, key: bytes, arena: Whereabouts | None) -> Admission:
        """Let a worker in; with another key it was let in by before, it is not any more.

        Args:
            worker: its rank.
            key: its public key, as text.
            arena: what it writes payloads to; None: nothing.

        Raises:
            ValueError: what was given is no key.
        """
        if not isinstance(key, bytes) or len(key) != _KEY:
            raise ValueError(f"a key has {_KEY} characters, got {key!r}.")
        self.sign_off(worker, "its worker was let in again.")
        guest = self._guests[key] = _Guest(worker, key, window_if_any(arena))
        mine = None if guest.arena is None else guest.arena.whereabouts
        seen, pipe = guest.window is not None, guest.pipe
        if pipe is not None:
            self._loop.add_reader(pipe.file, self._read_pipe, guest, pipe)
        return Admission(self.address, self.key, frames.VERSION, mine, seen, pipe is not None)

    def _dismiss(self, guest: _Guest, why: str) -> None:
        self._guests.pop(guest.key, None)
        self._connections.pop(guest.identity, None)
        if guest.pipe is not None:
            self._loop.remove_reader(guest.pipe.file)
        guest.close()
        if guest.identity:
            self._tell_end(guest.identity, why)

    def _tell_end(self, identity: bytes, why: str) -> None:
        """Tell a connection that it is nobody's: whoever waits for an answer on it asks by Ray."""
        frame = frames.encoded(frames.draft(frames.END, 0, why))
        self._socket.send_multipart((identity, frame), self._zmq.DONTWAIT)

    # Frames.

    def _read(self) -> None:
        self._reading = True
        try:
            self._read_some()
        finally:
            self._reading = False

    def _read_some(self) -> None:
        for _ in range(_TURN):
            if not self._socket.getsockopt(self._events) & self._there:
                return
            identity = self._socket.recv(self._at_once)
            frame = self._socket.recv(copy=False)
            parts: list[Any] = []
            more = frame.more
            while more:
                part = self._socket.recv(copy=False)
                more = part.more
                if len(parts) <= frames.MOST_PARTS:  # one more than may be
                    parts.append(part.buffer)
            guest = self._connections.get(identity) or self._met(identity, frame)
            if guest is None:
                self._tell_end(identity, "its key is not known any more.")
            else:
                self._take(guest, frame.buffer, parts)
        self._loop.call_soon(self._read)

    def _read_pipe(self, guest: _Guest, pipe: PipeReader) -> None:
        frame = pipe.read()  # one: the loop says so at once if there are more
        if frame is not None:
            guest.piped = True
            self._take(guest, memoryview(frame), [])
        elif pipe.ended:  # its process has died, or has opened another connection
            self._loop.remove_reader(pipe.file)

    def _met(self, identity: bytes, frame: Any) -> _Guest | None:
        """Whose connection it is, by the key that it was opened with."""
        guest = self._guests.get(frame.get("User-Id").encode())
        if guest is not None:
            self._connections.pop(guest.identity, None)
            guest.identity = identity
            self._connections[identity] = guest
        return guest

    def _take(self, guest: _Guest, frame: memoryview, parts: list[memoryview]) -> None:
        try:
            asked = frames.decoded(frame, guest.receipts.reading, parts)
            if asked.kind != frames.CALL or guest.receipts.known(asked.sequence):
                raise BadFrame(f"the frame {asked.sequence} is no call, or came before.")
            method, arguments = taken_call(asked.text, asked.arrays)
            guest.receipts.got(asked.sequence)
        except BadFrame as error:
            _log.warning("worker %s is not listened to any more: %s", guest.worker, error)
            self._dismiss(guest, str(error))
            return
        if guest.arena is not None:
            guest.arena.taken(asked.taken)
        self._begin(self._answer(guest, asked.number, method, arguments))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as far as it comes; the loop has the rest, of one that waits.

        Most calls never wait, and a task for each would take as long as many of them.
        """
        try:
            waits_for = work.send(None)
        except StopIteration:
            return
        task = self._loop.create_task(_rest_of(work, waits_for))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self, guest: _Guest, number: int, method: str, arguments: tuple[Any, ...]
    ) -> None:
        try:
            reply: Reply = await self._serve(method, arguments)
            ready = frames.draft(frames.ANSWER, number, *answer_text(reply))
        except Unfit:
            ready = frames.draft(frames.LONG, number, None)
        except Exception as error:
            ready = frames.draft(frames.ERROR, number, *error_text(error))
        self._send(guest, ready)

    def _send(self, guest: _Guest, ready: Draft) -> None:
        if self._guests.get(guest.key) is not guest or not guest.identity:
            return  # it has left: nobody waits for the answer
        guest.sequence += 1
        at = None
        least = PIPED_FROM if guest.piped else SHARED_FROM
        if ready.size > least and guest.arena is not None:
            at = guest.arena.write(guest.sequence, ready.arrays, ready.offsets, ready.size)
        if at is None and not ready.fits_inline() and not ready.fits_parts():
            ready = frames.draft(frames.LONG, ready.number, None)
        frame = frames.encoded(
            ready, sequence=guest.sequence, taken=guest.receipts.taken, shared_at=at
        )
        pipe = guest.arena.pipe if guest.piped and guest.arena is not None else None
        if pipe is not None and (at is not None or ready.fits_inline()) and pipe.send(frame):
            return
        parts = frames.parts_of(ready) if at is None else []
        # Part by part: `send_multipart` looks at each of them, and joins enumerations.
        *first, last = (guest.identity, frame, *parts)
        for part in first:
            self._socket.send(part, self._more_at_once)
        self._socket.send(last, self._at_once)
        # What came meanwhile is not announced once more.
        if not self._reading and self._socket.getsockopt(self._events) & self._there:
            self._loop.call_soon(self._read)

    def sign_off(self, worker: int, why: str = "its worker has left.") -> None:
        """A worker has left: it is let in no more, and shares nothing any more."""
        for guest in [g for g in self._guests.values() if g.worker == worker]:
            self._dismiss(guest, why)

    @property
    def heard(self) -> list[int]:
        """The workers that are connected."""
        return sorted(guest.worker for guest in self._connections.values())

    def close(self) -> None:
        """Listen no more."""
        self._loop.remove_reader(self._socket.getsockopt(self._zmq.FD))
        for task in self._tasks:
            task.cancel()
        for guest in list(self._guests.values()):
            self._dismiss(guest, "its server ends.")
        self._authenticator.stop()
        self._context.destroy(linger=0)
