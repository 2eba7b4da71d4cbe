"""Elements by their values: masks, selection, what is there and where, sorting."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import DType, int32, int64, to_dtype, x64
from paramesh.ops.array import axis_in, ints
from paramesh.ops.indexing import check_integers, count_of
from paramesh.ops.table import (
    Array,
    Operand,
    function,
    other_function,
    primitive,
    tuple_function,
)
from paramesh.tensor.argument_types import Ints, NumberLike
from paramesh.tensor.base import as_value, raw
from paramesh.tensor.known import known_values
from paramesh.tensor.promotion import cast, scalar_kind

# fmt: off
__all__ = [
    "one_hot", "OneHot", "where", "select", "Select", "masked_fill", "MaskedFill",
    "sequence_mask", "masked_select", "nonzero", "unique", "MaskedSelect", "Unique", "sort",
    "argsort", "topk", "Sort", "TopK", "intopk", "InTopK", "invert_permutation",
    "InvertPermutation",
]
# fmt: on


@function
def one_hot(
    indices: Array, depth: int, on_value: NumberLike = 1, off_value: NumberLike = 0, axis: int = -1
) -> Any:
    """`on_value` at each index and `off_value` elsewhere along a new axis: (...) -> (..., depth).

    Args:
        indices: integers; one outside 0..depth-1 gives `off_value` throughout.
        depth: size of the new axis.
        on_value: a number or a Tensor of shape (), which gives the element type.
        off_value: a number or a Tensor of shape ().
        axis: where the new axis goes.
    """
    check_integers(indices, "indices")
    on = _array(on_value)
    with x64(indices, on):
        off = jnp.asarray(raw(off_value), on.dtype)
        where = axis_in(axis, indices.ndim + 1)
        places = jnp.arange(count_of(depth), dtype=indices.dtype)
        places = places.reshape([-1 if i == where else 1 for i in range(indices.ndim + 1)])
        return jnp.where(jnp.expand_dims(indices, where) == places, on, off)


def _array(value: NumberLike) -> jax.Array:
    given = raw(value)
    return as_value(given) if scalar_kind(given) else given


OneHot = primitive("OneHot", one_hot, lambda axis=-1: {"axis": axis})


@function
def where(condition: Array, input: Operand, other: Operand) -> Any:
    """`input` where the condition is true, `other` elsewhere; the three broadcast."""
    return jnp.where(condition.astype(bool), input, other)


@function
def select(condition: Array, input: Operand, other: Operand) -> Any:
    """`input` where the condition (Bool) is true, `other` elsewhere; the three broadcast."""
    return jnp.where(condition.astype(bool), input, other)


Select = primitive("Select", select)


@function
def masked_fill(input_x: Array, mask: Array, value: Array) -> Any:
    """`value` (a number or a Tensor of shape ()) where the mask (Bool) is true."""
    if mask.dtype != bool:
        raise TypeError(f"mask must be Bool, got {to_dtype(mask.dtype)}.")
    return jnp.where(mask, cast(value, to_dtype(input_x.dtype)), input_x)


MaskedFill = primitive("MaskedFill", masked_fill)


@function
def sequence_mask(lengths: Array, maxlen: int | None = None) -> Any:
    """Bool (..., maxlen): whether position j lies before the length; (...) -> (..., maxlen).

    Raises:
        ValueNeededError: inside a program without `maxlen`.
    """
    longest = _known(lengths, "sequence_mask without maxlen").max() if maxlen is None else maxlen
    return jnp.arange(int(longest), dtype=lengths.dtype) < lengths[..., None]


def _known(value: jax.Array, what: str) -> np.ndarray[Any, Any]:
    return known_values(value, f"{what} gives a shape that depends on the values")


@function
def masked_select(input: Array, mask: Array) -> Any:
    """The elements where the mask is true, in one row. A program has to know the mask.

    Raises:
        ValueNeededError: inside a program that computes the mask.
    """
    chosen = _known(mask, "masked_select").astype(bool)
    shape = np.broadcast_shapes(input.shape, chosen.shape)
    places = np.flatnonzero(np.broadcast_to(chosen, shape)).astype(np.int32)
    return jnp.broadcast_to(input, shape).reshape(-1)[places]


@other_function
def nonzero(input: Array) -> Any:
    """The positions (Int64) of elements that are not 0: (...) -> (n, axes). Not inside programs.

    Raises:
        ValueNeededError: inside a program.
    """
    return as_value(np.argwhere(_known(input, "nonzero")), int64)


@tuple_function
def unique(input: Array) -> Any:
    """The different elements in the order they first come, and where each element is among them.

    Not inside programs.

    Returns:
        (values (n,), indices of the input's shape: Int32, for Int64 input Int64).

    Raises:
        ValueNeededError: inside a program.
    """
    values = _known(input, "unique")
    found, first, index = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first)
    place = np.argsort(order)[index.reshape(values.shape)]
    return as_value(found[order]), as_value(place, _index_dtype(values.dtype))


def _index_dtype(dtype: np.dtype[Any]) -> DType:
    return int64 if to_dtype(dtype) is int64 else int32


MaskedSelect = primitive("MaskedSelect", masked_select)
Unique = primitive("Unique", unique)

# Order.


def _sorted(value: jax.Array, axis: int, descending: bool) -> tuple[jax.Array, jax.Array]:
    order = jnp.argsort(value, axis_in(axis, value.ndim), descending=descending)
    return jnp.take_along_axis(value, order, axis), cast(order, int32)


@tuple_function
def sort(input_x: Array, axis: int = -1, descending: bool = False) -> Any:
    """Sorted along an axis, equal elements in their order: (values, indices (Int32))."""
    return _sorted(input_x, axis, descending)


@function
def argsort(input: Array, axis: int = -1, descending: bool = False) -> Any:
    """The indices (Int32) that sort along an axis, equal elements in their order."""
    return _sorted(input, axis, descending)[1]


@tuple_function
def topk(
    input: Array, k: int, dim: int | None = None, largest: bool = True, sorted: bool = True
) -> Any:
    """The k largest elements along an axis and their indices: (..., n) -> (..., k), (..., k).

    Args:
        input: (...).
        k: how many.
        dim: the axis; None: the last.
        largest: False for the smallest.
        sorted: False leaves all elements where they are, as in MindSpore; fewer are always sorted.

    Returns:
        (values, indices (Int32)).

    Raises:
        ValueError: k is larger than the axis.
    """
    axis = axis_in(-1 if dim is None else dim, input.ndim)
    count = count_of(k)
    if not 0 <= count <= input.shape[axis]:
        raise ValueError(f"k={count} is outside the {input.shape[axis]} elements of axis {axis}.")
    if not sorted and count == input.shape[axis]:
        return input, jax.lax.broadcasted_iota(np.int32, input.shape, axis)
    if largest:
        values, indices = jax.lax.top_k(jnp.moveaxis(input, axis, -1), count)
        values, indices = (jnp.moveaxis(v, -1, axis) for v in (values, indices))
        return values, cast(indices, int32)
    first = (*[np.s_[:]] * axis, np.s_[:count])
    values, indices = _sorted(input, axis, False)
    return values[first], indices[first]


Sort = primitive(
    "Sort", sort, lambda axis=-1, descending=False: {"axis": axis, "descending": descending}
)
TopK = primitive("TopK", topk, lambda sorted=True: {"sorted": sorted})


@function
def intopk(x1: Array, x2: Array, k: int) -> Any:
    """Bool (n,): whether class x2[i] is among the k largest of x1[i]: (n, c), (n,) -> (n,)."""
    chosen = jnp.take_along_axis(x1, x2[:, None], 1)
    return jnp.sum(x1 > chosen, 1, jnp.int32) < k


InTopK = primitive("InTopK", intopk, lambda k: {"k": k})


@other_function
def invert_permutation(input_x: Ints) -> Any:
    """The permutation that undoes one, as a tuple of ints: (2, 0, 1) -> (1, 2, 0)."""
    return tuple(int(i) for i in np.argsort(ints(input_x)))


InvertPermutation = primitive("InvertPermutation", invert_permutation)
