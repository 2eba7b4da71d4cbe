"""Work in threads: rows come in the order of their tasks."""

from __future__ import annotations

import collections
import contextlib
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from paramesh.dataset.streams import Stream, Work


class ThreadRows(Stream):
    """The rows of tasks, made by several threads a few ahead.

    Args:
        tasks: what is to be made.
        work: makes the row of a task.
        executor: the threads.
        ahead: how many tasks are given out before their turn.
    """

    def __init__(self, tasks: Stream, work: Work, executor: ThreadPoolExecutor, ahead: int) -> None:
        self._tasks, self._work, self._executor, self._ahead = tasks, work, executor, ahead
        self._pending: collections.deque[Future[Any]] = collections.deque()
        self._failed: Exception | None = None
        self._over = False

    def __next__(self) -> Any:
        while not self._over and len(self._pending) < self._ahead:
            try:
                task = next(self._tasks)
            except StopIteration:
                self._over = True
            except Exception as error:  # it comes when it is its turn
                self._over, self._failed = True, error
            else:
                self._pending.append(self._executor.submit(self._work, task))
        if not self._pending:
            if self._failed is not None:
                raise self._failed
            raise StopIteration
        return self._pending.popleft().result()

    def skip(self, count: int) -> int:
        """Pass over tasks; none is made."""
        passed = 0
        while passed < count and self._pending:
            self._pending.popleft().cancel()
            passed += 1
        return passed + (0 if self._over else self._tasks.skip(count - passed))

    def close(self) -> None:
        """Let go of what waits."""
        self._over = True
        for future in self._pending:
            future.cancel()
        for future in self._pending:
            with contextlib.suppress(BaseException):
                future.result()
        self._pending.clear()
        self._tasks.close()
