"""Elements by position: slices, gathering and scattering, sorting, selecting, counting.

An index outside its axis cannot raise inside a program. Gathering gives NaN there (the lowest
number for integers), scattering leaves such updates out.
"""

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import DType, int32, int64, to_dtype, x64
from paramesh.errors import PositionError
from paramesh.ops.array import axis_in, ints
from paramesh.ops.table import (
    Array,
    Operand,
    alias,
    function,
    other_function,
    primitive,
    tuple_function,
)
from paramesh.tensor.argument_types import Ints, NumberLike
from paramesh.tensor.base import as_value, raw
from paramesh.tensor.known import known_values, values_if_known
from paramesh.tensor.promotion import cast, scalar_kind

# fmt: off
__all__ = [
    "slice", "strided_slice", "Slice", "StridedSlice", "gather", "gather_d", "gather_nd",
    "index_select", "Gather", "GatherV2", "SparseGatherV2", "GatherD", "GatherNd",
    "gather_elements", "scatter_nd", "ScatterNd", "tensor_scatter_update",
    "tensor_scatter_add", "tensor_scatter_sub",
    "tensor_scatter_max", "tensor_scatter_min", "TensorScatterUpdate", "TensorScatterAdd",
    "TensorScatterSub", "TensorScatterMax", "TensorScatterMin", "unsorted_segment_sum",
    "unsorted_segment_max", "unsorted_segment_min", "UnsortedSegmentSum", "UnsortedSegmentMax",
    "UnsortedSegmentMin", "unsorted_segment_prod", "UnsortedSegmentProd",
    "one_hot", "OneHot", "where", "select", "Select", "masked_fill",
    "MaskedFill", "sequence_mask", "masked_select", "nonzero", "unique", "MaskedSelect", "Unique",
    "sort", "argsort", "topk", "Sort", "TopK", "intopk", "InTopK", "invert_permutation",
    "InvertPermutation",
]
# fmt: on


# Slices.


@function
def slice(input_x: Array, begin: Ints, size: Ints) -> Any:
    """`size[i]` elements of axis i from `begin[i]` on; -1 means all that are left.

    Raises:
        ValueError: the slice leaves the Tensor, or there is not one number for each axis.
    """
    starts, sizes = ints(begin), ints(size)
    if not len(starts) == len(sizes) == input_x.ndim:
        raise ValueError(f"begin and size must have {input_x.ndim} ints, one for each axis.")
    ends = [n if s == -1 else b + s for b, s, n in zip(starts, sizes, input_x.shape, strict=True)]
    for axis, (start, end, n) in enumerate(zip(starts, ends, input_x.shape, strict=True)):
        if not 0 <= start <= end <= n:
            raise ValueError(f"elements {start} to {end} of axis {axis} do not lie within its {n}.")
    return jax.lax.slice(input_x, starts, ends)


@function
def strided_slice(
    input_x: Array,
    begin: Ints,
    end: Ints,
    strides: Ints,
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
) -> Any:
    """`input_x[begin:end:strides]` along each axis, with python's meaning of negative numbers.

    Args:
        input_x: (...).
        begin: one int for each axis, from the first; missing axes are taken in full.
        end: one int for each entry of `begin`.
        strides: one int for each entry of `begin`.
        begin_mask: bit i set: ignore `begin[i]`, start where the axis starts.
        end_mask: bit i set: ignore `end[i]`, go to the end of the axis.
        ellipsis_mask: bit i set: entry i stands for as many full axes as are needed.
        new_axis_mask: bit i set: entry i is a new axis of size 1.
        shrink_axis_mask: bit i set: take element `begin[i]` alone, and the axis is gone.

    Raises:
        ValueError: the three do not have the same length.
    """
    starts, ends, steps = ints(begin), ints(end), ints(strides)
    if not len(starts) == len(ends) == len(steps):
        raise ValueError(f"begin, end and strides differ in length: {starts}, {ends}, {steps}.")
    index: list[Any] = []
    for i, (start, stop, step) in enumerate(zip(starts, ends, steps, strict=True)):
        bit = 1 << i
        if ellipsis_mask & bit:
            index.append(Ellipsis)
        elif new_axis_mask & bit:
            index.append(None)
        elif shrink_axis_mask & bit:
            index.append(start)
        else:
            low = None if begin_mask & bit else start
            index.append(np.s_[low : None if end_mask & bit else stop : step])
    return input_x[tuple(index)]


def _masks(
    begin_mask: int = 0,
    end_mask: int = 0,
    ellipsis_mask: int = 0,
    new_axis_mask: int = 0,
    shrink_axis_mask: int = 0,
) -> dict[str, Any]:
    return dict(locals())


Slice = primitive("Slice", slice)
StridedSlice = primitive("StridedSlice", strided_slice, _masks)

# Gathering.


def _check_integers(indices: jax.Array, what: str) -> None:
    if not to_dtype(indices.dtype).is_integer():
        raise TypeError(f"{what} must be integers, got {to_dtype(indices.dtype)}: cast them first.")


@function
def gather(input_params: Array, input_indices: Array, axis: int, batch_dims: int = 0) -> Any:
    """Slices along an axis: (n, d) and indices (...) -> (..., d) for axis 0.

    Args:
        input_params: where from.
        input_indices: integers; negative ones count from the end.
        axis: the axis that the indices are positions on.
        batch_dims: this many first axes of both belong together.

    Raises:
        TypeError: the indices are not integers.
        ValueError: `axis` is out of range.
    """
    _check_integers(input_indices, "input_indices")
    axis = axis_in(_count(axis), input_params.ndim)

    def take(params: jax.Array, indices: jax.Array) -> jax.Array:
        return jnp.take(params, indices, axis - batch_dims, mode="fill")

    for _ in range(batch_dims):
        take = jax.vmap(take)
    return take(input_params, input_indices)


def _count(value: NumberLike) -> int:
    """An int from an int or a Tensor of one."""
    return operator.index(value if isinstance(value, int) else int(raw(value)))


@function
def gather_d(x: Array, dim: int, index: Array) -> Any:
    """One element for each index, the other positions being its own: out[i, j] = x[index[i, j], j].

    Args:
        x: (...).
        dim: the axis that the indices are positions on.
        index: integers, of as many axes as `x`.
    """
    _check_integers(index, "index")
    axis = axis_in(dim, x.ndim)
    used = tuple(np.s_[: n if i != axis else None] for i, n in enumerate(index.shape))
    return jnp.take_along_axis(x[used], index, axis, mode="fill")


@function
def gather_nd(input_x: Array, indices: Array) -> Any:
    """Elements or slices by positions on several axes: (a, b, c) and (..., 2) -> (..., c).

    Args:
        input_x: where from.
        indices: integers; the last axis holds positions on the first axes of `input_x`.
    """
    _check_integers(indices, "indices")
    return input_x.at[_positions(indices, input_x.ndim)].get(mode="fill")


def _positions(indices: jax.Array, ndim: int) -> tuple[jax.Array, ...]:
    depth = indices.shape[-1] if indices.ndim else 0
    if not 1 <= depth <= ndim:
        raise ValueError(
            f"the last axis of indices {tuple(indices.shape)} must have 1 to {ndim} positions."
        )
    return tuple(indices[..., i] for i in range(depth))


@function
def index_select(input: Array, axis: int, index: Array) -> Any:
    """Slices along an axis at the places in a vector: (n, d) and (m,) -> (m, d) for axis 0."""
    _check_integers(index, "index")
    return jnp.take(input, index, axis_in(axis, input.ndim), mode="fill")


Gather = primitive("Gather", gather, lambda batch_dims=0: {"batch_dims": batch_dims})
GatherV2 = alias("GatherV2", Gather)
SparseGatherV2 = alias("SparseGatherV2", Gather)
GatherD = primitive("GatherD", gather_d)
GatherNd = primitive("GatherNd", gather_nd)
gather_elements = alias("gather_elements", gather_d)

# Scattering.


@function
def scatter_nd(indices: Array, updates: Array, shape: Ints) -> Any:
    """Updates added into zeros of a shape: positions (..., k), updates (..., rest) -> shape.

    Args:
        indices: integers; the last axis holds positions on the first k axes of `shape`.
        updates: what to put there; several at one position are added.
        shape: of the result.
    """
    _check_integers(indices, "indices")
    zeros = jnp.zeros(ints(shape), updates.dtype)
    return zeros.at[_positions(indices, zeros.ndim)].add(updates, mode="drop")


ScatterNd = primitive("ScatterNd", scatter_nd)


def _tensor_positions(indices: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, ...]:
    """The positions (..., k) on the first k axes, as MindSpore takes them."""
    if to_dtype(indices.dtype) not in (int32, int64):
        given = to_dtype(indices.dtype)
        raise TypeError(f"indices must be Int32 or Int64, got {given}: cast them first.")
    at = _positions(indices, len(shape))
    values = values_if_known(indices)
    if values is not None:
        sizes = np.array(shape[: len(at)])
        outside = ((values < -sizes) | (values >= sizes)).any(-1)
        if outside.any():
            first = values[outside][0].tolist()
            raise PositionError(
                f"indices has the position {first}, outside of the axes {tuple(sizes.tolist())}."
            )
    return at


def _tensor_scatter(
    input_x: jax.Array, indices: jax.Array, updates: jax.Array, how: str
) -> jax.Array:
    at = input_x.at[_tensor_positions(indices, input_x.shape)]
    return getattr(at, how)(cast(updates, to_dtype(input_x.dtype)), mode="drop")


@function
def tensor_scatter_update(input_x: Array, indices: Array, updates: Array) -> Any:
    """A copy with other elements at some positions.

    Args:
        input_x: (...).
        indices: Int32 or Int64; the last axis holds positions on the first axes of `input_x`,
            negative ones from their ends. A compiled program leaves those outside out.
        updates: what to put there; of several at one position, one of them.

    Raises:
        TypeError: indices of another type. PositionError: positions outside of `input_x`.
    """
    return _tensor_scatter(input_x, indices, updates, "set")


@function
def tensor_scatter_add(input_x: Array, indices: Array, updates: Array) -> Any:
    """A copy with updates added at positions (..., k); several at one position add up."""
    return _tensor_scatter(input_x, indices, updates, "add")


@function
def tensor_scatter_sub(input_x: Array, indices: Array, updates: Array) -> Any:
    """A copy with updates subtracted at positions (..., k); several at one position add up."""
    return _tensor_scatter(input_x, indices, -updates, "add")


@function
def tensor_scatter_max(input_x: Array, indices: Array, updates: Array) -> Any:
    """A copy with the larger of element and update at positions (..., k)."""
    return _tensor_scatter(input_x, indices, updates, "max")


@function
def tensor_scatter_min(input_x: Array, indices: Array, updates: Array) -> Any:
    """A copy with the smaller of element and update at positions (..., k)."""
    return _tensor_scatter(input_x, indices, updates, "min")


TensorScatterUpdate = primitive("TensorScatterUpdate", tensor_scatter_update)
TensorScatterAdd = primitive("TensorScatterAdd", tensor_scatter_add)
TensorScatterSub = primitive("TensorScatterSub", tensor_scatter_sub)
TensorScatterMax = primitive("TensorScatterMax", tensor_scatter_max)
TensorScatterMin = primitive("TensorScatterMin", tensor_scatter_min)

# Segments.


def _segments(x: jax.Array, ids: jax.Array, number: NumberLike, how: str, start: Any) -> jax.Array:
    _check_integers(ids, "segment_ids")
    if tuple(x.shape[: ids.ndim]) != tuple(ids.shape):
        raise ValueError(
            f"segment_ids {tuple(ids.shape)} must be the first axes of the input {tuple(x.shape)}."
        )
    count = _count(number)
    rest = x.shape[ids.ndim :]
    # Negative ids are left out; JAX would count them from the end.
    flat = jnp.where(ids < 0, jnp.asarray(count, ids.dtype), ids).reshape(-1)
    out = jnp.full((count, *rest), start, x.dtype)
    return getattr(out.at[flat], how)(x.reshape(-1, *rest), mode="drop")


def _lowest(dtype: np.dtype[Any]) -> Any:
    kind = to_dtype(dtype).kind
    return jnp.finfo(dtype).min if kind == "float" else jnp.iinfo(dtype).min


def _highest(dtype: np.dtype[Any]) -> Any:
    kind = to_dtype(dtype).kind
    return jnp.finfo(dtype).max if kind == "float" else jnp.iinfo(dtype).max


@function
def unsorted_segment_sum(input_x: Array, segment_ids: Array, num_segments: int) -> Any:
    """Sums of the slices with one id: (n, d) and (n,) -> (num_segments, d).

    Args:
        input_x: (...).
        segment_ids: integers of the shape of the first axes of `input_x`; negative ones are left
            out, and so are those from `num_segments` on.
        num_segments: how many sums.
    """
    return _segments(input_x, segment_ids, num_segments, "add", 0)


@function
def unsorted_segment_max(input_x: Array, segment_ids: Array, num_segments: int) -> Any:
    """Maxima of the slices with one id: (n, d) and (n,) -> (num_segments, d).

    An empty segment is the lowest number of the element type.
    """
    return _segments(input_x, segment_ids, num_segments, "max", _lowest(input_x.dtype))


@function
def unsorted_segment_min(input_x: Array, segment_ids: Array, num_segments: int) -> Any:
    """Minima of the slices with one id: (n, d) and (n,) -> (num_segments, d).

    An empty segment is the highest number of the element type.
    """
    return _segments(input_x, segment_ids, num_segments, "min", _highest(input_x.dtype))


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _products(x: jax.Array, ids: jax.Array, count: int) -> jax.Array:
    return _segments(x, ids, count, "mul", 1)


@_products.defjvp
def _products_and_tangents(
    count: int, primals: tuple[jax.Array, jax.Array], tangents: tuple[jax.Array, Any]
) -> tuple[jax.Array, jax.Array]:
    """The derivative by an element is the product of the others of its segment.

    JAX divides the product by the element, and has no rule for rows of one segment.
    """
    x, ids = primals
    zero = x == 0
    zeros = _segments(zero.astype(jnp.int32), ids, count, "add", 0)
    others = _products(jnp.where(zero, 1, x), ids, count)
    own = jnp.where(ids < 0, count, ids)  # those that are left out have none
    zeros = zeros.at[own].get(mode="fill", fill_value=2)
    others = others.at[own].get(mode="fill", fill_value=0)
    rest = jnp.where(zero, others, others / jnp.where(zero, 1, x))
    rest = jnp.where(zeros == zero, rest, 0)
    return _products(x, ids, count), _segments(rest * tangents[0], ids, count, "add", 0)


@function
def unsorted_segment_prod(x: Array, segment_ids: Array, num_segments: int) -> Any:
    """The product of the rows of each segment; of none 1: (n, ...) and (n,) -> (segments, ...).

    Args:
        x: (...).
        segment_ids: integers of the shape of the first axes of `x`; negative ones are left out, and
            so are those from `num_segments` on.
        num_segments: how many products.
    """
    return _products(x, segment_ids, _count(num_segments))


UnsortedSegmentSum = primitive("UnsortedSegmentSum", unsorted_segment_sum)
UnsortedSegmentProd = primitive("UnsortedSegmentProd", unsorted_segment_prod)
UnsortedSegmentMax = primitive("UnsortedSegmentMax", unsorted_segment_max)
UnsortedSegmentMin = primitive("UnsortedSegmentMin", unsorted_segment_min)

# One-hot, masks, selection.


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
    _check_integers(indices, "indices")
    on = _array(on_value)
    with x64(indices, on):
        off = jnp.asarray(raw(off_value), on.dtype)
        where = axis_in(axis, indices.ndim + 1)
        places = jnp.arange(_count(depth), dtype=indices.dtype)
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
    count = _count(k)
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
