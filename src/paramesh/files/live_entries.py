"""Small files that say that a process lives, in a folder that this user alone can read.

Glossary
    entry       a file of one process, which has it locked
    live        its entry is locked. The kernel unlocks it when the process ends, however it does;
                whoever finds an entry that is not locked removes it

What another user may have put in the way (a folder, a link) is never used.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Generator, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # not POSIX: nothing is entered, and nothing found
    fcntl = None

#: Seconds in which an entry that is being made is not locked yet.
_NEW = 60.0
#: An entry was replaced while it was looked at; compared by identity.
_REPLACED = b"replaced"


def folders() -> list[Path]:
    """Where entries are: the first that can be used gets new ones, and all are looked through.

    What the environment says may differ between a process and whoever looks for it.
    """
    user = os.getuid()
    found: list[Path] = []
    runtime = [os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{user}"]
    found += [Path(path, "paramesh") for path in runtime if path and os.path.isdir(path)]
    return list(dict.fromkeys([*found, Path(f"/tmp/paramesh-{user}")]))


class LiveEntry:
    """An entry of this process, until `close` or the end of the process.

    Without POSIX there are none, and nothing is written.

    Args:
        content: of the file.
        suffix: of its name.

    Raises:
        OSError: no folder can be used.
    """

    def __init__(self, content: bytes, suffix: str) -> None:
        #: A fork has the file open too, but it is not the process that the entry is of.
        self._process = os.getpid()
        self._folder: Path | None = None
        self._name = ""
        self._file = -1
        if fcntl is None:
            return
        troubles: list[str] = []
        for folder in folders():
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, 0o700)
                self._write(folder, f"{os.getpid()}-{secrets.token_hex(4)}{suffix}", content)
                return
            except OSError as error:
                troubles.append(_said(error))
        raise OSError(errno.EACCES, "; ".join(troubles))

    def _write(self, folder: Path, name: str, content: bytes) -> None:
        assert fcntl is not None
        with opened(folder) as directory:
            hidden = f".{name}.tmp"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(hidden, flags, 0o600, dir_fd=directory)
            try:
                # Before it has its name: whoever finds it there finds it locked.
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                rest = memoryview(content)
                while rest:
                    rest = rest[os.write(file, rest) :]
                os.rename(hidden, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                os.close(file)
                with contextlib.suppress(OSError):
                    os.unlink(hidden, dir_fd=directory)
                raise
        old, self._file = self._file, file
        self._folder, self._name = folder, name
        if old >= 0:
            os.close(old)

    def replace(self, content: bytes) -> None:
        """Give it other content: whoever reads it finds the old or the new one, whole.

        Raises:
            OSError: it cannot be written; the old content stays.
        """
        if self._folder is not None and os.getpid() == self._process:
            self._write(self._folder, self._name, content)

    def close(self) -> None:
        """Remove it."""
        folder, self._folder = self._folder, None
        if folder is None or os.getpid() != self._process:
            return
        with contextlib.suppress(OSError), opened(folder) as directory:
            os.unlink(self._name, dir_fd=directory)
        os.close(self._file)
        self._file = -1


def live_entries(suffix: str, most: int = 1 << 16) -> tuple[list[bytes], list[str]]:
    """(the contents of the live entries of this user, why folders cannot be used).

    Entries of processes that have ended are removed.

    Args:
        suffix: of the names.
        most: bytes of one that are read.
    """
    found: list[bytes] = []
    troubles: list[str] = []
    if fcntl is None:
        return found, troubles
    for folder in folders():
        try:
            with opened(folder) as directory:
                found += _living(directory, suffix, most)
        except FileNotFoundError:
            continue
        except OSError as error:
            troubles.append(_said(error))
    return found, troubles


def _said(error: OSError) -> str:
    said = error.strerror if isinstance(error, PermissionError) else None
    return said or str(error)


@contextlib.contextmanager
def opened(folder: Path) -> Generator[int]:
    """A folder that is this user's alone, as a descriptor: its name may be given to another.

    Raises:
        PermissionError: it is not.
        OSError: it does not exist, or is no folder.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    directory = os.open(folder, flags)
    try:
        facts = os.fstat(directory)
        if facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            raise PermissionError(
                errno.EPERM,
                f"'{folder}' is not private to this user (owner {facts.st_uid}, mode "
                f"{stat.S_IMODE(facts.st_mode):04o}): runs are neither registered nor looked up "
                "there. Remove it.",
            )
        yield directory
    finally:
        os.close(directory)


def _living(directory: int, suffix: str, most: int) -> Iterator[bytes]:
    for name in os.listdir(directory):
        making = name.startswith(".") and name.endswith(f"{suffix}.tmp")
        if not making and not name.endswith(suffix):
            continue
        found = _REPLACED
        while found is _REPLACED:
            found = _content(directory, name, most, making)
        if found is not None:
            yield found


def _content(directory: int, name: str, most: int, making: bool) -> bytes | None:
    """Of an entry; None: its process has ended, and it is removed; `_REPLACED`: look again."""
    assert fcntl is not None
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(name, flags, dir_fd=directory)
    except OSError:  # its process has just ended, or it is a link: none of ours
        return None
    try:
        facts = os.fstat(file)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.getuid():
            return None
        if making and time.time() - facts.st_mtime <= _NEW:
            return None  # its process is about to lock it, and would find it locked by this one
        try:
            # Shared: two that look at the same moment must not take each other for the process.
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return None if making else os.pread(file, most, 0)
        # Its process has replaced it while we looked: the name is another file's now.
        if not _same(directory, name, facts):
            return _REPLACED
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        return None
    finally:
        os.close(file)


def _same(directory: int, name: str, facts: os.stat_result) -> bool:
    try:
        now = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (facts.st_dev, facts.st_ino)
