"""Epochs of `sink_size` batches: a dataset that goes on in the next epoch where the last one ended.

Glossary
    pass     once through the dataset; its epochs in the sense of everything else
    epoch    of the training run: `sink_size` batches, from one pass or from several
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from paramesh.train import batches
from paramesh.train.batches import Dataset


def in_epochs_of(dataset: Dataset, sink_size: int) -> Dataset:
    """The dataset, in epochs of `sink_size` batches.

    Args:
        dataset: see `batches.py`.
        sink_size: batches of an epoch; -1: those of a pass.
    """
    if sink_size in (-1, batches.count(dataset)):
        return dataset
    return SunkEpochs(dataset, sink_size)


class SunkEpochs:
    """A dataset whose epochs are cut anew.

    Args:
        dataset: see `batches.py`.
        sink_size: batches of an epoch, at least 1.
    """

    def __init__(self, dataset: Dataset, sink_size: int) -> None:
        self._dataset, self._size = dataset, sink_size
        self._first = 0  # of the epoch that comes, counted from the begin of the run
        self._at = 0  # where the stream is
        self._stream: Iterator[tuple[Any, ...]] | None = None
        self._load_dataset = getattr(dataset, "load_state", None)
        if callable(self._load_dataset):
            self.load_state = self._load_state

    def get_dataset_size(self) -> int:
        """Batches of an epoch."""
        return self._size

    def set_epoch(self, epoch: int) -> None:
        """The next iterator begins with this epoch, from 1."""
        self._first = (epoch - 1) * self._size

    def pass_over(self, count: int) -> None:
        """The next iterator begins behind so many batches of its epoch."""
        self._first += count

    def create_tuple_iterator(self, num_epochs: int = 1) -> Iterator[tuple[Any, ...]]:
        """The rest of the epoch.

        Args:
            num_epochs: 1; epochs are asked for one by one.
        """
        if self._stream is None or self._at != self._first:
            self._at, self._stream = self._first, self._from(self._first)
        for _ in range(self._size - self._first % self._size):
            self._at += 1
            yield next(self._stream)

    def _from(self, first: int) -> Iterator[tuple[Any, ...]]:
        """All batches of the run from a number on, without end."""
        passed, seen = self._passes(first)
        sized = batches.count(self._dataset) is not None
        while True:
            passed += 1
            batches.set_epoch(self._dataset, passed)
            over = seen if sized else 0
            seen -= over
            for batch in batches.batches(self._dataset, "train_dataset", over):
                if seen:
                    seen -= 1
                else:
                    yield batch

    def _passes(self, first: int) -> tuple[int, int]:
        """(passes, batches of the next one) that are over before a batch."""
        count = batches.count(self._dataset)
        return divmod(first, count) if count else (0, first)

    def _load_state(self, state: dict[str, Any]) -> None:
        assert self._load_dataset is not None
        passed, seen = self._passes(state["epoch"] * self._size + state["row"])
        self._load_dataset(state | {"epoch": passed, "row": seen})
