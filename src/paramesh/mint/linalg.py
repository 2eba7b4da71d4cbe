"""`mint.linalg`: torch's functions of matrices."""

from typing import Any

from paramesh.mint.arrays import norm  # type: ignore[attr-defined]
from paramesh.ops.linalg import inverse as inv
from paramesh.ops.linalg import matrix_norm as _matrix_norm
from paramesh.ops.linalg import qr
from paramesh.ops.linalg import vector_norm as _vector_norm

__all__ = ["inv", "matrix_norm", "norm", "qr", "vector_norm"]


def vector_norm(
    x: Any, ord: float = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """Norms of vectors over axes; None: of all elements."""
    return _vector_norm(x, ord, dim, keepdim, dtype=dtype)


def matrix_norm(
    A: Any, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Any:
    """Norms of matrices in two axes."""
    return _matrix_norm(A, ord, dim, keepdim, dtype=dtype)
