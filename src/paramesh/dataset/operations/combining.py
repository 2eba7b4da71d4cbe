"""Several datasets as one: zip, concat, flat_map."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from paramesh.dataset.arrays import Row
from paramesh.dataset.dataset import Dataset
from paramesh.dataset.failures import name_of, of_user
from paramesh.dataset.operations.columns import check_new
from paramesh.dataset.registry import operation
from paramesh.dataset.runs import Pass
from paramesh.dataset.samplers import BuiltinSampler, DistributedSampler
from paramesh.dataset.streams import Lazy, Plain, Stream


class _Joined(Stream):
    """Rows of several streams, side by side."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self._streams = streams

    def __next__(self) -> Any:
        rows = [next(stream) for stream in self._streams]
        return tuple(value for row in rows for value in row)

    def skip(self, count: int) -> int:
        return min(stream.skip(count) for stream in self._streams)

    def close(self) -> None:
        for stream in self._streams:
            stream.close()


@operation("zip")
class ZipDataset(Dataset):
    """See `Dataset.zip`."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        for each in datasets:
            if not isinstance(each, Dataset):
                raise TypeError(f"zip: must be given datasets, got {type(each).__name__}.")
        super().__init__(datasets)

    def _names(self) -> list[str]:
        return check_new([name for child in self.children for name in child._names()], "zip")

    def _begin(self, at: Pass) -> Lazy:
        self._names()
        return at.plain(_Joined([self._child_rows(at, i) for i in range(len(self.children))]))

    def _length(self) -> int | None:
        lengths = [child._length() for child in self.children]
        return None if None in lengths else min(n for n in lengths if n is not None)


def zip(datasets: tuple[Dataset, ...]) -> ZipDataset:
    """The columns of several datasets side by side, as long as the shortest.

    Raises:
        TypeError: no tuple of datasets. ValueError: fewer than two.
    """
    if not isinstance(datasets, tuple):
        raise TypeError(f"zip: datasets must be a tuple of datasets, got {datasets!r}.")
    if len(datasets) < 2:
        raise ValueError("zip: datasets must be at least two.")
    return ZipDataset(datasets)


class _Chain(Stream):
    """The rows of one stream after the other; each begins when it is its turn."""

    def __init__(self, begins: Sequence[Callable[[], Stream]]) -> None:
        self._begins = list(begins)
        self._stream: Stream | None = None

    def _current(self) -> Stream | None:
        if self._stream is None and self._begins:
            self._stream = self._begins.pop(0)()
        return self._stream

    def _following(self) -> None:
        if self._stream is not None:
            self._stream.close()
        self._stream = None

    def __next__(self) -> Any:
        while (stream := self._current()) is not None:
            for row in stream:
                return row
            self._following()
        raise StopIteration

    def skip(self, count: int) -> int:
        passed = 0
        while passed < count and (stream := self._current()) is not None:
            passed += stream.skip(count - passed)
            if passed < count:
                self._following()
        return passed

    def close(self) -> None:
        self._following()
        self._begins.clear()


@operation("concat")
class ConcatDataset(Dataset):
    """See `Dataset.concat`; a sampler deals all rows out, one after the other over the children."""

    def __init__(self, datasets: Sequence[Dataset]) -> None:
        for each in datasets:
            if not isinstance(each, Dataset):
                raise TypeError(f"concat: must be given datasets, got {type(each).__name__}.")
        super().__init__(datasets)
        self._sampler: DistributedSampler | None = None
        self._check_names = False

    def _names(self) -> list[str]:
        names = self.children[0]._names()
        for child in self.children[1:]:
            if child._names() != names:
                raise RuntimeError(
                    f"concat: the columns differ: {names} and {child._names()}. Use rename and "
                    "project before."
                )
        return names

    def use_sampler(self, sampler: BuiltinSampler) -> None:
        """Take one shard of all rows; for datasets with a PaddedDataset at the end.

        Args:
            sampler: a DistributedSampler without shuffling and without num_samples.

        Raises:
            TypeError: no sampler. ValueError: it shuffles, or has `num_samples`.
        """
        if not isinstance(sampler, BuiltinSampler):
            raise TypeError(
                f"concat: sampler must be a DistributedSampler, got {type(sampler).__name__}."
            )
        if not isinstance(sampler, DistributedSampler):
            raise ValueError(
                f"concat: sampler must be a DistributedSampler, got {type(sampler).__name__}."
            )
        if sampler.num_samples is not None:
            raise ValueError("concat: the sampler's num_samples must be None.")
        self._sampler = copy.copy(sampler)
        self._counted = None

    def _begin(self, at: Pass) -> Lazy:
        self._names()
        begins = [lambda i=i: self._child_rows(at, i) for i in range(len(self.children))]
        chain: Stream = _Chain(begins)
        if self._sampler is not None:
            sampler, start = self._sampler, 0
            size = sum(child.get_dataset_size() for child in self.children)
            wanted = sampler.indices(size, at.run.seed, at.path, at.epoch)
            if sampler.shuffle:
                # The rows come one after the other: which ones are this shard's is random.
                wanted = np.sort(wanted)
            chain = Plain(_picked(chain, wanted, start))
        return at.plain(chain)

    def _length(self) -> int | None:
        lengths = [child._length() for child in self.children]
        if None in lengths:
            return None
        total = sum(n for n in lengths if n is not None)
        return total if self._sampler is None else self._sampler.count(total)


def _picked(rows: Stream, wanted: np.ndarray[Any, Any], at: int) -> Iterator[Any]:
    """The rows at rising places."""
    try:
        for place in wanted.tolist():
            if place < at:
                return  # behind the end the shards begin again; there is no row to fill up with
            rows.skip(place - at)
            yield next(rows)
            at = place + 1
    finally:
        rows.close()


@operation("flat_map")
class FlatMapDataset(Dataset):
    """See `Dataset.flat_map`."""

    def __init__(self, input_dataset: Dataset, func: Callable[..., Any]) -> None:
        super().__init__([input_dataset])
        if not callable(func):
            raise TypeError(f"flat_map: func must be a function, got {func!r}.")
        self.func = func
        self._inner_names: list[str] | None = None

    def _made(self, row: Row) -> Dataset:
        try:
            made = self.func(*row)
        except Exception as error:
            raise of_user(f"flat_map, {name_of(self.func)}", error) from error
        if not isinstance(made, Dataset):
            raise TypeError(f"flat_map: func must return a Dataset, got {type(made).__name__}.")
        return made

    def _names(self) -> list[str]:
        if self._inner_names is None:
            self._inner_names = self._made(self.children[0]._first())._names()
        return self._inner_names

    def _begin(self, at: Pass) -> Lazy:
        return at.plain(Plain(self._flat(at)))

    def _flat(self, at: Pass) -> Iterator[Any]:
        rows = self._child_rows(at)
        try:
            for nth, row in enumerate(rows):
                inner = self._made(row)._rows(at.below(nth + 1))
                try:
                    yield from inner
                finally:
                    inner.close()
        finally:
            rows.close()

    def _length(self) -> int | None:
        return None
