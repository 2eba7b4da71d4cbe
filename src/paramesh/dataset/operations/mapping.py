"""map: functions and transforms over columns of each row."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from paramesh.dataset import pixels
from paramesh.dataset.argument_types import ColumnNames, Functions
from paramesh.dataset.arrays import to_array
from paramesh.dataset.dataset import Dataset
from paramesh.dataset.failures import name_of, of_user
from paramesh.dataset.operations.columns import as_names, check_new, places
from paramesh.dataset.operations.selecting import where
from paramesh.dataset.randomness import RowGenerator
from paramesh.dataset.registry import operation
from paramesh.dataset.runs import Pass
from paramesh.dataset.streams import Lazy, Place, Task, Work
from paramesh.dataset.wholes import Whole, whole


def is_pure(function: object) -> bool:
    """Whether several threads may run it, and random numbers come from the pipeline alone."""
    inner = getattr(function, "transforms", None)
    if isinstance(inner, list | tuple) and not all(map(is_pure, inner)):
        return False
    if hasattr(function, "seeded"):
        return True
    module = getattr(function, "__module__", None) or type(function).__module__
    return module.startswith("paramesh.dataset.")


def _draws(function: object) -> bool:
    """Whether it takes random numbers. A foreign one may, though a class above it says no."""
    inner = getattr(function, "transforms", None)
    if isinstance(inner, list | tuple) and any(map(_draws, inner)):
        return True
    if not hasattr(function, "seeded"):
        return False
    return pixels.is_foreign(function) or bool(getattr(function, "random", True))


def _has_foreign(function: object) -> bool:
    inner = getattr(function, "transforms", None)
    if isinstance(inner, list | tuple) and any(map(_has_foreign, inner)):
        return True
    return pixels.is_foreign(function)


class Mapped:
    """Work that passes columns of a row through functions.

    Args:
        inner: makes the row.
        operations: the functions.
        inputs: places of their columns in the row.
        outputs: how many come out.
        order: places of the columns to go on with, of the row with the outputs put in; None: all.
        seed, path: of the random numbers.
        names: of the input columns, for errors.
    """

    def __init__(
        self,
        inner: Work,
        operations: Sequence[Any],
        inputs: list[int],
        outputs: int,
        order: list[int] | None,
        seed: int,
        path: tuple[int, ...],
        names: Sequence[str],
    ) -> None:
        self.inner, self.operations = inner, list(operations)
        self.inputs, self.outputs, self.order = inputs, outputs, order
        self.seed, self.path, self.names = seed, path, list(names)
        self._foreign = any(map(_has_foreign, self.operations))
        self._by_row = self._foreign or len(self.inputs) != 1 or outputs != 1
        self._by_row |= any(map(_draws, self.operations))
        self._local: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_local": None}

    def _bound(self) -> Any:
        """The generator, the operations that draw from it, and the work below, of this thread."""
        if self._local is None:
            self._local = threading.local()
        local = self._local
        if not hasattr(local, "bound"):
            rows = None
            if any(map(_draws, self.operations)):
                rows = RowGenerator(self.seed, self.path)
            operations: list[Any] = [
                f.seeded(rows.generator) if rows is not None and hasattr(f, "seeded") else f
                for f in self.operations
            ]
            # A foreign function may write to its array, which another column's image is made of.
            inner = self.inner if self._foreign else pixels.ready(self.inner)
            local.bound = rows, [(f, pixels.waiting(f)) for f in operations], inner
        return local.bound

    def __call__(self, task: Task) -> Any:
        """The row with the outputs put in."""
        return tuple(map(pixels.made, self.waiting(task)))

    def waiting(self, task: Task) -> Any:
        """The row with the outputs put in; images may wait."""
        rows, operations, inner = self._bound()
        row = inner(task)
        if rows is not None:
            rows.at(task[0], task[1] if isinstance(task[1], int) else 0)
        values: tuple[Any, ...] = tuple(row[i] for i in self.inputs)
        for function, lazily in operations:
            try:
                if lazily is not None and len(values) == 1:
                    found = lazily(values[0])
                else:
                    found = function(*map(pixels.made, values))
            except Exception as error:
                raise of_user(self._what(function), error) from error
            values = found if isinstance(found, tuple) else (found,)
        made = [
            value if isinstance(value, pixels.Pixels) else self._array(value) for value in values
        ]
        if len(made) != self.outputs:
            raise RuntimeError(
                f"{self._what()} returned {len(made)} values for {self.outputs} output columns. "
                "Name them in output_columns."
            )
        if self.outputs == len(self.inputs):
            new = list(row)
            for at, value in zip(self.inputs, made, strict=True):
                new[at] = value
        else:
            new = [*made, *(v for i, v in enumerate(row) if i not in self.inputs)]
        return tuple(new) if self.order is None else tuple(new[i] for i in self.order)

    def whole(self, tasks: Sequence[Task]) -> list[Whole] | None:
        """The columns of a batch, if each function does the same to all rows."""
        columns = None if self._by_row else whole(self.inner, tasks)
        if columns is None:
            return None
        column: Whole | None = columns[self.inputs[0]]
        for function in self.operations:
            try:
                column = column.through(function)
            except Exception as error:
                raise of_user(self._what(function), error) from error
            if column is None:
                self._by_row = True  # rows of arrays are alike in all batches
                return None
        columns[self.inputs[0]] = column
        return columns if self.order is None else [columns[i] for i in self.order]

    def _array(self, value: object) -> Any:
        if type(value) is np.ndarray and value.dtype.kind != "O":
            return value
        if value is None:
            raise RuntimeError(f"{self._what()} returned None; is a `return` missing?")
        try:
            return to_array(value, f"what {self._what()} returned")
        except TypeError as error:
            raise RuntimeError(str(error)) from None

    def _what(self, function: object = None) -> str:
        function = self.operations[-1] if function is None else function
        return f"map, column {', '.join(map(repr, self.names))}: {name_of(function)}"


@operation("map")
class MapDataset(Dataset):
    """See `Dataset.map`."""

    def __init__(
        self,
        input_dataset: Dataset,
        operations: Functions,
        input_columns: ColumnNames | None = None,
        output_columns: ColumnNames | None = None,
        column_order: ColumnNames | None = None,
        num_parallel_workers: int | None = None,
        python_multiprocessing: bool = False,
        callbacks: object = None,
        cache: object = None,
        max_rowsize: object = None,
        offload: bool | None = None,
    ) -> None:
        super().__init__([input_dataset], num_parallel_workers)
        self.operations = list(operations) if isinstance(operations, list | tuple) else [operations]
        if not self.operations:
            raise ValueError("map: operations is empty; give a function or a list of them.")
        for function in self.operations:
            if not callable(function):
                raise ValueError(
                    f"map: operations must be functions or transforms, got {function!r}."
                )
            if isinstance(function, type):
                raise TypeError(
                    f"map: operations has the class {function.__name__} itself; call it: "
                    f"{function.__name__}(...)."
                )
        if callbacks is not None:
            raise NotImplementedError(
                "map: callbacks (DSCallback) are not supported: use the callbacks of Model.train."
            )
        if not isinstance(python_multiprocessing, bool):
            raise TypeError(
                f"map: python_multiprocessing must be a bool, got {python_multiprocessing!r}."
            )
        as_list = lambda value, what: (  # noqa: E731
            as_names(value, f"map: {what}") or None if value is not None else None
        )
        self.input_columns = as_list(input_columns, "input_columns")
        self.output_columns = as_list(output_columns, "output_columns")
        self.column_order = as_list(column_order, "column_order")
        self.python_multiprocessing = python_multiprocessing

    def _inputs(self) -> list[str]:
        return self.input_columns or super()._names()[:1]

    def _with_outputs(self) -> list[str]:
        names, inputs = super()._names(), self._inputs()
        which = places(names, inputs, "map")
        outputs = self.output_columns or inputs
        if len(outputs) == len(inputs):
            new = list(names)
            for at, name in zip(which, outputs, strict=True):
                new[at] = name
        else:
            new = [*outputs, *(name for name in names if name not in inputs)]
        return check_new(new, "map")

    def _names(self) -> list[str]:
        names = self._with_outputs()
        if self.column_order is None:
            return names
        places(names, self.column_order, "map: column_order")
        return self.column_order

    def _where(self) -> Place:
        workers = self.num_parallel_workers
        if self.python_multiprocessing and workers != 1:
            return Place("processes", workers)
        if all(map(is_pure, self.operations)):
            return Place("free", workers)
        return where(workers, False)

    def _begin(self, at: Pass) -> Lazy:
        child = self._over(at, self._where())
        inputs = self._inputs()
        order = None
        if self.column_order is not None:
            order = places(self._with_outputs(), self.column_order, "map: column_order")

        def make() -> Mapped:
            return Mapped(
                child.work,
                self.operations,
                places(self.children[0]._names(), inputs, "map"),
                len(self.output_columns or inputs),
                order,
                at.run.seed,
                at.drawn(),
                inputs,
            )

        return Lazy(child.tasks, at.work(make), child.place)

    def _detail(self) -> Any:
        return [self.input_columns, self.output_columns, self.column_order,
                list(map(name_of, self.operations))]  # fmt: skip
