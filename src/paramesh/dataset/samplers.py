"""Samplers: which rows of a source come, and in which order.

Source: MindSpore's `mindspore.dataset.samplers`. A sampler gives the indices of one epoch at once,
as an array, from a generator that is seeded for that epoch. With a child sampler, it chooses among
the child's indices.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from paramesh.dataset import config, randomness

Indices = np.ndarray[Any, Any]
#: A sampler of this module, or the indices of rows.
SamplerLike: TypeAlias = "BuiltinSampler | Iterable[int] | int"

_INT64_MAX = 2**63 - 1


class Shuffle(enum.StrEnum):
    """How much is shuffled: everything, files, or the rows in a file."""

    FALSE = "false"
    ADAPTIVE = "adaptive"
    GLOBAL = "global"
    PARTIAL = "partial"
    FILES = "files"
    INFILE = "infile"


class ConflictingArguments(ValueError, RuntimeError):
    """Arguments of a source that exclude or need each other; MindSpore raises either, by source."""


class BuiltinSampler:
    """What all samplers here have.

    Args:
        num_samples: at most so many indices in an epoch; None or 0: all.

    Raises:
        TypeError, ValueError: `num_samples` is no int of at least 0.
    """

    def __init__(self, num_samples: int | None = None) -> None:
        if num_samples is not None:
            _whole(f"{type(self).__name__}: num_samples", num_samples, 0)
        self.num_samples = num_samples
        self.child_sampler: BuiltinSampler | None = None
        #: If set, all epochs and iterators draw the same, so that parts of a split stay apart.
        self.frozen: int | None = None

    def add_child(self, sampler: BuiltinSampler) -> None:
        """Choose among the indices of another sampler.

        Raises:
            RuntimeError: there is a child already.
        """
        if self.child_sampler is not None:
            raise RuntimeError(f"{type(self).__name__}: it has a child sampler already.")
        self.child_sampler = sampler

    def get_child(self) -> BuiltinSampler | None:
        """The sampler among whose indices this one chooses, or None."""
        return self.child_sampler

    def get_num_samples(self) -> int | None:
        """The smaller of its own number and the child's; None: not limited."""
        child = None if self.child_sampler is None else self.child_sampler.get_num_samples()
        numbers = [n for n in (self.num_samples or None, child) if n is not None]
        return min(numbers) if numbers else None

    def is_shuffled(self) -> bool:
        """Whether this one or its child shuffles."""
        return self._shuffles() or (
            self.child_sampler is not None and self.child_sampler.is_shuffled()
        )

    def is_sharded(self) -> bool:
        """Whether this one or its child gives one shard."""
        return isinstance(self, DistributedSampler) or (
            self.child_sampler is not None and self.child_sampler.is_sharded()
        )

    def count(self, size: int) -> int:
        """How many indices an epoch has, for a source of `size` rows."""
        inner = size if self.child_sampler is None else self.child_sampler.count(size)
        return self._limited(self._count(inner))

    def indices(self, size: int, seed: int, path: tuple[int, ...], epoch: int) -> Indices:
        """The indices of one epoch.

        Args:
            size: rows of the source.
            seed: of the iterator.
            path: of the source in the pipeline.
            epoch: from 0.

        Raises:
            RuntimeError: it does not fit the source.
        """
        inner: Indices | None = None
        if self.child_sampler is not None:
            inner = self.child_sampler.indices(size, seed, (*path, 0), epoch)
        if self.frozen is not None:
            seed, path, epoch = self.frozen, (), 0
        rng = randomness.generator(self._seed(seed), path, epoch)
        chosen = self._choose(size if inner is None else len(inner), rng)
        chosen = chosen[: self._limited(len(chosen))]
        return chosen if inner is None else inner[chosen]

    def _limited(self, count: int) -> int:
        return min(count, self.num_samples) if self.num_samples else count

    def _seed(self, seed: int) -> int:
        return seed

    def _shuffles(self) -> bool:
        return False

    def _count(self, size: int) -> int:
        return size

    def _choose(self, size: int, rng: np.random.Generator) -> Indices:
        raise NotImplementedError


class Sampler(BuiltinSampler):
    """The base for samplers of one's own, which define `__iter__` and may use `dataset_size`."""

    def __init__(self, num_samples: int | None = None) -> None:
        super().__init__(num_samples)
        self.dataset_size = 0
        if num_samples is None and hasattr(self, "__len__"):
            self.num_samples = len(self)  # type: ignore[arg-type]

    def __iter__(self) -> Any:
        """User-defined iterator over indices."""
        raise NotImplementedError(
            f"{type(self).__name__}: a sampler of one's own defines __iter__, which gives indices."
        )

    def is_shuffled(self) -> bool:
        """Not known of a sampler of one's own: False."""
        return False

    def count(self, size: int) -> int:
        """How many indices it gives; counted by a pass through it."""
        if self.num_samples:
            return self.num_samples if self.child_sampler is None else super().count(size)
        return super().count(size)

    def _count(self, size: int) -> int:
        self.dataset_size = size
        return sum(1 for _ in self)

    def _choose(self, size: int, rng: np.random.Generator) -> Indices:
        self.dataset_size = size
        return as_indices(list(self), size, type(self).__name__)


class IterSampler(Sampler):
    """The indices of any iterable, such as a list.

    Args:
        sampler: gives the indices, anew in each epoch.
        num_samples: at most so many; None: all.
    """

    def __init__(self, sampler: Iterable[int], num_samples: int | None = None) -> None:
        self.sampler = sampler
        if num_samples is None and hasattr(sampler, "__len__"):
            num_samples = len(sampler)  # type: ignore[arg-type]
        super().__init__(num_samples)

    def __iter__(self) -> Any:
        return iter(self.sampler)


class SequentialSampler(BuiltinSampler):
    """One after the other.

    Args:
        start_index: of the first row; None: 0.
        num_samples: at most so many; None: all.

    Raises:
        TypeError, ValueError: an argument that is no int of at least 0.
    """

    def __init__(self, start_index: int | None = None, num_samples: int | None = None) -> None:
        if start_index is not None:
            _whole("SequentialSampler: start_index", start_index, 0)
        super().__init__(num_samples)
        self.start_index = start_index

    def _count(self, size: int) -> int:
        return max(size - (self.start_index or 0), 0)

    def _choose(self, size: int, rng: np.random.Generator) -> Indices:
        start = self.start_index or 0
        if start > size:
            raise RuntimeError(
                f"SequentialSampler: start_index {start} is behind the {size} rows of the source."
            )
        return np.arange(start, size)


class RandomSampler(BuiltinSampler):
    """In random order, anew in each epoch.

    Args:
        replacement: draw each row independently, so that one can come several times.
        num_samples: so many; None: as many as the source has.
        shuffle: MindSpore's for MindDataset; every kind shuffles all rows here.

    Raises:
        TypeError, ValueError: an argument of another kind.
    """

    def __init__(
        self,
        replacement: bool = False,
        num_samples: int | None = None,
        shuffle: bool | Shuffle = Shuffle.GLOBAL,
    ) -> None:
        if not isinstance(replacement, bool):
            raise TypeError(f"RandomSampler: replacement must be a bool, got {replacement!r}.")
        if not isinstance(shuffle, bool | Shuffle):
            raise TypeError(f"RandomSampler: shuffle must be a bool or Shuffle, got {shuffle!r}.")
        super().__init__(num_samples)
        self.replacement = replacement
        self.deterministic = False

    def _shuffles(self) -> bool:
        return True

    def _choose(self, size: int, rng: np.random.Generator) -> Indices:
        if self.replacement:
            return rng.integers(0, size, self._limited(size)) if size else np.arange(0)
        return rng.permutation(size)


class DistributedSampler(BuiltinSampler):
    """Every `num_shards`-th row; each shard gets the same number, the first ones fill up the last.

    Args:
        num_shards: how many shards there are.
        shard_id: which one this is.
        shuffle: shuffle before the rows are dealt out, the same in all processes: from the seed of
            `dataset.config.set_seed`, and without one from a fixed seed.
        num_samples: at most so many of this shard; None: all.
        offset: the shard that gets the first row; -1: as 0, in MindSpore's own order.

    Raises:
        TypeError, ValueError, RuntimeError: an argument of another kind, or out of range.
    """

    def __init__(
        self,
        num_shards: int,
        shard_id: int,
        shuffle: bool | Shuffle = True,
        num_samples: int | None = None,
        offset: int = -1,
    ) -> None:
        _whole("DistributedSampler: num_shards", num_shards, 1)
        _whole("DistributedSampler: shard_id", shard_id, 0)
        if shard_id >= num_shards:
            raise ValueError(
                f"DistributedSampler: shard_id must be below num_shards {num_shards}, got "
                f"{shard_id}."
            )
        if not isinstance(shuffle, bool | Shuffle):
            raise TypeError(f"DistributedSampler: shuffle must be a bool, got {shuffle!r}.")
        if not isinstance(offset, int) or isinstance(offset, bool):
            raise TypeError(f"DistributedSampler: offset must be an int, got {offset!r}.")
        if offset >= num_shards:
            raise RuntimeError(
                f"DistributedSampler: offset must be below num_shards {num_shards}, got {offset}."
            )
        super().__init__(num_samples)
        self.num_shards, self.shard_id, self.offset = num_shards, shard_id, offset
        self.shuffle = shuffle if isinstance(shuffle, bool) else shuffle is not Shuffle.FALSE

    def _shuffles(self) -> bool:
        return self.shuffle

    def _count(self, size: int) -> int:
        return len(self._positions(size))

    @staticmethod
    def _shared_seed(seed: int) -> int:
        return config.DEFAULT_SEED if config.is_drawn(seed) else seed

    def _seed(self, seed: int) -> int:
        return self._shared_seed(seed)

    def _positions(self, size: int) -> Indices:
        """Places in the (shuffled) order; behind its end the order begins again."""
        if not size:
            return np.arange(0)
        offset = max(self.offset, 0)
        each = -(-(size + offset) // self.num_shards)
        places = np.arange(each) * self.num_shards + self.shard_id - offset
        if offset and self.shard_id < offset:
            places = places[1:]  # the first round passes over the shards before the offset
        return places

    def _choose(self, size: int, rng: np.random.Generator) -> Indices:
        places = self._positions(size)
        order = rng.permutation(size) if self.shuffle else np.arange(size)
        return order[places % size] if size else places


class SubsetSampler(BuiltinSampler):
    """Given rows, in the given order.

    Args:
        indices: of the rows.
        num_samples: at most so many; None: all.

    Raises:
        TypeError, ValueError: an index that is no int of at least 0, or none.
    """

    def __init__(self, indices: int | Sequence[int], num_samples: int | None = None) -> None:
        super().__init__(num_samples)
        try:
            listed = list(indices)  # type: ignore[arg-type]
        except TypeError:
            listed = [indices]
        for index in listed:
            if isinstance(index, bool) or not isinstance(index, int | np.integer):
                raise TypeError(
                    f"{type(self).__name__}: indices must be ints, got {index!r} "
                    f"({type(index).__name__})."
                )
        if self.num_samples:
            listed = listed[: self.num_samples]
        self._listed: list[int] = [int(i) for i in listed]  # type: ignore[arg-type]

    def _count(self, size: int) -> int:
        return len(self._listed)

    def _choose(self, size: int, rng: np.random.Generator) -> Indices:
        return as_indices(self._listed, size, type(self).__name__)


class SubsetRandomSampler(SubsetSampler):
    """Given rows, in random order, anew in each epoch."""

    def _shuffles(self) -> bool:
        return True

    def _choose(self, size: int, rng: np.random.Generator) -> Indices:
        return rng.permutation(super()._choose(size, rng))


class WeightedRandomSampler(BuiltinSampler):
    """Rows drawn with given weights.

    Args:
        weights: one for each row, not all zero; rows behind them are not drawn.
        num_samples: how many; None: as many as there are weights.
        replacement: whether a row can come several times.

    Raises:
        TypeError, ValueError: a weight that is no number of at least 0; all of them zero.
    """

    def __init__(
        self,
        weights: float | Sequence[float] | np.ndarray,
        num_samples: int | None = None,
        replacement: bool = True,
    ) -> None:
        listed = list(weights) if isinstance(weights, list | tuple | np.ndarray) else [weights]
        for weight in listed:
            if isinstance(weight, bool) or not isinstance(weight, int | float | np.number):
                raise TypeError(f"WeightedRandomSampler: weights must be numbers, got {weight!r}.")
        self.weights = np.asarray(listed, np.float64)
        if not len(listed) or (self.weights < 0).any() or not self.weights.any():
            raise ValueError(
                "WeightedRandomSampler: weights must be at least 0 and not all of them 0, "
                f"got {str(listed)[:100]}."
            )
        if not isinstance(replacement, bool):
            raise TypeError(
                f"WeightedRandomSampler: replacement must be a bool, got {replacement!r}."
            )
        super().__init__(num_samples)
        self.replacement = replacement

    def _shuffles(self) -> bool:
        return True

    def _count(self, size: int) -> int:
        return size

    def _choose(self, size: int, rng: np.random.Generator) -> Indices:
        if len(self.weights) > size:
            raise RuntimeError(
                f"WeightedRandomSampler: {len(self.weights)} weights, but the source has {size} "
                "rows."
            )
        count = self._limited(size)
        nonzero = int(np.count_nonzero(self.weights))
        if not self.replacement and count > nonzero:
            raise RuntimeError(
                f"WeightedRandomSampler: without replacement {count} rows cannot be drawn of the "
                f"{nonzero} whose weight is not 0."
            )
        shares = self.weights / self.weights.sum()
        return rng.choice(len(shares), count, replace=self.replacement, p=shares)


class PKSampler(BuiltinSampler):
    """`num_val` random rows of each class, for sources with labels in a column.

    Args:
        num_val: of each class.
        num_class: MindSpore has no meaning for it yet; None.
        shuffle: whether the classes come in random order.
        class_column: the column with the label.
        num_samples: at most so many; None: all.

    Raises:
        TypeError, ValueError, NotImplementedError: an argument of another kind.
    """

    def __init__(
        self,
        num_val: int,
        num_class: int | None = None,
        shuffle: bool = False,
        class_column: str = "label",
        num_samples: int | None = None,
    ) -> None:
        _whole("PKSampler: num_val", num_val, 1)
        if num_class is not None:
            raise NotImplementedError("PKSampler: num_class is not supported, as in MindSpore.")
        if not isinstance(shuffle, bool):
            raise TypeError(f"PKSampler: shuffle must be a bool, got {shuffle!r}.")
        if not isinstance(class_column, str):
            raise TypeError(f"PKSampler: class_column must be a str, got {class_column!r}.")
        super().__init__(num_samples)
        self.num_val, self.shuffle, self.class_column = num_val, shuffle, class_column
        self.labels: Indices | None = None

    def _shuffles(self) -> bool:
        return self.shuffle

    def _labelled(self) -> Indices:
        if self.labels is None:
            raise RuntimeError("PKSampler: this source has no labels that a sampler can see.")
        return self.labels

    def _count(self, size: int) -> int:
        return self.num_val * len(np.unique(self._labelled()))

    def _choose(self, size: int, rng: np.random.Generator) -> Indices:
        labels = self._labelled()
        classes = np.unique(labels)
        if self.shuffle:
            classes = rng.permutation(classes)
        parts: list[Indices] = []
        for label in classes:
            members = np.flatnonzero(labels == label)
            if len(members) < self.num_val:
                raise RuntimeError(
                    f"PKSampler: class {label} has {len(members)} rows, num_val is {self.num_val}."
                )
            parts.append(rng.choice(members, self.num_val, replace=False))
        return np.concatenate(parts) if parts else np.arange(0)


def as_indices(values: Sequence[Any], size: int, who: str) -> Indices:
    """Indices that a user gave, checked against the source.

    Returns:
        (n,), or (n, m) if each value is itself a row of m indices, which are not checked: a source
        that takes them decides what they are.

    Raises:
        RuntimeError: one is no int, or out of range; rows of different lengths.
    """
    if len(values) and all(isinstance(value, np.ndarray | list | tuple) for value in values):
        rows = [np.asarray(value) for value in values]
        shapes = sorted({row.shape for row in rows})
        if len(shapes) > 1 or rows[0].ndim != 1 or rows[0].dtype.kind not in "iu":
            raise RuntimeError(
                f"{who}: rows of indices must be ints, as many in each row; got shapes "
                f"{shapes} of {rows[0].dtype}."
            )
        return np.stack(rows).astype(np.int64)
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise RuntimeError(f"{who}: an index must be an int, got {value!r}.")
        if not 0 <= value < size:
            raise RuntimeError(f"{who}: index {value} is out of range: the source has {size} rows.")
    return np.asarray(values, np.int64)


def as_sampler(
    who: str,
    sampler: SamplerLike | None,
    num_samples: int | None,
    shuffle: bool | Shuffle | None,
    num_shards: int | None,
    shard_id: int | None,
) -> BuiltinSampler:
    """The sampler that the arguments of a source ask for.

    Raises:
        TypeError, ValueError, RuntimeError: arguments of another kind, or that exclude each other.
    """
    if num_samples is not None:
        _whole(f"{who}: num_samples", num_samples, 0)
    if shuffle is not None and not isinstance(shuffle, bool | Shuffle):
        raise TypeError(f"{who}: shuffle must be a bool or Shuffle, got {shuffle!r}.")
    if (num_shards is None) != (shard_id is None):
        given, other = (
            ("num_shards", "shard_id") if shard_id is None else ("shard_id", "num_shards")
        )
        raise ConflictingArguments(f"{who}: {given} is given, so {other} must be given too.")
    if sampler is not None:
        for name, value in (("shuffle", shuffle), ("num_shards", num_shards)):
            if value is not None:
                raise ConflictingArguments(
                    f"{who}: sampler and {name}={value!r} are both given; say it in the sampler."
                )
        return _user_sampler(who, sampler, num_samples)
    shuffled = shuffle is None or (
        shuffle if isinstance(shuffle, bool) else shuffle is not Shuffle.FALSE
    )
    if num_shards is not None:
        _whole(f"{who}: num_shards", num_shards, 1)
        _whole(f"{who}: shard_id", shard_id, 0)
        if shard_id >= num_shards:  # type: ignore[operator]
            raise ValueError(
                f"{who}: shard_id must be below num_shards {num_shards}, got {shard_id}."
            )
        return DistributedSampler(num_shards, shard_id, shuffled, num_samples)  # type: ignore[arg-type]
    return (
        RandomSampler(num_samples=num_samples)
        if shuffled
        else SequentialSampler(num_samples=num_samples)
    )


def _user_sampler(who: str, sampler: SamplerLike, num_samples: int | None) -> BuiltinSampler:
    if isinstance(sampler, BuiltinSampler):
        if num_samples is not None:
            raise ConflictingArguments(
                f"{who}: sampler and num_samples={num_samples} are both given; give num_samples to "
                "the sampler."
            )
        return sampler
    if isinstance(sampler, list | tuple | np.ndarray | int | np.integer):
        return SubsetSampler(sampler, num_samples)  # type: ignore[arg-type]
    indexed = hasattr(sampler, "__getitem__")
    if (isinstance(sampler, Iterable) or indexed) and not isinstance(sampler, str):
        return IterSampler(sampler, num_samples)  # type: ignore[arg-type]
    raise TypeError(
        f"{who}: sampler must be one of dataset's samplers or an iterable of indices, got "
        f"{type(sampler).__name__}."
    )


def _whole(name: str, value: object, low: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an int, got {value!r}.")
    if not low <= value <= _INT64_MAX:
        raise ValueError(f"{name} must be at least {low}, got {value}.")
