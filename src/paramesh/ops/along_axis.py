"""Cumulative and order statistics along an axis, and reductions that pass over NaN."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.dtype import float32, int32, int64, x64
from paramesh.ops.array import Ints, axis_in, ints
from paramesh.ops.table import (
    Array,
    Dtype,
    Floating,
    function,
    other_function,
    primitive,
    tuple_function,
)
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import raw
from paramesh.tensor.promotion import cast

__all__ = [
    "diff",
    "trapz",
    "cummax",
    "cummin",
    "Cummax",
    "Cummin",
    "logcumsumexp",
    "median",
    "nansum",
    "nanmean",
    "quantile",
    "nanquantile",
    "aminmax",
    "std_mean",
    "var_mean",
    "logspace",
    "top_k",
]


@function
def diff(x: Array, n: int = 1, axis: int = -1, prepend: Array = None, append: Array = None) -> Any:
    """Differences of neighbours along an axis, n times."""
    return jnp.diff(x, n, axis, prepend, append)


@function
def trapz(y: Floating, x: Floating = None, *, dx: float = 1.0, dim: int = -1) -> Any:
    """The integral along an axis, by trapezia."""
    return jnp.trapezoid(y, x, dx, dim)


def _extreme(x: jax.Array, axis: int, better: Callable[..., jax.Array]) -> tuple[Any, Any]:
    places = jnp.broadcast_to(
        jnp.arange(x.shape[axis]).reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]),
        x.shape,
    )

    def join(a: tuple[jax.Array, jax.Array], b: tuple[jax.Array, jax.Array]) -> Any:
        take = better(b[0], a[0]) | jnp.isnan(b[0])
        return jnp.where(take, b[0], a[0]), jnp.where(take, b[1], a[1])

    values, at = jax.lax.associative_scan(join, (x, places), axis=axis % x.ndim)
    return values, at


@tuple_function
def cummax(input: Array, axis: int) -> Any:
    """(the largest elements so far along an axis, where they are: Int64)."""
    values, at = _extreme(input, axis, jnp.greater_equal)
    return values, cast(at, int64)


@tuple_function
def cummin(input: Array, axis: int) -> Any:
    """(the smallest elements so far along an axis, where they are: Int32)."""
    values, at = _extreme(input, axis, jnp.less_equal)
    return values, cast(at, int32)


Cummax = primitive("Cummax", cummax, lambda axis: {"axis": axis})
Cummin = primitive("Cummin", cummin, lambda axis: {"axis": axis})


@function
def logcumsumexp(input: Floating, axis: int) -> Any:
    """The logarithm of the running sum of exp along an axis."""
    return jax.lax.associative_scan(jnp.logaddexp, input, axis=axis_in(axis, input.ndim))


@other_function
def median(input: Array, axis: int = -1, keepdims: bool = False) -> Any:
    """(the middle element along an axis, the lower of two; where it is: Int64)."""
    at = axis_in(axis, input.ndim)
    order = jnp.argsort(input, at, stable=True)
    place = jax.lax.slice_in_dim(order, (n := (input.shape[at] - 1) // 2), n + 1, axis=at)
    value = jnp.take_along_axis(input, place, at)
    found = (value, cast(place, int64))
    return found if keepdims else tuple(jnp.squeeze(part, at) for part in found)


def _axes(axis: Ints | None) -> Any:
    return None if axis is None or axis == () else ints(axis)


@function
def nansum(
    input: Array, axis: Ints | None = None, keepdims: bool = False, *, dtype: Dtype = None
) -> Any:
    """The sum over axes without NaN."""
    value = input if dtype is None else cast(input, dtype)
    return jnp.nansum(value, _axes(axis), keepdims=keepdims)


@function
def nanmean(
    input: Floating, axis: Ints | None = None, keepdims: bool = False, *, dtype: Dtype = None
) -> Any:
    """The mean over axes without NaN."""
    value = input if dtype is None else cast(input, dtype)
    return jnp.nanmean(value, _axes(axis), keepdims=keepdims)


@function
def quantile(input: Floating, q: Floating, axis: int | None = None, keepdims: bool = False) -> Any:
    """Quantiles along an axis, between neighbours where they fall between two."""
    return jnp.quantile(input, q, axis, keepdims=keepdims)


@function
def nanquantile(
    input: Floating, q: Floating, axis: int | None = None, keepdims: bool = False
) -> Any:
    """`quantile` without NaN."""
    return jnp.nanquantile(input, q, axis, keepdims=keepdims)


@tuple_function
def aminmax(input: Array, *, axis: int | None = 0, keepdims: bool = False) -> Any:
    """(the smallest, the largest element) along an axis."""
    return jnp.min(input, axis, keepdims=keepdims), jnp.max(input, axis, keepdims=keepdims)


@tuple_function
def std_mean(
    input: Floating, axis: Ints | None = None, ddof: int = 0, keepdims: bool = False
) -> Any:
    """(standard deviation, mean) over axes."""
    axes = _axes(axis)
    return jnp.std(input, axes, ddof=int(ddof), keepdims=keepdims), jnp.mean(
        input, axes, keepdims=keepdims
    )


@tuple_function
def var_mean(
    input: Floating, axis: Ints | None = None, ddof: int = 0, keepdims: bool = False
) -> Any:
    """(variance, mean) over axes."""
    axes = _axes(axis)
    return jnp.var(input, axes, ddof=int(ddof), keepdims=keepdims), jnp.mean(
        input, axes, keepdims=keepdims
    )


@tuple_function
def top_k(input_x: Array, k: int, sorted: bool = True) -> Any:
    """(the k largest elements along the last axis, where they are: Int32).

    Not `sorted`, all elements stay where they are; fewer are always sorted.
    """
    if not sorted and k == input_x.shape[-1]:
        return input_x, jax.lax.broadcasted_iota(int32.np_dtype, input_x.shape, input_x.ndim - 1)
    values, at = jax.lax.top_k(input_x, k)
    return values, cast(at, int32)


@function
def logspace(
    start: NumberLike, end: NumberLike, steps: int, base: float = 10, *, dtype: Dtype = None
) -> Any:
    """Powers of `base` whose exponents lie evenly from `start` to `end`: (steps,)."""
    wanted = dtype or float32
    with x64(wanted):
        return jnp.logspace(raw(start), raw(end), steps, base=base, dtype=wanted.np_dtype)
