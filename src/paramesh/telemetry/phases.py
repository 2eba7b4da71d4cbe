"""The time of a step by what the process does in it.

Glossary
    phase       one of `PHASES`; they never overlap: an inner one interrupts the outer one
    data        the program waits for the next batch
    pull        what is asked of servers is made ready, and what they answered is put together
    push        the same for gradients
    wait        servers are waited for
    save        a checkpoint is written, as far as the program waits for it
    compute     everything else: the program's Python code, and waiting for the device

Nothing is measured until somebody has called `start`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import TypeVar

PHASES: tuple[str, ...] = ("data", "pull", "push", "wait", "save")

T = TypeVar("T")


class _State:
    def __init__(self) -> None:
        self.on = False
        #: Whose phases are measured; blocks of other threads are not.
        self.thread = 0
        self.seconds = dict.fromkeys(PHASES, 0.0)
        #: The phases of this process that are open, the innermost last: (name, since).
        self.open: list[tuple[str, float]] = []


_state = _State()


def start() -> None:
    """Measure what this thread does, from now on."""
    _state.thread = threading.get_ident()
    _state.on = True


def stop() -> None:
    """Measure no longer, and forget."""
    _state.on = False
    _state.seconds = dict.fromkeys(PHASES, 0.0)
    _state.open.clear()


def taken() -> dict[str, float]:
    """Seconds by phase since the last call; phases that are open now count up to now."""
    now = time.perf_counter()
    if _state.open:
        name, since = _state.open[-1]
        _state.seconds[name] += now - since
        _state.open[-1] = (name, now)
    found, _state.seconds = _state.seconds, dict.fromkeys(PHASES, 0.0)
    return found


def acting_for(thread: int, work: Callable[[], T]) -> T:
    """`work()`, whose phases count as those of another thread, which waits for it meanwhile."""
    if _state.thread != thread:
        return work()
    _state.thread = threading.get_ident()
    try:
        return work()
    finally:
        _state.thread = thread


class phase:  # noqa: N801 (used as a function)
    """`with phase("pull"):` counts the time of the block, in the thread that trains."""

    __slots__ = ("_name", "_on")

    def __init__(self, name: str) -> None:
        self._name = name
        self._on = False

    def __enter__(self) -> None:
        if not _state.on or threading.get_ident() != _state.thread:
            return
        self._on = True
        now = time.perf_counter()
        if _state.open:
            outer, since = _state.open[-1]
            _state.seconds[outer] += now - since
        _state.open.append((self._name, now))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._on or not _state.open:
            return
        now = time.perf_counter()
        name, since = _state.open.pop()
        _state.seconds[name] += now - since
        if _state.open:
            _state.open[-1] = (_state.open[-1][0], now)


def waiting_for(source: Iterable[T], name: str = "data") -> Iterator[T]:
    """The items of `source`; waiting for each counts as a phase."""
    items = iter(source)
    while True:
        with phase(name):
            try:
                item = next(items)
            except StopIteration:
                return
        yield item
