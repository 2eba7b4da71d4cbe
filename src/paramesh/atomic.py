"""Files that are there as a whole or not at all.

A file is written beside its place under a temporary name, brought to the disk, and renamed. Until
the rename the old file is untouched, whatever happens; after it the new one is complete.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import stat
import time
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: nothing is known to be left over, and nothing removed
    fcntl = None

Buffer = bytes | bytearray | memoryview

_LEFT = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")

#: Seconds in which a temporary file is too new to be left over.
_NEW = 60.0
#: write(2) transfers at most 2 GiB less a page at once.
_AT_ONCE = 1 << 30


class AtomicFile:
    """A file on its way to `path`: write to it, then `commit()` or `discard()`.

    It gets the permissions of the old file, or those of any new file of this process. A link stays
    a link. A process that is killed may leave a temporary file (its name starts with a dot and ends
    with `.tmp`; `remove_leftovers` takes it away), never a half-written one under `path`.

    Raises:
        OSError: from the file system.
    """

    def __init__(self, path: Path) -> None:
        self._target = Path(os.path.realpath(path))
        self._beside = self._target.with_name(
            f".{self._target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp"
        )
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._fd = os.open(self._beside, flags, 0o666)
        hold(self._fd)

    def write_at(self, offset: int, *buffers: Buffer) -> int:
        """Write buffers one after another, the first at `offset`; returns where they end."""
        for buffer in _joined(buffers) if len(buffers) > 1 else buffers:
            view = memoryview(buffer)
            while len(view):
                if hasattr(os, "pwrite"):
                    done = os.pwrite(self._fd, view[:_AT_ONCE], offset)
                else:  # not POSIX
                    os.lseek(self._fd, offset, os.SEEK_SET)
                    done = os.write(self._fd, view[:_AT_ONCE])
                offset += done
                view = view[done:]
        return offset

    def commit(self) -> None:
        """Bring the file to the disk and give it its name."""
        if self._target.exists():
            os.chmod(self._beside, stat.S_IMODE(self._target.stat().st_mode))
        os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
        os.replace(self._beside, self._target)
        directory_to_disk(self._target.parent)

    def discard(self) -> None:
        """Leave everything as it was."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._beside.unlink(missing_ok=True)


def hold(fd: int) -> None:
    """Lock a file for as long as it is open, so that `is_held` says that this process lives."""
    if fcntl is not None:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(path: Path) -> bool:
    """Whether a process may have a file locked; the kernel unlocks those of dead ones."""
    if fcntl is None:
        return True
    try:
        descriptor = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    except OSError:  # it is held, or gone, or there are no locks here
        return True
    return False


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder.

    A file that was made in this very moment is not locked yet; so those of the last minute stay.
    """
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if _LEFT.fullmatch(entry.name) is None:
                continue
            with contextlib.suppress(OSError):
                old = time.time() - entry.stat().st_mtime > _NEW
                if old and not is_held(Path(entry.path)):
                    os.unlink(entry.path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file at once; a failure, Ctrl-C included, leaves the old one.

    Raises:
        OSError: from the file system.
    """
    file = AtomicFile(path)
    try:
        file.write_at(0, content)
        file.commit()
    except BaseException:
        file.discard()
        raise


def _joined(buffers: tuple[Buffer, ...]) -> list[Buffer]:
    """Small neighbours as one buffer: a system call costs more than copying a page."""
    found: list[Buffer] = []
    for buffer in buffers:
        if found and len(found[-1]) + len(buffer) <= 4096:
            found[-1] = bytes(found[-1]) + bytes(buffer)
        else:
            found.append(buffer)
    return found


def directory_to_disk(path: Path) -> None:
    """Bring the names in a directory to the disk."""
    if os.name != "posix":  # elsewhere a directory cannot be opened
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
