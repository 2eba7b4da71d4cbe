"""Reductions: sums, means, extremes and where they are."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.dtype import DType, int32, int64, to_dtype, x64
from paramesh.ops.array import ints
from paramesh.ops.table import Array, Dtype, Floating, alias, function, primitive, tuple_function
from paramesh.tensor import borders
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "sum", "prod", "reduce_sum", "reduce_prod", "mean", "amax", "amin", "all", "any", "ReduceSum",
    "ReduceProd", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceAll", "ReduceAny", "reduce_mean",
    "reduce_max", "reduce_min", "reduce_all", "reduce_any", "std", "var", "logsumexp", "norm",
    "count_nonzero", "argmax", "argmin", "Argmax", "Argmin", "ArgMax", "ArgMin", "max", "min",
    "arg_max_with_value", "arg_min_with_value", "ArgMaxWithValue", "ArgMinWithValue",
    "square_sum_all", "SquareSumAll", "float_status", "FloatStatus",
]
# fmt: on


Axis = int | Sequence[int] | None
Reducer = Callable[..., jax.Array]


def _axes(axis: Axis) -> int | tuple[int, ...] | None:
    """None and () both mean all axes."""
    if axis is None or isinstance(axis, int):
        return axis
    return ints(axis) or None


def _summable(value: jax.Array, dtype: DType | None) -> jax.Array:
    """Integers and bool are summed as Int64 unless an element type is given."""
    if dtype is not None:
        return cast(value, dtype)
    return cast(value, int64) if to_dtype(value.dtype).kind in ("bool", "int") else value


@function
def sum(input: Array, dim: Axis = None, keepdim: bool = False, *, dtype: Dtype = None) -> Any:
    """Sum over axes; bool and signed integers are summed as Int64.

    Args:
        input: (...).
        dim: the axes, None for all: of more than two as if they were one.
        keepdim: leave axes of size 1 in their places.
        dtype: element type to sum in.
    """
    value = _summable(input, dtype)
    with x64(value):
        return jnp.sum(value, _axes(dim), value.dtype, keepdims=keepdim)


@function
def prod(input: Array, axis: Axis = None, keep_dims: bool = False, dtype: Dtype = None) -> Any:
    """Product over axes; bool and signed integers are multiplied as Int64.

    Args:
        input: (...).
        axis: the axes, None for all.
        keep_dims: leave axes of size 1 in their places.
        dtype: element type to multiply in.
    """
    value = _summable(input, dtype)
    with x64(value):
        return jnp.prod(value, _axes(axis), value.dtype, keepdims=keep_dims)


@function
def reduce_sum(x: Array, axis: Axis = (), keep_dims: bool = False) -> Any:
    """Sum over axes, () for all, in the input's own element type (`sum` widens integers)."""
    return jnp.sum(x, _axes(axis), x.dtype, keepdims=keep_dims)


@function
def reduce_prod(x: Array, axis: Axis = (), keep_dims: bool = False) -> Any:
    """Product over axes, () for all, in the input's own element type (`prod` widens integers)."""
    return jnp.prod(x, _axes(axis), x.dtype, keepdims=keep_dims)


@function
def mean(x: Floating, axis: Axis = None, keep_dims: bool = False) -> Any:
    """Mean over axes, None or () for all; of integers, a Float32."""
    return jnp.mean(x, _axes(axis), keepdims=keep_dims)


@function
def amax(input: Array, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest element over axes, None or () for all."""
    return jnp.max(input, _axes(axis), keepdims=keepdims)


@function
def amin(input: Array, axis: Axis = None, keepdims: bool = False) -> Any:
    """Smallest element over axes, None or () for all."""
    return jnp.min(input, _axes(axis), keepdims=keepdims)


@function
def all(input: Array, axis: Axis = None, keep_dims: bool = False) -> Any:
    """Bool: whether all elements are true, over axes, None or () for all."""
    return jnp.all(input, _axes(axis), keepdims=keep_dims)


@function
def any(input: Array, axis: Axis = None, keep_dims: bool = False) -> Any:
    """Bool: whether any element is true, over axes, None or () for all."""
    return jnp.any(input, _axes(axis), keepdims=keep_dims)


def _keep_dims(keep_dims: bool = False) -> dict[str, Any]:
    return {"keep_dims": keep_dims}


def _keepdims(keep_dims: bool = False) -> dict[str, Any]:
    return {"keepdims": keep_dims}


ReduceSum = primitive("ReduceSum", reduce_sum, _keep_dims)
ReduceProd = primitive("ReduceProd", reduce_prod, _keep_dims)
ReduceMean = primitive("ReduceMean", mean, _keep_dims)
ReduceMax = primitive("ReduceMax", amax, _keepdims)
ReduceMin = primitive("ReduceMin", amin, _keepdims)
ReduceAll = primitive("ReduceAll", all, _keep_dims)
ReduceAny = primitive("ReduceAny", any, _keep_dims)
reduce_mean = alias("reduce_mean", mean)
reduce_max = alias("reduce_max", amax)
reduce_min = alias("reduce_min", amin)
reduce_all = alias("reduce_all", all)
reduce_any = alias("reduce_any", any)


@function
def std(input: Floating, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Standard deviation over axes, None or () for all; the variance is divided by n - ddof."""
    return jnp.std(input, _axes(axis), ddof=ddof, keepdims=keepdims)


@function
def var(input: Floating, axis: Axis = None, ddof: int = 0, keepdims: bool = False) -> Any:
    """Variance over axes, None or () for all, divided by n - ddof."""
    return jnp.var(input, _axes(axis), ddof=ddof, keepdims=keepdims)


@function
def logsumexp(
    input: Floating,
    axis: Axis = None,
    keep_dims: bool = False,
    *,
    dim: Axis = None,
    keepdim: bool | None = None,
) -> Any:
    """Logarithm of the sum of exponentials over axes, without overflow.

    Args:
        input: (...).
        axis: the axes.
        keep_dims: leave axes of size 1 in their places.
        dim: another name of `axis`.
        keepdim: another name of `keep_dims`.

    Raises:
        TypeError: no axes are given.
    """
    axis = dim if axis is None else axis
    if axis is None:
        raise TypeError("logsumexp: axis (or dim) must be given.")
    keep_dims = keep_dims if keepdim is None else keepdim
    return jax.nn.logsumexp(input, _axes(axis), keepdims=keep_dims)


@function
def norm(
    A: Floating,
    ord: float | str | None = None,
    dim: Axis = None,
    keepdim: bool = False,
    *,
    dtype: Dtype = None,
) -> Any:
    """Norm of vectors (one axis) or matrices (two axes).

    Args:
        A: (...).
        ord: which norm, as `numpy.linalg.norm` has them. None, "fro" and the float 2.0: the root of
            the sum of squares, as in MindSpore; the int 2 is the largest singular value of a
            matrix.
        dim: the axes, None for all.
        keepdim: leave axes of size 1 in their places.
        dtype: element type to cast to first.
    """
    value = A if dtype is None else cast(A, dtype)
    axes = _axes(dim)
    if axes is None and value.ndim > 2 and not isinstance(ord, str):
        flat = jnp.linalg.norm(value.reshape(-1), ord)
        return flat.reshape((1,) * value.ndim) if keepdim else flat
    if ord is None or (isinstance(ord, float) and ord == 2.0):
        return jnp.sqrt(jnp.sum(jnp.square(jnp.abs(value)), axes, keepdims=keepdim))
    return jnp.linalg.norm(value, ord, axes, keepdim)


@function
def count_nonzero(x: Array, axis: Axis = (), keep_dims: bool = False, dtype: Dtype = int32) -> Any:
    """How many elements are not 0, over axes, () for all; Int32 unless `dtype` is given."""
    return cast(jnp.sum(x != 0, _axes(axis), jnp.int32, keepdims=keep_dims), dtype)


# Where the extremes are.


def _where(
    fn: Reducer, value: jax.Array, axis: int | None, keepdims: bool, dtype: DType
) -> jax.Array:
    return cast(fn(value, axis, keepdims=keepdims), dtype)


@function
def argmax(
    input: Array, dim: int | None = None, keepdim: bool = False, *, output_type: Dtype = int64
) -> Any:
    """Index of the largest element along an axis, of the first where several are equal.

    Args:
        input: (...).
        dim: the axis; None: of the flattened Tensor.
        keepdim: leave an axis of size 1 in its place.
        output_type: element type of the index: Int64 (the class `Argmax`: Int32).
    """
    return _where(jnp.argmax, input, dim, keepdim, output_type)


@function
def argmin(
    input: Array, axis: int | None = None, keepdims: bool = False, *, output_type: Dtype = int32
) -> Any:
    """Index of the smallest element along an axis, of the first where several are equal.

    Args:
        input: (...).
        axis: the axis; None: of the flattened Tensor.
        keepdims: leave an axis of size 1 in its place.
        output_type: element type of the index: Int32, as in MindSpore.
    """
    return _where(jnp.argmin, input, axis, keepdims, output_type)


Argmax = primitive(
    "Argmax",
    argmax,
    lambda axis=-1, output_type=int32: {"dim": axis, "output_type": output_type},
)
Argmin = primitive(
    "Argmin",
    argmin,
    lambda axis=-1, output_type=int32: {"axis": axis, "output_type": output_type},
)
ArgMax = alias("ArgMax", Argmax)
ArgMin = alias("ArgMin", Argmin)


def _with_value(
    fn: Reducer, best: Reducer, x: jax.Array, axis: int | None, keepdims: bool
) -> tuple[jax.Array, jax.Array]:
    index = _where(fn, x, axis, keepdims, int64)
    if axis is None:
        return best(x, None, keepdims=keepdims), index
    first = borders.first_largest if fn is jnp.argmax else borders.first_smallest
    return first(x, axis, keepdims), index


@tuple_function
def max(
    input: Array,
    axis: int | None = None,
    keepdims: bool = False,
    *,
    keep_dims: bool | None = None,
) -> Any:
    """The largest elements along an axis (None: of all) and their indices (Int64).

    Args:
        input: (...).
        axis: the axis.
        keepdims: keep the axis, with the size 1.
        keep_dims: MindSpore 1.x's form, which gives (indices, values), of axis 0 if none is given.

    Returns:
        (values, indices), each without the axis unless `keepdims`.
    """
    if keep_dims is not None:
        former = 0 if axis is None else axis
        return _with_value(jnp.argmax, jnp.max, input, former, keep_dims)[::-1]
    return _with_value(jnp.argmax, jnp.max, input, axis, keepdims)


@tuple_function
def min(
    input: Array,
    axis: int | None = None,
    keepdims: bool = False,
    *,
    keep_dims: bool | None = None,
) -> Any:
    """The smallest elements along an axis (None: of all) and their indices (Int64).

    Args:
        input: (...).
        axis: the axis.
        keepdims: keep the axis, with the size 1.
        keep_dims: MindSpore 1.x's form, which gives (indices, values), of axis 0 if none is given.

    Returns:
        (values, indices), each without the axis unless `keepdims`.
    """
    if keep_dims is not None:
        former = 0 if axis is None else axis
        return _with_value(jnp.argmin, jnp.min, input, former, keep_dims)[::-1]
    return _with_value(jnp.argmin, jnp.min, input, axis, keepdims)


@tuple_function
def arg_max_with_value(x: Array, axis: int = 0, keep_dims: bool = False) -> Any:
    """Indices (Int64) of the largest elements along an axis, and these elements, in this order."""
    return _with_value(jnp.argmax, jnp.max, x, axis, keep_dims)[::-1]


@tuple_function
def arg_min_with_value(x: Array, axis: int = 0, keep_dims: bool = False) -> Any:
    """Indices (Int64) of the smallest elements along an axis, and these elements, in this order."""
    return _with_value(jnp.argmin, jnp.min, x, axis, keep_dims)[::-1]


def _axis_keep_dims(axis: int = 0, keep_dims: bool = False) -> dict[str, Any]:
    return {"axis": axis, "keep_dims": keep_dims}


ArgMaxWithValue = primitive("ArgMaxWithValue", arg_max_with_value, _axis_keep_dims)
ArgMinWithValue = primitive("ArgMinWithValue", arg_min_with_value, _axis_keep_dims)


@tuple_function
def square_sum_all(x: Array, y: Array) -> Any:
    """The sums of squares of two Tensors: (...), (...) -> (), ()."""
    return jnp.sum(jnp.square(x), dtype=x.dtype), jnp.sum(jnp.square(y), dtype=y.dtype)


SquareSumAll = primitive("SquareSumAll", square_sum_all)


@function
def float_status(x: Floating) -> Any:
    """Float32 of shape (1,): 1 if an element is infinite or NaN, otherwise 0."""
    return jnp.logical_not(jnp.all(jnp.isfinite(x))).astype(jnp.float32).reshape(1)


FloatStatus = primitive("FloatStatus", float_status)
