"""Atomic writes of files.

A file is written under a temporary name in the same folder, synced to disk, and renamed. Until the
rename an existing file is unchanged, whatever happens; after it the new one is complete.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Generator
from pathlib import Path

from paramesh.files.ownership import followed

try:
    import fcntl
except ImportError:  # not POSIX: leftovers are not recognised, and not removed
    fcntl = None

Buffer = bytes | bytearray | memoryview

_LEFT = re.compile(r"\..+\.\d+-[0-9a-f]{8}\.tmp")

#: Seconds in which a temporary file is too new to be a leftover.
_NEW = 60.0
#: Seconds between two tries to lock a file, and how many there are.
_NAP, _LOOKS = 1e-3, 1000
#: Limits of one system call: bytes (some systems reject 2 GiB), and buffers.
_AT_ONCE = 1 << 30
_MOST_BUFFERS = 1024
#: Small writes are collected up to so many bytes.
_TOGETHER = 1 << 20


def names_a_folder(path: str | os.PathLike[str]) -> bool:
    """Whether a path can be that of a folder alone: `Path("runs/")` is `runs`, and forgets it."""
    return os.path.basename(os.fspath(path)) in ("", os.curdir, os.pardir)


class AtomicFile:
    """A temporary file for `path`: write to it, then `commit()` or `discard()`.

    It gets the permissions of the existing file, or those of a new file of this process. A link
    stays a link, if this user or root has created it. A process that is killed may leave a
    temporary file (its name starts with a dot and ends with `.tmp`; `remove_leftovers` removes it),
    but never an incomplete file at `path`.

    Raises:
        PermissionError: `path` is a link that another user has created.
        IsADirectoryError: it is a folder.
        FileExistsError: it is a device or a pipe, say: a file would replace it for all programs.
        OSError: from the file system.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._target = path, followed(path)
        self._check_kind()
        self._beside = beside(self._target)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._waiting: list[Buffer] = []
        self._begin, self._end = 0, -1
        try:
            self._fd = os.open(self._beside, flags, 0o666)
        except OSError as error:
            # The name of the user's, not that of the file beside it.
            raise type(error)(error.errno, error.strerror, str(path)) from None
        lock(self._fd)

    def _check_kind(self) -> None:
        try:
            mode = os.lstat(self._target).st_mode
        except OSError:
            return  # it is not there; or opening the file beside it says what is wrong
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(self._path))
        if not stat.S_ISREG(mode):
            raise FileExistsError(
                errno.EEXIST, "Not a regular file, and would be replaced by one", str(self._path)
            )

    def write_at(self, offset: int, *buffers: Buffer) -> int:
        """Write buffers in sequence, the first at `offset`; returns the offset after the last.

        Raises:
            OSError: the disk is full, or the file may not be so large; `filename` is `path`.
        """
        with self._named():
            return self._write_at(offset, *buffers)

    @contextlib.contextmanager
    def _named(self) -> Generator[None]:
        try:
            yield
        except OSError as error:  # what writes to an open file does not know its name
            raise type(error)(error.errno, error.strerror, str(self._path)) from None

    def _write_at(self, offset: int, *buffers: Buffer) -> int:
        left = [memoryview(buffer) for buffer in buffers if len(buffer)]
        while left:
            if hasattr(os, "pwritev"):
                done = os.pwritev(self._fd, _first(left), offset)
            else:  # not on every system
                os.lseek(self._fd, offset, os.SEEK_SET)
                done = os.write(self._fd, left[0][:_AT_ONCE])
            offset += done
            written = 0
            while written < len(left) and done >= len(left[written]):
                done -= len(left[written])
                written += 1
            del left[:written]
            if done:
                left[0] = left[0][done:]
        return offset

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes that were written before, and flushed."""
        if hasattr(os, "pread"):
            return os.pread(self._fd, size, offset)
        os.lseek(self._fd, offset, os.SEEK_SET)  # not on every system
        return os.read(self._fd, size)

    def write_soon(self, offset: int, buffer: Buffer) -> int:
        """As `write_at`, but buffered, so that adjacent writes share a system call.

        The buffer must not change before `flush` or `commit`. At most a megabyte is buffered.
        """
        if offset != self._end:
            self.flush()
        if not self._waiting:
            self._begin = offset
        self._waiting.append(buffer)
        self._end = end = offset + len(buffer)
        if end - self._begin >= _TOGETHER or len(self._waiting) == _MOST_BUFFERS:
            self.flush()
        return end

    def flush(self) -> None:
        """Write what is buffered."""
        waiting, self._waiting, self._end = self._waiting, [], -1
        self.write_at(self._begin, *waiting)

    def commit(self) -> None:
        """Sync the file to disk, and rename it to `path`."""
        self.flush()
        self._take_permissions()
        with self._named():
            os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1
        os.replace(self._beside, self._target)
        directory_to_disk(self._target.parent)

    def _take_permissions(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            old = os.lstat(self._target)
            # The mode of another user's file does not say who may write to this one.
            if stat.S_ISREG(old.st_mode) and (os.name != "posix" or old.st_uid == os.geteuid()):
                place = self._fd if os.chmod in os.supports_fd else self._beside
                os.chmod(place, stat.S_IMODE(old.st_mode))

    def discard(self) -> None:
        """Remove the temporary file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        self._beside.unlink(missing_ok=True)


def beside(path: Path) -> Path:
    """A new name for a temporary file that is to become a file."""
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")


def made_locked(path: Path) -> int:
    """Make an empty file that is locked from the first moment on.

    Args:
        path: of the file; the name is new, for it is not checked whether there is one.

    Returns:
        The open file: it is locked until that is closed.

    Raises:
        OSError: from the file system.
    """
    hidden = beside(path)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    file = os.open(hidden, flags, 0o666)  # does not follow links
    try:
        lock(file)
        os.rename(hidden, path)
    except BaseException:
        os.close(file)
        with contextlib.suppress(OSError):
            os.unlink(hidden)
        raise
    return file


def lock(fd: int) -> None:
    """Lock a file while it is open, so that `is_locked` shows that this process is alive.

    Whoever asks `is_locked` has the lock itself for a moment, which is waited for.
    """
    if fcntl is None:
        return
    for _ in range(_LOOKS):
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(_NAP)
        except OSError:  # a file system without locks
            return


def is_locked(path: Path) -> bool:
    """Whether a process may have locked a file; the kernel releases the locks of dead ones."""
    if fcntl is None:
        return True
    try:
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.close(descriptor)
    except OSError:  # locked, removed, or on a file system without locks
        return True
    return False


def is_left_over(path: Path) -> bool:
    """Whether a temporary file is a killed process's.

    A file is created before it is locked, so one of the last minute is not.
    """
    try:
        facts = os.lstat(path)
    except OSError:
        return False
    old = time.time() - facts.st_mtime > _NEW and stat.S_ISREG(facts.st_mode)
    return old and not is_locked(path)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes from a folder (see `is_left_over`)."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if _LEFT.fullmatch(entry.name) and is_left_over(Path(entry.path)):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically; after a failure, even Ctrl-C, an existing file is unchanged.

    Raises:
        PermissionError: as `AtomicFile`.
        OSError: from the file system.
    """
    file = AtomicFile(path)
    try:
        file.write_at(0, content)
        file.commit()
    except BaseException:
        file.discard()
        raise


def _first(buffers: list[memoryview]) -> list[memoryview]:
    """The first buffers, up to the limits of one system call."""
    found: list[memoryview] = []
    room = _AT_ONCE
    for buffer in buffers[:_MOST_BUFFERS]:
        found.append(buffer[:room])
        room -= len(found[-1])
        if not room:
            break
    return found


def directory_to_disk(path: Path) -> None:
    """Sync the entries of a directory to disk."""
    if os.name != "posix":  # a directory cannot be opened on other systems
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
