"""batch and padded_batch: rows into batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import ColumnNames, PadInfo
from paramesh.dataset.arrays import pad, stack, to_array
from paramesh.dataset.dataset import Dataset
from paramesh.dataset.failures import name_of, of_user
from paramesh.dataset.operations.columns import as_names, check_new, places
from paramesh.dataset.operations.selecting import where, whole
from paramesh.dataset.operations.stacking import stacked
from paramesh.dataset.registry import operation
from paramesh.dataset.runs import Pass
from paramesh.dataset.streams import Lazy, Place, Stream, Task, Work

Padding = dict[str, tuple[list[int | None] | None, Any]]


@dataclass(frozen=True)
class BatchInfo:
    """What `per_batch_map` and a `batch_size` function are told.

    Args:
        epoch_num: from 0; repetitions of the data by `repeat` are of one epoch.
        batch_num: of the epoch, or of the repetition, from 0.
    """

    epoch_num: int = 0
    batch_num: int = 0

    def get_epoch_num(self) -> int:
        """The epoch, from 0."""
        return self.epoch_num

    def get_batch_num(self) -> int:
        """The batch of the epoch, from 0."""
        return self.batch_num


def _info(epoch: int, times: int, batch: int) -> BatchInfo:
    """What functions are told: of epochs of the pipeline, without repetitions within them."""
    return BatchInfo(0 if times == -1 else epoch // times, batch)


class _Chunks(Stream):
    """Tasks of batches: lists of the tasks of their rows."""

    def __init__(
        self, tasks: Stream, at: Pass, size: int | Callable[[BatchInfo], Any], drop: bool
    ) -> None:
        self._tasks, self._epoch, self._size, self._drop = tasks, at.epoch, size, drop
        self._times = at.times
        self._at = 0

    def _wanted(self) -> int:
        if isinstance(self._size, int):
            return self._size
        try:
            size = self._size(_info(self._epoch, self._times, self._at))
        except Exception as error:
            raise of_user(f"batch, batch_size {name_of(self._size)}", error) from error
        if not isinstance(size, int | np.integer) or size < 1:
            raise RuntimeError(
                f"batch: the function batch_size must return an int of at least 1, got {size!r}."
            )
        return int(size)

    def __next__(self) -> Task:
        wanted = self._wanted()
        chunk: list[Any] = []
        for task in self._tasks:
            chunk.append(task)
            if len(chunk) == wanted:
                break
        if not chunk or (self._drop and len(chunk) < wanted):
            raise StopIteration
        self._at += 1
        return self._epoch, self._at - 1, chunk

    def skip(self, count: int) -> int:
        if not isinstance(self._size, int):
            return super().skip(count)
        passed = self._tasks.skip(count * self._size)
        whole_ones, rest = divmod(passed, self._size)
        batches = whole_ones + (1 if rest and not self._drop else 0)
        self._at += batches
        return batches

    def close(self) -> None:
        self._tasks.close()


class Collated:
    """Work that makes a batch of the tasks of its rows.

    Args:
        inner: makes a row.
        names: of the columns that are stacked.
        function: a `per_batch_map`, or None.
        inputs: places of its columns.
        outputs: how many it returns.
        order: places of the columns to go on with; None: all.
        padding: what is filled up; None: nothing.
        times: how often the batches come in one epoch of the pipeline; -1: without end.
    """

    def __init__(
        self,
        inner: Work,
        names: Sequence[str],
        function: Callable[..., Any] | None,
        inputs: list[int],
        outputs: int,
        order: list[int] | None,
        padding: Padding | None,
        times: int,
    ) -> None:
        self.times = times
        self.inner, self.names, self.function = inner, list(names), function
        self.inputs, self.outputs, self.order = inputs, outputs, order
        self.padding = padding

    def __call__(self, task: Task) -> Any:
        """The batch."""
        if self.function is None and self.padding is None:
            batch = stacked(self.inner, task[2], self.names)
        else:
            rows = [self.inner(each) for each in task[2]]
            columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
            if self.function is not None:
                columns = self._mapped(columns, _info(task[0], self.times, task[1]))
            batch = collate(columns, self.names, self.padding)
        return batch if self.order is None else tuple(batch[i] for i in self.order)

    def _mapped(self, columns: list[Any], info: BatchInfo) -> list[Any]:
        assert self.function is not None
        what = f"batch, per_batch_map {name_of(self.function)}"
        try:
            found = self.function(*(columns[i] for i in self.inputs), info)
        except Exception as error:
            raise of_user(what, error) from error
        made = list(found) if isinstance(found, tuple) else [found]
        if len(made) != self.outputs:
            raise RuntimeError(
                f"{what} returned {len(made)} columns, {self.outputs} are expected. Name them in "
                "output_columns."
            )
        made = [_as_values(column, what) for column in made]
        if self.outputs == len(self.inputs):
            new = list(columns)
            for at, column in zip(self.inputs, made, strict=True):
                new[at] = column
            return new
        return [*made, *(c for i, c in enumerate(columns) if i not in self.inputs)]


def _as_values(column: object, what: str) -> Any:
    """A column that `per_batch_map` returned: an array of the batch, or a list of arrays."""
    if isinstance(column, np.ndarray) and column.dtype.kind != "O":
        return column
    if not isinstance(column, list | tuple):
        return to_array(column, f"what {what} returned")
    try:
        return [to_array(value, f"what {what} returned") for value in column]
    except TypeError as error:
        raise RuntimeError(str(error)) from None


def collate(columns: Sequence[Any], names: Sequence[str], padding: Padding | None) -> Any:
    """Columns, each a list of values, as a batch; an array is stacked already."""
    batch: list[Any] = []
    for values, name in zip(columns, names, strict=True):
        if isinstance(values, np.ndarray):
            batch.append(values)
            continue
        if padding is not None and (name in padding or not padding):
            values = _padded(values, *padding.get(name, (None, 0)), name)
        batch.append(stack(values, name))
    return tuple(batch)


def _padded(
    values: list[Any], shape: Sequence[int | None] | None, fill: object, name: str
) -> list[Any]:
    wanted = [None] * values[0].ndim if shape is None else list(shape)
    for value in values:
        if value.ndim != len(wanted):
            pad(value, wanted, fill, name)  # raises
    full = [
        max(value.shape[axis] for value in values) if size is None else size
        for axis, size in enumerate(wanted)
    ]
    return [pad(value, full, fill, name) for value in values]


def as_padding(pad_info: PadInfo | None, who: str) -> Padding | None:
    """`pad_info` as a user gives it, checked.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if pad_info is None:
        return None
    if not isinstance(pad_info, dict):
        raise TypeError(f"{who}: pad_info must be a dict, got {pad_info!r}.")
    found: Padding = {}
    for name, entry in pad_info.items():
        if not isinstance(name, str):
            raise TypeError(f"{who}: pad_info's keys are names of columns, got {name!r}.")
        if entry is None:
            entry = (None, 0)
        if not isinstance(entry, tuple) or len(entry) != 2:
            raise TypeError(
                f"{who}: pad_info[{name!r}] must be a tuple (shape, value), got {entry!r}."
            )
        shape, fill = entry
        if shape is not None:
            if not isinstance(shape, list | tuple):
                raise TypeError(f"{who}: the shape in pad_info[{name!r}] must be a list of ints.")
            for size in shape:
                if size is not None and (not isinstance(size, int) or isinstance(size, bool)):
                    raise TypeError(
                        f"{who}: the shape in pad_info[{name!r}] must hold ints or None, got "
                        f"{size!r}."
                    )
                if size is not None and size < 1:
                    raise ValueError(
                        f"{who}: the shape in pad_info[{name!r}] must be at least 1, got {size}."
                    )
        found[name] = (None if shape is None else list(shape), fill)
    return found


@operation("batch")
class BatchDataset(Dataset):
    """See `Dataset.batch`."""

    def __init__(
        self,
        input_dataset: Dataset,
        batch_size: int | Callable[..., int],
        drop_remainder: bool = False,
        num_parallel_workers: int | None = None,
        per_batch_map: Callable[..., Any] | None = None,
        input_columns: ColumnNames | None = None,
        output_columns: ColumnNames | None = None,
        column_order: ColumnNames | None = None,
        pad_info: PadInfo | None = None,
        python_multiprocessing: bool = False,
        max_rowsize: object = None,
    ) -> None:
        super().__init__([input_dataset], num_parallel_workers)
        who = self._who
        if not callable(batch_size):
            if not isinstance(batch_size, int) or isinstance(batch_size, bool):
                raise TypeError(
                    f"{who}: batch_size must be an int or a function of a BatchInfo, "
                    f"got {batch_size!r}."
                )
            whole(f"{who}: batch_size", batch_size, 1)
        for name, flag in (
            ("drop_remainder", drop_remainder),
            ("python_multiprocessing", python_multiprocessing),
        ):
            if not isinstance(flag, bool):
                raise TypeError(f"{who}: {name} must be a bool, got {flag!r}.")
        if per_batch_map is not None and not callable(per_batch_map):
            raise TypeError(f"{who}: per_batch_map must be a function, got {per_batch_map!r}.")
        for name, columns in (("input_columns", input_columns), ("output_columns", output_columns)):
            if columns is not None and per_batch_map is None:
                raise ValueError(f"{who}: {name} is of per_batch_map, which is not given.")
        self.batch_size, self.drop_remainder = batch_size, drop_remainder
        self.per_batch_map, self.python_multiprocessing = per_batch_map, python_multiprocessing
        as_list = lambda value, what: (  # noqa: E731
            as_names(value, f"{who}: {what}") or None if value is not None else None
        )
        self.input_columns = as_list(input_columns, "input_columns")
        self.output_columns = as_list(output_columns, "output_columns")
        self.column_order = as_list(column_order, "column_order")
        self.padding = as_padding(pad_info, who)

    _who = "batch"

    def _inputs(self) -> list[str]:
        return self.input_columns or super()._names()

    def _with_outputs(self) -> list[str]:
        names = super()._names()
        if self.per_batch_map is None:
            return names
        inputs = self._inputs()
        which = places(names, inputs, self._who)
        outputs = self.output_columns or inputs
        if len(outputs) == len(inputs):
            new = list(names)
            for at, name in zip(which, outputs, strict=True):
                new[at] = name
        else:
            new = [*outputs, *(name for name in names if name not in inputs)]
        return check_new(new, self._who)

    def _names(self) -> list[str]:
        names = self._with_outputs()
        if self.column_order is None:
            return names
        places(names, self.column_order, f"{self._who}: column_order")
        return self.column_order

    def _where(self) -> Place:
        if self.per_batch_map is None:
            return Place("free", self.num_parallel_workers)
        return where(self.num_parallel_workers, self.python_multiprocessing)

    def _begin(self, at: Pass) -> Lazy:
        child = self._over(at, self._where())
        names = self._with_outputs()
        if self.padding is not None:
            places(names, list(self.padding), f"{self._who}: pad_info")
        order = None
        if self.column_order is not None:
            order = places(names, self.column_order, f"{self._who}: column_order")
        inputs = self._inputs()

        def make() -> Collated:
            return Collated(
                child.work,
                names,
                self.per_batch_map,
                places(self.children[0]._names(), inputs, self._who),
                len(self.output_columns or inputs),
                order,
                self.padding,
                at.times,
            )

        size = int(self.batch_size) if isinstance(self.batch_size, int) else self.batch_size
        tasks = _Chunks(child.tasks, at, size, self.drop_remainder)
        return Lazy(tasks, at.work(make), child.place)

    def _length(self) -> int | None:
        length = super()._length()
        if length is None or not isinstance(self.batch_size, int):
            return None
        whole_ones, rest = divmod(length, self.batch_size)
        return whole_ones + (1 if rest and not self.drop_remainder else 0)

    def get_batch_size(self) -> int | None:
        """Rows in a batch; None where a function says it."""
        return self.batch_size if isinstance(self.batch_size, int) else None

    def _detail(self) -> Any:
        size = self.batch_size if isinstance(self.batch_size, int) else name_of(self.batch_size)
        return [size, self.drop_remainder, self.input_columns, self.output_columns]


@operation("padded_batch")
class PaddedBatchDataset(BatchDataset):
    """See `Dataset.padded_batch`."""

    _who = "padded_batch"

    def __init__(
        self,
        input_dataset: Dataset,
        batch_size: int,
        drop_remainder: bool = False,
        num_parallel_workers: int | None = None,
        pad_info: PadInfo | None = None,
    ) -> None:
        super().__init__(
            input_dataset, batch_size, drop_remainder, num_parallel_workers, pad_info=pad_info
        )
