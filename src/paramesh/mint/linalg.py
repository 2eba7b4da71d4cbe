"""`mint.linalg`: torch's functions of matrices."""

from typing import Any

from paramesh.array_types import Array
from paramesh.mint.arrays import norm
from paramesh.ops.linalg import inverse as inv
from paramesh.ops.linalg import matrix_norm as _matrix_norm
from paramesh.ops.linalg import qr
from paramesh.ops.linalg import vector_norm as _vector_norm
from paramesh.tensor.argument_types import DTypeLike, Ints

__all__ = ["inv", "matrix_norm", "norm", "qr", "vector_norm"]


def vector_norm(
    x: Array,
    ord: float = 2,
    dim: Ints | None = None,
    keepdim: bool = False,
    *,
    dtype: DTypeLike | None = None,
) -> Any:
    """Norms of vectors over axes; None: of all elements."""
    return _vector_norm(x, ord, dim, keepdim, dtype=dtype)


def matrix_norm(
    A: Array,
    ord: int | float | str = "fro",
    dim: Ints = (-2, -1),
    keepdim: bool = False,
    *,
    dtype: DTypeLike | None = None,
) -> Any:
    """Norms of matrices in two axes."""
    return _matrix_norm(A, ord, dim, keepdim, dtype=dtype)
