"""Checks that files and folders are owned and writable only by this user.

A program that writes to a path which another user controls writes where that user wants. So a
folder or a file is opened first, without following a link, and then checked through its descriptor:
a path may refer to something else at the next call, a descriptor does not.

Root is treated as any other user: it does not own the folders of others.
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
#: Opening a pipe that another user has put there would block forever.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_FOLDER = getattr(os, "O_DIRECTORY", 0)

#: At most so many links are followed in sequence.
_MAX_LINKS = 40


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
            "it transferred to you (chown).",
        )
    if facts.st_mode & 0o022:
        raise _refuse(
            path,
            f"is writable by others (its mode is {stat.S_IMODE(facts.st_mode):o})",
            "Remove that permission (chmod go-w), or use another path.",
        )


def own_folder(path: Path, *, make: bool = False) -> None:
    """Check that only this user owns and can write to a folder.

    Args:
        path: of the folder; its parents may belong to anyone.
        make: create it, only for this user, if it is missing; its parents too.

    Raises:
        PermissionError: it is a link, not a folder, another user's, or writable by others.
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
            path,
            f"is a symbolic link that {owner} has created",
            "paramesh does not follow it: remove it.",
        )
    return _refuse(path, "is not a folder", "Remove it, or use another path.")


def open_own(path: Path, flags: int, mode: int = 0o600) -> int:
    """Open a file that only this user owns and can write to; as `os.open`.

    Raises:
        PermissionError: it is a link, not a regular file, has a second name, is another user's, or
            is writable by others. Nothing was changed.
        OSError: from the file system.
    """
    try:
        descriptor = os.open(path, flags | _NOFOLLOW | _NONBLOCK | _CLOEXEC, mode)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _no_folder(path) from None
        if error.errno == errno.ENXIO:
            raise _refuse(path, "is not a regular file", "Remove it.") from None
        raise
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode):
            raise _refuse(path, "is not a regular file", "Remove it.")
        if os.name == "posix":
            _check(path, facts)
            if facts.st_nlink > 1:
                raise _refuse(path, "has another name too (a hard link)", "Remove it here.")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def followed(path: Path) -> Path:
    """Resolve a path, if it is a link that may be followed.

    Raises:
        PermissionError: another user (not root) has created the link.
        OSError: from the file system; a cycle of links.
    """
    for _ in range(_MAX_LINKS):
        try:
            facts = os.lstat(path)
        except FileNotFoundError:
            break
        if not stat.S_ISLNK(facts.st_mode):
            break
        if os.name == "posix" and facts.st_uid not in (os.geteuid(), 0):
            raise _refuse(
                path,
                f"is a symbolic link that {user_name(facts.st_uid)} has created",
                "paramesh does not write through it: remove it, or save under another path.",
            )
        path = path.parent / os.readlink(path)
    return Path(os.path.realpath(path))
