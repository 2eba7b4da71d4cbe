"""Rows into a batch, each written to its place as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paramesh.dataset.arrays import Array, own, stack
from paramesh.dataset.pixels import Pixels, made, ready
from paramesh.dataset.streams import Task, Work
from paramesh.dataset.wholes import SMALL, whole

#: Images of so many bytes are gathered and finished together: for each of them alone, numpy takes
#: longer to be called than to compute.
_SMALL = SMALL


class _Column:
    """One column of a batch of so many rows. Images that wait are made in the batch's memory."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.values: list[Any] = []
        self.written: set[int] = set()
        self.memory: Array | None = None
        self._first: Pixels | None = None
        self._gathered: Array = np.empty(0, np.uint8)

    def add(self, value: object) -> None:
        if isinstance(value, Pixels):
            if not self.values:
                self._begin(value)
            value = self._placed(value, len(self.values))
        self.values.append(value)

    def _placed(self, value: Pixels, at: int) -> Array:
        memory = self.memory
        if memory is None or (value.shape, value.dtype) != (memory.shape[1:], memory.dtype):
            return made(value)
        self._write(value, at, memory)
        self.written.add(at)
        return memory[at]

    def _begin(self, value: Pixels) -> None:
        self.memory = own((self.count, *value.shape), value.dtype, batch=True)
        if value.source.nbytes <= _SMALL and value.steps:
            self._first = value
            self._gathered = np.empty((self.count, *value.source.shape), value.source.dtype)

    def _write(self, value: Pixels, at: int, memory: Array) -> None:
        if self._first is not None:
            if value.alike(self._first):
                self._gathered[at] = value.source
                return
            for before in range(at):
                self._first.of(self._gathered[before]).write(memory[before])
            self._first = None
        value.write(memory[at])

    def batch(self, name: str) -> Any:
        if self._first is not None and self.memory is not None:
            count = len(self.values)
            self._first.write_all(self._gathered[:count], self.memory[:count])
        return stack(self.values, name, self.memory, self.written)


def stacked(work: Work, tasks: Sequence[Task], names: Sequence[str]) -> tuple[Any, ...]:
    """The batch of some tasks.

    Args:
        work: makes a row of a task.
        tasks: of the rows.
        names: of the columns, for errors.

    Raises:
        RuntimeError: shapes or dtypes differ.
    """
    together = whole(work, tasks)
    if together is not None:
        return tuple(column.batch() for column in together)
    make = ready(work)
    columns = [_Column(len(tasks)) for _ in names]
    for task in tasks:
        for column, value in zip(columns, make(task), strict=True):
            column.add(value)
    return tuple(column.batch(name) for column, name in zip(columns, names, strict=True))
