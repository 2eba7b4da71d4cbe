"""Factors of matrices, what is solved with them, eigenvalues and determinants.

Matrices stand in the last two axes; the axes before them are batches. Integers are computed as
Float32. Rows that LAPACK numbers from 1 are numbered so here too (the pivots of `lu_solve` and
`lu_unpack`).

Source: MindSpore's operators of these names.
"""

from typing import Any

import jax
import jax.numpy as jnp

from paramesh.ops.linalg import det, slogdet
from paramesh.ops.table import Array, Floating, alias, function, primitive, tuple_function

# fmt: off
__all__ = [
    "cholesky_solve", "triangular_solve", "lu_solve", "lu_unpack", "geqrf", "ormqr", "eig",
    "eigvals", "cond", "logdet", "log_matrix_determinant", "matrix_determinant", "CholeskySolve",
    "LuSolve", "LuUnpack", "Geqrf", "Ormqr", "Eig", "LogMatrixDeterminant",
]
# fmt: on


def _square(name: str, x: jax.Array) -> jax.Array:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ValueError(f"{name} must be square matrices (..., n, n), got {tuple(x.shape)}.")
    return x


def _right_side(name: str, x: jax.Array, matrix: jax.Array) -> jax.Array:
    if x.ndim < 2 or x.shape[-2] != matrix.shape[-2]:
        raise ValueError(
            f"{name} must be (..., n, k) for matrices {tuple(matrix.shape)}, got {tuple(x.shape)}."
        )
    return x


@function
def cholesky_solve(input: Floating, input2: Floating, upper: bool = False) -> Any:
    """Solutions x of A @ x = input from the Cholesky factor of A: (..., n, k) -> (..., n, k).

    Args:
        input: the right sides, (..., n, k).
        input2: the factor, (..., n, n): A is input2 @ input2.T.
        upper: whether the factor is the upper triangle: A is input2.T @ input2.

    Raises:
        ValueError: shapes that do not fit.
    """
    low = _square("input2", input2)
    _right_side("input", input, low)
    batch = jnp.broadcast_shapes(input.shape[:-2], low.shape[:-2])
    low = jnp.broadcast_to(low, (*batch, *low.shape[-2:]))
    right = jnp.broadcast_to(input, (*batch, *input.shape[-2:]))
    return jax.scipy.linalg.cho_solve((low, not upper), right)


@tuple_function
def triangular_solve(
    b: Floating,
    A: Floating,
    upper: bool = True,
    transpose: bool = False,
    unitriangular: bool = False,
) -> Any:
    """(Solutions x of A @ x = b, A): (..., n, k) for triangles A (..., n, n).

    Args:
        b: the right sides.
        A: matrices, of which one triangle is read.
        upper: the upper one.
        transpose: with A transposed.
        unitriangular: with ones in place of the diagonal.

    Raises:
        ValueError: shapes that do not fit.
    """
    _right_side("b", b, _square("A", A))
    batch = jnp.broadcast_shapes(b.shape[:-2], A.shape[:-2])
    matrix = jnp.broadcast_to(A, (*batch, *A.shape[-2:]))
    right = jnp.broadcast_to(b, (*batch, *b.shape[-2:]))
    solved = jax.scipy.linalg.solve_triangular(
        matrix, right, int(transpose), lower=not upper, unit_diagonal=unitriangular
    )
    return solved, matrix


def _order(pivots: jax.Array, rows: int) -> jax.Array:
    """Which row stands where after the exchanges: (..., rows) of pivots (..., k) from 1 on."""
    if not jnp.issubdtype(pivots.dtype, jnp.integer):
        raise TypeError(f"LU_pivots must be whole numbers, got {pivots.dtype}.")
    permute = jax.lax.linalg.lu_pivots_to_permutation
    return permute(pivots.astype(jnp.int32) - 1, rows)


@function
def lu_solve(b: Floating, LU_data: Floating, LU_pivots: Array) -> Any:
    """Solutions x of A @ x = b from the LU factors of A: (..., n, k) -> (..., n, k).

    Args:
        b: the right sides, (..., n, k).
        LU_data: both triangles in one, (..., n, n).
        LU_pivots: with which row each was exchanged, from 1 on: (..., n), whole numbers.

    Raises:
        TypeError: pivots that are not whole numbers. ValueError: shapes that do not fit.
    """
    _right_side("b", b, _square("LU_data", LU_data))
    if LU_pivots.shape != LU_data.shape[:-1]:
        raise ValueError(
            f"LU_pivots must be of shape {tuple(LU_data.shape[:-1])}, got {tuple(LU_pivots.shape)}."
        )
    batch = jnp.broadcast_shapes(b.shape[:-2], LU_data.shape[:-2])
    order = jnp.broadcast_to(_order(LU_pivots, LU_data.shape[-2]), (*batch, LU_data.shape[-2]))
    right = jnp.broadcast_to(b, (*batch, *b.shape[-2:]))
    factors = jnp.broadcast_to(LU_data, (*batch, *LU_data.shape[-2:]))
    right = jnp.take_along_axis(right, order[..., None], -2)
    solve = jax.scipy.linalg.solve_triangular
    return solve(factors, solve(factors, right, lower=True, unit_diagonal=True))


@tuple_function
def lu_unpack(
    LU_data: Array,
    LU_pivots: Array,
    unpack_data: bool = True,
    unpack_pivots: bool = True,
) -> Any:
    """(P, L, U) with A = P @ L @ U, from the LU factors of A (..., m, n), k = min(m, n).

    Args:
        LU_data: both triangles in one, (..., m, n).
        LU_pivots: with which row each was exchanged, from 1 on: (..., k), whole numbers.
        unpack_data: whether L (..., m, k) and U (..., k, n) are given; None otherwise.
        unpack_pivots: whether P (..., m, m) is given; None otherwise.

    Raises:
        TypeError: pivots that are not whole numbers. ValueError: shapes that do not fit.
    """
    if LU_data.ndim < 2:
        raise ValueError(f"LU_data must be matrices (..., m, n), got {tuple(LU_data.shape)}.")
    rows, columns = LU_data.shape[-2:]
    least = min(rows, columns)
    if LU_pivots.shape != (*LU_data.shape[:-2], least):
        raise ValueError(
            f"LU_pivots must be of shape {(*LU_data.shape[:-2], least)}, got "
            f"{tuple(LU_pivots.shape)}."
        )
    order = _order(LU_pivots, rows) if unpack_pivots else None
    mixed = None if order is None else jax.nn.one_hot(order, rows, dtype=LU_data.dtype, axis=-2)
    if not unpack_data:
        return mixed, None, None
    low = jnp.tril(LU_data[..., :least], -1) + jnp.eye(rows, least, dtype=LU_data.dtype)
    return mixed, low, jnp.triu(LU_data[..., :least, :])


@tuple_function
def geqrf(input: Floating) -> Any:
    """(R above and Householder's vectors below the diagonal (..., m, n), their factors (..., k)).

    JAX has no gradient of it; `qr` has one.

    Raises:
        ValueError: `input` is not of matrices.
    """
    if input.ndim < 2:
        raise ValueError(f"input must be matrices (..., m, n), got {tuple(input.shape)}.")
    found, factors = jnp.linalg.qr(input, "raw")
    return found.swapaxes(-1, -2), factors


@function
def ormqr(
    input: Floating, tau: Floating, other: Floating, left: bool = True, transpose: bool = False
) -> Any:
    """Q @ other, or with the transpose of Q, or from the right, for the Q of `geqrf`.

    JAX has no gradient of it; `qr` and a product have one.

    Args:
        input: Householder's vectors below the diagonal, (..., m, k).
        tau: their factors, (..., k).
        other: (..., m, n), or (..., n, m) with `left=False`.
        left: whether Q stands at the left.
        transpose: with the conjugate transpose of Q.

    Raises:
        ValueError: shapes that do not fit.
    """
    rows, columns = input.shape[-2:]
    wide = jnp.concatenate(
        [input, jnp.zeros((*input.shape[:-1], max(rows - columns, 0)), input.dtype)], -1
    )
    whole = jax.lax.linalg.householder_product(wide, tau)
    whole = jnp.conj(whole.swapaxes(-1, -2)) if transpose else whole
    if other.shape[-2 if left else -1] != rows:
        raise ValueError(
            f"other must have {rows} {'rows' if left else 'columns'}, got {tuple(other.shape)}."
        )
    return whole @ other if left else other @ whole


@tuple_function
def eig(A: Floating) -> Any:
    """(Eigenvalues (..., n), eigenvectors in columns (..., n, n)) of square matrices, complex.

    Their order is LAPACK's. XLA computes them on CPUs; on other backends JAX says what it can do.

    Raises:
        ValueError: `A` is not square.
    """
    return tuple(jnp.linalg.eig(_square("A", A)))


@function
def eigvals(A: Floating) -> Any:
    """Eigenvalues of square matrices, complex: (..., n, n) -> (..., n); see `eig`.

    Raises:
        ValueError: `A` is not square.
    """
    return jnp.linalg.eigvals(_square("A", A))


@function
def cond(A: Floating, p: Any = None) -> Any:
    """Condition numbers: |A| * |A inverted| (..., m, n) -> (...).

    Args:
        A: the matrices; square ones, unless p is None, 2 or -2.
        p: the norm: None or 2 the largest over the least singular value, -2 the other way round,
            1, -1, inf, -inf, "fro" or "nuc".
    """
    if A.ndim < 2:
        raise ValueError(f"A must be matrices (..., m, n), got {tuple(A.shape)}.")
    if p in (None, 2, -2):
        singular = jnp.linalg.svd(A, compute_uv=False)
        least, most = singular[..., -1], singular[..., 0]
        return least / most if p == -2 else most / least
    return jnp.linalg.norm(_square("A", A), p, (-2, -1)) * jnp.linalg.norm(
        jnp.linalg.inv(A), p, (-2, -1)
    )


@function
def logdet(input: Floating) -> Any:
    """Logarithms of determinants, NaN where they are negative: (..., n, n) -> (...)."""
    sign, size = jnp.linalg.slogdet(_square("input", input))
    if jnp.iscomplexobj(sign):
        return size + jnp.log(sign)
    return jnp.where(sign < 0, jnp.nan, size)


matrix_determinant = alias("matrix_determinant", det)
log_matrix_determinant = alias("log_matrix_determinant", slogdet)
CholeskySolve = primitive("CholeskySolve", cholesky_solve, lambda upper=False: {"upper": upper})
LuSolve = primitive("LuSolve", lu_solve)
LuUnpack = primitive(
    "LuUnpack",
    lu_unpack,
    lambda unpack_data=True, unpack_pivots=True: {
        "unpack_data": unpack_data,
        "unpack_pivots": unpack_pivots,
    },
)
Geqrf = primitive("Geqrf", geqrf)
Ormqr = primitive(
    "Ormqr", ormqr, lambda left=True, transpose=False: {"left": left, "transpose": transpose}
)
Eig = primitive("Eig", eig)
LogMatrixDeterminant = primitive("LogMatrixDeterminant", slogdet)
