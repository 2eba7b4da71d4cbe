"""Which rows come, and in which order: shuffle, repeat, skip, take, filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from paramesh.dataset import randomness
from paramesh.dataset.argument_types import ColumnNames
from paramesh.dataset.arrays import Row
from paramesh.dataset.dataset import Dataset
from paramesh.dataset.failures import name_of, of_user
from paramesh.dataset.operations.columns import as_names, places
from paramesh.dataset.registry import operation
from paramesh.dataset.runs import Pass
from paramesh.dataset.streams import HERE, Lazy, Place, Stream

_INT32_MAX = 2**31 - 1


def whole(name: str, value: object, low: int) -> int:
    """An int in [low, 2147483647].

    Raises:
        TypeError, ValueError: it is none.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {value!r}.")
    if not low <= value <= _INT32_MAX:
        raise ValueError(f"{name} must be in [{low}, {_INT32_MAX}], got {value}.")
    return value


class _Window(Stream):
    """Tasks in the random order of a window that moves over them."""

    def __init__(self, tasks: Stream, size: int, rng: np.random.Generator) -> None:
        self._tasks, self._size, self._rng = tasks, size, rng
        self._held: list[Any] = []
        self._draws: Iterator[int] = iter(())
        self._over = False

    def __next__(self) -> Any:
        while not self._over and len(self._held) < self._size:
            try:
                self._held.append(next(self._tasks))
            except StopIteration:
                self._over = True
        if not self._held:
            raise StopIteration
        at = int(self._draw() * len(self._held))
        self._held[at], self._held[-1] = self._held[-1], self._held[at]
        return self._held.pop()

    def _draw(self) -> float:
        for value in self._draws:
            return value
        self._draws = iter(self._rng.random(1024).tolist())
        return next(self._draws)

    def close(self) -> None:
        self._held.clear()
        self._tasks.close()


@operation("shuffle")
class ShuffleDataset(Dataset):
    """See `Dataset.shuffle`; with `frozen`, all epochs and iterators have the same order."""

    def __init__(self, input_dataset: Dataset, buffer_size: int, frozen: int | None = None) -> None:
        super().__init__([input_dataset])
        self.buffer_size = whole("shuffle: buffer_size", buffer_size, 2)
        self._frozen = frozen

    def _begin(self, at: Pass) -> Lazy:
        child = self._child(at)
        if self._frozen is None:
            rng = randomness.generator(at.run.seed, at.path, at.epoch)
        else:
            rng = randomness.generator(self._frozen, (), 0)
        return child.reordered(_Window(child.tasks, self.buffer_size, rng))

    def is_shuffled(self) -> bool:
        """True."""
        return True

    def _detail(self) -> Any:
        return self.buffer_size


class _Repeated(Stream):
    """The tasks of one pass after the other."""

    def __init__(self, begin: Callable[[int], Lazy], count: int) -> None:
        self._begin, self._count, self._at = begin, count, 0
        self.first = begin(0)
        self._tasks: Stream | None = self.first.tasks
        self._any = False

    def __next__(self) -> Any:
        while self._tasks is not None:
            try:
                found = next(self._tasks)
            except StopIteration:
                self._following()
            else:
                self._any = True
                return found
        raise StopIteration

    def _following(self) -> None:
        if self._tasks is not None:
            self._tasks.close()
        self._at += 1
        # An empty pass would be repeated for ever.
        over = not self._any if self._count == -1 else self._at >= self._count
        self._tasks = None if over else self._begin(self._at).tasks

    def skip(self, count: int) -> int:
        passed = 0
        while passed < count and self._tasks is not None:
            here = self._tasks.skip(count - passed)
            self._any = self._any or here > 0
            passed += here
            if passed < count:
                self._following()
        return passed

    def close(self) -> None:
        if self._tasks is not None:
            self._tasks.close()


@operation("repeat")
class RepeatDataset(Dataset):
    """See `Dataset.repeat`."""

    def __init__(self, input_dataset: Dataset, count: int | None) -> None:
        super().__init__([input_dataset])
        self.count = -1 if count is None else count
        if self.count != -1 or isinstance(count, bool):
            whole("repeat: count", count, 1)

    def _begin(self, at: Pass) -> Lazy:
        def begin(nth: int) -> Lazy:
            return self.children[0]._begin(at.repeated(self.count, nth))

        tasks = _Repeated(begin, self.count)
        return tasks.first.reordered(tasks)

    def _length(self) -> int | None:
        length = super()._length()
        return length if length is None or self.count == -1 else length * self.count

    def _count_rows(self) -> int:
        return self.children[0].get_dataset_size() * max(self.count, 1)

    def get_repeat_count(self) -> int:
        """How often the data comes in one epoch (-1: without end)."""
        return self.count

    def _detail(self) -> Any:
        return self.count


class _Limited(Stream):
    def __init__(self, tasks: Stream, count: int) -> None:
        self._tasks, self._left = tasks, count

    def __next__(self) -> Any:
        if self._left <= 0:
            raise StopIteration
        self._left -= 1
        return next(self._tasks)

    def skip(self, count: int) -> int:
        passed = self._tasks.skip(min(count, self._left))
        self._left -= passed
        return passed

    def close(self) -> None:
        self._tasks.close()


class _Without(Stream):
    """Tasks without the first ones, which are passed over when the first is asked for."""

    def __init__(self, tasks: Stream, count: int) -> None:
        self._tasks, self._count = tasks, count

    def _pass_over(self) -> None:
        if self._count:
            self._tasks.skip(self._count)
            self._count = 0

    def __next__(self) -> Any:
        self._pass_over()
        return next(self._tasks)

    def skip(self, count: int) -> int:
        self._pass_over()
        return self._tasks.skip(count)

    def close(self) -> None:
        self._tasks.close()


@operation("skip")
class SkipDataset(Dataset):
    """See `Dataset.skip`."""

    def __init__(self, input_dataset: Dataset, count: int) -> None:
        super().__init__([input_dataset])
        self.count = whole("skip: count", count, 0)

    def _begin(self, at: Pass) -> Lazy:
        child = self._child(at)
        return child.reordered(_Without(child.tasks, self.count))

    def _length(self) -> int | None:
        length = super()._length()
        return None if length is None else max(length - self.count, 0)

    def _detail(self) -> Any:
        return self.count


@operation("take")
class TakeDataset(Dataset):
    """See `Dataset.take`."""

    def __init__(self, input_dataset: Dataset, count: int) -> None:
        super().__init__([input_dataset])
        self.count = whole("take: count", count, 1)

    def _begin(self, at: Pass) -> Lazy:
        child = self._child(at)
        return child.reordered(_Limited(child.tasks, self.count))

    def _length(self) -> int | None:
        length = super()._length()
        return None if length is None else min(length, self.count)

    def _detail(self) -> Any:
        return self.count


class _Filtered(Stream):
    def __init__(self, rows: Stream, keep: Callable[[Any], bool]) -> None:
        self._rows, self._keep = rows, keep

    def __next__(self) -> Any:
        for row in self._rows:
            if self._keep(row):
                return row
        raise StopIteration

    def close(self) -> None:
        self._rows.close()


@operation("filter")
class FilterDataset(Dataset):
    """See `Dataset.filter`."""

    def __init__(
        self,
        input_dataset: Dataset,
        predicate: Callable[..., Any],
        input_columns: ColumnNames | None = None,
        num_parallel_workers: int | None = None,
    ) -> None:
        super().__init__([input_dataset], num_parallel_workers)
        if not callable(predicate):
            raise TypeError(f"filter: predicate must be a function, got {predicate!r}.")
        self.predicate = predicate
        self.input_columns = None
        if input_columns is not None:
            self.input_columns = as_names(input_columns, "filter: input_columns") or None

    def _begin(self, at: Pass) -> Lazy:
        names = self._names()
        wanted = names if self.input_columns is None else self.input_columns
        which = places(names, wanted, "filter")

        def keep(row: Row) -> bool:
            try:
                found = self.predicate(*(row[i] for i in which))
            except Exception as error:
                raise of_user(f"filter, {name_of(self.predicate)}", error) from error
            if not isinstance(found, bool | np.bool_) and np.size(found) != 1:
                raise RuntimeError(
                    f"filter: {name_of(self.predicate)} must return a bool, got {found!r}."
                )
            return bool(found)

        # Rows can be as large as images: they are made by several threads, and judged here.
        return at.plain(_Filtered(self._child_rows(at), keep))

    def _length(self) -> int | None:
        return None

    def _detail(self) -> Any:
        return self.input_columns


def where(workers: int | None, processes: bool) -> Place:
    """Where a function of the user's runs."""
    if processes and workers != 1:
        return Place("processes", workers)
    return HERE if workers is None or workers == 1 else Place("threads", workers)
