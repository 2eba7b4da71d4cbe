"""Files and folders that are this user's own: nobody else has made them, or may change them.

Whoever writes to a path that another user can prepare writes where that user wants. So a folder or
a file is opened first, without following a link, and then looked at through its descriptor: what a
path means may change between two calls, what a descriptor means does not.

Root counts as any user here: a folder that belongs to somebody else is not root's own.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

try:
    import pwd
except ImportError:  # not POSIX
    pwd = None

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0)
#: Opening a pipe that somebody put there would wait for ever.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_FOLDER = getattr(os, "O_DIRECTORY", 0)

#: Links that lead to one another are followed so often.
_MOST_LINKS = 40


def user_name(number: int) -> str:
    """The name of a user, or `user 1000` if there is none."""
    with contextlib.suppress(KeyError):
        if pwd is not None:
            return f"'{pwd.getpwuid(number).pw_name}'"
    return f"user {number}"


def _refuse(path: Path, why: str, what: str) -> PermissionError:
    return PermissionError(errno.EPERM, f"'{path}' {why}. {what}")


def _check(path: Path, facts: os.stat_result) -> None:
    if facts.st_uid != os.geteuid():
        raise _refuse(
            path,
            f"belongs to {user_name(facts.st_uid)}, not to {user_name(os.geteuid())}, who runs "
            "this program",
            "Whoever owns it could change what is written there: use a path of your own, or have "
            "it given to you (chown).",
        )
    if facts.st_mode & 0o022:
        raise _refuse(
            path,
            f"may be written to by others (its mode is {stat.S_IMODE(facts.st_mode):o})",
            "Take that away (chmod go-w), or use another path.",
        )


def own_folder(path: Path, *, make: bool = False) -> None:
    """Make sure that a folder is this user's alone to write to.

    Args:
        path: of the folder; the folders above may be anybody's.
        make: make it, for this user alone, if it is not there; those above it too.

    Raises:
        PermissionError: it is a link, no folder, another user's, or others may write to it.
        OSError: from the file system.
    """
    if make:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
    if os.name != "posix":
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | _FOLDER | _NOFOLLOW | _CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise _no_folder(path) from None
        raise
    try:
        _check(path, os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _no_folder(path: Path) -> PermissionError:
    if path.is_symlink():
        owner = user_name(path.lstat().st_uid)
        return _refuse(
            path, f"is a symbolic link that {owner} has made", "It is not followed: remove it."
        )
    return _refuse(path, "is no folder", "Remove it, or use another path.")


def open_own(path: Path, flags: int, mode: int = 0o600) -> int:
    """A descriptor of a file that is this user's alone to write to; as `os.open`.

    Raises:
        PermissionError: it is a link, no plain file, there under another name as well, another
            user's, or others may write to it. Nothing was changed.
        OSError: from the file system.
    """
    try:
        descriptor = os.open(path, flags | _NOFOLLOW | _NONBLOCK | _CLOEXEC, mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _no_folder(path) from None
        if error.errno == errno.ENXIO:
            raise _refuse(path, "is no plain file", "Remove it.") from None
        raise
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise _refuse(path, "is no plain file", "Remove it.")
        if os.name == "posix":
            _check(path, facts)
            if facts.st_nlink > 1:
                raise _refuse(
                    path, "is there under another name too (a hard link)", "Remove it here."
                )
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def followed(path: Path) -> Path:
    """Where a path leads to, if it is a link that may be followed.

    Raises:
        PermissionError: another user has made the link (not root).
        OSError: from the file system; links that lead nowhere but to each other.
    """
    for _ in range(_MOST_LINKS):
        try:
            facts = os.lstat(path)
        except FileNotFoundError:
            break
        if not stat.S_ISLNK(facts.st_mode):
            break
        if os.name == "posix" and facts.st_uid not in (os.geteuid(), 0):
            raise _refuse(
                path,
                f"is a symbolic link that {user_name(facts.st_uid)} has made",
                "It is not written through: remove it, or save under another path.",
            )
        path = path.parent / os.readlink(path)
    return Path(os.path.realpath(path))
