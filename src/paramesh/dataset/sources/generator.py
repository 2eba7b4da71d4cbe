"""Rows of the user's own: GeneratorDataset, NumpySlicesDataset, PaddedDataset."""

from __future__ import annotations

import builtins
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import ColumnNames
from paramesh.dataset.arrays import to_array, to_row
from paramesh.dataset.failures import name_of, of_user
from paramesh.dataset.operations.columns import as_names
from paramesh.dataset.operations.selecting import where
from paramesh.dataset.runs import Pass
from paramesh.dataset.samplers import BuiltinSampler, PKSampler, SamplerLike, Shuffle
from paramesh.dataset.sources.base import Fetched, MappableDataset
from paramesh.dataset.sources.schema import Schema
from paramesh.dataset.streams import Indexed, Lazy, Place, Plain
from paramesh.dataset.wholes import Whole, gathered
from paramesh.dtype import DTypeLike, to_dtype


class _Columns:
    """Makes rows of what a source gives, and checks them."""

    def __init__(self, names: Sequence[str], dtypes: Sequence[Any], source: object) -> None:
        self.names, self.dtypes = list(names), list(dtypes)
        self.source_name = name_of(source)

    def row(self, value: object) -> Any:
        try:
            row = to_row(value, f"GeneratorDataset: what {self.source_name} gave")
        except TypeError as error:
            raise RuntimeError(str(error)) from None
        if len(row) != len(self.names):
            raise RuntimeError(
                f"GeneratorDataset: {self.source_name} gave a row of {len(row)} items, "
                f"column_names has {len(self.names)}: {self.names}."
            )
        for name, item, dtype in zip(self.names, row, self.dtypes, strict=False):
            if item.dtype != dtype:
                raise RuntimeError(
                    f"GeneratorDataset: column '{name}' is {item.dtype} in {self.source_name}, "
                    f"column_types says {dtype}."
                )
        return row


class _ByIndex:
    """Reads rows of a random-access source."""

    def __init__(self, source: Any, columns: _Columns) -> None:
        self.source, self.columns = source, columns

    def __call__(self, index: int) -> Any:
        try:
            value = self.source[index]
            if isinstance(value, types.GeneratorType):
                value = tuple(value)
        except Exception as error:
            what = f"GeneratorDataset: {name_of(self.source)}[{index}]"
            raise of_user(what, error) from error
        return self.columns.row(value)

    def whole(self, indices: Sequence[int]) -> list[Whole] | None:
        """The columns of the rows at some indices, of a source that has them in arrays."""
        if type(self.source) is not _Slices or self.columns.dtypes:
            return None
        return gathered(self.source.columns, indices)


class _Collated:
    """Reads the rows of a list of indices, and makes a batch of them."""

    def __init__(self, rows: _ByIndex, collate: Callable[..., Any] | None) -> None:
        self.rows, self.collate = rows, collate

    def __call__(self, indices: Sequence[int]) -> Any:
        rows = [self.rows(int(index)) for index in indices]
        columns = [list(column) for column in builtins.zip(*rows, strict=True)]
        if self.collate is None:
            return tuple(np.stack(column) for column in columns)
        try:
            made = self.collate(*columns)
        except Exception as error:
            raise of_user(f"GeneratorDataset, collate_fn {name_of(self.collate)}", error) from error
        return self.rows.columns.row(made if isinstance(made, tuple) else (made,))


class _Kept:
    """A generator that can be gone through again: what it gave is kept."""

    def __init__(self, generator: Iterator[Any]) -> None:
        self._generator, self._seen = generator, list[Any]()
        self.__qualname__ = name_of(generator)

    def __iter__(self) -> Iterator[Any]:
        at = 0
        while True:
            if at == len(self._seen):
                try:
                    self._seen.append(next(self._generator))
                except StopIteration:
                    return
            yield self._seen[at]
            at += 1


class GeneratorDataset(MappableDataset):
    """Rows of an object of the user's.

    Args:
        source: with `__getitem__` and `__len__`: rows are read by index, in a sampler's order.
            An iterable, or a function that returns one: they come as it gives them, anew in each
            epoch (what a generator object gives is kept for the next one).
        column_names: of the items of a row.
        column_types: their types; they are checked.
        schema: a `Schema`, or the path of one, instead of names and types.
        num_samples: at most so many rows; None: all.
        num_parallel_workers: read by index in so many workers at once; 1: in this process.
        shuffle: None: yes, if rows can be read by index.
        sampler: a sampler, or an iterable of indices. If it gives arrays of indices, all of one
            length, the source is given each array, and returns a batch.
        num_shards: into how many parts the rows are dealt; None: one.
        shard_id: which of them this is.
        python_multiprocessing: workers are processes; False: threads.
        max_rowsize: MindSpore's; of no effect.
        batch_sampler: an iterable of lists of indices: each makes a batch.
        collate_fn: takes a list for each column, returns the batch; with `batch_sampler`.

    Raises:
        TypeError, ValueError: an argument of another kind, or arguments that exclude each other.
        RuntimeError: when rows are asked for: the source failed (with its line), or gave something
            else than columns of arrays.
    """

    _takes_rows_of_indices = True

    def __init__(
        self,
        source: Any,
        column_names: ColumnNames | None = None,
        column_types: Sequence[DTypeLike] | None = None,
        schema: Schema | str | None = None,
        num_samples: int | None = None,
        num_parallel_workers: int = 1,
        shuffle: bool | Shuffle | None = None,
        sampler: SamplerLike | None = None,
        num_shards: int | None = None,
        shard_id: int | None = None,
        python_multiprocessing: bool = True,
        max_rowsize: object = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        collate_fn: Callable[..., Any] | None = None,
    ) -> None:
        if isinstance(source, builtins.zip):
            source = list(source)
        elif isinstance(source, types.GeneratorType):
            source = _Kept(source)
        indexed = hasattr(source, "__getitem__")
        if not (indexed or hasattr(source, "__iter__") or callable(source)):
            raise TypeError(
                "GeneratorDataset: source must have __getitem__ and __len__, be iterable, or be a "
                f"function that returns an iterable; got {type(source).__name__}."
            )
        if isinstance(source, type):
            raise TypeError(
                f"GeneratorDataset: source is the class {source.__name__} itself; call it: "
                f"{source.__name__}(...)."
            )
        if column_names is None and schema is None:
            raise ValueError(
                "GeneratorDataset: give column_names, the names of the items of a row (or a "
                "schema)."
            )
        if not isinstance(python_multiprocessing, bool):
            raise TypeError(
                "GeneratorDataset: python_multiprocessing must be a bool, "
                f"got {python_multiprocessing!r}."
            )
        if isinstance(sampler, PKSampler):
            raise ValueError("GeneratorDataset: PKSampler needs labels, which it does not know.")
        if not indexed:
            for name, value in (("sampler", sampler), ("num_shards", num_shards),
                                ("batch_sampler", batch_sampler)):  # fmt: skip
                if value is not None:
                    raise ValueError(
                        f"GeneratorDataset: {name} needs a source with __getitem__ and __len__."
                    )
        if batch_sampler is not None:
            for name, value in (("sampler", sampler), ("num_shards", num_shards),
                                ("shuffle", shuffle), ("num_samples", num_samples)):  # fmt: skip
                if value is not None:
                    raise ValueError(f"GeneratorDataset: batch_sampler and {name} are both given.")
            if not hasattr(batch_sampler, "__iter__"):
                raise TypeError(
                    "GeneratorDataset: batch_sampler must give lists of indices, "
                    f"got {batch_sampler!r}."
                )
        if collate_fn is not None and batch_sampler is None:
            raise ValueError(
                "GeneratorDataset: collate_fn is of batch_sampler, which is not given."
            )
        super().__init__(num_parallel_workers, sampler, num_samples, shuffle, num_shards, shard_id)
        self.source: Any = source
        self._indexed = indexed
        self._batch_sampler, self._collate = batch_sampler, collate_fn
        dtypes = [] if column_types is None else [to_dtype(t).np_dtype for t in column_types]
        if schema is not None:
            schema = schema if isinstance(schema, Schema) else Schema(schema)
            self.column_names = [column["name"] for column in schema.columns]
            dtypes = [np.dtype(column["type"]) for column in schema.columns]
        else:
            self.column_names = as_names(column_names, "GeneratorDataset: column_names")
        if dtypes and len(dtypes) != len(self.column_names):
            raise ValueError(
                f"GeneratorDataset: {len(dtypes)} column_types for {len(self.column_names)} "
                "column_names."
            )
        self._columns = _Columns(self.column_names, dtypes, source)
        self.python_multiprocessing, self._most = python_multiprocessing, num_samples or None

    def _names(self) -> list[str]:
        return self.column_names

    def _where(self) -> Place:
        workers = self.num_parallel_workers or 1
        return where(workers, self.python_multiprocessing)

    def _source_length(self) -> int:
        if not hasattr(self.source, "__len__"):
            raise RuntimeError(
                f"GeneratorDataset: {name_of(self.source)} has __getitem__, so that it needs "
                "__len__ too."
            )
        try:
            return len(self.source)
        except Exception as error:
            raise of_user(f"GeneratorDataset: len({name_of(self.source)})", error) from error

    def _fetch(self) -> Callable[[Any], Any]:
        rows = _ByIndex(self.source, self._columns)
        return rows if self._batch_sampler is None else _Collated(rows, self._collate)

    def _begin(self, at: Pass) -> Lazy:
        if not self._indexed:
            return at.plain(Plain(self._iterated()))
        if self._batch_sampler is None:
            return super()._begin(at)
        sampler: Any = self._batch_sampler
        keys = [list(map(int, np.atleast_1d(indices))) for indices in sampler]
        return Lazy(Indexed(keys, at.epoch), at.work(lambda: Fetched(self._fetch())), self._where())

    def _iterated(self) -> Iterator[Any]:
        source = self.source
        name = name_of(source)
        try:
            items = iter(source if hasattr(source, "__iter__") else source())
        except Exception as error:
            raise of_user(f"GeneratorDataset: iterating over {name}", error) from error
        given = 0
        while self._most is None or given < self._most:
            try:
                item = next(items)
            except StopIteration:
                return
            except Exception as error:
                raise of_user(f"GeneratorDataset: {name}", error) from error
            yield self._columns.row(item)
            given += 1

    def _length(self) -> int | None:
        if self._indexed:
            if self._batch_sampler is None:
                return super()._length()
            sampler: Any = self._batch_sampler
            return len(sampler) if hasattr(sampler, "__len__") else None
        if not hasattr(self.source, "__len__"):
            return None
        length = len(self.source)
        return length if self._most is None else min(length, self._most)

    def is_shuffled(self) -> bool:
        """Whether a sampler shuffles."""
        return self._indexed and super().is_shuffled()

    def _split_by_sampler(self, counts: list[int], randomize: bool) -> tuple[Any, ...] | None:
        if not self._indexed or self._batch_sampler is not None:
            return None
        return super()._split_by_sampler(counts, randomize)

    def _detail(self) -> Any:
        return [self.column_names, type(self.source).__qualname__]

    def __getitem__(self, index: int) -> Any:
        """The row of the source at an index, as the source gives it.

        Raises:
            RuntimeError: rows cannot be read by index.
        """
        if not self._indexed or self._batch_sampler is not None:
            raise RuntimeError("GeneratorDataset: this source cannot be read by index.")
        if not isinstance(self.sampler, BuiltinSampler):
            raise RuntimeError("GeneratorDataset: it has no sampler.")
        return self.source[int(index)]


class _Slices:
    """Rows of columns in memory."""

    def __init__(self, columns: list[Any]) -> None:
        self.columns = columns

    def __getitem__(self, index: int) -> Any:
        return tuple(column[index] for column in self.columns)

    def __len__(self) -> int:
        return len(self.columns[0])


class NumpySlicesDataset(GeneratorDataset):
    """The rows of arrays in memory, along their first axis.

    Args:
        data: an array or a list: one column. A tuple: a column for each. A dict (or a pandas
            frame): columns with their names. The rows of a list may have different shapes.
        column_names: None: those of the dict, else `column_0`, …
        num_samples, num_parallel_workers, shuffle, sampler, num_shards, shard_id: as in
            GeneratorDataset.

    Raises:
        TypeError, ValueError: data of another kind, an empty list, columns of different lengths, or
            another number of names.
    """

    def __init__(
        self,
        data: Any,
        column_names: ColumnNames | None = None,
        num_samples: int | None = None,
        num_parallel_workers: int = 1,
        shuffle: bool | Shuffle | None = None,
        sampler: SamplerLike | None = None,
        num_shards: int | None = None,
        shard_id: int | None = None,
    ) -> None:
        names: list[str] | None = None
        if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a pandas frame
            data = {str(name): data[name].to_numpy() for name in data.columns}
        if isinstance(data, dict):
            names, columns = [str(key) for key in data], list(data.values())
        elif isinstance(data, tuple):
            columns = list(data)
        elif isinstance(data, list | np.ndarray) or hasattr(data, "asnumpy"):
            columns = [data]
        else:
            raise TypeError(
                "NumpySlicesDataset: data must be a list, a tuple, a dict or an array, "
                f"got {type(data).__name__}."
            )
        if not columns:
            raise ValueError("NumpySlicesDataset: data is empty.")
        given = (
            None
            if column_names is None
            else as_names(column_names, "NumpySlicesDataset: column_names")
        )
        names = given or names or [f"column_{i}" for i in range(len(columns))]
        if len(names) != len(columns):
            raise ValueError(
                f"NumpySlicesDataset: {len(names)} column_names for {len(columns)} columns of data."
            )
        arrays: list[Any] = []
        for name, column in builtins.zip(names, columns, strict=True):
            what = f"NumpySlicesDataset: column '{name}'"
            if isinstance(column, list) and not column:
                raise ValueError(f"{what} is an empty list.")
            try:
                array = to_array(column, what)
            except TypeError:
                if not isinstance(column, list):
                    raise
                # Rows of different shapes, each an array of its own.
                array = [to_array(row, f"{what}, row {i}") for i, row in enumerate(column)]
            if isinstance(array, np.ndarray) and array.ndim == 0:
                raise ValueError(
                    f"NumpySlicesDataset: column '{name}' is one number; it needs an axis for the "
                    "rows."
                )
            if len(array) != len(arrays[0] if arrays else array):
                raise ValueError(
                    f"NumpySlicesDataset: column '{name}' has {len(array)} rows, column "
                    f"'{names[0]}' has {len(arrays[0])}."
                )
            arrays.append(array)
        super().__init__(
            _Slices(arrays),
            names,
            num_samples=num_samples,
            num_parallel_workers=num_parallel_workers,
            shuffle=shuffle,
            sampler=sampler,
            num_shards=num_shards,
            shard_id=shard_id,
        )

    def _where(self) -> Place:
        # Reading from memory is cheaper than handing a row between processes.
        return Place("free")


class PaddedDataset(GeneratorDataset):
    """Rows that fill up another dataset, so that its shards have equal numbers.

    Args:
        padded_samples: a list of {column: value}.

    Raises:
        TypeError, ValueError: it is something else, or empty.
    """

    def __init__(self, padded_samples: list[dict[str, Any]]) -> None:
        if not isinstance(padded_samples, list):
            raise TypeError(
                f"PaddedDataset: padded_samples must be a list of dicts, got {padded_samples!r}."
            )
        if not padded_samples or not all(isinstance(each, dict) for each in padded_samples):
            raise ValueError("PaddedDataset: padded_samples must be a list of dicts, not empty.")
        names = list(padded_samples[0])
        for each in padded_samples:
            if list(each) != names:
                raise ValueError(
                    f"PaddedDataset: all samples must have the columns {names}, got {list(each)}."
                )
        self.padded_samples = padded_samples
        super().__init__([tuple(each.values()) for each in padded_samples], names, shuffle=False)
