"""Streams of tasks, and the work that makes rows of them.

A pipeline is evaluated as late as it can be. What an operation hands on is a `Lazy`: small tasks
in their order, and the work that makes a row of a task. Shuffling, repeating, skipping and taking
reorder tasks and touch no data, so that a position deep in an epoch is reached without reading
what lies before it.

Glossary
    task        (epoch, ordinal, key): which pass, the how-manieth of it, and what the row is made
                of: an index into a source, a row, or the list of tasks of a batch
    work        a function from a task to a row, the same in every epoch, that can be pickled
    place       where work runs: here (the thread that pulls), in threads, in processes
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Task = tuple[int, int, Any]


class Work(Protocol):
    """Makes the row of a task."""

    def __call__(self, task: Task) -> Any:
        """The row."""
        ...


class Stream:
    """An iterator that can pass over items without making them."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        raise NotImplementedError

    def skip(self, count: int) -> int:
        """Pass over up to `count` items; how many there were."""
        for passed in range(count):
            try:
                next(self)
            except StopIteration:
                return passed
        return count

    def close(self) -> None:
        """Let go of what it holds; a second call does nothing."""


class Plain(Stream):
    """Any iterator as a stream."""

    def __init__(self, items: Iterator[Any]) -> None:
        self._items = items

    def __next__(self) -> Any:
        return next(self._items)

    def close(self) -> None:
        """Let go of what waits."""
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


class Indexed(Stream):
    """Tasks for the items of a sequence of keys."""

    def __init__(self, keys: Sequence[Any], epoch: int) -> None:
        self._keys, self._epoch, self._at = keys, epoch, 0

    def __next__(self) -> Task:
        at = self._at
        if at >= len(self._keys):
            raise StopIteration
        self._at = at + 1
        return self._epoch, at, self._keys[at]

    def skip(self, count: int) -> int:
        """Pass over tasks; none is made."""
        passed = min(count, len(self._keys) - self._at)
        self._at += passed
        return passed


@dataclass(frozen=True)
class Place:
    """Where work runs.

    Args:
        kind: "free": anywhere, it is pure and safe in threads. "here": in the thread that pulls,
            one after the other. "threads", "processes".
        workers: of threads or processes; None: the setting's number.
    """

    kind: str
    workers: int | None = None

    def together(self, other: Place) -> Place | None:
        """Where both can run as one; None: each for itself."""
        if self.kind == "free" and other.kind == "free":
            return Place("free", _most(self.workers, other.workers))
        if self.kind == "here" or other.kind == "here":
            return self if self.kind == other.kind else None
        if self.kind == "free":
            return other
        if other.kind in ("free", self.kind):
            return Place(self.kind, _most(self.workers, other.workers))
        return None


def _most(a: int | None, b: int | None) -> int | None:
    return None if a is None and b is None else max(a or 0, b or 0)


FREE, HERE = Place("free"), Place("here")


def given(task: Task) -> Any:
    """The work of tasks whose keys are rows."""
    return task[2]


@dataclass(frozen=True)
class Lazy:
    """Tasks, and the work that makes rows of them."""

    tasks: Stream
    work: Work
    place: Place

    def reordered(self, tasks: Stream) -> Lazy:
        """The same work over other tasks."""
        return Lazy(tasks, self.work, self.place)
