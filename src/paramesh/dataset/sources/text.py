"""Lines of text files, and CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import ColumnNames, FilePaths
from paramesh.dataset.operations.columns import as_names
from paramesh.dataset.samplers import Shuffle
from paramesh.dataset.sources.files import RecordFiles, matching_files


class Lines:
    """The lines of files by number: their places are noted, the text stays in the files.

    Args:
        files: the paths.
        skip_first: leave the first line of each out.
        keep_empty: empty lines are lines, too.
    """

    def __init__(
        self, files: Sequence[str], skip_first: bool = False, keep_empty: bool = False
    ) -> None:
        self.files = list(files)
        self.spans: list[np.ndarray[Any, Any]] = []
        for path in self.files:
            found: list[tuple[int, int]] = []
            start = 0
            with open(path, "rb") as file:
                for nth, line in enumerate(file):
                    if (keep_empty or line.strip(b"\r\n")) and not (skip_first and nth == 0):
                        found.append((start, len(line)))
                    start += len(line)
            self.spans.append(np.array(found, np.int64).reshape(-1, 2))
        self.counts = [len(spans) for spans in self.spans]
        self._starts = np.concatenate([[0], np.cumsum(self.counts)])

    def __call__(self, index: int) -> str:
        """A line, without its end.

        Raises:
            RuntimeError: it is no UTF-8.
        """
        at = int(np.searchsorted(self._starts, index, "right")) - 1
        start, length = self.spans[at][index - self._starts[at]].tolist()
        with open(self.files[at], "rb") as file:
            file.seek(start)
            data = file.read(length)
        try:
            return data.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise RuntimeError(f"'{self.files[at]}': a line is no UTF-8: {error}.") from None


class TextRow:
    """A row of one column: a line."""

    def __init__(self, lines: Lines) -> None:
        self.lines = lines

    def __call__(self, index: int) -> Any:
        """The row of a number."""
        return (np.array(self.lines(index)),)


class TextFileDataset(RecordFiles):
    """The lines of text files: one column `text`. Empty lines are left out.

    Args:
        dataset_files: paths or patterns; the files are read in the order of their names.
        shuffle: True or Shuffle.GLOBAL: all lines; Shuffle.FILES: files; False: neither.
        num_samples, num_parallel_workers, num_shards, shard_id: as in MnistDataset.
        cache: MindSpore's `DatasetCache`; of no effect.

    Raises:
        TypeError, ValueError: an argument of another kind; no such file.
    """

    def __init__(
        self,
        dataset_files: FilePaths,
        num_samples: int | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = Shuffle.GLOBAL,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
    ) -> None:
        self._lines = Lines(matching_files(self._title(), dataset_files))
        super().__init__(
            self._lines.counts, shuffle, num_samples, num_parallel_workers, num_shards, shard_id,
            cache,
        )  # fmt: skip

    def _names(self) -> list[str]:
        return ["text"]

    def _fetch(self) -> Callable[[int], Any]:
        return TextRow(self._lines)

    def _detail(self) -> Any:
        return self._counts


class CsvRow:
    """A row of the cells of a line.

    Args:
        lines: of the files.
        delimiter: between cells.
        defaults: as `column_defaults` of CSVDataset; [] for strings.
        width: how many cells a line has.
        who: the dataset, for errors.
    """

    def __init__(
        self,
        lines: Lines,
        delimiter: str,
        defaults: list[Any],
        width: int,
        who: str = "CSVDataset",
    ) -> None:
        self.lines, self.delimiter, self.defaults, self.width = lines, delimiter, defaults, width
        self.who = who

    def __call__(self, index: int) -> Any:
        """The row of a number.

        Raises:
            RuntimeError: the line has another number of cells, or a cell of another type.
        """
        line = self.lines(index)
        cells = next(csv.reader(io.StringIO(line), delimiter=self.delimiter))
        if len(cells) != self.width:
            raise RuntimeError(
                f"{self.who}: a line has {len(cells)} cells, {self.width} are expected: {line!r}."
            )
        if not self.defaults:
            return tuple(np.array(cell) for cell in cells)
        return tuple(
            self._value(cell, default) for cell, default in zip(cells, self.defaults, strict=True)
        )

    def _value(self, cell: str, default: str | float) -> Any:
        if isinstance(default, str):
            return np.array(cell or default)
        dtype = np.float32 if isinstance(default, float) else np.int32
        try:
            return np.array(cell if cell else default, object).astype(dtype)
        except (ValueError, OverflowError):
            raise RuntimeError(
                f"CSVDataset: the cell {cell!r} is no {np.dtype(dtype).name}, which its default "
                f"{default!r} stands for."
            ) from None


class CSVDataset(RecordFiles):
    """The lines of CSV files.

    Args:
        dataset_files: paths or patterns; the files are read in the order of their names.
        field_delim: between cells.
        column_defaults: a value for each column, for empty cells; an int makes it Int32, a float
            Float32, a str a string. None: all columns are strings.
        column_names: None: the first line of each file has them.
        num_samples, num_parallel_workers, shuffle, num_shards, shard_id, cache: as in
            TextFileDataset.

    Raises:
        TypeError, ValueError, RuntimeError: an argument of another kind; no such file; when rows
            are asked for: a line with another number of cells, or a cell of another type.
    """

    def __init__(
        self,
        dataset_files: FilePaths,
        field_delim: str | None = ",",
        column_defaults: Sequence[str | float] | None = None,
        column_names: ColumnNames | None = None,
        num_samples: int | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = Shuffle.GLOBAL,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
    ) -> None:
        files = matching_files("CSVDataset", dataset_files)
        field_delim = "," if field_delim is None else field_delim
        if not isinstance(field_delim, str):
            raise TypeError(f"CSVDataset: field_delim must be a str, got {field_delim!r}.")
        if len(field_delim) != 1 or field_delim in '"\r\n':
            raise ValueError(f"CSVDataset: field_delim must be one character, got {field_delim!r}.")
        if column_defaults is not None:
            if not isinstance(column_defaults, list):
                raise TypeError(
                    f"CSVDataset: column_defaults must be a list, got {column_defaults!r}."
                )
            for value in column_defaults:
                if isinstance(value, bool) or not isinstance(value, int | float | str):
                    raise TypeError(
                        "CSVDataset: column_defaults must hold ints, floats or strs, "
                        f"got {value!r}."
                    )
        self._columns = self._header(files, field_delim, column_names)
        if column_defaults and len(column_defaults) != len(self._columns):
            raise ValueError(
                f"CSVDataset: {len(column_defaults)} column_defaults for {len(self._columns)} "
                "columns."
            )
        self._row = CsvRow(
            Lines(files, skip_first=not column_names),
            field_delim,
            column_defaults or [],
            len(self._columns),
        )
        super().__init__(
            self._row.lines.counts, shuffle, num_samples, num_parallel_workers, num_shards,
            shard_id, cache,
        )  # fmt: skip

    @staticmethod
    def _header(files: list[str], delimiter: str, names: ColumnNames | None) -> list[str]:
        if names:
            return as_names(names, "CSVDataset: column_names")
        found: list[list[str]] = []
        for path in files:
            with open(path, encoding="utf-8", newline="") as file:
                found.append(next(csv.reader(file, delimiter=delimiter), []))
        for path, header in zip(files, found, strict=True):
            if header != found[0] or not header:
                raise RuntimeError(
                    f"CSVDataset: the first line of '{path}' has the names {header}, that of "
                    f"'{files[0]}' has {found[0]}. Pass column_names if files have no such line."
                )
        return as_names(found[0], "CSVDataset: the first line")

    def _names(self) -> list[str]:
        return self._columns

    def _fetch(self) -> Callable[[int], Any]:
        return self._row

    def _detail(self) -> Any:
        return [self._columns, self._counts]
