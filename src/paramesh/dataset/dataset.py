"""Dataset: a pipeline, with MindSpore's operations as methods. Each gives a new dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

from paramesh.dataset.argument_types import ColumnNames, Functions
from paramesh.dataset.node import Node
from paramesh.dataset.registry import make


class Dataset(Node):
    """A source of rows, or an operation on other datasets."""

    def map(
        self,
        operations: Functions,
        input_columns: ColumnNames | None = None,
        output_columns: ColumnNames | None = None,
        column_order: ColumnNames | None = None,
        num_parallel_workers: int | None = None,
        python_multiprocessing: bool = False,
        cache: object = None,
        callbacks: object = None,
        max_rowsize: object = None,
        offload: bool | None = None,
    ) -> Dataset:
        """Pass columns of each row through functions or transforms, one after the other.

        Args:
            operations: a function or a list; the first takes the input columns as arrays, each of
                the others what the one before returned; one array or a tuple.
            input_columns: names; None: the first column.
            output_columns: names of what comes out; None: those of the input. If their number
                differs from the input's they come first in a row.
            column_order: MindSpore 1's; the columns to go on with, in order.
            num_parallel_workers: None: transforms run in several threads, other functions one row
                at a time, so that random numbers they draw come in the same order in every run.
            python_multiprocessing: run in processes; they are seeded anew for each row.
            cache: MindSpore's; of no effect.
            callbacks: MindSpore's `DSCallback`; not supported.
            max_rowsize: MindSpore's; of no effect.
            offload: MindSpore's; of no effect.

        Raises:
            TypeError, ValueError: an argument of another kind. RuntimeError, when rows are asked
                for: there is no such column, or a function failed (with its line).
        """
        return make(
            "map", self, operations, input_columns, output_columns, column_order,
            num_parallel_workers, python_multiprocessing, callbacks, cache, max_rowsize, offload,
        )  # fmt: skip

    def batch(
        self,
        batch_size: int | Callable[..., int],
        drop_remainder: bool = False,
        num_parallel_workers: int | None = None,
        per_batch_map: Callable[..., Any] | None = None,
        input_columns: ColumnNames | None = None,
        output_columns: ColumnNames | None = None,
        column_order: ColumnNames | None = None,
        pad_info: dict[str, Any] | None = None,
        python_multiprocessing: bool = False,
        max_rowsize: object = None,
    ) -> Dataset:
        """Stack rows into batches.

        Args:
            batch_size: rows of a batch, or a function of a BatchInfo that returns that.
            drop_remainder: leave the last batch out if it is smaller.
            num_parallel_workers: as in `map`.
            per_batch_map: takes a list of arrays for each input column, and a BatchInfo; returns a
                list or array for each output column.
            input_columns: of `per_batch_map`; None: all.
            output_columns: names of what it returns; None: those of the input.
            column_order: MindSpore 1's; the columns to go on with, in order.
            pad_info: MindSpore 1's; see `padded_batch`.
            python_multiprocessing: run `per_batch_map` in processes.
            max_rowsize: MindSpore's; of no effect.

        Raises:
            TypeError, ValueError: an argument of another kind. RuntimeError, when batches are asked
                for: rows of different shapes or types.
        """
        return make(
            "batch", self, batch_size, drop_remainder, num_parallel_workers, per_batch_map,
            input_columns, output_columns, column_order, pad_info, python_multiprocessing,
            max_rowsize,
        )  # fmt: skip

    def padded_batch(
        self,
        batch_size: int,
        drop_remainder: bool = False,
        num_parallel_workers: int | None = None,
        pad_info: dict[str, Any] | None = None,
    ) -> Dataset:
        """Fill rows up to one shape, and stack them.

        Args:
            batch_size: rows of a batch.
            drop_remainder: leave the last batch out if it is smaller.
            num_parallel_workers: as in `map`.
            pad_info: {column: (shape, value)}; None in a shape is the largest in the batch. What is
                longer is cut off, as in MindSpore.

        Raises:
            TypeError, ValueError: an argument of another kind. RuntimeError, when batches are asked
                for: rows of another number of axes, or of different shapes in another column.
        """
        return make(
            "padded_batch", self, batch_size, drop_remainder, num_parallel_workers, pad_info
        )

    def bucket_batch_by_length(
        self,
        column_names: ColumnNames,
        bucket_boundaries: Sequence[int],
        bucket_batch_sizes: Sequence[int],
        element_length_function: Callable[..., Any] | None = None,
        pad_info: dict[str, Any] | None = None,
        pad_to_bucket_boundary: bool = False,
        drop_remainder: bool = False,
    ) -> Dataset:
        """Batches of rows of about the same length.

        Args:
            column_names: what the length is told from.
            bucket_boundaries: upper ends of the buckets, rising, without them.
            bucket_batch_sizes: rows of a batch of each bucket, one more than boundaries.
            element_length_function: takes the columns, returns the length; None: the first axis of
                the one column.
            pad_info: as in `padded_batch`.
            pad_to_bucket_boundary: None in a shape is the bucket's boundary less one; the last
                bucket, which has none, must stay empty.
            drop_remainder: leave the last batch of each bucket out if it is smaller.

        Raises:
            TypeError, ValueError: an argument of another kind.
        """
        return make(
            "bucket_batch_by_length", self, column_names, bucket_boundaries, bucket_batch_sizes,
            element_length_function, pad_info, pad_to_bucket_boundary, drop_remainder,
        )  # fmt: skip

    def shuffle(self, buffer_size: int) -> Dataset:
        """Rows in random order, drawn from a window of `buffer_size` rows; anew in each epoch.

        Raises:
            TypeError, ValueError: no int of at least 2.
        """
        return make("shuffle", self, buffer_size)

    def repeat(self, count: int | None = None) -> Dataset:
        """The data `count` times in one epoch, each time shuffled anew; None or -1: without end.

        Raises:
            TypeError, ValueError: neither -1 nor an int of at least 1.
        """
        return make("repeat", self, count)

    def skip(self, count: int) -> Dataset:
        """Without the first `count` rows.

        Raises:
            TypeError, ValueError: no int of at least 0.
        """
        return make("skip", self, count)

    def take(self, count: int = -1) -> Dataset:
        """At most the first `count` rows; -1: all.

        Raises:
            TypeError, ValueError: neither -1 nor an int of at least 1.
        """
        return self if count == -1 and not isinstance(count, bool) else make("take", self, count)

    def filter(
        self,
        predicate: Callable[..., Any],
        input_columns: ColumnNames | None = None,
        num_parallel_workers: int | None = None,
    ) -> Dataset:
        """The rows for which `predicate`, of the input columns, is true.

        Raises:
            TypeError: `predicate` cannot be called. RuntimeError, when rows are asked for: there
                is no such column, or it returned no bool.
        """
        return make("filter", self, predicate, input_columns, num_parallel_workers)

    def flat_map(self, func: Callable[..., Dataset]) -> Dataset:
        """The rows of the datasets that `func` makes of each row, one after the other.

        Raises:
            TypeError: `func` cannot be called, or, when rows are asked for, returns no Dataset.
        """
        return make("flat_map", self, func)

    def project(self, columns: ColumnNames) -> Dataset:
        """These columns alone, in this order.

        Raises:
            RuntimeError: there is no such column.
        """
        return make("project", self, columns)

    def rename(self, input_columns: ColumnNames, output_columns: ColumnNames) -> Dataset:
        """Columns with other names.

        Raises:
            RuntimeError: there is no such column, or one of that name already.
        """
        return make("rename", self, input_columns, output_columns)

    def zip(self, datasets: Dataset | Sequence[Dataset]) -> Dataset:
        """The columns of this one and others side by side, as long as the shortest.

        Raises:
            TypeError: no dataset. RuntimeError: a column name comes twice.
        """
        others = datasets if isinstance(datasets, tuple) else (datasets,)
        return make("zip", (self, *others))

    def concat(self, datasets: Dataset | Sequence[Dataset]) -> Dataset:
        """The rows of this one, then those of others.

        Raises:
            TypeError: no dataset. RuntimeError: other columns.
        """
        others = list(datasets) if isinstance(datasets, list | tuple) else [datasets]
        return make("concat", [self, *others])

    def __add__(self, datasets: Dataset | Sequence[Dataset]) -> Dataset:
        return self.concat(datasets)

    def split(
        self, sizes: Sequence[int] | Sequence[float], randomize: bool = True
    ) -> tuple[Any, ...]:
        """Datasets without common rows.

        Args:
            sizes: their numbers of rows, or shares that make 1.
            randomize: draw the rows at random, the same in every epoch.

        Raises:
            RuntimeError: `sizes` do not fit the number of rows. ValueError: shares that do not.
            TypeError: an argument of another kind.
        """
        return make("split", self, sizes, randomize)

    def apply(self, apply_func: Callable[[Self], Any]) -> Any:
        """What a function makes of this dataset.

        Raises:
            TypeError: it cannot be called, or returns no Dataset.
        """
        if not callable(apply_func):
            raise TypeError(f"apply: apply_func must be a function, got {apply_func!r}.")
        made = apply_func(self)
        if not isinstance(made, Dataset):
            raise TypeError(f"apply: apply_func must return a Dataset, got {type(made).__name__}.")
        return made

    def sync_wait(
        self, condition_name: str, num_batch: int = 1, callback: Callable[..., Any] | None = None
    ) -> Dataset:
        """MindSpore's hand-brake for pipelines that depend on training; not supported.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            "sync_wait is not supported: let a transform read a value of yours, and set "
            "dataset.config.set_prefetch_size(1) so that few rows are made ahead."
        )

    def device_que(self, *args: object, **kwargs: object) -> Dataset:
        """MindSpore's queue to the device; rows are handed to JAX without one: this dataset."""
        return self

    def save(self, file_name: str, num_files: int = 1, file_type: str = "mindrecord") -> None:
        """Write the rows of one epoch to MindRecord files.

        Raises:
            TypeError, ValueError: an argument of another kind.
        """
        make("save", self, file_name, num_files, file_type)
