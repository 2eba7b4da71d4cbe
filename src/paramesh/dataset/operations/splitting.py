"""split: datasets without common rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramesh.dataset import config
from paramesh.dataset.dataset import Dataset
from paramesh.dataset.operations.selecting import ShuffleDataset, SkipDataset, TakeDataset
from paramesh.dataset.registry import operation


def row_counts(
    dataset: Dataset, sizes: Sequence[int] | Sequence[float], randomize: object
) -> list[int]:
    """The numbers of rows of the parts; what rounding leaves over goes to the first one.

    Raises:
        TypeError, ValueError, RuntimeError: they do not fit.
    """
    if not isinstance(randomize, bool):
        raise TypeError(f"split: randomize must be a bool, got {randomize!r}.")
    if not isinstance(sizes, list) or not sizes:
        raise TypeError(f"split: sizes must be a list of ints or of floats, got {sizes!r}.")
    total = dataset.get_dataset_size()
    if total <= 0:
        raise RuntimeError("split: the dataset has no rows.")
    if all(isinstance(size, int) and not isinstance(size, bool) for size in sizes):
        if any(size < 1 for size in sizes):
            raise ValueError(f"split: each size must be at least 1, got {sizes}.")
        if sum(sizes) != total:
            raise RuntimeError(
                f"split: the sizes {sizes} make {sum(sizes)} rows, the dataset has {total}."
            )
        return list(map(int, sizes))
    if not all(isinstance(size, float) for size in sizes):
        raise ValueError(f"split: sizes must be all ints or all floats, got {sizes}.")
    if any(not 0 < size <= 1 for size in sizes) or abs(sum(sizes) - 1) > 1e-9:
        raise ValueError(f"split: shares must be in (0, 1] and make 1, got {sizes}.")
    counts = [round(size * total) for size in sizes]
    for size, count in zip(sizes, counts, strict=True):
        if not count:
            raise RuntimeError(f"split: the share {size} of {total} rows is none.")
    over = total - sum(counts)
    at = 0 if over >= 0 else next(i for i, count in enumerate(counts) if count + over > 0)
    counts[at] += over
    return counts


@operation("split")
def split(dataset: Dataset, sizes: Sequence[Any], randomize: bool) -> tuple[Dataset, ...]:
    """See `Dataset.split`."""
    counts = row_counts(dataset, sizes, randomize)
    if dataset.is_sharded():
        raise RuntimeError("split: the dataset is one shard already; split it before.")
    if hasattr(dataset, "_split_by_sampler"):
        parts = dataset._split_by_sampler(counts, randomize)  # type: ignore[attr-defined]
        if parts is not None:
            return parts
    if randomize and sum(counts) > 1:
        dataset = ShuffleDataset(dataset, sum(counts), frozen=config.new_seed())
    made: list[Dataset] = []
    start = 0
    for count in counts:
        made.append(TakeDataset(SkipDataset(dataset, start), count))
        start += count
    return tuple(made)
