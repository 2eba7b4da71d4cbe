"""Indices of sparse matrices in their two forms, and equal ones joined.

How many different indices there are is a value: `coalesce` works outside of compiled programs.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from paramesh.dtype import int32, to_dtype, x64
from paramesh.ops.table import Array, function, primitive, tuple_function
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.known import known_values
from paramesh.tensor.promotion import cast

__all__ = ["Coalesce", "coalesce", "coo2csr", "csr2coo"]


@function
def coo2csr(row_indices: Array, height: int) -> Any:
    """Where each row starts and the last one ends: rows in order (n,) -> Int32 (height + 1,).

    Args:
        row_indices: the rows of elements, in ascending order.
        height: how many rows there are.

    Raises:
        ValueError: `row_indices` does not have one axis.
    """
    if row_indices.ndim != 1:
        raise ValueError(f"row_indices must be (n,), got {tuple(row_indices.shape)}.")
    return cast(jnp.searchsorted(row_indices, jnp.arange(height + 1)), int32)


@function
def csr2coo(indptr: Array, nnz: int) -> Any:
    """The row of each element, from where rows start and end: (rows + 1,) -> Int32 (nnz,).

    Args:
        indptr: where rows start, and the last one ends.
        nnz: how many elements there are.

    Raises:
        ValueError: `indptr` does not have one axis.
    """
    if indptr.ndim != 1:
        raise ValueError(f"indptr must be (rows + 1,), got {tuple(indptr.shape)}.")
    return cast(jnp.searchsorted(indptr, jnp.arange(nnz), "right") - 1, int32)


@tuple_function
def coalesce(x_indices: Array, x_values: Array, x_shape: NumberLike) -> Any:
    """(Indices (axes, m), values (m,), shape (axes,)) in order, values of equal indices summed.

    Args:
        x_indices: whole numbers (axes, n).
        x_values: (n,).
        x_shape: sizes of the axes, (axes,).

    Raises:
        ValueError: shapes that do not fit, or indices outside of the shape.
        ValueNeededError: the indices are traced.
    """
    at = known_values(x_indices, "how many indices there are")
    sizes = np.asarray(known_values(x_shape, "the shape is the value of a Tensor"))
    if at.ndim != 2 or x_values.shape != at.shape[1:] or sizes.shape != at.shape[:1]:
        raise ValueError(
            f"expected indices (axes, n), values (n,) and a shape (axes,), got {at.shape}, "
            f"{tuple(x_values.shape)} and {sizes.shape}."
        )
    if at.size and ((at < 0).any() or (at >= sizes[:, None]).any()):
        raise ValueError(f"x_indices must lie in the shape {tuple(sizes.tolist())}.")
    flat = np.ravel_multi_index(tuple(at), tuple(sizes))
    kept, place = np.unique(flat, return_inverse=True)
    joined = jnp.zeros(kept.shape, x_values.dtype).at[place.reshape(-1)].add(x_values)
    indices = np.stack(np.unravel_index(kept, tuple(sizes))).astype(at.dtype)
    with x64(to_dtype(at.dtype), to_dtype(sizes.dtype)):
        return jnp.asarray(indices), joined, jnp.asarray(sizes)


Coalesce = primitive("Coalesce", coalesce)
