"""Work that has to complete once it has begun, whatever happens to the thread that waits for it.

Signal handlers run on the main thread, and an exception from outside is set in a thread whose
identity is known. A thread of paramesh is neither.

The waiting here uses locks and queues that are written in C. Those of `threading` and
`concurrent.futures` that are written in Python (Event, Condition, Semaphore, the executors) stay
locked forever when an exception from outside comes at a bad moment.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar, cast

from paramesh.telemetry.phases import acting_for

T = TypeVar("T")

#: Threads that wait for work.
_idle: deque[_Worker] = deque()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not survive a fork


class _Task(Generic[T]):
    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._caller = threading.get_ident()
        # Held by whichever comes first: the thread that does the work, or the caller who cancels
        # it.
        self._begun = threading.Lock()
        # Held until it has been done.
        self._undone = threading.Lock()
        self._undone.acquire()
        self._result: T | None = None
        self._error: BaseException | None = None

    def do(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._result = acting_for(self._caller, self._work)
        except BaseException as error:
            self._error = error
        finally:
            self._undone.release()

    def result(self) -> T:
        with self._undone:
            error, self._error = self._error, None  # its frames refer to this task
        if error is not None:
            raise error
        return cast(T, self._result)

    def cancel(self) -> None:
        """Make sure that nothing is done later: the work never begins, or it has ended.

        A second exception ends the waiting: the user has insisted.
        """
        if not self._begun.acquire(blocking=False):
            with self._undone:
                pass


class _Worker:
    def __init__(self) -> None:
        self.tasks: SimpleQueue[_Task[Any]] = SimpleQueue()
        threading.Thread(target=self._serve, name="paramesh-step", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.tasks.get().do()
            _idle.append(self)


def run_on_own_thread(work: Callable[[], T]) -> T:
    """`work()` on another thread.

    An exception in this thread finds it finished or prevents its start: when this returns or
    raises, nothing is still running. After a second exception, it may be.

    Raises:
        BaseException: what `work` raises.
    """
    task = _Task(work)
    try:
        try:
            worker = _idle.pop()
        except IndexError:
            worker = _Worker()
        worker.tasks.put(task)
        return task.result()
    except BaseException:
        task.cancel()
        raise
