"""Columns by name: which ones an operation takes, in which order they go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramesh.dataset.argument_types import ColumnNames
from paramesh.dataset.dataset import Dataset
from paramesh.dataset.pixels import made, ready
from paramesh.dataset.registry import operation
from paramesh.dataset.runs import Pass
from paramesh.dataset.streams import FREE, Lazy, Task, Work
from paramesh.dataset.wholes import Whole, whole


def as_names(value: object, what: str) -> list[str]:
    """One name, or a list of them, as a list.

    Raises:
        TypeError: something else. ValueError: an empty name, or one twice.
    """
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple):
        raise TypeError(f"{what} must be a str or a list of them, got {value!r}.")
    for name in listed:
        if not isinstance(name, str):
            raise TypeError(f"{what} must be a str or a list of them, got {name!r} in it.")
        if not name:
            raise ValueError(f"{what} has an empty name.")
    if len(set(listed)) != len(listed):
        raise ValueError(f"{what} has a name twice: {list(listed)}.")
    return list(listed)


def places(names: Sequence[str], wanted: Sequence[str], who: str) -> list[int]:
    """Where the wanted columns are.

    Raises:
        RuntimeError: there is no such column.
    """
    for name in wanted:
        if name not in names:
            raise RuntimeError(
                f"{who}: there is no column '{name}'; the columns are {list(names)}."
            )
    return [list(names).index(name) for name in wanted]


def check_new(names: Sequence[str], who: str) -> list[str]:
    """Names of columns, each only once.

    Raises:
        RuntimeError: one comes twice.
    """
    for at, name in enumerate(names):
        if name in names[:at]:
            raise RuntimeError(
                f"{who}: there would be two columns '{name}' among {list(names)}. Rename one."
            )
    return list(names)


class Chosen:
    """Work that gives some columns of a row."""

    def __init__(self, inner: Work, which: list[int]) -> None:
        self.inner, self.which = inner, which

    def __call__(self, task: Task) -> Any:
        """The chosen columns."""
        return tuple(map(made, self.waiting(task)))

    def waiting(self, task: Task) -> Any:
        """The chosen columns; images may wait."""
        row = ready(self.inner)(task)
        return tuple(row[i] for i in self.which)

    def whole(self, tasks: Sequence[Task]) -> list[Whole] | None:
        """The chosen columns of a batch of rows."""
        columns = whole(self.inner, tasks)
        return None if columns is None else [columns[i] for i in self.which]


@operation("project")
class ProjectDataset(Dataset):
    """See `Dataset.project`."""

    def __init__(self, input_dataset: Dataset, columns: ColumnNames) -> None:
        super().__init__([input_dataset])
        self.columns = as_names(columns, "project: columns")

    def _names(self) -> list[str]:
        places(super()._names(), self.columns, "project")
        return self.columns

    def _begin(self, at: Pass) -> Lazy:
        child = self._over(at, FREE)
        which = places(super()._names(), self.columns, "project")
        return Lazy(child.tasks, at.work(lambda: Chosen(child.work, which)), child.place)

    def _detail(self) -> Any:
        return self.columns


@operation("rename")
class RenameDataset(Dataset):
    """See `Dataset.rename`."""

    def __init__(
        self, input_dataset: Dataset, input_columns: ColumnNames, output_columns: ColumnNames
    ) -> None:
        super().__init__([input_dataset])
        self.input_columns = as_names(input_columns, "rename: input_columns")
        self.output_columns = as_names(output_columns, "rename: output_columns")
        if len(self.input_columns) != len(self.output_columns):
            raise ValueError(
                f"rename: {len(self.input_columns)} input_columns and {len(self.output_columns)} "
                "output_columns; there has to be one for each."
            )

    def _names(self) -> list[str]:
        names = super()._names()
        which = places(names, self.input_columns, "rename")
        new = list(names)
        for at, name in zip(which, self.output_columns, strict=True):
            new[at] = name
        return check_new(new, "rename")

    def _begin(self, at: Pass) -> Lazy:
        return self._child(at)

    def _detail(self) -> Any:
        return [self.input_columns, self.output_columns]
