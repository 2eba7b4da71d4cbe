"""Diagonals of matrices, taken out, put in, and written over, several at a time.

Glossary
    diagonal `k`   the elements (i, i + k) of a matrix: 0 the main one, above it k > 0
    band           the diagonals from `k[0]` to `k[1]`
    alignment      at which end of its row a diagonal stands that is shorter than others: first that
                   of diagonals above the main one, then that of those below

A band is an array (..., diagonals, length) whose first row is diagonal `k[1]`, without the axis of
diagonals where there is one alone. Which element stands where is known while a program is traced.

Source: MindSpore's operators of these names.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Tree
from paramesh.ops.array import Ints, ints
from paramesh.ops.table import Array, function, primitive
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import raw
from paramesh.tensor.known import known_values

# fmt: off
__all__ = [
    "diagflat", "diagonal_scatter", "matrix_diag", "matrix_diag_part", "matrix_set_diag",
    "MatrixDiagV3", "MatrixDiagPartV3",
    "MatrixSetDiagV3", "diag_part", "DiagPart",
]
# fmt: on

_ALIGNMENTS = ("RIGHT_LEFT", "LEFT_RIGHT", "LEFT_LEFT", "RIGHT_RIGHT")


def _band(k: Ints) -> tuple[int, int]:
    given = ints(k)
    if len(given) not in (1, 2) or given[0] > given[-1]:
        raise ValueError(f"k must be a diagonal, or the lowest and the highest, got {given}.")
    return given[0], given[-1]


def _number(value: NumberLike, name: str) -> int:
    """A number of rows or columns, which may be in a Tensor."""
    given: Tree = value
    if hasattr(given, "shape"):
        given = known_values(given, f"{name} is the value of a Tensor").reshape(())
    return int(given)


def _length(rows: int, columns: int, low: int, high: int) -> int:
    if not (-rows < low <= high < columns) and not low == high == 0:
        raise ValueError(
            f"a matrix ({rows}, {columns}) has the diagonals {1 - rows} to {columns - 1}, got "
            f"those from {low} to {high}."
        )
    return min(rows + min(high, 0), columns + min(-low, 0))


def _start(diagonal: int, rows: int, columns: int, length: int, align: str) -> tuple[int, int]:
    """(elements of a diagonal, where the first one stands in its row)."""
    if align not in _ALIGNMENTS:
        raise ValueError(f"align must be one of {', '.join(_ALIGNMENTS)}, got {align!r}.")
    above, below = (side == "LEFT" for side in align.split("_"))
    size = min(rows + min(diagonal, 0), columns - max(diagonal, 0))
    left = (diagonal >= 0 and above) or (diagonal <= 0 and below)
    return size, 0 if left else length - size


def _inside(band: jax.Array, shape: tuple[int, int], k: tuple[int, int], align: str) -> Any:
    """(Bool (rows, columns): what lies in the band; what stands there: (..., rows, columns))."""
    (rows, columns), (low, high) = shape, k
    length = band.shape[-1]
    which = np.zeros((rows, columns), np.int32)
    place = np.zeros((rows, columns), np.int32)
    covered = np.zeros((rows, columns), bool)
    for diagonal in range(low, high + 1):
        size, start = _start(diagonal, rows, columns, length, align)
        at = np.arange(size)
        where = at + max(-diagonal, 0), at + max(diagonal, 0)
        which[where], place[where], covered[where] = high - diagonal, start + at, True
    return covered, band[..., which, place]


@function
def matrix_diag_part(
    x: Array, k: Ints, padding_value: NumberLike, align: str = "RIGHT_LEFT"
) -> Any:
    """Diagonals of matrices: (..., rows, columns) -> (..., diagonals, length).

    Args:
        x: the matrices.
        k: the diagonal, or the lowest and the highest of several.
        padding_value: what stands beside diagonals that are shorter than others.
        align: at which end of its row a shorter diagonal stands, above and below the main one:
            `RIGHT_LEFT`, `LEFT_RIGHT`, `LEFT_LEFT` or `RIGHT_RIGHT`.

    Returns:
        (..., diagonals, length), the highest first; of one diagonal (..., length).

    Raises:
        ValueError: no such diagonals, another `align`, or no matrices.
        ValueNeededError: a program has yet to compute `k`.
    """
    if x.ndim < 2:
        raise ValueError(f"expected matrices (..., rows, columns), got {tuple(x.shape)}.")
    low, high = _band(k)
    rows, columns = x.shape[-2:]
    length = _length(rows, columns, low, high)
    across, down, known = (np.zeros((high - low + 1, length), kind) for kind in (int, int, bool))
    for diagonal in range(low, high + 1):
        size, start = _start(diagonal, rows, columns, length, align)
        at, where = np.arange(size), (high - diagonal, slice(start, start + size))
        down[where], across[where], known[where] = (
            at + max(-diagonal, 0),
            at + max(diagonal, 0),
            True,
        )
    padding = jnp.asarray(raw(padding_value), x.dtype).reshape(())
    found = jnp.where(known, x[..., down, across], padding)
    return found[..., 0, :] if low == high else found


@function
def matrix_diag(
    x: Array,
    k: Ints = 0,
    num_rows: int = -1,
    num_cols: int = -1,
    padding_value: NumberLike = 0,
    align: str = "RIGHT_LEFT",
) -> Any:
    """Matrices with these diagonals: (..., diagonals, length) -> (..., rows, columns).

    Args:
        x: the diagonals, the highest first; of one diagonal (..., length).
        k: the diagonal, or the lowest and the highest of several.
        num_rows: rows of the matrices; -1: as many as the diagonals need, and where `num_cols` is
            -1, too, so that the matrices are square.
        num_cols: columns, likewise.
        padding_value: what stands elsewhere.
        align: as in `matrix_diag_part`.

    Raises:
        ValueError: so many rows and columns have no such diagonals.
        ValueNeededError: a program has yet to compute `k` or a size.
    """
    low, high = _band(k)
    rows, columns = _number(num_rows, "num_rows"), _number(num_cols, "num_cols")
    count = high - low + 1
    band = x[..., None, :] if count == 1 else x
    if band.ndim < 2 or band.shape[-2] != count:
        raise ValueError(f"expected (..., {count}, length) of the {count} diagonals of k.")
    length = band.shape[-1]
    least = length - min(high, 0), length + max(low, 0)
    if rows == -1 and columns == -1:
        rows = columns = max(least)
    rows = least[0] if rows == -1 else rows
    columns = least[1] if columns == -1 else columns
    fits = rows >= least[0] and columns >= least[1]
    if not fits or (rows != least[0] and columns != least[1]):
        raise ValueError(
            f"diagonals {low} to {high} of length {length} are those of matrices with {least[0]} "
            f"rows or {least[1]} columns, got ({rows}, {columns})."
        )
    covered, values = _inside(band, (rows, columns), (low, high), align)
    return jnp.where(covered, values, jnp.asarray(raw(padding_value), x.dtype).reshape(()))


@function
def matrix_set_diag(x: Array, diagonal: Array, k: Ints = 0, align: str = "RIGHT_LEFT") -> Any:
    """Matrices with other diagonals: (..., rows, columns) -> (..., rows, columns).

    Args:
        x: the matrices.
        diagonal: (..., diagonals, length), the highest first; of one diagonal (..., length).
        k: the diagonal, or the lowest and the highest of several.
        align: as in `matrix_diag_part`.

    Raises:
        ValueError: no such diagonals, or diagonals of another shape.
        ValueNeededError: a program has yet to compute `k`.
    """
    low, high = _band(k)
    rows, columns = x.shape[-2:]
    length = _length(rows, columns, low, high)
    band = diagonal[..., None, :] if low == high else diagonal
    wanted = (*x.shape[:-2], high - low + 1, length)
    if tuple(band.shape) != wanted:
        shown = wanted if low != high else (*wanted[:-2], length)
        raise ValueError(
            f"diagonals {low} to {high} of matrices {tuple(x.shape)} are {shown}, got "
            f"{tuple(diagonal.shape)}."
        )
    covered, values = _inside(band, (rows, columns), (low, high), align)
    return jnp.where(covered, values.astype(x.dtype), x)


@function
def diag_part(input: Array) -> Any:
    """The elements whose first axes are as the others: (a, b, a, b) -> (a, b).

    Raises:
        ValueError: the number of axes is odd or 0, or the halves of the shape differ.
    """
    half, odd = divmod(input.ndim, 2)
    sizes = tuple(input.shape[:half])
    if odd or not half or tuple(input.shape[half:]) != sizes:
        raise ValueError(f"diag_part takes a shape (..., ...) of equal halves, got {input.shape}.")
    count = int(np.prod(sizes))
    return jnp.diagonal(input.reshape(count, count)).reshape(sizes)


def _align(align: str = "RIGHT_LEFT") -> dict[str, Any]:
    return {"align": align}


MatrixDiagV3 = primitive("MatrixDiagV3", matrix_diag, _align)
MatrixDiagPartV3 = primitive("MatrixDiagPartV3", matrix_diag_part, _align)
MatrixSetDiagV3 = primitive("MatrixSetDiagV3", matrix_set_diag, _align)
DiagPart = primitive("DiagPart", diag_part)


@function
def diagflat(input: Array, offset: int = 0) -> Any:
    """A matrix with the elements of `input`, row by row, on one diagonal: (...) -> (n, n).

    Args:
        input: of any shape.
        offset: the diagonal: 0 the main one, above it positive numbers.
    """
    return jnp.diag(input.reshape(-1), offset)


@function
def diagonal_scatter(
    input: Array, src: Array, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Any:
    """`input` with one diagonal of two of its axes written over.

    Args:
        input: (...), at least two axes.
        src: the new diagonals: the other axes, and the diagonal's length last.
        offset: the diagonal: 0 the main one, above it positive numbers.
        dim1: the axis of rows.
        dim2: the axis of columns.

    Raises:
        ValueError: `src` has another shape.
    """
    matrices = jnp.moveaxis(input, (dim1, dim2), (-2, -1))
    rows, columns = matrices.shape[-2:]
    size = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    if src.shape != (*matrices.shape[:-2], size):
        raise ValueError(
            f"src must be of shape {(*matrices.shape[:-2], size)}, got {tuple(src.shape)}."
        )
    at = np.arange(size)
    place = (..., at + max(-offset, 0), at + max(offset, 0))
    written = matrices.at[place].set(src.astype(input.dtype))
    return jnp.moveaxis(written, (-2, -1), (dim1, dim2))
