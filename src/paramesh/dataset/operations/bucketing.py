"""bucket_batch_by_length: batches of rows of about the same length."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import ColumnNames, PadInfo
from paramesh.dataset.arrays import Row
from paramesh.dataset.dataset import Dataset
from paramesh.dataset.failures import name_of, of_user
from paramesh.dataset.operations.batching import Padding, as_padding, collate
from paramesh.dataset.operations.columns import as_names, places
from paramesh.dataset.registry import operation
from paramesh.dataset.runs import Pass
from paramesh.dataset.streams import Lazy, Plain, Stream

_WHO = "bucket_batch_by_length"


@operation("bucket_batch_by_length")
class BucketBatchByLengthDataset(Dataset):
    """See `Dataset.bucket_batch_by_length`."""

    def __init__(
        self,
        input_dataset: Dataset,
        column_names: ColumnNames,
        bucket_boundaries: Sequence[int],
        bucket_batch_sizes: Sequence[int],
        element_length_function: Callable[..., Any] | None = None,
        pad_info: PadInfo | None = None,
        pad_to_bucket_boundary: bool = False,
        drop_remainder: bool = False,
    ) -> None:
        super().__init__([input_dataset])
        self.column_names = as_names(column_names, f"{_WHO}: column_names")
        self.boundaries = _numbers("bucket_boundaries", bucket_boundaries)
        self.sizes = _numbers("bucket_batch_sizes", bucket_batch_sizes)
        if any(b <= a for a, b in zip(self.boundaries, self.boundaries[1:], strict=False)):
            raise ValueError(f"{_WHO}: bucket_boundaries must rise, got {self.boundaries}.")
        if len(self.sizes) != len(self.boundaries) + 1:
            raise ValueError(
                f"{_WHO}: bucket_batch_sizes must be one more than bucket_boundaries, got "
                f"{len(self.sizes)} and {len(self.boundaries)}."
            )
        if element_length_function is None and len(self.column_names) != 1:
            raise ValueError(
                f"{_WHO}: with several column_names, element_length_function has to be given."
            )
        if element_length_function is not None and not callable(element_length_function):
            raise TypeError(f"{_WHO}: element_length_function must be a function.")
        for name, flag in (
            ("pad_to_bucket_boundary", pad_to_bucket_boundary),
            ("drop_remainder", drop_remainder),
        ):
            if not isinstance(flag, bool):
                raise TypeError(f"{_WHO}: {name} must be a bool, got {flag!r}.")
        self.element_length_function = element_length_function
        self.padding = as_padding(pad_info, _WHO)
        self.pad_to_bucket_boundary, self.drop_remainder = pad_to_bucket_boundary, drop_remainder

    def _begin(self, at: Pass) -> Lazy:
        which = places(self._names(), self.column_names, _WHO)
        rows = self._child_rows(at)
        return at.plain(_Closing(self._batches(rows, which), rows))

    def _batches(self, rows: Stream, which: list[int]) -> Iterator[Any]:
        buckets: list[list[Any]] = [[] for _ in self.sizes]
        for row in rows:
            nth = bisect.bisect_right(self.boundaries, self._row_length(row, which))
            buckets[nth].append(row)
            if len(buckets[nth]) == self.sizes[nth]:
                yield self._batch(buckets[nth], nth)
                buckets[nth] = []
        if not self.drop_remainder:
            for nth, rest in enumerate(buckets):
                if rest:
                    yield self._batch(rest, nth)

    def _row_length(self, row: Row, which: list[int]) -> int:
        function = self.element_length_function
        if function is None:
            return np.shape(row[which[0]])[0]
        try:
            found = function(*(row[i] for i in which))
        except Exception as error:
            raise of_user(f"{_WHO}, {name_of(function)}", error) from error
        number = np.asarray(found)
        if number.size != 1 or number.dtype.kind not in "iu" or number.item() < 0:
            raise RuntimeError(
                f"{_WHO}: element_length_function must return an int of at least 0, got {found!r}."
            )
        return int(number.item())

    def _batch(self, rows: list[Any], nth: int) -> Any:
        columns: list[Any] = [list(column) for column in zip(*rows, strict=True)]
        return collate(columns, self._names(), self._padding_of(nth))

    def _padding_of(self, nth: int) -> Padding | None:
        if not self.pad_to_bucket_boundary or self.padding is None:
            return self.padding
        if nth == len(self.boundaries):
            raise RuntimeError(
                f"{_WHO}: with pad_to_bucket_boundary no row may be as long as the last boundary "
                f"{self.boundaries[-1]}. Add a boundary above the longest row."
            )
        edge = self.boundaries[nth] - 1
        return {
            name: (None if shape is None else [edge if s is None else s for s in shape], fill)
            for name, (shape, fill) in self.padding.items()
        }

    def _length(self) -> int | None:
        return None

    def get_batch_size(self) -> int | None:
        """None: it differs between the buckets."""
        return None

    def _detail(self) -> Any:
        return [self.column_names, self.boundaries, self.sizes, self.drop_remainder]


class _Closing(Plain):
    def __init__(self, items: Iterator[Any], rows: Stream) -> None:
        super().__init__(items)
        self._rows = rows

    def close(self) -> None:
        super().close()
        self._rows.close()


def _numbers(name: str, value: object) -> list[int]:
    if not isinstance(value, list) or not value:
        raise TypeError(f"{_WHO}: {name} must be a list of ints, got {value!r}.")
    for number in value:
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(f"{_WHO}: {name} must be a list of ints, got {number!r} in it.")
        if number < 1:
            raise ValueError(f"{_WHO}: {name} must be at least 1, got {number}.")
    return list(value)
