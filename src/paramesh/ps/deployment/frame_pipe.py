"""A pipe between two processes of one host, for short frames.

Glossary
    packet      what one write has put into a pipe, and one read takes out (pipe(7), O_DIRECT): a
                frame

A frame on a socket of ZeroMQ passes two threads, and each has to be woken before the reader is. A
write to a pipe wakes the reader itself.

The pipe has no name. Its reader opens it through /proc, as it does shared memory (see
`shared_arena`), which the kernel allows to the same user alone, and makes sure that it is the one
that was announced: by its number on its device, while the writer holds both of its ends. Nothing
waits for a pipe: a frame that is too long for a packet, or finds it full, goes another way.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
from typing import NamedTuple

from paramesh.ps.processes.descriptors import patiently

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None

#: The most bytes of a packet.
LONGEST: int = getattr(select, "PIPE_BUF", 0)
#: Bytes that a pipe is asked to have; each packet takes a page of it.
_ROOM = 1 << 18


class PipeAddress(NamedTuple):
    """What the reader has to know of a pipe; sent through Ray alone.

    Attributes:
        file: number of the open file of its reading end, in the process of the writer.
        device, number: of the pipe on this host.
    """

    file: int
    device: int
    number: int


class FramePipe:
    """The writer's side, and the pipe itself.

    Raises:
        OSError: this system has no pipes of packets, or no more of them.
    """

    def __init__(self) -> None:
        if not hasattr(os, "pipe2") or not hasattr(os, "O_DIRECT") or not LONGEST:
            raise OSError("this system has no pipes of packets")
        flags = os.O_CLOEXEC | os.O_NONBLOCK | os.O_DIRECT
        # The reading end stays open: a reader that has gone is no error of who writes.
        self._ends: tuple[int, ...] = patiently(lambda: os.pipe2(flags))
        if fcntl is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # the user has many: it has room for 16 then
                fcntl.fcntl(self._ends[1], fcntl.F_SETPIPE_SZ, _ROOM)
        made = os.fstat(self._ends[0])
        self.address = PipeAddress(self._ends[0], made.st_dev, made.st_ino)

    def send(self, frame: bytes) -> bool:
        """Send a frame; False: it does not fit in, or the pipe is full or closed."""
        if len(frame) > LONGEST or not self._ends:
            return False
        try:
            os.write(self._ends[1], frame)  # all of a packet, or nothing
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go of it."""
        ends, self._ends = self._ends, ()
        for end in ends:
            os.close(end)


class PipeReader:
    """The reader's side.

    Args:
        pid: of the writer.
        address: of the pipe.

    Attributes:
        file: the number of the open file, to wait for; -1: closed.
        ended: the writer has let go of it, and everything has been read.

    Raises:
        OSError: it is gone, of another user, or not the one that was announced.
    """

    def __init__(self, pid: int, address: PipeAddress) -> None:
        path = f"/proc/{int(pid)}/fd/{int(address.file)}"
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        self.ended = False
        self.file = patiently(lambda: os.open(path, flags))
        try:
            there = os.fstat(self.file)
            if not stat.S_ISFIFO(there.st_mode) or (there.st_dev, there.st_ino) != address[1:]:
                raise OSError("the pipe is not the one that was announced")
            if there.st_uid != os.geteuid() or stat.S_IMODE(there.st_mode) & 0o077:
                raise OSError("the pipe is another user's, or open to others")
        except BaseException:
            self.close()
            raise

    def read(self) -> bytes | None:
        """A frame, as it was sent; None: there is none."""
        try:
            frame = os.read(self.file, LONGEST)
        except BlockingIOError:
            return None
        self.ended = not frame
        return frame or None

    def close(self) -> None:
        """Let go of it."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1


def frame_pipe_if_any() -> FramePipe | None:
    """A pipe; None where this system, or this process, has none left."""
    try:
        return FramePipe()
    except OSError:
        return None


def pipe_reader_if_any(pid: int, address: PipeAddress | None) -> PipeReader | None:
    """The reader's side of a pipe; None where it cannot be opened from here."""
    if address is None:
        return None
    try:
        return PipeReader(pid, address)
    except OSError:
        return None
