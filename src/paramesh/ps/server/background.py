"""One thread of a server, for what can be done beside the updates."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class BackgroundThread:
    """A thread that is started when it is first needed.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)
        self._started = False

    def available(self) -> bool:
        """Whether work that is submitted now starts at once.

        A pool accepts work even if no thread can be started for it, and runs it whenever one can:
        the first submission may be carried out late.
        """
        if not self._started:
            try:
                self._pool.submit(int)
            except RuntimeError:
                return False
            self._started = True
        return True

    def submit(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `work` in the thread."""
        return self._pool.submit(work, *args, **kwargs)

    def shutdown(self) -> None:
        """Return when all work is done."""
        self._pool.shutdown()
