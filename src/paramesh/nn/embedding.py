"""Embeddings: rows of a trained table by their indices.

Glossary
    table   (vocab_size, embedding_size): one row for each index
    target  where the rows are looked up: on the `DEVICE`, on the `CPU`, or on the parameter server,
            if the table's Parameter lives there
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from paramesh.dtype import DType, float32, to_dtype, x64
from paramesh.errors import ParameterStateError
from paramesh.nn import arguments
from paramesh.nn.arguments import Init
from paramesh.nn.cell import Cell
from paramesh.nn.inner import Inner, sharded
from paramesh.ops import array, indexing, nn_ops, selecting
from paramesh.ops.math import matmul
from paramesh.parameter import Parameter
from paramesh.sampling.recipe import DistributionSpec, Initializer, Recipe, Sampler
from paramesh.sampling.seed import Key
from paramesh.state import placement
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap


class Embedding(Cell):
    """Rows of a table by their indices.

    Args:
        vocab_size: rows of the table.
        embedding_size: size of a row.
        use_one_hot: multiply with one-hot vectors instead of picking rows; the same numbers.
        embedding_table: initial value of the table: a Tensor, an Initializer, its name or a number.
        dtype: element type of the table.
        padding_idx: a row that starts as zeros. As in MindSpore, it is trained like the others.

    Weights:
        embedding_table: (vocab_size, embedding_size).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range, or an initial value that does not fit.
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        use_one_hot: bool = False,
        embedding_table: Init = "normal",
        dtype: DTypeLike = float32,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__()
        owner = "Embedding"
        self.vocab_size = arguments.integer(owner, "vocab_size", vocab_size)
        self.embedding_size = arguments.integer(owner, "embedding_size", embedding_size)
        self.use_one_hot = arguments.flag(owner, "use_one_hot", use_one_hot)
        self.dtype = arguments.element_type(owner, dtype)
        self.padding_idx = padding_idx
        shape = (self.vocab_size, self.embedding_size)
        table = arguments.weight(owner, "embedding_table", embedding_table, shape, dtype)
        if padding_idx is not None:
            if arguments.integer(owner, "padding_idx", padding_idx, low=0) >= vocab_size:
                raise ValueError(
                    f"Embedding(padding_idx): expected a row from 0 to {vocab_size - 1}, "
                    f"got {padding_idx}."
                )
            table = _without_row(table, padding_idx)
        self.embedding_table = table

    def construct(self, ids: TensorLike) -> Tensor:
        """(...) integers -> (..., embedding_size).

        An index outside the table gives NaN, or zeros with `use_one_hot`.

        Raises:
            TypeError: the indices are not integers.
        """
        if self.use_one_hot:
            zero, one = (Tensor(n, self.dtype) for n in (0, 1))
            return matmul(selecting.one_hot(ids, self.vocab_size, one, zero), self.embedding_table)
        if sharded(self, "gather"):
            # Over one axis of indices, for which scripts write their strategies.
            out = self.gather(self.embedding_table, self.reshape_flat(ids, (-1,)), 0)
            return self.reshape(out, (*ids.shape, self.embedding_size))
        return nn_ops.embedding(ids, self.embedding_table)

    def extend_repr(self) -> str:
        """The settings, as MindSpore prints them."""
        return (
            f"vocab_size={self.vocab_size}, embedding_size={self.embedding_size}, "
            f"use_one_hot={self.use_one_hot}, embedding_table={self.embedding_table}, "
            f"dtype={self.dtype}, padding_idx={self.padding_idx}"
        )

    gather = Inner(lambda layer: indexing.Gather())
    reshape = Inner(lambda layer: array.Reshape())
    reshape_flat = Inner(lambda layer: array.Reshape())
    expand = Inner(lambda layer: array.ExpandDims())  # nothing calls it, in MindSpore neither


#: The rows of a table that has one for any index of 64 bits.
_EVERY_ID = 1 << 64


class EmbeddingLookup(Cell):
    """Rows of a table by their indices, where the table lives.

    With `target="CPU"` and `"DEVICE"` alike the lookup is part of the compiled program, on the
    device that holds the table.

    Args:
        vocab_size: rows of the table; None: any integer of 64 bits has a row, negative ones too.
            Such a table lives on the parameter server only (`set_param_ps(init_in_server=True)`).
            A row's initial value depends on the seed and the index alone. An index of Uint64 means
            the row of the Int64 with the same bits; -2**63 has no row, and may be padding.
        embedding_size: size of a row.
        param_init: initial value of the table: a Tensor, an Initializer, its name or a number.
        target: `CPU` or `DEVICE`.
        slice_mode: how the table and the indices are to be sharded over devices; recorded, without
            effect.
        manual_shapes: rows of each device, for `table_row_slice`; recorded.
        max_norm: rows that are longer are scaled to this length when they are looked up.
        sparse: MindSpore's sparse gradient; recorded.
        vocab_cache_size: rows that the device caches, where the table lives on a server; 0: none.
            See `counts`.
        dtype: element type of the table.
        padding_idx: the index of padding, in the table or outside it (such as -1): it reads as
            zeros, and its row is not trained.

    Weights:
        embedding_table: (vocab_size, embedding_size).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number or a name out of range, or an initial value that does not fit.
    """

    BATCH_SLICE = "batch_slice"
    FIELD_SLICE = "field_slice"
    TABLE_ROW_SLICE = "table_row_slice"
    TABLE_COLUMN_SLICE = "table_column_slice"

    def __init__(
        self,
        vocab_size: int | None,
        embedding_size: int,
        param_init: Init = "normal",
        target: str = "CPU",
        slice_mode: str = "batch_slice",
        manual_shapes: tuple[int, ...] | None = None,
        max_norm: float | None = None,
        sparse: bool = True,
        vocab_cache_size: int = 0,
        dtype: DTypeLike = float32,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if vocab_size is not None:
            vocab_size = arguments.integer(owner, "vocab_size", vocab_size)
        self.vocab_size = vocab_size
        self.embedding_size = arguments.integer(owner, "embedding_size", embedding_size)
        self.target = arguments.choice(owner, "target", target, ("CPU", "DEVICE"))
        self.slice_mode = arguments.choice(
            owner,
            "slice_mode",
            slice_mode,
            (self.BATCH_SLICE, self.FIELD_SLICE, self.TABLE_ROW_SLICE, self.TABLE_COLUMN_SLICE),
        )
        self.manual_shapes = manual_shapes
        self.max_norm = max_norm
        if max_norm is not None:
            self.max_norm = arguments.positive(owner, "max_norm", max_norm)
        self.sparse = arguments.flag(owner, "sparse", sparse)
        self.vocab_cache_size = arguments.integer(
            owner, "vocab_cache_size", vocab_cache_size, low=0
        )
        if padding_idx is not None and (
            isinstance(padding_idx, bool) or not isinstance(padding_idx, int | np.integer)
        ):
            raise TypeError(f"{owner}(padding_idx): expected an int or None, got {padding_idx!r}.")
        self.padding_idx = None if padding_idx is None else int(padding_idx)
        shape = (_EVERY_ID if vocab_size is None else vocab_size, self.embedding_size)
        self.embedding_table = arguments.weight(owner, "param_init", param_init, shape, dtype)
        self.embedding_table.only_rows = True
        self.embedding_table.cache_enable = self.vocab_cache_size > 0
        if self.vocab_cache_size:
            self.embedding_table.cache_shape = (self.vocab_cache_size, self.embedding_size)

    def counts(self) -> dict[str, Any]:
        """Numbers of a table on the parameter server since the start; {} for one that is here.

        `rows_pulled`: rows that came from the servers. `padding_ids` and `refused_ids`: indices of
        padding that were looked up, and indices outside that were an error. With
        `vocab_cache_size` also `looked_up` (different rows, added up over the steps), `hits` (of
        these, rows that were on the device when their step began), `hit_rate`, and `pulled`,
        `prefetched`, `refreshed`: how rows came (before a step, or with the answer to a push:
        because the announced batch lacks them, or because the push has changed them); `evicted` and
        `oversized`, the steps that looked up more rows than the cache has.
        """
        return placement.current().counts(self.embedding_table)

    def row_report(self) -> dict[str, Any]:
        """Which rows of a table on the parameter server were admitted and dropped, so far.

        For tables with `admit_after`, `admit_probability`, `expire_after` or `max_rows` (see
        `Parameter.set_param_ps`); {} for others, and before the first step. The numbers are the
        servers', of all workers' updates: they are in the log and in snapshots, and a server that
        was killed goes on with them.

        `rows`: how many exist. `admitted`: were created. `rejected`: gradients of rows that were
        dropped because the row was not admitted. `expired`, `evicted`: rows removed by
        `expire_after` and by `max_rows`. `candidates`: indices that are being counted for
        `admit_after`. `last_admitted`, `last_dropped`: (update, index) of at most 100 rows of each
        server.
        """
        return placement.current().row_report(self.embedding_table)

    def items(self, block: int = 1 << 16) -> Iterator[tuple[Any, Any]]:
        """The rows of the table in blocks; of one on the parameter server, those that were trained.

        Only one block of rows is in this process's memory at a time. In async mode other workers
        may train rows meanwhile.

        Args:
            block: the most rows of a block.

        Yields:
            numpy arrays: (rows,) Int64, ascending within a server, and (rows, embedding_size).

        Raises:
            TypeError: `block` is not an integer.
            ValueError: `block` is less than 1.
            ParameterServerError: a step was made meanwhile.
        """
        if not isinstance(block, int | np.integer) or isinstance(block, bool):
            raise TypeError(f"block must be an integer, got {type(block).__name__} {block!r}.")
        if block < 1:
            raise ValueError(f"block must be at least 1, got {block}.")
        return placement.current().items(self.embedding_table, block)

    def construct(self, indices: TensorLike) -> Tensor:
        """(...) integers -> (..., embedding_size).

        An index outside the table gives zeros, as in MindSpore; if the table lives on the parameter
        server, it is an error.

        Raises:
            TypeError: the indices are not integers.
            ValueError: an index outside a table on the parameter server that is not `padding_idx`.
        """
        return self._limited(self._rows(indices))

    def _limited(self, rows: Tensor) -> Tensor:
        """Rows, scaled to `max_norm` where they are longer."""
        if self.max_norm is None:
            return rows
        longest = self.max_norm * self.max_norm
        squares = (rows * rows).sum(-1, keepdims=True).clip(longest)
        return rows * (longest / squares).sqrt()

    def _rows(self, indices: TensorLike) -> Tensor:
        """Rows of the table, from where it lives."""
        return self._padded_rows(indices, self.padding_idx)

    def _padded_rows(self, indices: TensorLike, padding: int | None) -> Tensor:
        """As `_rows`, zeros for an index of padding."""
        ids = raw(indices)
        if not hasattr(ids, "dtype"):
            ids = np.asarray(ids)
        if not jnp.issubdtype(ids.dtype, jnp.integer):
            raise TypeError(
                f"{type(self).__name__}: rows of '{self.embedding_table.name}' are looked up by "
                f"integers, got {to_dtype(ids.dtype)}. Cast the indices first."
            )
        rows = placement.current().lookup(self.embedding_table, ids, padding)
        if rows is None and self.vocab_size is None:
            raise ParameterStateError(
                f"Parameter '{self.embedding_table.name}' has a row for any index "
                f"(vocab_size=None), so it has to live on the parameter server: call "
                f"context.set_ps_context(enable_ps=True), and set_param_ps(init_in_server=True) on "
                f"the network. One process is enough for both."
            )
        if rows is None:
            rows = raw(nn_ops.embedding_lookup(self.embedding_table, ids))
        if padding is not None and holds(ids.dtype, padding):
            with x64(ids, rows):
                there = ids == np.asarray(padding, ids.dtype)
                rows = jnp.where(there[..., None], jnp.zeros((), rows.dtype), rows)
        return wrap(rows)

    def extend_repr(self) -> str:
        """The settings."""
        return (
            f"vocab_size={self.vocab_size}, embedding_size={self.embedding_size}, "
            f"target={self.target}, embedding_table={self.embedding_table}"
        )


def holds(dtype: np.dtype[Any], index: int) -> bool:
    """Whether an integer is one of an element type."""
    info = np.iinfo(dtype)
    return info.min <= index <= info.max


def _without_row(table: Parameter, row: int) -> Parameter:
    """The same start with a row of zeros."""
    if not table.has_init:
        values = table.asnumpy()
        values[row] = 0
        return Parameter(Tensor(values))
    recipe = table.recipe
    assert recipe is not None
    kind = _SliceableRow if recipe.initializer.sliceable else _UnsliceableRow
    zeroed = kind(recipe.initializer, row)
    return Parameter(Tensor._from_recipe(Recipe(zeroed, recipe.key, recipe.shape, recipe.dtype)))


class _ZeroRow(Initializer):
    """The numbers of another initializer, but one row of zeros."""

    initializer: Initializer
    row: int

    def __init__(self, initializer: Initializer, row: int) -> None:
        super().__init__(initializer=initializer, row=row)

    def check(self, shape: tuple[int, ...]) -> None:
        """As for the other initializer."""
        self.initializer.check(shape)


class _SliceableRow(_ZeroRow):
    """Of an initializer that can be computed by slices."""

    def law(self, shape: tuple[int, ...]) -> DistributionSpec:
        """The other distribution, with the row as one more number."""
        inner = Recipe(self.initializer, (0, 0), shape, float32)._spec()
        if inner is None:
            inner = DistributionSpec(_the_same, (float(self.initializer.constant(float32)),))
        return DistributionSpec(
            _ZeroRowSampling(inner.sample_fn), inner.reals, (*inner.integers, self.row), False
        )


def _the_same(bits: Sampler, value: Array) -> Array:
    return value


@dataclasses.dataclass(frozen=True)
class _ZeroRowSampling:
    """A sampling function whose values are 0 in the row that is its last number."""

    function: Callable[..., Any]

    def __call__(self, bits: Sampler, *numbers: Array) -> Array:
        values = self.function(bits, *numbers[:-1])
        return jnp.where(bits.index(0) == numbers[-1].astype(jnp.int64), 0, values)


class _UnsliceableRow(_ZeroRow):
    """Of an initializer that computes only the full array."""

    def whole(self, key: Key, shape: tuple[int, ...], dtype: DType) -> np.ndarray[Any, Any]:
        """The other numbers, and zeros in the row."""
        values = np.array(Recipe(self.initializer, key, shape, dtype).compute())
        values[self.row] = 0
        return values
