"""Memory that a worker and a server on one host both see, for payloads that need not be encrypted.

Glossary
    arena       memory that one process writes payloads to, and one other reads
    window      the reader's side of it: it never writes
    span        a part of an arena that holds the payload of one frame that may not be read yet
    lent        of a large payload: it was not copied, and its span is in use as long as an array of
                it exists

An arena is an anonymous file (memfd_create(2)): it has no name, so nothing of it is left when the
last of the two processes dies, however they do. The reader opens it through /proc, which the kernel
allows to the same user alone, and only if the process numbers of both mean the same. The arena
begins with a random token that the reader was told by another way: whatever else it opened is not
taken for it. The file is sealed against being made shorter, since a reader of a part that is gone
would be killed by the kernel.
"""

from __future__ import annotations

import contextlib
import hmac
import mmap
import os
import secrets
import threading
import weakref
from typing import Any, NamedTuple

import numpy as np

from paramesh.ps.deployment.frame_pipe import (
    FramePipe,
    PipeAddress,
    PipeReader,
    frame_pipe_if_any,
    pipe_reader_if_any,
)
from paramesh.ps.deployment.frames import BadFrame, Reading
from paramesh.ps.processes.descriptors import patiently
from paramesh.ps.processes.lifeline import host_identity

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None

Array = np.ndarray[Any, Any]

#: Bytes of the token, and where the first span may begin.
_TOKEN, _FIRST = 32, 64
_ALIGN = 64
#: Bytes that an arena begins with, and the most that it has.
LEAST, MOST = 1 << 20, 1 << 28
#: The most bytes of all arenas that this process writes to.
MOST_OF_ALL = 1 << 29
#: Payloads of so many bytes are lent. New memory for a copy takes longer than the copy itself.
LENT_FROM = 1 << 22
#: Payloads of more bytes go through shared memory, where there is any (see `benchmarks/server.py`).
SHARED_FROM = 1 << 13
#: Likewise beside a frame that goes by a pipe: the rest of a packet is for its text and its table.
PIPED_FROM = 1 << 11
#: Frames that may overtake one: more than a pipe has room for.
MOST_EARLY = 1 << 10
_SEALS = ("F_ADD_SEALS", "F_GET_SEALS", "F_SEAL_SHRINK")

_held = 0
_counting = threading.Lock()


class Whereabouts(NamedTuple):
    """What the reader has to know of an arena; sent through Ray alone.

    Attributes:
        host: see `lifeline.host_identity`.
        pid: of the writer.
        file: number of the open file there.
        token: what the arena begins with.
        pipe: for short frames of the same process; None: there is none.
    """

    host: str
    pid: int
    file: int
    token: bytes
    pipe: PipeAddress | None = None


def _sealed() -> bool:
    return (
        fcntl is not None and hasattr(os, "memfd_create") and all(map(fcntl.__dict__.get, _SEALS))
    )


class Arena:
    """Memory to write payloads to, and a pipe for the frames that they belong to.

    Attributes:
        whereabouts: of it.
        pipe: None: there is none, and frames go another way.

    Raises:
        OSError: this system has no such memory, or no more of it.
    """

    def __init__(self) -> None:
        if not _sealed() or not host_identity():
            raise OSError("this system has no memory that two processes can share without a name")
        assert fcntl is not None
        self._size = 0
        self._spans: dict[int, tuple[int, int]] = {}
        self._map: mmap.mmap | None = None
        self.pipe: FramePipe | None = None
        self._file = patiently(
            lambda: os.memfd_create("paramesh", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        )
        try:
            fcntl.fcntl(self._file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            self._grow(LEAST)
            token = secrets.token_bytes(_TOKEN)
            assert self._map is not None
            self._map[:_TOKEN] = token
            self.pipe = frame_pipe_if_any()
        except BaseException:
            self.close()
            raise
        pipe = None if self.pipe is None else self.pipe.address
        self.whereabouts = Whereabouts(host_identity(), os.getpid(), self._file, token, pipe)

    def _grow(self, size: int) -> None:
        global _held
        with _counting:
            if _held + size - self._size > MOST_OF_ALL:
                raise OSError("this process shares as much memory as it may")
            os.ftruncate(self._file, size)
            larger = mmap.mmap(self._file, size)
            _held += size - self._size
        if self._map is not None:
            self._map.close()
        self._map, self._size = larger, size

    def write(
        self, sequence: int, arrays: list[Array], offsets: list[int], size: int
    ) -> int | None:
        """Write the payload of a frame.

        Args:
            sequence: of the frame; later than of all before.
            arrays: contiguous.
            offsets: of each in the payload.
            size: bytes of the payload.

        Returns:
            Its offset; None: there is no room.
        """
        if size > MOST // 2 or self._map is None:
            return None
        at = self._place(size)
        while at is None:
            if self._size >= MOST:
                return None
            try:
                self._grow(2 * self._size)
            except OSError:
                return None
            at = self._place(size)
        target = np.frombuffer(self._map, np.uint8, size, at)
        for array, offset in zip(arrays, offsets, strict=True):
            part = target[offset : offset + array.nbytes]
            np.copyto(part, array.reshape(-1).view(np.uint8))
        self._spans[sequence] = (at, at + size)
        return at

    def _place(self, size: int) -> int | None:
        """Where so many bytes are free."""
        at = _FIRST
        for first, end in sorted(self._spans.values()):
            if first - at >= size:
                return at
            at = -(-end // _ALIGN) * _ALIGN
        return at if self._size - at >= size else None

    def taken(self, sequence: int) -> None:
        """The reader has all payloads up to that of a frame."""
        for known in [known for known in self._spans if known <= sequence]:
            del self._spans[known]

    def close(self) -> None:
        """Let go of the memory; the reader keeps what it has open."""
        global _held
        with _counting:
            _held -= self._size
        self._size = 0
        if self.pipe is not None:
            self.pipe.close()
        if self._map is not None:
            with contextlib.suppress(BufferError):
                self._map.close()
            self._map = None
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class Window:
    """Another process's arena, to read, and its pipe.

    Args:
        whereabouts: of the arena.

    Attributes:
        pipe: None: it has none, or it cannot be opened from here.

    Raises:
        OSError: it is on another host, gone, of another user, or none.
    """

    def __init__(self, whereabouts: Whereabouts) -> None:
        if not _sealed() or not host_identity() or whereabouts.host != host_identity():
            raise OSError("the memory is on another host")
        assert fcntl is not None
        path = f"/proc/{int(whereabouts.pid)}/fd/{int(whereabouts.file)}"
        self._map: mmap.mmap | None = None
        self.pipe: PipeReader | None = None
        self._file = patiently(lambda: os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        try:
            if not fcntl.fcntl(self._file, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK:
                raise OSError("the memory may become shorter")
            self._look()
            if self._map is None or not hmac.compare_digest(self._map[:_TOKEN], whereabouts.token):
                raise OSError("the memory is not the one that was announced")
            self.pipe = pipe_reader_if_any(whereabouts.pid, whereabouts.pipe)
        except BaseException:
            self.close()
            raise

    def _look(self) -> None:
        size = os.fstat(self._file).st_size
        if not _FIRST <= size <= MOST:
            raise OSError(f"the memory has {size} bytes")
        self._let_go()
        self._map = mmap.mmap(self._file, size, access=mmap.ACCESS_READ)

    def _let_go(self) -> None:
        if self._map is not None:
            with contextlib.suppress(BufferError):  # what is lent has it open
                self._map.close()
            self._map = None

    def read(self, offset: int, size: int) -> Array:
        """A copy of a part.

        Raises:
            BadFrame: there is no such part.
        """
        found = np.array(self.view(offset, size))
        found.flags.writeable = False
        return found

    def view(self, offset: int, size: int) -> Array:
        """A part as it is, to be read as long as the writer leaves it.

        Raises:
            BadFrame: there is no such part.
        """
        try:
            if self._map is None or offset + size > len(self._map):
                if offset + size > MOST:
                    raise OSError("no arena is as long")
                self._look()
            if self._map is None or offset < _FIRST or offset + size > len(self._map):
                raise OSError("it has not been made")
        except (OSError, ValueError) as error:
            raise BadFrame(
                f"the payload is at {offset} of the shared memory, {size} bytes: {error}."
            ) from None
        return np.frombuffer(self._map, np.uint8, size, offset)

    def close(self) -> None:
        """Let go of it."""
        if self.pipe is not None:
            self.pipe.close()
        self._let_go()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class _Lent:
    """What the arrays of a lent payload keep alive."""

    def __init__(self, part: Array) -> None:
        self._part = part
        self.__array_interface__ = part.__array_interface__


class Receipts:
    """What has been read of the frames that the other end has sent.

    Args:
        window: on its arena; None: it shares no memory.

    Attributes:
        last: the sequence up to which all frames have come. Those on a socket may be overtaken by
            those in a pipe.
    """

    def __init__(self, window: Window | None) -> None:
        self._window = window
        self._lent: set[int] = set()
        self._new: _Lent | None = None
        self.last = 0
        #: Frames that have overtaken others.
        self._early: set[int] = set()

    @property
    def reading(self) -> Reading | None:
        """Reads payloads; None: there is no memory."""
        return None if self._window is None else self._read

    def _read(self, offset: int, size: int) -> Array:
        assert self._window is not None
        self._new = None
        if size < LENT_FROM:
            return self._window.read(offset, size)
        self._new = _Lent(self._window.view(offset, size))
        return np.asarray(self._new)

    def known(self, sequence: int) -> bool:
        """Whether a frame came before."""
        return sequence <= self.last or sequence in self._early

    def got(self, sequence: int) -> None:
        """A frame has come, and its payload was asked for if it has one.

        Raises:
            BadFrame: one before it is missing for so long that it cannot be on its way.
        """
        self._early.add(sequence)
        while self.last + 1 in self._early:
            self.last += 1
            self._early.remove(self.last)
        if len(self._early) > MOST_EARLY:
            raise BadFrame(f"the frame {self.last + 1} is missing, and {sequence} has come.")
        lent, self._new = self._new, None
        if lent is not None:
            self._lent.add(sequence)
            weakref.finalize(lent, self._lent.discard, sequence)

    @property
    def taken(self) -> int:
        """The last frame up to which the other end may write over all payloads."""
        lent = tuple(self._lent)  # others go meanwhile, in any thread
        return min(self.last, *(sequence - 1 for sequence in lent)) if lent else self.last


def arena_if_any() -> Arena | None:
    """An arena; None where this system, or this process, has no room for one."""
    try:
        return Arena()
    except OSError:
        return None


def window_if_any(whereabouts: Whereabouts | None) -> Window | None:
    """A window on an arena; None where it cannot be opened from here."""
    if whereabouts is None:
        return None
    try:
        return Window(whereabouts)
    except OSError:
        return None
