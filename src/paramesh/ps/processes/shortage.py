"""What a server says when its process lacks memory, threads or files: who, of what, what to do.

Python's own errors of this kind are bare ("can't start new thread"), and reach the worker, on
another host perhaps, as if it were the one that lacks something.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Awaitable, Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from paramesh.errors import ParameterServerError

_P = ParamSpec("_P")
_T = TypeVar("_T")

_OF_SYSTEM = {
    errno.ENOMEM: "memory",
    errno.EMFILE: "open files (RLIMIT_NOFILE)",
    errno.ENFILE: "open files (of the host)",
    errno.ENOSPC: "room on its disk",
    errno.EDQUOT: "room on its disk (the user's quota)",
}


class Shortage(ParameterServerError):
    """A server lacks what it needs for a call; it did not do it, and goes on."""


class _Named(Protocol):
    @property
    def title(self) -> str: ...


def shortage(server: str, doing: str, error: BaseException) -> Shortage | None:
    """The error for the worker, if this one says that something is lacking; None otherwise.

    Args:
        server: which: its name and its process.
        doing: the call.
        error: what was raised in it.
    """
    if isinstance(error, MemoryError):
        what = "memory"
    elif isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        what = "threads"
    elif isinstance(error, OSError) and error.errno in _OF_SYSTEM:
        what = _OF_SYSTEM[error.errno]
    else:
        return None
    return Shortage(
        f"{server} has no {what} left for '{doing}' ({type(error).__name__}: {error}). What it has "
        "is as before, and its log is complete. Give its host more, or have more servers share the "
        "Parameters, and start again with the same wal_dir."
    )


def names_shortage(
    method: Callable[Concatenate[Any, _P], Awaitable[_T]],
) -> Callable[Concatenate[Any, _P], Awaitable[_T]]:
    """A method of an actor with a `title` that says who lacks something."""

    @functools.wraps(method)
    async def named(self: _Named, *args: _P.args, **more: _P.kwargs) -> _T:
        try:
            return await method(self, *args, **more)
        except (MemoryError, RuntimeError, OSError) as error:
            reported = shortage(self.title, method.__name__, error)
            if reported is None:
                raise
            raise reported from None

    return named
