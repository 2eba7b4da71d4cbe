"""Covariances, and elements by their order."""

from typing import Any

import jax.numpy as jnp

from paramesh.dtype import int64
from paramesh.ops.array import axis_in
from paramesh.ops.table import Array, Floating, function, tuple_function
from paramesh.tensor.promotion import cast

__all__ = ["cov", "kthvalue", "msort", "nanmedian"]


@function
def cov(
    input: Floating,
    *,
    correction: int = 1,
    fweights: Array = None,
    aweights: Array = None,
) -> Any:
    """Covariances of variables in rows, with observations in columns: (n, m) -> (n, n).

    Args:
        input: (n, m), or (m,) for one variable, whose variance () is given.
        correction: how much less than the number of observations divides.
        fweights: how often each observation counts, whole numbers (m,), or None.
        aweights: how much each observation counts, (m,), or None.

    Raises:
        ValueError: more than two axes, or weights of another shape.
    """
    if input.ndim > 2:
        raise ValueError(f"input must be (n, m) or (m,), got {tuple(input.shape)}.")
    for name, weights in (("fweights", fweights), ("aweights", aweights)):
        if weights is not None and tuple(weights.shape) != tuple(input.shape[-1:]):
            raise ValueError(
                f"{name} must be of shape {tuple(input.shape[-1:])}, got {tuple(weights.shape)}."
            )
    return jnp.cov(input, ddof=correction, fweights=fweights, aweights=aweights)


@function
def msort(input: Array) -> Any:
    """The elements in ascending order along the first axis."""
    return jnp.sort(input, 0)


@tuple_function
def kthvalue(input: Array, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(The k-th smallest element along an axis, k from 1 on; where it is: Int64).

    Args:
        input: (...).
        k: which one.
        dim: the axis.
        keepdim: whether the axis stays, with one element.

    Raises:
        ValueError: k is not from 1 to the size of the axis.
    """
    at = axis_in(dim, input.ndim)
    if not 1 <= k <= input.shape[at]:
        raise ValueError(f"k must be from 1 to {input.shape[at]}, got {k}.")
    order = jnp.argsort(input, at, stable=True)
    place = jnp.take(order, jnp.asarray([k - 1]), at)
    found = (jnp.take_along_axis(input, place, at), cast(place, int64))
    return found if keepdim else tuple(jnp.squeeze(part, at) for part in found)


@tuple_function
def nanmedian(input: Array, axis: int = -1, keepdims: bool = False) -> Any:
    """(The middle element along an axis that is not NaN, the lower of two; where it is: Int64).

    Where all elements are NaN it is NaN, and its place the first one.
    """
    at = axis_in(axis, input.ndim)
    order = jnp.argsort(input, at, stable=True)  # NaN comes last
    count = jnp.sum(~jnp.isnan(input), at, keepdims=True)
    place = jnp.take_along_axis(order, jnp.maximum(count - 1, 0) // 2, at)
    found = (jnp.take_along_axis(input, place, at), cast(place, int64))
    return found if keepdims else tuple(jnp.squeeze(part, at) for part in found)
