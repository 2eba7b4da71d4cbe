"""Adaptive pooling: windows that divide an axis evenly, for an output of a given size.

Window i of an axis of n elements, of o windows, has the elements from floor(i * n / o) to
ceil((i + 1) * n / o); windows overlap where o does not divide n.

Source: MindSpore's operators of these names. `adaptive_avg_pool2d` is in `paramesh.ops.pooling`.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.array_types import Tree
from paramesh.dtype import DType, int32, int64
from paramesh.ops.pooling import _means
from paramesh.ops.table import Array, Floating, function, other_function, primitive
from paramesh.tensor.borders import first_largest
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "AdaptiveMaxPool2D",
]
# fmt: on

Sizes = int | Sequence[int | None] | None


def _wanted(x: jax.Array, output_size: Sizes, n: int) -> tuple[int, ...]:
    given: Tree = output_size
    sizes = given if isinstance(given, tuple | list) else (given,) * n
    if len(sizes) != n:
        raise ValueError(f"output_size must be one or {n} ints, got {output_size!r}.")
    return tuple(
        full if out is None else int(out) for full, out in zip(x.shape[-n:], sizes, strict=True)
    )


def _average(x: jax.Array, output_size: Sizes, n: int) -> Any:
    for at, out in enumerate(_wanted(x, output_size, n)):
        axis = x.ndim - n + at
        matrix = _means(x.shape[axis], out, x.dtype)
        x = jnp.moveaxis(jnp.tensordot(x, matrix, ((axis,), (1,))), -1, axis)
    return x


def _windows(size: int, out: int) -> list[tuple[int, int]]:
    return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def _largest(x: jax.Array, output_size: Sizes, n: int) -> Any:
    for at, out in enumerate(_wanted(x, output_size, n)):
        axis = x.ndim - n + at
        parts = [
            first_largest(jax.lax.slice_in_dim(x, a, b, axis=axis), axis)
            for a, b in _windows(x.shape[axis], out)
        ]
        x = jnp.stack(parts, axis)
    return x


def _places(x: jax.Array, output_size: Sizes, n: int, dtype: DType) -> Any:
    """Where the largest of each window is among the elements of the last n axes, the first."""
    sizes = x.shape[-n:]
    at = jnp.arange(math.prod(sizes), dtype=jnp.int32).reshape(sizes)
    places = jnp.broadcast_to(at, x.shape)
    # The last axis first, so that of equal elements the first in the image is left.
    for axis, out in reversed(list(enumerate(_wanted(x, output_size, n), x.ndim - n))):
        kept = []
        for a, b in _windows(x.shape[axis], out):
            inside = [jax.lax.slice_in_dim(v, a, b, axis=axis) for v in (x, places)]
            best = jnp.argmax(inside[0], axis, keepdims=True)
            kept.append([jnp.take_along_axis(v, best, axis) for v in inside])
        x, places = (jnp.concatenate(each, axis) for each in zip(*kept, strict=True))
    return cast(places, dtype)


def _with_places(
    x: jax.Array, output_size: Sizes, n: int, return_indices: bool, dtype: DType
) -> Any:
    found = _largest(x, output_size, n)
    if not return_indices:
        return found
    return found, _places(jax.lax.stop_gradient(x), output_size, n, dtype)


@function
def adaptive_avg_pool1d(input: Floating, output_size: int) -> Any:
    """Means of windows that divide each sequence evenly: (..., l) -> (..., l')."""
    return _average(input, output_size, 1)


@function
def adaptive_avg_pool3d(input: Floating, output_size: Sizes) -> Any:
    """Means of windows that divide each volume evenly; None keeps an axis: (..., d, h, w)."""
    return _average(input, output_size, 3)


@other_function
def adaptive_max_pool1d(input: Array, output_size: int) -> Any:
    """The largest of windows that divide each sequence evenly: (..., l) -> (..., l')."""
    return _largest(input, output_size, 1)


@other_function
def adaptive_max_pool2d(input: Array, output_size: Sizes, return_indices: bool = False) -> Any:
    """The largest of windows that divide each image evenly: (..., h, w) -> (..., h', w').

    Args:
        input: the images.
        output_size: one int, or (h', w'); None keeps the size of that axis.
        return_indices: also where the elements were, in h * w, Int64.
    """
    return _with_places(input, output_size, 2, return_indices, int64)


@other_function
def adaptive_max_pool3d(input: Array, output_size: Sizes, return_indices: bool = False) -> Any:
    """The largest of windows that divide each volume evenly: (..., d, h, w) -> (..., d', h', w').

    Args:
        input: the volumes.
        output_size: one int, or (d', h', w'); None keeps the size of that axis.
        return_indices: also where the elements were, in d * h * w, Int32.
    """
    return _with_places(input, output_size, 3, return_indices, int32)


AdaptiveMaxPool2D = primitive(
    "AdaptiveMaxPool2D",
    adaptive_max_pool2d,
    lambda output_size: {"output_size": output_size, "return_indices": True},
)
