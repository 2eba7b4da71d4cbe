"""Lookups of many ids at once: the rows of a bag or of a field of ids become one row.

Glossary
    bag, combiner   see `bags`
    field           in MindSpore's terms, one feature of an example; ids of several fields stand in
                    one array, with the number of the field of each
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from paramesh.dtype import float32, int32, x64
from paramesh.nn import arguments, bags
from paramesh.nn.arguments import Init
from paramesh.nn.bags import Bags, Extent
from paramesh.nn.embedding import EmbeddingLookup, holds
from paramesh.state import placement
from paramesh.state.placement import PrefetchKey
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap

#: The signed types of ids, by the bytes of unsigned ones.
_SIGNED = {1: np.int16, 2: np.int32, 4: np.int64, 8: np.int64}


class _ExtentKey(PrefetchKey):
    """Offsets or lengths that are looked at before a step, where its ids are."""

    def __init__(self, owner: str, extent: Extent) -> None:
        super().__init__(f"the {extent.what} of an {owner}", (3,), int32)
        self.per_device = True
        self._owner, self._what, self._ids = owner, extent.what, extent.ids

    def check(self, value: object) -> None:
        """As `bags.check_extent`."""
        bags.check_extent(self._owner, self._what, self._ids, np.asarray(value))


class EmbeddingBag(EmbeddingLookup):
    """One row for each bag of ids: the sum, mean or maximum of their rows.

    The table may live on this device, sharded over devices, or on the parameter server, as that of
    `EmbeddingLookup`. The gradient by the table is one sum for each row, however often a bag has
    its id.

    Bags come in one of three forms (see `construct`): padded, by offsets, or by lengths. A program
    is compiled for the shapes of its arguments. If the number of ids changes from batch to batch,
    pad `ids` to one length and give `row_lengths`: ids after the last bag are not looked up.

    Args:
        vocab_size: rows of the table; None for any integer of 64 bits, as in `EmbeddingLookup`.
        embedding_size: size of a row.
        combiner: `sum`, `mean`, `sqrtn` (the sum, divided by the root of the number of ids) or
            `max`. A bag without ids is zeros. Of equal largest elements `max` takes the first.
        param_init: initial value of the table: a Tensor, an Initializer, its name or a number.
        padding_idx: the index of padding, in the table or outside it (such as -1): it does not
            belong to its bag, and its row is not trained.
        max_norm: rows that are longer are scaled to this length when they are looked up.
        include_last_offset: `offsets` has one more element: where the last bag ends.
        vocab_cache_size: as for `EmbeddingLookup`.
        dtype: element type of the table.

    Weights:
        embedding_table: (vocab_size, embedding_size). Several layers share a table if it is
            assigned: `other.embedding_table = bag.embedding_table`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number or a name out of range, or an initial value that does not fit.
    """

    def __init__(
        self,
        vocab_size: int | None,
        embedding_size: int,
        combiner: str = "mean",
        param_init: Init = "normal",
        padding_idx: int | None = None,
        max_norm: float | None = None,
        include_last_offset: bool = False,
        vocab_cache_size: int = 0,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__(
            vocab_size,
            embedding_size,
            param_init,
            max_norm=max_norm,
            vocab_cache_size=vocab_cache_size,
            dtype=dtype,
            padding_idx=padding_idx,
        )
        self.combiner = arguments.choice("EmbeddingBag", "combiner", combiner, bags.COMBINERS)
        self.include_last_offset = arguments.flag(
            "EmbeddingBag", "include_last_offset", include_last_offset
        )

    def construct(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        ids: TensorLike,
        offsets: TensorLike | None = None,
        weights: TensorLike | None = None,
        row_lengths: TensorLike | None = None,
    ) -> Tensor:
        """Bags of ids -> (bags, embedding_size), or (..., embedding_size) if they are padded.

        Args:
            ids: integers. Padded: (..., length), the last axis is a bag. With `offsets` or
                `row_lengths`: (ids,), those of all bags one after another.
            offsets: (bags,) integers: where each bag begins; the last one ends with the ids.
            weights: of each id, the shape of `ids`; not for `max`. With `mean` the weighted sum is
                divided by the sum of the weights, with `sqrtn` by the root of the sum of their
                squares. Gradients by them are computed too.
            row_lengths: (bags,) integers: how many ids each bag has; ids after the last bag belong
                to none.

        Raises:
            TypeError: ids, offsets or lengths that are not integers.
            ValueError: shapes that do not fit, both offsets and lengths, weights for `max`. Offsets
                that do not ascend from 0, and lengths that are negative or exceed the ids, outside
                of compiled programs, and before each step where the table lives on the parameter
                server; in other compiled programs all bags of that call are NaN then. An index
                outside a table on the parameter server.
        """
        flat, shares = _raw(ids), None if weights is None else _raw(weights)
        owner = f"EmbeddingBag of '{self.embedding_table.name}'"
        if shares is not None and shares.shape != flat.shape:
            raise ValueError(
                f"{owner}: weights must have the shape of ids, {tuple(flat.shape)}, got "
                f"{tuple(shares.shape)}."
            )
        if shares is not None and self.combiner == "max":
            raise ValueError(
                f"{owner}: weights have no effect on combiner='max'. Leave them out, or use sum, "
                f"mean or sqrtn."
            )
        groups, extent = self._bags(owner, flat, offsets, row_lengths)
        if extent is not None:
            key = _ExtentKey(owner, extent)
            if placement.current().require(self.embedding_table, key, extent.facts):
                extent = None
        padding = self.padding_idx
        # The type of ids that has one which is no row (see `_with_spare`) may have 64 bits.
        spare = row_lengths is not None and (self.vocab_size is None or flat.dtype == np.uint32)
        with x64(np.dtype(np.int64) if spare else flat):
            if row_lengths is not None:
                flat, padding = self._without_rest(flat, groups)
            inside = None if padding is None else flat != jnp.asarray(padding, flat.dtype)
        rows = raw(self._limited(self._padded_rows(flat, padding)))
        values = (rows,) if shares is None else (rows, shares)
        with x64(*values):
            out = bags.pooled(rows, groups, self.combiner, inside, shares)
            if extent is not None:
                out = jnp.where(extent.fits, out, jnp.asarray(jnp.nan, out.dtype))
            return wrap(out)

    def _bags(
        self, owner: str, ids: TensorLike, offsets: TensorLike | None, lengths: TensorLike | None
    ) -> tuple[Bags, Extent | None]:
        if offsets is None and lengths is None:
            if ids.ndim < 2:
                raise ValueError(
                    f"{owner}: ids of shape {tuple(ids.shape)} need offsets or row_lengths, which "
                    f"say where bags begin; padded bags are (bags, length)."
                )
            return Bags(), None
        if offsets is not None and lengths is not None:
            raise ValueError(f"{owner}: give offsets or row_lengths, not both.")
        if ids.ndim != 1:
            raise ValueError(
                f"{owner}: with offsets or row_lengths, ids must have one axis, got shape "
                f"{tuple(ids.shape)}."
            )
        if offsets is not None:
            begins = _raw(offsets)
            bags.check_offsets(owner, begins, len(ids), self.include_last_offset)
            with x64(begins):
                found = bags.of_offsets(begins, len(ids), self.include_last_offset)
                return found, bags.extent_of_offsets(begins, len(ids))
        counts = _raw(lengths)
        bags.check_lengths(owner, counts, len(ids))
        with x64(counts):
            return bags.of_lengths(counts, len(ids)), bags.extent_of_lengths(counts, len(ids))

    def _without_rest(self, ids: Any, groups: Bags) -> tuple[Any, int]:
        """Ids with an index of padding in place of those of no bag, and that index."""
        rest = self.padding_idx
        if rest is None or not holds(ids.dtype, rest):
            ids, rest = self._with_spare(ids)
        return jnp.where(groups.owner < groups.number, ids, jnp.asarray(rest, ids.dtype)), rest

    def _with_spare(self, ids: TensorLike) -> tuple[Any, int]:
        """Ids of a type that has an index which is no row, and that index."""
        if self.vocab_size is None:
            return ids.astype(np.int64), np.iinfo(np.int64).min
        if ids.dtype.kind == "u":
            ids = ids.astype(_SIGNED[ids.dtype.itemsize])
        return ids, -1

    def extend_repr(self) -> str:
        """The settings."""
        return (
            f"vocab_size={self.vocab_size}, embedding_size={self.embedding_size}, "
            f"combiner={self.combiner}, padding_idx={self.padding_idx}, "
            f"embedding_table={self.embedding_table}"
        )


class MultiFieldEmbeddingLookup(EmbeddingLookup):
    """One row for each field of an example: MindSpore's lookup of several features in one table.

    Args:
        vocab_size: rows of the table; None for any integer of 64 bits, as in `EmbeddingLookup`.
        embedding_size: size of a row.
        field_size: how many fields an example has.
        param_init: initial value of the table: a Tensor, an Initializer, its name or a number.
        target: `CPU` or `DEVICE`.
        slice_mode: how table and indices are to be sharded over devices; recorded, without effect.
        feature_num_list: rows of each device, for `table_row_slice`; recorded.
        max_norm: rows that are longer are scaled to this length when they are looked up.
        sparse: MindSpore's sparse gradient; recorded.
        operator: how the rows of a field become one. `SUM`: of the rows multiplied by their values;
            `MEAN`: that, divided by the sum of the absolute values; `MAX`: the largest elements of
            the rows multiplied by their values. An index with the value 0 is padding, which `MAX`
            leaves out.
        dtype: element type of the table.
        vocab_cache_size: as for `EmbeddingLookup`.
        padding_idx: as for `EmbeddingLookup`.

    Weights:
        embedding_table: (vocab_size, embedding_size).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number or a name out of range, or an initial value that does not fit.
    """

    OPERATOR_SUM = "SUM"
    OPERATOR_MEAN = "MEAN"
    OPERATOR_MAX = "MAX"

    def __init__(
        self,
        vocab_size: int | None,
        embedding_size: int,
        field_size: int,
        param_init: Init = "normal",
        target: str = "CPU",
        slice_mode: str = "batch_slice",
        feature_num_list: tuple[int, ...] | None = None,
        max_norm: float | None = None,
        sparse: bool = True,
        operator: str = "SUM",
        dtype: DTypeLike = float32,
        vocab_cache_size: int = 0,
        padding_idx: int | None = None,
    ) -> None:
        super().__init__(
            vocab_size,
            embedding_size,
            param_init,
            target,
            slice_mode,
            feature_num_list,
            max_norm,
            sparse,
            vocab_cache_size,
            dtype,
            padding_idx,
        )
        owner = "MultiFieldEmbeddingLookup"
        self.field_size = arguments.integer(owner, "field_size", field_size)
        choices = (self.OPERATOR_SUM, self.OPERATOR_MEAN, self.OPERATOR_MAX)
        self.operator = arguments.choice(owner, "operator", operator, choices)

    def construct(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, input_indices: TensorLike, input_values: TensorLike, field_ids: TensorLike
    ) -> Tensor:
        """(batch, ids) indices, values and fields -> (batch, field_size, embedding_size).

        Args:
            input_indices: integers; one outside the table reads as zeros, or is an error if the
                table lives on the parameter server.
            input_values: floats, what the row of each index is multiplied by.
            field_ids: integers from 0 to `field_size - 1`. An index of another field belongs to
                none; where fields are known (outside of compiled programs), it is an error.

        Returns:
            Zeros for fields without indices.

        Raises:
            TypeError: indices or fields that are not integers.
            ValueError: shapes that differ or do not have two axes, or a field out of range.
        """
        ids, values, fields = (_raw(a) for a in (input_indices, input_values, field_ids))
        owner = f"MultiFieldEmbeddingLookup of '{self.embedding_table.name}'"
        shapes = [tuple(a.shape) for a in (ids, values, fields)]
        if len(set(shapes)) > 1 or ids.ndim != 2:
            raise ValueError(
                f"{owner}: input_indices, input_values and field_ids must have one shape (batch, "
                f"ids), got {', '.join(map(str, shapes))}."
            )
        bags.check_numbers(owner, "field_ids", fields, self.field_size)
        batch = len(ids)
        rows = raw(self._limited(self._padded_rows(ids, self.padding_idx)))
        with x64(fields):
            count = batch * self.field_size
            known = (fields >= 0) & (fields < self.field_size)
            first = jnp.arange(batch, dtype=jnp.int32)[:, None] * self.field_size
            numbers = jnp.where(known, first + fields.astype(jnp.int32), count).reshape(-1)
        with x64(rows):
            groups = Bags(numbers, count, ascending=False)
            shares = values.reshape(-1, 1).astype(rows.dtype)
            scaled = rows.reshape(-1, self.embedding_size) * shares
            if self.operator == self.OPERATOR_MAX:
                out = groups.largest(scaled, shares != 0)
            else:
                out = groups.total(scaled)
            if self.operator == self.OPERATOR_MEAN:
                out = bags.divided(out, groups.total(abs(shares)), lambda x: x)
            return wrap(out.reshape(batch, self.field_size, self.embedding_size))


def _raw(value: object) -> Any:
    array = raw(value)
    return array if hasattr(array, "dtype") else np.asarray(array)
