"""Copies of a Tensor with rows, a diagonal or margins changed, and elementwise tests of two.

Source: MindSpore's operators of these names.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as formulas

from paramesh.dtype import int32, to_dtype
from paramesh.ops.array import ints, pad
from paramesh.ops.linalg import renorm
from paramesh.ops.math import isclose
from paramesh.ops.table import (
    Array,
    Floating,
    Operand,
    function,
    operator_of,
    primitive,
    tuple_function,
)
from paramesh.tensor.argument_types import Ints, NumberLike, RawNumber
from paramesh.tensor.base import raw
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "inplace_update", "InplaceUpdate", "inplace_add", "InplaceAdd", "inplace_sub", "InplaceSub",
    "padding", "Padding", "pad_v3", "PadV3", "fill_diagonal", "FillDiagonal", "unique_with_pad",
    "UniqueWithPad", "approximate_equal", "ApproximateEqual", "equal_count", "EqualCount",
    "population_count", "PopulationCount", "relu_with_mask", "ReLUV2", "mvlgamma", "Mvlgamma",
    "data_format_dim_map", "DataFormatDimMap", "matrix_solve", "MatrixSolve", "cholesky_inverse",
    "matrix_triangular_solve", "MatrixTriangularSolve", "orgqr", "Orgqr",
    "CholeskyInverse", "conjugate_transpose", "ConjugateTranspose", "IsClose", "Renorm",
]
# fmt: on

# Rows.


def _rows(x: jax.Array, v: jax.Array, indices: Ints) -> tuple[jax.Array, jax.Array]:
    at = ints(indices)
    if any(not 0 <= i < x.shape[0] for i in at):
        raise ValueError(f"indices must be in [0, {x.shape[0]}), got {at}.")
    if v.shape != (len(at), *x.shape[1:]):
        raise ValueError(f"v must be of shape {(len(at), *x.shape[1:])}, got {tuple(v.shape)}.")
    return jnp.asarray(at, jnp.int32), v.astype(x.dtype)


@function
def inplace_update(x: Array, v: Array, indices: Ints) -> Any:
    """A copy with other rows: x (n, ...), v (k, ...), indices k ints; of equal ones the last."""
    at, rows = _rows(x, v, indices)
    return x.at[at].set(rows)


@function
def inplace_add(x: Array, v: Array, indices: Ints) -> Any:
    """A copy with v added to rows: x (n, ...), v (k, ...), indices k ints; all of equal ones."""
    at, rows = _rows(x, v, indices)
    return x.at[at].add(rows)


@function
def inplace_sub(x: Array, v: Array, indices: Ints) -> Any:
    """A copy with v subtracted from rows: x (n, ...), v (k, ...), indices k ints."""
    at, rows = _rows(x, v, indices)
    return x.at[at].add(-rows)


InplaceUpdate = primitive("InplaceUpdate", inplace_update, lambda indices: {"indices": indices})
InplaceAdd = primitive("InplaceAdd", inplace_add, lambda indices: {"indices": indices})
InplaceSub = primitive("InplaceSub", inplace_sub, lambda indices: {"indices": indices})

# Margins, diagonals.


@function
def padding(x: Array, pad_dim_size: int = 8) -> Any:
    """Zeros behind the only element of the last axis: (..., 1) -> (..., pad_dim_size).

    Raises:
        ValueError: the last axis is not of size 1, or `pad_dim_size` is below 1.
    """
    if x.ndim < 2 or x.shape[-1] != 1:
        raise ValueError(f"expected (..., 1) of at least two axes, got {tuple(x.shape)}.")
    if pad_dim_size < 1:
        raise ValueError(f"pad_dim_size must be from 1 on, got {pad_dim_size}.")
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, pad_dim_size - 1)])


Padding = primitive("Padding", padding, lambda pad_dim_size=8: {"pad_dim_size": pad_dim_size})

_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "circular": "circular"}


@function
def pad_v3(
    x: Array,
    paddings: Ints,
    constant_value: Array = None,
    mode: str = "constant",
    paddings_contiguous: bool = True,
) -> Any:
    """More elements at both ends of the last axes.

    Args:
        x: (...).
        paddings: (before, after) of the last axis, then of the one before it, and so on, flat; not
            contiguous: all `before`, then all `after`.
        constant_value: what `constant` fills in, 0 if None.
        mode: `constant`, `reflect`, `edge` or `circular`.
        paddings_contiguous: see `paddings`.

    Raises:
        ValueError: an unknown mode, an odd number of paddings, or more than there are axes.
    """
    if mode not in _MODES:
        raise ValueError(f"mode must be one of {', '.join(_MODES)}, got {mode!r}.")
    flat = ints(paddings)
    if not paddings_contiguous:
        half = len(flat) // 2
        flat = tuple(n for pair in zip(flat[:half], flat[half:], strict=True) for n in pair)
    filled = None if mode != "constant" else constant_value
    return operator_of(pad).compute(x, flat, _MODES[mode], filled)


PadV3 = primitive(
    "PadV3",
    pad_v3,
    lambda mode="constant", paddings_contiguous=True: dict(
        mode=mode, paddings_contiguous=paddings_contiguous
    ),
)


@function
def fill_diagonal(input: Array, fill_value: RawNumber, wrap: bool = False) -> Any:
    """A copy with a number on the diagonal: (n, m), or more axes of one size.

    Args:
        input: at least two axes.
        fill_value: the number.
        wrap: of a matrix with more rows than columns, begin anew below the diagonal and one row.

    Raises:
        ValueError: fewer than two axes, or more than two of different sizes.
    """
    if input.ndim < 2 or (input.ndim > 2 and len(set(input.shape)) > 1):
        raise ValueError(f"expected (n, m), or axes of one size, got {tuple(input.shape)}.")
    step = sum(math.prod(input.shape[i + 1 :]) for i in range(input.ndim))
    end = input.size if input.ndim > 2 or wrap else min(input.shape) * input.shape[1]
    flat = input.reshape(-1).at[: min(end, input.size) : step].set(fill_value)
    return flat.reshape(input.shape)


FillDiagonal = primitive(
    "FillDiagonal",
    fill_diagonal,
    lambda fill_value, wrap=False: {"fill_value": fill_value, "wrap": wrap},
)


@tuple_function
def unique_with_pad(x: Array, pad_num: NumberLike) -> Any:
    """The different elements in the order they first come, then `pad_num`: (n,) -> (n,), (n,).

    Returns:
        (elements, where each element is among them: Int32, for Int64 Int64).
    """
    if x.ndim != 1:
        raise ValueError(f"expected (n,), got {tuple(x.shape)}.")
    found, first, at = jnp.unique(x, True, True, size=x.size, fill_value=x.max() if x.size else 0)
    number = jnp.max(at, initial=-1) + 1
    known = jnp.arange(x.size) < number
    order = jnp.argsort(jnp.where(known, first, x.size), stable=True)
    place = jnp.argsort(order)
    out = jnp.where(known, found[order], jnp.asarray(raw(pad_num), x.dtype))
    wanted = to_dtype(x.dtype) if to_dtype(x.dtype).is_integer() else int32
    return out, cast(place[at.reshape(-1)], wanted)


UniqueWithPad = primitive("UniqueWithPad", unique_with_pad)

# Elementwise.


@function
def approximate_equal(x: Operand, y: Operand, tolerance: float = 1e-5) -> Any:
    """Bool: |x - y| < tolerance; of one shape.

    Raises:
        ValueError: the shapes differ, or the tolerance is below 0.
    """
    if x.shape != y.shape:
        raise ValueError(f"x and y must be of one shape, got {tuple(x.shape)}, {tuple(y.shape)}.")
    if tolerance < 0:
        raise ValueError(f"tolerance must be from 0 on, got {tolerance}.")
    return jnp.abs(x - y) < tolerance


@function
def equal_count(x: Array, y: Array) -> Any:
    """How many elements of two Tensors of one shape are equal: -> (1,), of their type."""
    if x.shape != y.shape:
        raise ValueError(f"x and y must be of one shape, got {tuple(x.shape)}, {tuple(y.shape)}.")
    return jnp.sum(x == y).astype(x.dtype).reshape(1)


@function
def population_count(input_x: Array) -> Any:
    """How many bits of each whole number are 1, UInt8: (...) -> (...)."""
    if not jnp.issubdtype(input_x.dtype, jnp.integer):
        raise TypeError(f"whole numbers are expected, got {to_dtype(input_x.dtype)}.")
    return jax.lax.population_count(input_x).astype(jnp.uint8)


@tuple_function
def relu_with_mask(input_x: Array) -> Any:
    """Max(x, 0), and UInt8 which are above 0: (...) -> (...), (...)."""
    return jnp.maximum(input_x, 0), (input_x > 0).astype(jnp.uint8)


@function
def mvlgamma(input: Floating, p: int) -> Any:
    """Logarithm of the multivariate gamma function with p dimensions; p from 1 on."""
    if not isinstance(p, int) or p < 1:
        raise ValueError(f"p must be an int from 1 on, got {p!r}.")
    parts = [formulas.gammaln(input - i / 2) for i in range(p)]
    return sum(parts, p * (p - 1) / 4 * math.log(math.pi))


@function
def data_format_dim_map(input_x: Array, src_format: str = "NHWC", dst_format: str = "NCHW") -> Any:
    """Which axis of the source each axis of the destination is; axes from -4 to 3.

    Args:
        input_x: integers, axes in the destination.
        src_format: `NHWC` or `NCHW`.
        dst_format: `NHWC` or `NCHW`.

    Returns:
        Of the input's shape and element type.
    """
    for name, given in (("src_format", src_format), ("dst_format", dst_format)):
        if given not in ("NHWC", "NCHW"):
            raise ValueError(f"{name} must be 'NHWC' or 'NCHW', got {given!r}.")
    found = jnp.asarray([src_format.index(letter) for letter in dst_format], input_x.dtype)
    return found[jnp.mod(input_x, 4)]


ApproximateEqual = primitive(
    "ApproximateEqual", approximate_equal, lambda tolerance=1e-5: {"tolerance": tolerance}
)
EqualCount = primitive("EqualCount", equal_count)
PopulationCount = primitive("PopulationCount", population_count)
ReLUV2 = primitive("ReLUV2", relu_with_mask)
Mvlgamma = primitive("Mvlgamma", mvlgamma, lambda p: {"p": p})
DataFormatDimMap = primitive(
    "DataFormatDimMap",
    data_format_dim_map,
    lambda src_format="NHWC", dst_format="NCHW": dict(src_format=src_format, dst_format=dst_format),
)
IsClose = primitive(
    "IsClose",
    isclose,
    lambda rtol=1e-5, atol=1e-8, equal_nan=True: dict(rtol=rtol, atol=atol, equal_nan=equal_nan),
)
Renorm = primitive("Renorm", renorm, lambda p, dim, maxnorm: dict(p=p, axis=dim, maxnorm=maxnorm))

# Matrices.


@function
def matrix_solve(matrix: Floating, rhs: Floating, adjoint: bool = False) -> Any:
    """Solutions x of matrix @ x = rhs: (..., n, n) and (..., n, k) -> (..., n, k).

    Args:
        matrix: the matrices.
        rhs: the right sides.
        adjoint: with the conjugate transpose of the matrix.
    """
    if matrix.ndim != rhs.ndim or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(
            f"expected (..., n, n) and (..., n, k), got {tuple(matrix.shape)} and "
            f"{tuple(rhs.shape)}."
        )
    return jnp.linalg.solve(jnp.conj(matrix.swapaxes(-1, -2)) if adjoint else matrix, rhs)


@function
def matrix_triangular_solve(
    matrix: Floating, rhs: Floating, lower: bool = True, adjoint: bool = False
) -> Any:
    """Solutions x of matrix @ x = rhs for triangles: (..., n, n) and (..., n, k) -> (..., n, k).

    Args:
        matrix: the matrices, of which one triangle is read.
        rhs: the right sides.
        lower: the lower triangle.
        adjoint: with the conjugate transpose of the matrix.
    """
    batch = jnp.broadcast_shapes(matrix.shape[:-2], rhs.shape[:-2])
    matrix = jnp.broadcast_to(matrix, (*batch, *matrix.shape[-2:]))
    rhs = jnp.broadcast_to(rhs, (*batch, *rhs.shape[-2:]))
    return jax.scipy.linalg.solve_triangular(matrix, rhs, 2 if adjoint else 0, lower)


MatrixTriangularSolve = primitive(
    "MatrixTriangularSolve",
    matrix_triangular_solve,
    lambda lower=True, adjoint=False: {"lower": lower, "adjoint": adjoint},
)


@function
def orgqr(input: Floating, input2: Floating) -> Any:
    """The product of Householder's reflections: (..., n, m), (..., k) -> (..., n, m).

    Args:
        input: the reflections' vectors, below the diagonal.
        input2: their factors, k up to m.
    """
    return jax.lax.linalg.householder_product(input, input2)


Orgqr = primitive("Orgqr", orgqr)


@function
def cholesky_inverse(input_x: Floating, upper: bool = False) -> Any:
    """The inverse of l @ l.T, from the triangle l: (n, n); `upper`: of u.T @ u."""
    low = input_x.swapaxes(-1, -2) if upper else input_x
    unit = jnp.eye(low.shape[-1], dtype=low.dtype)
    half = jax.scipy.linalg.solve_triangular(low, unit, lower=True)
    return half.swapaxes(-1, -2) @ half


@function
def conjugate_transpose(x: Operand, perm: Ints) -> Any:
    """Axes in another order, and conjugates of complex numbers."""
    return jnp.conj(jnp.transpose(x, ints(perm)))


MatrixSolve = primitive("MatrixSolve", matrix_solve, lambda adjoint=False: {"adjoint": adjoint})
CholeskyInverse = primitive(
    "CholeskyInverse", cholesky_inverse, lambda upper=False: {"upper": upper}
)
ConjugateTranspose = primitive("ConjugateTranspose", conjugate_transpose)
