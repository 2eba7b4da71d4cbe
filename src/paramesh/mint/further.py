"""Functions of `mint` that MindSpore has since 2.6: running extremes, order, triangles, in place.

A name that ends in `_` writes its result into `input`, which it also gives.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from paramesh import ops
from paramesh.array_types import Array
from paramesh.dtype import int64
from paramesh.mint.table import fill
from paramesh.ops.array import axis_in
from paramesh.tensor.argument_types import NumberLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.promotion import cast


def _kthvalue(input: Array, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    if not input.ndim:
        input = input[None]
        found = _kthvalue(input, k, 0)
        return found
    axis = axis_in(dim, input.ndim)
    if type(k) is not int or not 1 <= k <= input.shape[axis]:
        raise ValueError(f"k must be an int in 1..{input.shape[axis]}, got {k!r}.")
    order = jnp.argsort(input, axis, stable=True)
    place = jax.lax.slice_in_dim(order, k - 1, k, axis=axis)
    values = jnp.take_along_axis(input, place, axis)
    if not keepdim:
        values, place = jnp.squeeze(values, axis), jnp.squeeze(place, axis)
    return values, cast(place, int64)


def _triangular_solve(
    input: Array,
    other: Array,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> Any:
    if input.ndim < 2 or other.ndim < 2:
        raise ValueError(
            f"b and A need two axes or more, got shapes {input.shape} and {other.shape}."
        )
    batch = jnp.broadcast_shapes(input.shape[:-2], other.shape[:-2])
    b = jnp.broadcast_to(input, (*batch, *input.shape[-2:]))
    matrix = jnp.broadcast_to(other, (*batch, *other.shape[-2:]))
    found = jax.lax.linalg.triangular_solve(
        matrix,
        b,
        left_side=True,
        lower=not upper,
        transpose_a=transpose,
        unit_diagonal=unitriangular,
    )
    return found, other


def _conv_tbc(input: Array, other: Array, tensor1: Array, pad: int = 0) -> Any:
    if input.ndim != 3 or other.ndim != 3:
        raise ValueError(
            "input must be (time, batch, channels) and weight (length, channels, outputs), got "
            f"shapes {input.shape} and {other.shape}."
        )
    return tensor1 + jax.lax.conv_general_dilated(
        input, other, (1,), [(pad, pad)], dimension_numbers=("WNC", "WIO", "WNC")
    )


__all__ = ["addr_", "conv_tbc", "cummax", "cummin", "fix", "item", "triangular_solve"]
__all__ += fill(
    {
        "kthvalue": (
            _kthvalue,
            "The k-th smallest values along `dim` and where they are (Int64), as torch's.",
        ),
        "addcmul": (
            lambda input, tensor1, tensor2, *, value=1: input + raw(value) * tensor1 * tensor2,
            "input + value * tensor1 * tensor2.",
        ),
    }
)
fill({"_solved": (_triangular_solve, ""), "_convolved": (_conv_tbc, "")}, floating=True)


def triangular_solve(
    b: TensorLike,
    A: TensorLike,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> Any:
    """The x with A @ x = b, and A, for a triangular A.

    Args:
        b: (..., n, k).
        A: (..., n, n); what lies on its other side is not read.
        upper: whether the upper triangle is there.
        transpose: solve with the transposed A.
        unitriangular: take its diagonal for ones.

    Returns:
        A tuple of x, (..., n, k), and A, as torch's.

    Raises:
        ValueError: fewer than two axes.
    """
    return globals()["_solved"](b, A, upper, transpose, unitriangular)


def conv_tbc(input: TensorLike, weight: TensorLike, bias: TensorLike, pad: int = 0) -> Any:
    """A convolution over time: (time, batch, c), (length, c, out), (out,) -> (time', batch, out).

    Raises:
        ValueError: other axes.
    """
    return globals()["_convolved"](input, weight, bias, pad)


def cummax(input: TensorLike, dim: int) -> Any:
    """(the largest elements so far along an axis, where the last of each is: Int64)."""
    return ops.cummax(input, dim)


def cummin(input: TensorLike, dim: int) -> Any:
    """(the smallest elements so far along an axis, where the last of each is: Int64)."""
    values, place = ops.cummin(input, dim)
    return values, wrap(cast(raw(place), int64))


def fix(input: TensorLike) -> Any:
    """Numbers without their fractions; `mint.trunc`."""
    return ops.trunc(input)


def item(input: Tensor) -> Any:
    """The number of a Tensor with one element."""
    return input.item()


def addr_(
    input: Tensor, vec1: TensorLike, vec2: TensorLike, beta: NumberLike = 1, alpha: NumberLike = 1
) -> Tensor:
    """Beta * input + alpha * the outer product, written into `input`."""
    return input.assign_value(ops.addr(input, vec1, vec2, beta=beta, alpha=alpha))
