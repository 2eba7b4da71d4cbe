"""Undoing a pooling by the largest element: values at the places that they were taken from.

Source: MindSpore's functions of these names.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.ops.conv import pair
from paramesh.ops.table import Array, function
from paramesh.tensor.argument_types import Ints

__all__ = ["max_unpool1d", "max_unpool2d", "max_unpool3d"]


def _sizes(
    x: jax.Array,
    n: int,
    kernel: Ints,
    stride: Ints | None,
    padding: Ints,
    wanted: Sequence[int] | None,
) -> tuple[int, ...]:
    """The sizes of the result's last n axes."""
    kernels, pads = pair("kernel_size", kernel, n), pair("padding", padding, n, least=0)
    strides = pair("stride", 0 if stride is None else stride, n, least=0)
    strides = tuple(s or k for s, k in zip(strides, kernels, strict=True))
    usual = tuple(
        (size - 1) * s - 2 * p + k
        for size, s, p, k in zip(x.shape[-n:], strides, pads, kernels, strict=True)
    )
    if wanted is None or (isinstance(wanted, tuple | list) and not wanted):
        return usual
    given = tuple(int(size) for size in wanted)
    lead = given[:-n]
    if len(given) not in (n, n + 1, x.ndim) or lead != x.shape[x.ndim - n - len(lead) : x.ndim - n]:
        raise ValueError(
            f"output_size must be {n} sizes, or the shape of the result, got {given} for an input "
            f"of shape {x.shape}."
        )
    sizes = given[-n:]
    if any(abs(a - b) >= s for a, b, s in zip(sizes, usual, strides, strict=True)):
        raise ValueError(
            f"output_size {sizes} must differ from {usual} by less than stride, {strides}."
        )
    return sizes


def _undone(
    x: jax.Array,
    indices: jax.Array,
    n: int,
    kernel: Ints,
    stride: Ints | None,
    padding: Ints,
    wanted: Sequence[int] | None,
) -> Any:
    if x.ndim not in (n + 1, n + 2):
        raise ValueError(f"x must have {n + 1} or {n + 2} axes, got shape {x.shape}.")
    if not jnp.issubdtype(indices.dtype, jnp.integer):
        raise TypeError(f"indices must be integers, got {indices.dtype}.")
    if indices.shape != x.shape:
        raise ValueError(f"indices must have the shape of x, {x.shape}, got {indices.shape}.")
    sizes = _sizes(x, n, kernel, stride, padding, wanted)
    lead = x.shape[:-n]
    count = 1
    for size in sizes:
        count *= size
    at = indices.reshape(*lead, -1)
    at = jnp.where(at < 0, count, at)  # dropped; jax would count from the end
    rows = jnp.zeros((*lead, count), x.dtype)
    out = jnp.put_along_axis(rows, at, x.reshape(*lead, -1), axis=-1, inplace=False, mode="drop")
    return out.reshape(*lead, *sizes)


@function
def max_unpool1d(
    x: Array,
    indices: Array,
    kernel_size: int,
    stride: int | None = None,
    padding: int = 0,
    output_size: Sequence[int] | None = None,
) -> Any:
    """Values at the places of a pooling, zeros elsewhere: (n, c, l) -> (n, c, l'), n may miss.

    Args:
        x: what the pooling gave.
        indices: integers of the shape of `x`: the place of each value in its sequence. Places
            outside of it are left out.
        kernel_size: of the pooling.
        stride: of the pooling; None or 0: `kernel_size`.
        padding: of the pooling.
        output_size: the length, or the shape, of the result; None: (l - 1) * stride - 2 * padding +
            kernel_size. It may differ from that by less than `stride`.

    Raises:
        TypeError: indices that are not integers.
        ValueError: shapes, sizes or numbers that do not fit.
    """
    return _undone(x, indices, 1, kernel_size, stride, padding, output_size)


@function
def max_unpool2d(
    x: Array,
    indices: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Any:
    """As `max_unpool1d`, of images: (n, c, h, w) -> (n, c, h', w'); places count h * w."""
    return _undone(x, indices, 2, kernel_size, stride, padding, output_size)


@function
def max_unpool3d(
    x: Array,
    indices: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Any:
    """As `max_unpool1d`, of volumes: (n, c, d, h, w) -> (n, c, d', h', w'); places count all."""
    return _undone(x, indices, 3, kernel_size, stride, padding, output_size)
