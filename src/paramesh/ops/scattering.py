"""More ways to scatter: into a Parameter, or into a copy of a Tensor.

`paramesh.ops.state` and `paramesh.ops.indexing` have those that set and add. Positions outside of
the target are left out, and several updates for one position all count.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Tree
from paramesh.dtype import x64
from paramesh.ops.array import axis_in
from paramesh.ops.indexing import tensor_scatter_update
from paramesh.ops.state import Index, as_parameter, fitting, locking, positions, written
from paramesh.ops.table import Array, function, operator_of, primitive
from paramesh.ops.unsorted_segments import unsorted_segment_prod
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import raw
from paramesh.tensor.division import truncate_divide


def _changed(target: jax.Array, index: Index, updates: jax.Array, how: str) -> jax.Array:
    """A copy of `target` with `updates` brought in at `index`."""
    if how == "sub":
        return target.at[index].add(-updates, mode="drop")
    if how == "div":
        divisors = jnp.ones_like(target).at[index].multiply(updates, mode="drop")
        if jnp.issubdtype(target.dtype, jnp.integer):
            return truncate_divide(target, divisors)
        return target / divisors
    names = {"add": "add", "mul": "multiply", "max": "max", "min": "min"}
    return getattr(target.at[index], names[how])(updates, mode="drop")


def _into(variable: Parameter, index: Index, updates: NumberLike, how: str) -> jax.Array:
    param = as_parameter(variable)
    change = fitting(param, updates)
    with x64(change):
        new = _changed(raw(param), index, change, how)
    return written(param, new)


_ARGUMENTS = """

    Args:
        input_x: the Parameter.
        indices: integers; {indices}.
        updates: {updates}; of a type that the Parameter's can hold.

    Returns:
        The new value.

    Raises:
        TypeError: `input_x` is not a Parameter; ParameterDtypeError: the updates' type is refused.
"""


def _rows(how: str, summary: str) -> Any:
    def compute(input_x: Parameter, indices: Array, updates: NumberLike) -> Any:
        return _into(input_x, indices, updates, how)

    compute.__name__ = compute.__qualname__ = f"scatter_{how}"
    compute.__doc__ = f"{summary}: (n, d), indices (...), updates (..., d)." + _ARGUMENTS.format(
        indices="positions on its first axis", updates="the rows"
    )
    return function(compute)


def _elements(how: str, summary: str) -> Any:
    def compute(input_x: Parameter, indices: Array, updates: NumberLike) -> Any:
        return _into(input_x, positions(indices), updates, how)

    compute.__name__ = compute.__qualname__ = f"scatter_nd_{how}"
    compute.__doc__ = f"{summary} at positions (..., k) on its first k axes." + _ARGUMENTS.format(
        indices="the last axis holds a position", updates="one for each position"
    )
    return function(compute)


scatter_sub = _rows("sub", "Rows subtracted from those of a Parameter")
scatter_mul = _rows("mul", "Rows of a Parameter multiplied")
scatter_div = _rows("div", "Rows of a Parameter divided, whole numbers towards 0")
scatter_max = _rows("max", "The larger of rows and those of a Parameter")
scatter_min = _rows("min", "The smaller of rows and those of a Parameter")
ScatterSub = primitive("ScatterSub", scatter_sub, locking)
ScatterMul = primitive("ScatterMul", scatter_mul, locking)
ScatterDiv = primitive("ScatterDiv", scatter_div, locking)
ScatterMax = primitive("ScatterMax", scatter_max, locking)
ScatterMin = primitive("ScatterMin", scatter_min, locking)

scatter_nd_sub = _elements("sub", "Values subtracted from a Parameter")
scatter_nd_mul = _elements("mul", "Elements of a Parameter multiplied")
scatter_nd_div = _elements("div", "Elements of a Parameter divided, whole numbers towards 0")
scatter_nd_max = _elements("max", "The larger of values and elements of a Parameter")
scatter_nd_min = _elements("min", "The smaller of values and elements of a Parameter")
ScatterNdSub = primitive("ScatterNdSub", scatter_nd_sub, locking)
ScatterNdMul = primitive("ScatterNdMul", scatter_nd_mul, locking)
ScatterNdDiv = primitive("ScatterNdDiv", scatter_nd_div, locking)
ScatterNdMax = primitive("ScatterNdMax", scatter_nd_max, locking)
ScatterNdMin = primitive("ScatterNdMin", scatter_nd_min, locking)


@function
def tensor_scatter_mul(input_x: Array, indices: Array, updates: Array) -> Any:
    """A copy with elements multiplied by updates at positions (..., k)."""
    return _copy(input_x, indices, updates, "mul")


@function
def tensor_scatter_div(input_x: Array, indices: Array, updates: Array) -> Any:
    """A copy with elements divided by updates at positions (..., k), whole numbers towards 0."""
    return _copy(input_x, indices, updates, "div")


def _by_products(x: jax.Array, indices: jax.Array, updates: jax.Array, how: str) -> jax.Array:
    """The same by the product of the updates of each position, which has a gradient."""
    axes = indices.shape[-1]
    sizes, rest = x.shape[:axes], x.shape[axes:]
    strides = np.cumprod((1, *sizes[:0:-1]))[::-1].astype(indices.dtype)
    whole = jnp.where(indices < 0, indices + np.array(sizes, indices.dtype), indices)
    inside = ((whole >= 0) & (whole < np.array(sizes))).all(-1)
    places = jnp.where(inside, (whole * strides).sum(-1), -1).reshape(-1)
    rows = updates.reshape(places.size, *rest)
    count = math.prod(sizes)
    factors = operator_of(unsorted_segment_prod).compute(rows, places, count).reshape(x.shape)
    return x * factors if how == "mul" else x / factors


def _copy(input_x: jax.Array, indices: jax.Array, updates: jax.Array, how: str) -> jax.Array:
    operator_of(tensor_scatter_update).compute(input_x, indices, updates)  # checks what was given
    if jnp.issubdtype(input_x.dtype, jnp.inexact):
        return _by_products(input_x, indices, updates.astype(input_x.dtype), how)
    return _changed(input_x, positions(indices), updates.astype(input_x.dtype), how)


TensorScatterMul = primitive("TensorScatterMul", tensor_scatter_mul)
TensorScatterDiv = primitive("TensorScatterDiv", tensor_scatter_div)


@function
def inplace_index_add(var: Parameter, indices: Array, updates: NumberLike, axis: int) -> Any:
    """Slices added to those of a Parameter along an axis; several for one position add up.

    Args:
        var: the Parameter.
        indices: (k,): integers, positions on the axis.
        updates: of the Parameter's shape, but of size k along the axis.
        axis: the axis.

    Returns:
        The new value.
    """
    at = axis_in(axis, as_parameter(var).value().ndim)
    index: Tree = (*(slice(None),) * at, indices)
    return _into(var, index, updates, "add")


InplaceIndexAdd = primitive("InplaceIndexAdd", inplace_index_add, lambda axis: {"axis": axis})

# fmt: off
__all__ = [
    "inplace_index_add", "InplaceIndexAdd",
    "scatter_sub", "scatter_mul", "scatter_div", "scatter_max", "scatter_min", "ScatterSub",
    "ScatterMul", "ScatterDiv", "ScatterMax", "ScatterMin", "scatter_nd_sub", "scatter_nd_mul",
    "scatter_nd_div", "scatter_nd_max", "scatter_nd_min", "ScatterNdSub", "ScatterNdMul",
    "ScatterNdDiv", "ScatterNdMax", "ScatterNdMin", "tensor_scatter_mul", "tensor_scatter_div",
    "TensorScatterMul", "TensorScatterDiv",
]
# fmt: on
