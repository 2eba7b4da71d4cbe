"""Elements by position: slices, gathering and scattering.

An index outside its axis cannot raise inside a program. Gathering gives NaN there (the lowest
number for integers), scattering leaves such updates out.
"""

import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import int32, int64, to_dtype
from paramesh.errors import PositionError
from paramesh.ops.array import axis_in, ints
from paramesh.ops.table import (
    Array,
    alias,
    function,
    primitive,
)
from paramesh.tensor.argument_types import Ints, NumberLike
from paramesh.tensor.base import raw
from paramesh.tensor.known import values_if_known
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "slice", "strided_slice", "Slice", "StridedSlice", "gather", "gather_d", "gather_nd",
    "index_select", "Gather", "GatherV2", "SparseGatherV2", "GatherD", "GatherNd",
    "gather_elements", "scatter_nd", "ScatterNd", "tensor_scatter_update", "tensor_scatter_add",
    "tensor_scatter_sub", "tensor_scatter_max", "tensor_scatter_min", "TensorScatterUpdate",
    "TensorScatterAdd", "TensorScatterSub", "TensorScatterMax", "TensorScatterMin",
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


def check_integers(indices: jax.Array, what: str) -> None:
    """Refuse positions that are no integers.

    Raises:
        TypeError: they are of another type.
    """
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
    check_integers(input_indices, "input_indices")
    axis = axis_in(count_of(axis), input_params.ndim)

    def take(params: jax.Array, indices: jax.Array) -> jax.Array:
        return jnp.take(params, indices, axis - batch_dims, mode="fill")

    for _ in range(batch_dims):
        take = jax.vmap(take)
    return take(input_params, input_indices)


def count_of(value: NumberLike) -> int:
    """A count that is given as a number or as an array of one element."""
    return operator.index(value if isinstance(value, int) else int(raw(value)))


@function
def gather_d(x: Array, dim: int, index: Array) -> Any:
    """One element for each index, the other positions being its own: out[i, j] = x[index[i, j], j].

    Args:
        x: (...).
        dim: the axis that the indices are positions on.
        index: integers, of as many axes as `x`.
    """
    check_integers(index, "index")
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
    check_integers(indices, "indices")
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
    check_integers(index, "index")
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
    check_integers(indices, "indices")
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
