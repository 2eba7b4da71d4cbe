"""Rows into a batch, each written to its place as soon as it is there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramesh.dataset.arrays import own, stack
from paramesh.dataset.pixels import Pixels, made, ready
from paramesh.dataset.streams import Task, Work


class _Column:
    """One column of a batch of so many rows. Images that wait are made in the batch's memory."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.values: list[Any] = []
        self.written: set[int] = set()
        self.memory: Any = None

    def add(self, value: object) -> None:
        if isinstance(value, Pixels):
            if not self.values:
                self.memory = own((self.count, *value.shape), value.dtype, batch=True)
            memory = self.memory
            fits = memory is not None and value.shape == memory.shape[1:]
            if fits and value.dtype == memory.dtype:
                place = memory[len(self.values)]
                value.write(place)
                value = place
                self.written.add(len(self.values))
            else:
                value = made(value)
        self.values.append(value)


def stacked(work: Work, tasks: Sequence[Task], names: Sequence[str]) -> tuple[Any, ...]:
    """The batch of some tasks.

    Args:
        work: makes a row of a task.
        tasks: of the rows.
        names: of the columns, for errors.

    Raises:
        RuntimeError: shapes or dtypes differ.
    """
    make = ready(work)
    columns = [_Column(len(tasks)) for _ in names]
    for task in tasks:
        for column, value in zip(columns, make(task), strict=True):
            column.add(value)
    return tuple(
        stack(column.values, name, column.memory, column.written)
        for column, name in zip(columns, names, strict=True)
    )
