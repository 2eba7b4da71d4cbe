"""Elements counted and put into bins."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.dtype import float32, int32, int64, to_dtype
from paramesh.ops.table import Array, Dtype, function, primitive
from paramesh.tensor.argument_types import NumberLike, TensorLike
from paramesh.tensor.base import raw
from paramesh.tensor.promotion import cast

__all__ = [
    "bincount",
    "Bincount",
    "histc",
    "bucketize",
    "searchsorted",
    "SearchSorted",
    "confusion_matrix",
    "ConfusionMatrix",
]


@function
def bincount(input: Array, weights: Array = None, minlength: int = 0) -> Any:
    """How often each number from 0 on is there, Float32; outside of programs only: (n,) -> (m,)."""
    return cast(jnp.bincount(input, weights, minlength=minlength), float32)


Bincount = primitive("Bincount", bincount)


@function
def histc(input: Array, bins: int = 100, min: NumberLike = 0.0, max: NumberLike = 0.0) -> Any:
    """How many elements are in each of equal intervals: (...) -> (bins,).

    Args:
        input: numbers.
        bins: how many intervals.
        min: where the first begins; 0 for both: the smallest element.
        max: where the last ends; 0 for both: the largest element.
    """
    span = (jnp.min(input), jnp.max(input)) if min == max == 0 else (min, max)
    low, high = (jnp.asarray(edge, jnp.float32) for edge in span)
    inside = (input >= low) & (input <= high)
    at = jnp.floor((input - low) / (high - low) * bins).astype(jnp.int32)
    at = jnp.where(inside, jnp.clip(at, 0, bins - 1), bins)
    counts = jnp.zeros(bins, jnp.int32).at[at.reshape(-1)].add(1, mode="drop")
    return counts.astype(input.dtype)


@function
def bucketize(
    input: Array, boundaries: TensorLike | Sequence[float], *, right: bool = False
) -> Any:
    """Between which boundaries each element is, Int32: (...) -> (...).

    Args:
        input: numbers.
        boundaries: growing numbers.
        right: whether an element equal to a boundary is behind it.
    """
    edges = jnp.asarray(raw(boundaries) if hasattr(boundaries, "shape") else list(boundaries))
    found = jnp.searchsorted(edges.astype(jnp.float32), input, side="right" if right else "left")
    return cast(found, int32)


@function
def searchsorted(
    sorted_sequence: Array,
    values: Array,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Array = None,
) -> Any:
    """Where values go in sorted sequences: (..., n) and (..., m) -> (..., m).

    Args:
        sorted_sequence: grows along the last axis.
        values: what is looked for.
        out_int32: Int32 instead of Int64.
        right: behind equal elements instead of in front of them.
        side: `left` or `right`, as `right`.
        sorter: indices that sort `sorted_sequence`.
    """
    if side is not None and side not in ("left", "right"):
        raise ValueError(f"side must be 'left' or 'right', got {side!r}.")
    behind = "right" if right or side == "right" else "left"
    rows = sorted_sequence
    if sorter is not None:
        rows = jnp.take_along_axis(rows, sorter, -1)
    if rows.ndim == 1:
        found = jnp.searchsorted(rows, values, side=behind)
    else:
        flat = rows.reshape(-1, rows.shape[-1]), values.reshape(-1, values.shape[-1])
        found = jax.vmap(lambda a, v: jnp.searchsorted(a, v, side=behind))(*flat)
        found = found.reshape(values.shape)
    return cast(found, int32 if out_int32 else int64)


SearchSorted = primitive(
    "SearchSorted",
    searchsorted,
    lambda dtype=int64, right=False: {"out_int32": to_dtype(dtype) is int32, "right": right},
)


@function
def confusion_matrix(
    labels: Array, predictions: Array, num_classes: int, dtype: Dtype = None
) -> Any:
    """How often each class was taken for each: (n,) and (n,) -> (classes, classes)."""
    counts = jnp.zeros((num_classes, num_classes), jnp.int32)
    return cast(counts.at[labels, predictions].add(1), dtype or int32)


ConfusionMatrix = primitive(
    "ConfusionMatrix",
    confusion_matrix,
    lambda num_classes, dtype="int32": {"num_classes": num_classes, "dtype": dtype},
)
