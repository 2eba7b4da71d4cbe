"""Sums, products and extremes of the slices that have one id, which need not lie together."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import to_dtype
from paramesh.ops.indexing import check_integers, count_of
from paramesh.ops.table import (
    Array,
    function,
    primitive,
)
from paramesh.tensor.argument_types import NumberLike

# fmt: off
__all__ = [
    "unsorted_segment_sum", "unsorted_segment_max", "unsorted_segment_min",
    "UnsortedSegmentSum", "UnsortedSegmentMax", "UnsortedSegmentMin", "unsorted_segment_prod",
    "UnsortedSegmentProd",
]
# fmt: on


def _segments(x: jax.Array, ids: jax.Array, number: NumberLike, how: str, start: Any) -> jax.Array:
    check_integers(ids, "segment_ids")
    if tuple(x.shape[: ids.ndim]) != tuple(ids.shape):
        raise ValueError(
            f"segment_ids {tuple(ids.shape)} must be the first axes of the input {tuple(x.shape)}."
        )
    count = count_of(number)
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
    return _products(x, segment_ids, count_of(num_segments))


UnsortedSegmentSum = primitive("UnsortedSegmentSum", unsorted_segment_sum)
UnsortedSegmentProd = primitive("UnsortedSegmentProd", unsorted_segment_prod)
UnsortedSegmentMax = primitive("UnsortedSegmentMax", unsorted_segment_max)
UnsortedSegmentMin = primitive("UnsortedSegmentMin", unsorted_segment_min)
