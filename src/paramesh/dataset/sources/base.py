"""What sources share: samplers over rows that can be read by index, or files read in order."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paramesh.dataset import config
from paramesh.dataset.dataset import Dataset
from paramesh.dataset.runs import Pass
from paramesh.dataset.samplers import (
    BuiltinSampler,
    DistributedSampler,
    PKSampler,
    RandomSampler,
    SamplerLike,
    SequentialSampler,
    Shuffle,
    as_sampler,
)
from paramesh.dataset.streams import Indexed, Lazy, Place, Task
from paramesh.dataset.wholes import Whole


class SourceDataset(Dataset):
    """A dataset that reads rows from somewhere.

    Args:
        num_parallel_workers: of threads; None: the setting's number.
        cache: MindSpore's `DatasetCache`; of no effect.
    """

    def __init__(self, num_parallel_workers: int | None = None, cache: object = None) -> None:
        super().__init__((), num_parallel_workers)

    def _names(self) -> list[str]:
        raise NotImplementedError


class Fetched:
    """Work that reads the row of an index."""

    def __init__(self, fetch: Callable[[int], Any]) -> None:
        self.fetch = fetch

    def __call__(self, task: Task) -> Any:
        """The row."""
        return self.fetch(task[2])

    def whole(self, tasks: Sequence[Task]) -> list[Whole] | None:
        """The columns of a batch of rows; None: the source reads row by row."""
        method: Callable[[list[int]], list[Whole] | None] | None
        method = getattr(self.fetch, "whole", None)
        return None if method is None else method([task[2] for task in tasks])


class MappableDataset(SourceDataset):
    """A source whose rows can be read by index, in the order of a sampler.

    Args:
        num_parallel_workers: of threads; None: the setting's number.
        sampler: a sampler, or an iterable of indices; None: after the other arguments.
        num_samples: at most so many rows; None: all.
        shuffle: None: yes.
        num_shards: into how many parts the rows are dealt; None: one.
        shard_id: which of them this is.
        cache: MindSpore's `DatasetCache`; of no effect.

    Raises:
        TypeError, ValueError, RuntimeError: arguments of another kind, or that exclude each other.
    """

    def __init__(
        self,
        num_parallel_workers: int | None = None,
        sampler: SamplerLike | None = None,
        num_samples: int | None = None,
        shuffle: bool | Shuffle | None = None,
        num_shards: int | None = None,
        shard_id: int | None = None,
        cache: object = None,
    ) -> None:
        super().__init__(num_parallel_workers, cache)
        self.sampler = as_sampler(
            self._title(), sampler, num_samples, shuffle, num_shards, shard_id
        )

    # What a source defines.

    #: Whether a sampler may give an array of indices for each row.
    _takes_rows_of_indices = False

    def _source_length(self) -> int:
        """Rows of the source."""
        raise NotImplementedError

    def _fetch(self) -> Callable[[int], Any]:
        """What reads the row of an index; can be pickled, and is safe in threads."""
        raise NotImplementedError

    def _labels(self) -> np.ndarray[Any, Any] | None:
        """The class of each row, for PKSampler; None if there are none."""
        return None

    # What follows from it.

    def _where(self) -> Place:
        return Place("free", self.num_parallel_workers)

    def _begin(self, at: Pass) -> Lazy:
        self._tell_labels()
        size = self._source_length()
        indices = self.sampler.indices(size, at.run.seed, at.path, at.epoch)
        if indices.ndim > 1 and not self._takes_rows_of_indices:
            raise RuntimeError(
                f"{self._title()}: {type(self.sampler).__name__} gives rows of indices; this "
                "source reads one row of data by one index."
            )
        keys = indices.tolist() if indices.ndim == 1 else list(indices)
        work = at.work(lambda: Fetched(self._fetch()))
        return Lazy(Indexed(keys, at.epoch), work, self._where())

    def _length(self) -> int | None:
        self._tell_labels()
        return self.sampler.count(self._source_length())

    def _tell_labels(self) -> None:
        sampler: BuiltinSampler | None = self.sampler
        while sampler is not None:
            if isinstance(sampler, PKSampler):
                sampler.labels = self._labels()
            sampler = sampler.child_sampler

    def _shard(self) -> int:
        sampler: BuiltinSampler | None = self.sampler
        while sampler is not None:
            if isinstance(sampler, DistributedSampler):
                return sampler.shard_id
            sampler = sampler.child_sampler
        return 0

    def is_shuffled(self) -> bool:
        """Whether the sampler shuffles."""
        return self.sampler.is_shuffled()

    def is_sharded(self) -> bool:
        """Whether the sampler gives one shard."""
        return self.sampler.is_sharded()

    def add_sampler(self, new_sampler: BuiltinSampler) -> None:
        """Choose among the rows that are chosen now.

        Raises:
            TypeError: no sampler.
        """
        _check_sampler("add_sampler", new_sampler)
        new_sampler = copy.copy(new_sampler)
        new_sampler.add_child(self.sampler)
        self.sampler, self._counted = new_sampler, None

    def use_sampler(self, new_sampler: BuiltinSampler) -> None:
        """Choose rows by this sampler instead of the last one.

        Raises:
            TypeError: no sampler.
        """
        _check_sampler("use_sampler", new_sampler)
        new_sampler = copy.copy(new_sampler)
        new_sampler.child_sampler = self.sampler.child_sampler
        self.sampler, self._counted = new_sampler, None

    def _split_by_sampler(self, counts: list[int], randomize: bool) -> tuple[Any, ...] | None:
        """The parts of a split, which keep reading by index.

        Random samplers below are frozen: all parts have to see the same order.
        """
        seed = config.new_seed()
        base = _frozen(self.sampler, seed)
        if randomize:
            shuffled = RandomSampler()
            shuffled.frozen = seed + 1
            shuffled.add_child(base)
            base = shuffled
        parts: list[Any] = []
        start = 0
        for count in counts:
            part = copy.deepcopy(self)
            part.sampler = SequentialSampler(start, count)
            part.sampler.add_child(base)
            # The one that `use_sampler` will replace.
            outer = SequentialSampler()
            outer.add_child(part.sampler)
            part.sampler = outer
            parts.append(part)
            start += count
        return tuple(parts)


def _frozen(sampler: BuiltinSampler, seed: int) -> BuiltinSampler:
    new = copy.copy(sampler)
    new.frozen = seed if new.frozen is None else new.frozen
    if sampler.child_sampler is not None:
        new.child_sampler = _frozen(sampler.child_sampler, seed + 2)
    return new


def _check_sampler(who: str, sampler: object) -> None:
    if not isinstance(sampler, BuiltinSampler):
        raise TypeError(
            f"{who}: must be given one of dataset's samplers, got {type(sampler).__name__}."
        )
