"""Coroutines of an actor without an event loop, on a thread of the simulation."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from simulation.world import Thread


class Signal:
    """As `asyncio.Event`."""

    def __init__(self, thread: Thread) -> None:
        self._thread = thread
        self._set = False
        self._tasks: list[Task] = []

    def set(self) -> None:
        self._set = True
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            self._thread.later(0.0, task.go_on)

    async def wait(self) -> None:
        if not self._set:
            await self

    def __await__(self) -> Generator[Signal, None, None]:
        yield self

    def resume(self, task: Task) -> None:
        self._tasks.append(task)


class Lock:
    """As `asyncio.Lock`."""

    def __init__(self, thread: Thread) -> None:
        self._thread = thread
        self._held = False
        self._waiting: deque[Signal] = deque()

    async def __aenter__(self) -> None:
        while self._held:
            self._waiting.append(signal := Signal(self._thread))
            await signal.wait()
        self._held = True

    async def __aexit__(self, *error: object) -> None:
        self._held = False
        if self._waiting:
            self._waiting.popleft().set()


class Task:
    """A coroutine that runs whenever it can.

    Args:
        thread: where.
        work: the coroutine.
        done: called with the result, or the error.
    """

    def __init__(
        self,
        thread: Thread,
        work: Coroutine[Signal, None, Any],
        done: Callable[[Any, Exception | None], None],
    ) -> None:
        self._thread, self._work, self._done = thread, work, done

    def go_on(self) -> None:
        """Until it waits, or ends."""
        try:
            signal = self._work.send(None)
        except StopIteration as end:
            self._done(end.value, None)
        except Exception as error:
            self._done(None, error)
        else:
            signal.resume(self)
