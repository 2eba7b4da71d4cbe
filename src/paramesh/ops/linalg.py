"""Products of matrices with sums, and what is computed from whole matrices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Tree
from paramesh.dtype import int64, x64
from paramesh.ops.array import Ints, ints
from paramesh.ops.table import (
    Array,
    Arrays,
    Dtype,
    Floating,
    Operand,
    function,
    operator_of,
    other_function,
    primitive,
    tuple_function,
)
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import raw
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "addbmm", "addmm", "addmv", "addr", "baddbmm", "dot", "inner", "kron", "ger", "mv", "cross",
    "cdist",
    "pdist", "dist", "svd", "svd_parts", "Svd", "lstsq", "qr", "cholesky", "det", "slogdet",
    "inverse", "pinv",
    "matrix_power",
    "matrix_exp", "matrix_norm", "vector_norm", "renorm", "lp_norm", "LpNorm", "Cdist", "Cross",
    "Ger",
    "MatrixInverse", "MatrixDeterminant", "Cholesky", "einsum_of", "Einsum", "trace", "Trace",
    "matrix_band_part", "MatrixBandPart", "diag_embed", "block_diag", "vander", "tril_indices",
    "triu_indices", "linear", "batch_dot", "vecdot", "bidense",
]
# fmt: on


@function
def addbmm(
    input: Operand, batch1: Operand, batch2: Operand, *, beta: NumberLike = 1, alpha: NumberLike = 1
) -> Any:
    """Beta * input + alpha * the sum of the products of a batch: (n, m), (b, n, k), (b, k, m)."""
    return beta * input + alpha * jnp.einsum("bnk,bkm->nm", batch1, batch2)


@function
def addmm(
    input: Operand, mat1: Operand, mat2: Operand, *, beta: NumberLike = 1, alpha: NumberLike = 1
) -> Any:
    """Beta * input + alpha * (mat1 @ mat2): (n, m), (n, k), (k, m) -> (n, m)."""
    return beta * input + alpha * jnp.matmul(mat1, mat2)


@function
def addmv(
    input: Operand, mat: Operand, vec: Operand, *, beta: NumberLike = 1, alpha: NumberLike = 1
) -> Any:
    """Beta * input + alpha * (mat @ vec): (n,), (n, m), (m,) -> (n,)."""
    return beta * input + alpha * jnp.matmul(mat, vec)


@function
def addr(
    x: Operand, vec1: Operand, vec2: Operand, *, beta: NumberLike = 1, alpha: NumberLike = 1
) -> Any:
    """Beta * x + alpha * the outer product: (n, m), (n,), (m,) -> (n, m)."""
    return beta * x + alpha * jnp.outer(vec1, vec2)


@function
def baddbmm(
    input: Operand, batch1: Operand, batch2: Operand, beta: NumberLike = 1, alpha: NumberLike = 1
) -> Any:
    """Beta * input + alpha * the products of a batch: (b, n, m), (b, n, k), (b, k, m)."""
    return beta * input + alpha * jnp.matmul(batch1, batch2)


@function
def dot(
    input: Operand | None = None,
    other: Operand | None = None,
    *,
    x1: Operand | None = None,
    x2: Operand | None = None,
) -> Any:
    """The last axis of one against the last but one of the other, as `numpy.dot`.

    `x1` and `x2` are the names of the factors in MindSpore 1.x.
    """
    input, other = x1 if input is None else input, x2 if other is None else other
    if input is None or other is None:
        missing = "input" if input is None else "other"
        raise TypeError(f"dot needs two factors, input and other: {missing} is missing.")
    left, right = jnp.shape(input), jnp.shape(other)
    if left and right and left[-1] != right[-min(len(right), 2)]:
        raise ValueError(f"inner sizes differ: {left} and {right}.")
    return jnp.dot(input, other)


@function
def inner(input: Operand, other: Operand) -> Any:
    """The last axes against each other: (..., k) and (..., k)."""
    return jnp.inner(input, other)


@function
def kron(input: Operand, other: Operand) -> Any:
    """Kronecker's product."""
    return jnp.kron(input, other)


@function
def ger(input: Operand, vec2: Operand) -> Any:
    """The outer product (n,) x (m,) -> (n, m)."""
    return jnp.outer(input, vec2)


@function
def mv(mat: Operand, vec: Operand) -> Any:
    """A matrix by a vector: (n, m) and (m,) -> (n,)."""
    return jnp.matmul(mat, vec)


@function
def cross(input: Operand, other: Operand, dim: int | None = None) -> Any:
    """The vector product along an axis of size 3; None: the first one of that size."""
    if dim is None:
        dim = next((i for i, n in enumerate(input.shape) if n == 3), None)
    if dim is None or input.shape[dim] != 3:
        raise ValueError(f"there is no axis of size 3 in {tuple(input.shape)}, or dim is another.")
    return jnp.cross(input, other, axis=dim)


def _distance(difference: jax.Array, p: float) -> Any:
    if p == 2:
        square = jnp.sum(difference * difference, -1)
        # The gradient of the root at 0 is infinite; a distance of 0 has none.
        safe = jnp.where(square > 0, square, 1)
        return jnp.where(square > 0, jnp.sqrt(safe), 0)
    size = jnp.abs(difference)
    if p == float("inf"):
        return size.max(-1)
    if p == 0:
        return (size != 0).sum(-1).astype(difference.dtype)
    return jnp.sum(size**p, -1) ** (1 / p)


@function
def cdist(x1: Floating, x2: Floating, p: float = 2.0) -> Any:
    """The p-norm of the difference of each two rows: (..., n, k) and (..., m, k) -> (..., n, m)."""
    return _distance(x1[..., :, None, :] - x2[..., None, :, :], p)


@function
def pdist(input: Floating, p: float = 2.0) -> Any:
    """The p-norm of the difference of each two rows of one Tensor: (n, k) -> (n (n - 1) / 2,)."""
    first, second = np.triu_indices(input.shape[-2], 1)
    return _distance(input[..., first, :] - input[..., second, :], p)


@function
def dist(input: Floating, other: Floating, p: float = 2) -> Any:
    """The p-norm of input - other, of all elements."""
    return _distance((input - other).reshape(-1), p)


@other_function
def svd(input: Floating, full_matrices: bool = False, compute_uv: bool = True) -> Any:
    """Singular values: s (..., k), or (s, u, v) with input = u @ diag(s) @ v.T; signs are open."""
    if not compute_uv:
        return jnp.linalg.svd(input, full_matrices, compute_uv=False)
    u, s, vh = jnp.linalg.svd(input, full_matrices)
    return s, u, jnp.conj(vh.swapaxes(-1, -2))


@function
def lstsq(input: Floating, A: Floating) -> Any:
    """X for which input @ x is nearest to A, the least of them: (m, n), (m, k) -> (n, k).

    Args:
        input: (m, n), of the full rank min(m, n).
        A: (m, k), or (m,) for (n, 1).
    """
    wanted = A[:, None] if A.ndim == 1 else A
    if input.ndim != 2 or wanted.ndim != 2 or input.shape[0] != wanted.shape[0]:
        raise ValueError(
            f"expected (m, n) and (m, k), got {tuple(input.shape)} and {tuple(A.shape)}."
        )
    return jnp.linalg.lstsq(input, wanted)[0]


@tuple_function
def qr(input: Floating, mode: str = "reduced") -> Any:
    """(q, r) with orthogonal q and an upper triangle r; `mode`: `reduced` or `complete`."""
    return tuple(jnp.linalg.qr(input, mode))


@function
def cholesky(input_x: Floating, upper: bool = False) -> Any:
    """The triangle l with l @ l.T = input_x; `upper`: its transpose."""
    low = jnp.linalg.cholesky(input_x)
    return jnp.conj(low.swapaxes(-1, -2)) if upper else low


@function
def det(input: Floating) -> Any:
    """Determinants: (..., n, n) -> (...)."""
    return jnp.linalg.det(input)


@tuple_function
def slogdet(input: Floating) -> Any:
    """(sign, log of the absolute value) of determinants."""
    return tuple(jnp.linalg.slogdet(input))


@function
def inverse(input: Floating) -> Any:
    """Inverse matrices: (..., n, n) -> (..., n, n)."""
    return jnp.linalg.inv(input)


@function
def pinv(
    x: Floating, *, atol: float | None = None, rtol: float | None = None, hermitian: bool = False
) -> Any:
    """Moore and Penrose's inverses: (..., n, m) -> (..., m, n); `atol` is not offered."""
    if atol is not None:
        raise ValueError("atol is not offered: give rtol.")
    return jnp.linalg.pinv(x, rtol=rtol, hermitian=hermitian)


@function
def matrix_power(input: Array, n: int) -> Any:
    """Matrices to the power of n: (..., m, m) -> (..., m, m)."""
    return jnp.linalg.matrix_power(input, n)


@function
def matrix_exp(input: Floating) -> Any:
    """E to the power of matrices: (..., m, m) -> (..., m, m)."""
    return jax.scipy.linalg.expm(input)


@function
def matrix_norm(
    A: Floating,
    ord: int | float | str = "fro",
    axis: Ints = (-2, -1),
    keepdims: bool = False,
    *,
    dtype: Dtype = None,
) -> Any:
    """Norms of matrices in two axes; `ord` as that of `numpy.linalg.norm`."""
    value = A if dtype is None else cast(A, dtype)
    return jnp.linalg.norm(value, ord, ints(axis), keepdims)


@function
def vector_norm(
    x: Floating,
    ord: float = 2,
    axis: Ints | None = None,
    keepdims: bool = False,
    *,
    dtype: Dtype = None,
) -> Any:
    """Norms of vectors over axes; None: of all elements."""
    value = x if dtype is None else cast(x, dtype)
    axes = None if axis is None else ints(axis)
    return jnp.linalg.vector_norm(value, axis=axes, keepdims=keepdims, ord=ord)  # pyright: ignore[reportArgumentType]


@function
def lp_norm(
    input: Floating, axis: Ints, p: float = 2, keep_dims: bool = False, epsilon: float = 1e-12
) -> Any:
    """(sum |x|**p) ** (1 / p) over axes, at least epsilon."""
    total = jnp.sum(jnp.abs(input) ** p, ints(axis), keepdims=keep_dims)
    return jnp.maximum(total ** (1 / p), epsilon)


@function
def renorm(input: Floating, p: float, axis: int, maxnorm: float) -> Any:
    """Parts along an axis, scaled down so that the p-norm of each is at most `maxnorm`."""
    others = tuple(i for i in range(input.ndim) if i != axis % input.ndim)
    norms = jnp.sum(jnp.abs(input) ** p, others, keepdims=True) ** (1 / p)
    return input * jnp.where(norms > maxnorm, maxnorm / (norms + 1e-7), 1)


LpNorm = primitive(
    "LpNorm",
    lp_norm,
    lambda axis, p=2, keep_dims=False, epsilon=1e-12: dict(
        axis=axis, p=p, keep_dims=keep_dims, epsilon=epsilon
    ),
)
Cdist = primitive("Cdist", cdist, lambda p=2.0: {"p": p})
Cross = primitive("Cross", cross, lambda dim=None: {"dim": None if dim == -65530 else dim})
Ger = primitive("Ger", ger)


@tuple_function
def svd_parts(a: Floating, full_matrices: bool = False, compute_uv: bool = True) -> Any:
    """(s, u, v) as `svd` gives them; without `compute_uv` u and v are zeros (1,), of no meaning."""
    if compute_uv:
        return operator_of(svd).compute(a, full_matrices)
    nothing = jnp.zeros(1, a.dtype)
    return operator_of(svd).compute(a, full_matrices, False), nothing, nothing


Svd = primitive(
    "Svd",
    svd_parts,
    lambda full_matrices=False, compute_uv=True: dict(
        full_matrices=full_matrices, compute_uv=compute_uv
    ),
)
MatrixInverse = primitive("MatrixInverse", inverse)
MatrixDeterminant = primitive("MatrixDeterminant", det)
Cholesky = primitive("Cholesky", cholesky, lambda upper=False: {"upper": upper})


@function
def einsum_of(operands: Arrays, equation: str) -> Any:
    """`einsum` with its Tensors in a tuple."""
    return jnp.einsum(equation, *operands)


Einsum = primitive("Einsum", einsum_of, lambda equation: {"equation": equation})


@function
def batch_dot(x1: Operand, x2: Operand, axes: Tree = None) -> Any:
    """Products summed over one axis of each, sample by sample.

    Args:
        x1: (n, ...).
        x2: (n, ...).
        axes: the axes, one int for both or a pair; None: the last of x1 and the last but one of x2.
    """
    first = x1.ndim - 1
    second = max(x2.ndim - 2, 1)
    if axes is not None:
        pair = ints(axes)
        first, second = (pair[0], pair[-1])
    first, second = first % x1.ndim, second % x2.ndim
    found = jax.vmap(lambda a, b: jnp.tensordot(a, b, ((first - 1,), (second - 1,))))(x1, x2)
    return found[:, None] if found.ndim == 1 else found


@function
def vecdot(x: Operand, y: Operand, *, axis: int = -1) -> Any:
    """Products of vectors along an axis, summed, with x conjugated; shapes broadcast."""
    return jnp.vecdot(x, y, axis=axis)


@function
def bidense(input1: Floating, input2: Floating, weight: Floating, bias: Floating = None) -> Any:
    """input1.T @ weight[k] @ input2 + bias[k] for every output k.

    Args:
        input1: (..., n).
        input2: (..., m).
        weight: (outputs, n, m).
        bias: (outputs,), or None.
    """
    out = jnp.einsum("...i,kij,...j->...k", input1, weight, input2)
    return out if bias is None else out + bias


@function
def linear(input: Operand, weight: Operand, bias: Operand = None) -> Any:
    """Input @ weight.T + bias: (..., k), (m, k) and (m,) -> (..., m)."""
    out = jnp.matmul(input, weight.T)
    return out if bias is None else out + bias


# Diagonals and triangles.


@function
def trace(input: Array) -> Any:
    """The sum of the diagonal of a matrix: (n, m) -> ()."""
    if input.ndim != 2:
        raise ValueError(f"expected a matrix, got {tuple(input.shape)}.")
    return jnp.trace(input, dtype=input.dtype)


Trace = primitive("Trace", trace)


@function
def matrix_band_part(x: Array, lower: int, upper: int) -> Any:
    """Matrices with zeros but for so many diagonals below and above the main one; -1: all."""
    rows, columns = x.shape[-2:]
    at = jnp.arange(rows)[:, None] - jnp.arange(columns)
    keep = ((lower < 0) | (at <= lower)) & ((upper < 0) | (-at <= upper))
    return jnp.where(keep, x, jnp.zeros((), x.dtype))


MatrixBandPart = primitive("MatrixBandPart", matrix_band_part)


@function
def diag_embed(input: Array, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Any:
    """The last axis as a diagonal of two new axes: (..., n) -> (..., m, m), zeros elsewhere."""
    n = input.shape[-1] + abs(offset)
    rows = jnp.arange(input.shape[-1])
    out = jnp.zeros((*input.shape[:-1], n, n), input.dtype)
    out = out.at[..., rows + max(-offset, 0), rows + max(offset, 0)].set(input)
    return jnp.moveaxis(out, (-2, -1), (dim1, dim2))


@function
def block_diag(*inputs: object) -> Any:
    """Matrices as the blocks of a diagonal, zeros elsewhere."""
    blocks = [jnp.atleast_2d(raw(x)) for x in inputs]
    with x64(*blocks):
        return jax.scipy.linalg.block_diag(*blocks)


@function
def vander(x: Array, N: int | None = None) -> Any:
    """Vandermonde's matrix, the highest power first: (n,) -> (n, N)."""
    return jnp.vander(x, N)


def _indices(found: Any, dtype: Any) -> Any:
    return cast(jnp.asarray(np.stack(found), np.int32), dtype or int64)


@function
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Dtype = None) -> Any:
    """Rows and columns of the lower triangle of a matrix (row, col): (2, n), Int64."""
    return _indices(np.tril_indices(row, offset, col), dtype)


@function
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Dtype = None) -> Any:
    """Rows and columns of the upper triangle of a matrix (row, col): (2, n), Int64."""
    return _indices(np.triu_indices(row, offset, col), dtype)
