"""Work that has to come to its end once it has begun, whatever happens to the thread that asks.

Signal handlers run on the main thread, and an exception from outside is set in a thread that
somebody knows. A thread of paramesh's is neither.

What waits here are locks and queues that are written in C. Those of `threading` and
`concurrent.futures` that are written in Python (Event, Condition, Semaphore, the executors) stay
locked for good when an exception from outside comes at a bad moment.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, TypeVar, cast

T = TypeVar("T")

#: Threads that wait for work.
_idle: deque[_Worker] = deque()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # threads do not come along


class _Task:
    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        # Held by who comes first: the thread that does the work, or the caller who calls it off.
        self._begun = threading.Lock()
        # Held until it has been done.
        self._undone = threading.Lock()
        self._undone.acquire()
        self._result: Any = None
        self._error: BaseException | None = None

    def do(self) -> None:
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._result = self._work()
        except BaseException as error:
            self._error = error
        finally:
            self._undone.release()

    def result(self) -> Any:
        with self._undone:
            error, self._error = self._error, None  # its frames refer to this
        if error is not None:
            raise error
        return self._result

    def cancel(self) -> None:
        """See to it that nothing is done later: the work is not begun, or it has ended.

        A second exception ends the waiting: who presses Stop twice means it.
        """
        if not self._begun.acquire(blocking=False):
            with self._undone:
                pass


class _Worker:
    def __init__(self) -> None:
        self.tasks: SimpleQueue[_Task] = SimpleQueue()
        threading.Thread(target=self._serve, name="paramesh-step", daemon=True).start()

    def _serve(self) -> None:
        while True:
            self.tasks.get().do()
            _idle.append(self)


def run_on_own_thread(work: Callable[[], T]) -> T:
    """`work()`, done elsewhere.

    An exception in this thread leaves it done or not begun: when this returns or raises, nothing
    goes on. After a second one, it may.

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
        return cast(T, task.result())
    except BaseException:
        task.cancel()
        raise
