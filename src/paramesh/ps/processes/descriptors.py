"""Open files of a process that others connect to: how many, and what happens without any left.

Who can reach a server's port can hold connections to it, token or not, and each takes one of the
files that the process may have open. So a server takes as many as the system gives, keeps some of
them back for itself, and waits where even those are gone: a run gets slower by this, and goes on.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections.abc import Callable, Generator
from typing import TypeVar

try:
    import resource
except ImportError:  # not POSIX
    resource = None

_T = TypeVar("_T")

#: What this process keeps back for its own files, of those that it may have open.
RESERVE = 64
#: Seconds between two tries, and until there being none is an error.
PAUSE, PATIENCE = 0.02, 240.0

#: None left for this process, or on this host.
_NONE_LEFT = (errno.EMFILE, errno.ENFILE)

#: Who has the reserve: the limit is that of the process.
_borrowing = threading.Lock()


def raise_limit(reserve: int = 0) -> int:
    """Have this process, and what it starts, open as many files as the system allows.

    Args:
        reserve: how many fewer; for `patiently`.

    Returns:
        How many it may have open now; 0 if the system does not say.
    """
    if resource is None:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard - reserve if hard != resource.RLIM_INFINITY else max(soft, 1 << 20)
    if wanted > 0 and wanted != soft:
        with contextlib.suppress(ValueError, OSError):  # a system with a limit below its limit
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def most_files() -> int | None:
    """How many files the system allows this process to open; None: any number, or it is unknown."""
    if resource is None:
        return None
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return None if hard == resource.RLIM_INFINITY else hard


def patiently(call: Callable[[], _T], patience: float | None = None) -> _T:
    """What a call returns; if it finds no file left to open, it is made again.

    At once with the reserve, and then until others have closed some. It must leave nothing behind
    when it fails.

    Args:
        call: opens files.
        patience: seconds; None: `PATIENCE`.

    Raises:
        OSError: what the call raises; also that none is left, when time is up.
    """
    try:
        return call()
    except OSError as error:
        if error.errno not in _NONE_LEFT:
            raise
    until = time.monotonic() + (PATIENCE if patience is None else patience)
    while True:
        try:
            with _with_reserve():
                return call()
        except OSError as error:
            if error.errno not in _NONE_LEFT or time.monotonic() > until:
                raise
        time.sleep(PAUSE)


def open_file(path: str | os.PathLike[str], flags: int, mode: int = 0o600) -> int:
    """`os.open`, patiently."""
    return patiently(lambda: os.open(path, flags, mode))


@contextlib.contextmanager
def _with_reserve() -> Generator[None]:
    if resource is None:
        yield
        return
    with _borrowing:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and soft < hard <= soft + RESERVE:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            try:
                yield
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        else:
            yield
