"""MindDataset: the rows of MindRecord files. `Dataset.save` writes them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from paramesh.dataset.argument_types import ColumnNames, FilePaths
from paramesh.dataset.operations.columns import as_names
from paramesh.dataset.registry import operation
from paramesh.dataset.samplers import SamplerLike, Shuffle
from paramesh.dataset.sources.base import MappableDataset
from paramesh.mindrecord import FileWriter, MRMOpenError
from paramesh.mindrecord.reader import Rows

if TYPE_CHECKING:
    from paramesh.dataset.dataset import Dataset


_WHO = "MindDataset"


class _Row:
    """Reads the columns of a row, or a row that fills up the last shard."""

    def __init__(self, rows: Rows, columns: list[str], padded: dict[str, Any] | None) -> None:
        self.rows, self.columns, self.padded = rows, columns, padded
        self.kinds = {name: entry["type"] for name, entry in rows.schema.items()}
        # Without blobs a row is one read instead of two.
        plain = not any(
            "shape" in rows.schema[name] or self.kinds[name] == "bytes" for name in columns
        )
        self.read: Callable[[int], dict[str, Any]] = rows.plain if plain else rows.__getitem__

    def __call__(self, index: int) -> Any:
        if index >= len(self.rows):
            assert self.padded is not None
            row = self.padded
        else:
            row = self.read(index)
        return tuple(self._array(name, row[name]) for name in self.columns)

    def _array(self, name: str, value: Any) -> Any:
        kind = self.kinds[name]
        if kind == "bytes":
            return np.frombuffer(bytearray(value), np.uint8)
        return np.array(value) if kind == "string" else np.asarray(value, kind)


class MindDataset(MappableDataset):
    """The rows of MindRecord files. Columns come in the order of their names.

    Bytes are arrays of UInt8, as they were in MindSpore before its strings of bytes, which lose
    zeros at their end.

    Args:
        dataset_files: one of the files that were written together, or a list of files.
        columns_list: the columns to read, in this order; None: all.
        num_parallel_workers, shuffle, num_shards, shard_id, sampler, num_samples: as in
            MnistDataset.
        padded_sample: a row that comes at the end, `num_padded` times.
        num_padded: how often.
        cache: MindSpore's `DatasetCache`; of no effect.
        dataset_file: MindSpore 1.x's name of `dataset_files`.

    Raises:
        TypeError, ValueError, RuntimeError: an argument of another kind; no such file; a damaged
            one; no such column.
    """

    def __init__(
        self,
        dataset_files: FilePaths | None = None,
        columns_list: ColumnNames | None = None,
        num_parallel_workers: int | None = None,
        shuffle: bool | Shuffle | None = None,
        num_shards: int | None = None,
        shard_id: int | None = None,
        sampler: SamplerLike | None = None,
        padded_sample: dict[str, Any] | None = None,
        num_padded: int | None = None,
        num_samples: int | None = None,
        cache: object = None,
        dataset_file: FilePaths | None = None,
    ) -> None:
        if (dataset_files is None) == (dataset_file is None):
            raise TypeError(f"{_WHO}: give dataset_files: a path, or a list of paths.")
        dataset_files = dataset_file if dataset_files is None else dataset_files
        assert dataset_files is not None
        listed = dataset_files if isinstance(dataset_files, list) else [dataset_files]
        for each in listed:
            if not isinstance(each, str | os.PathLike):
                raise TypeError(f"{_WHO}: dataset_files must be paths, got {each!r}.")
            if not os.path.isfile(each):
                raise ValueError(f"{_WHO}: there is no file '{each}'.")
        super().__init__(
            num_parallel_workers, sampler, num_samples, shuffle, num_shards, shard_id, cache
        )
        try:
            self._rows_of = Rows(dataset_files)
        except MRMOpenError as error:
            raise RuntimeError(f"{_WHO}: {error}") from None
        known = sorted(self._rows_of.schema)
        self._columns = known
        if columns_list is not None:
            self._columns = as_names(columns_list, f"{_WHO}: columns_list") or known
            for name in self._columns:
                if name not in known:
                    raise RuntimeError(f"{_WHO}: there is no column '{name}'; there are {known}.")
        self._padded, self._more = self._padding(padded_sample, num_padded)

    def _padding(
        self, sample: dict[str, Any] | None, count: int | None
    ) -> tuple[dict[str, Any] | None, int]:
        if sample is None and count is None:
            return None, 0
        if sample is None or count is None:
            raise RuntimeError(f"{_WHO}: padded_sample and num_padded belong together.")
        if not isinstance(sample, dict):
            raise TypeError(f"{_WHO}: padded_sample must be a dict, got {sample!r}.")
        if not isinstance(count, int) or isinstance(count, bool):
            raise TypeError(f"{_WHO}: num_padded must be an int, got {count!r}.")
        if count < 0:
            raise ValueError(f"{_WHO}: num_padded must be at least 0, got {count}.")
        for name in self._columns:
            if name not in sample:
                raise ValueError(f"{_WHO}: padded_sample has no column '{name}'.")
        return sample, count

    def _names(self) -> list[str]:
        return self._columns

    def _source_length(self) -> int:
        return len(self._rows_of) + self._more

    def _fetch(self) -> Callable[[int], Any]:
        return _Row(self._rows_of, self._columns, self._padded)

    def _labels(self) -> np.ndarray[Any, Any] | None:
        sampler: Any = self.sampler
        while not hasattr(sampler, "class_column"):
            sampler = sampler.child_sampler
        name = sampler.class_column
        if name not in self._rows_of.schema or "shape" in self._rows_of.schema[name]:
            raise RuntimeError(f"{_WHO}: PKSampler's class_column '{name}' is no column of labels.")
        return np.array([self._rows_of.plain(i)[name] for i in range(len(self._rows_of))])

    def _detail(self) -> Any:
        return [self._columns, len(self._rows_of), self._more]


_TYPES = {
    "bool": "int32", "int8": "int32", "uint8": "bytes", "int16": "int32", "uint16": "int32",
    "int32": "int32", "uint32": "int64", "int64": "int64", "float16": "float32",
    "float32": "float32", "float64": "float64",
}  # fmt: skip


@operation("save")
def save(dataset: Dataset, file_name: str, num_files: int, file_type: object) -> None:
    """See `Dataset.save`."""
    if file_type != "mindrecord":
        raise ValueError(f"save: file_type must be 'mindrecord', got {file_type!r}.")
    writer = FileWriter(file_name, num_files, overwrite=True)
    schema: dict[str, dict[str, Any]] | None = None
    waiting: list[dict[str, Any]] = []
    for row in dataset.create_dict_iterator(num_epochs=1, output_numpy=True):
        if schema is None:
            schema = {name: _field(name, value) for name, value in row.items()}
            writer.add_schema(schema)
        waiting.append({name: _stored(value, schema[name]) for name, value in row.items()})
        if len(waiting) == 1000:
            writer.write_raw_data(waiting)
            waiting = []
    if schema is None:
        raise RuntimeError("save: the dataset has no rows.")
    if waiting:
        writer.write_raw_data(waiting)
    writer.commit()


def _field(name: str, value: np.ndarray) -> dict[str, Any]:
    kind = "string" if value.dtype.kind == "U" else _TYPES.get(value.dtype.name)
    if value.dtype.kind == "S":
        kind = "bytes"
    if kind is None or (kind in ("string",) and value.ndim):
        raise TypeError(
            f"save: column '{name}' is {value.dtype} of shape {value.shape}, which MindRecord "
            "does not have."
        )
    if value.dtype == np.uint8 and value.ndim != 1:
        kind = "int32"
    plain = not value.ndim or kind == "bytes"
    return {"type": kind} if plain else {"type": kind, "shape": [-1, *value.shape[1:]]}


def _stored(value: np.ndarray, entry: dict[str, Any]) -> Any:
    if entry["type"] == "bytes":
        return value.tobytes()
    if "shape" in entry:
        return value.astype(entry["type"])
    return value.item()
