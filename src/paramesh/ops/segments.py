"""Rows picked by their numbers and reduced in segments; the elements of one list without another's.

Source: MindSpore's operators of these names.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import int32
from paramesh.ops.table import Array, Dtype, function, primitive, tuple_function
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import as_value
from paramesh.tensor.known import known_values

# fmt: off
__all__ = [
    "list_diff", "ListDiff", "sparse_segment_sum", "SparseSegmentSum",
    "SparseSegmentSumWithNumSegments", "sparse_segment_mean", "SparseSegmentMean",
    "SparseSegmentMeanWithNumSegments", "sparse_segment_sqrt_n", "SparseSegmentSqrtN",
    "SparseSegmentSqrtNWithNumSegments",
]
# fmt: on


@tuple_function
def list_diff(x: Array, y: Array, out_idx: Dtype = int32) -> Any:
    """The elements of x that are not in y, and their places: (n,) and (m,). Not inside programs.

    Args:
        x: (n,).
        y: (m,), of the same element type.
        out_idx: the element type of the places.

    Raises:
        ValueNeededError: inside a program.
    """
    known, others = (known_values(each, "list_diff gives a shape by the values") for each in (x, y))
    if known.ndim != 1 or others.ndim != 1:
        raise ValueError(f"expected (n,) and (m,), got {known.shape} and {others.shape}.")
    places = np.flatnonzero(~np.isin(known, others))
    return as_value(known[places]), as_value(places.astype(np.int32), out_idx)


def _reduced(
    x: jax.Array, indices: jax.Array, ids: jax.Array, count: NumberLike | None, power: float
) -> Any:
    """Sums of segments, divided by their sizes to this power."""
    if count is None:
        known = known_values(ids, "the number of segments is a value of a Tensor")
        number = int(known[-1]) + 1 if known.size else 0
    else:
        number = int(known_values(count, "num_segments is the value of a Tensor").reshape(()))
    if indices.ndim != 1 or indices.shape != ids.shape:
        raise ValueError(
            f"indices and segment_ids must be (k,) both, got {tuple(indices.shape)} and "
            f"{tuple(ids.shape)}."
        )
    total = jnp.zeros((number, *x.shape[1:]), x.dtype).at[ids].add(x[indices])
    sizes = jnp.zeros(number, x.dtype).at[ids].add(1)
    divisor = jnp.maximum(sizes, 1) ** jnp.asarray(power, x.dtype)
    return total / divisor.reshape(-1, *[1] * (x.ndim - 1)) if power else total


@function
def sparse_segment_sum(
    x: Array, indices: Array, segment_ids: Array, num_segments: NumberLike | None = None
) -> Any:
    """Sums of rows that belong together: x (n, ...), indices (k,), segment_ids (k,).

    Args:
        x: the rows.
        indices: which rows are picked.
        segment_ids: to which segment each of them belongs, in ascending order.
        num_segments: how many segments; None: as many as the last number says, which a program has
            to know.

    Returns:
        (segments, ...); zeros for segments without rows.

    Raises:
        ValueNeededError: a program has yet to compute the number of segments.
    """
    return _reduced(x, indices, segment_ids, num_segments, 0)


@function
def sparse_segment_mean(
    x: Array, indices: Array, segment_ids: Array, num_segments: NumberLike | None = None
) -> Any:
    """Means of rows that belong together; arguments as those of `sparse_segment_sum`."""
    return _reduced(x, indices, segment_ids, num_segments, 1)


@function
def sparse_segment_sqrt_n(
    x: Array, indices: Array, segment_ids: Array, num_segments: NumberLike | None = None
) -> Any:
    """Sums of rows that belong together, divided by the root of how many they are.

    Arguments are those of `sparse_segment_sum`.
    """
    return _reduced(x, indices, segment_ids, num_segments, 0.5)


ListDiff = primitive("ListDiff", list_diff, lambda out_idx=int32: {"out_idx": out_idx})
SparseSegmentSum = primitive("SparseSegmentSum", sparse_segment_sum)
SparseSegmentMean = primitive("SparseSegmentMean", sparse_segment_mean)
SparseSegmentSqrtN = primitive("SparseSegmentSqrtN", sparse_segment_sqrt_n)
SparseSegmentSumWithNumSegments = primitive("SparseSegmentSumWithNumSegments", sparse_segment_sum)
SparseSegmentMeanWithNumSegments = primitive(
    "SparseSegmentMeanWithNumSegments", sparse_segment_mean
)
SparseSegmentSqrtNWithNumSegments = primitive(
    "SparseSegmentSqrtNWithNumSegments", sparse_segment_sqrt_n
)
