"""MindSpore's operators of sparse Tensors by their parts (`ops.operations.sparse_ops`).

Glossary
    parts     of a sparse Tensor: indices (n, axes), values (n,) and shape (axes,)
    csr       of a sparse matrix, or a batch of them: shape, where each matrix begins among the
              values, where each row begins within its matrix, columns, and values

`paramesh.ops.sparse` has the functions over `COOTensor` and `CSRTensor`. Positions are read by the
host, so these are for use outside of programs; values have gradients where a result is dense.
Source: MindSpore's classes of these names, which are TensorFlow's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from paramesh.dtype import float32, float64, to_dtype
from paramesh.errors import PositionError
from paramesh.ops import functional as ops
from paramesh.ops import sparse
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor
from paramesh.tensor.known import known_values
from paramesh.tensor.sparse_tensors import COOTensor

# fmt: off
__all__ = [
    "SparseAdd", "SparseAddmm", "SparseConcat", "SparseCountSparseOutput", "SparseDenseCwiseAdd",
    "SparseDenseCwiseDiv", "SparseDenseCwiseMul", "SparseMatrixMatMul", "SparseMatrixNNZ",
    "SparseMatrixSoftmax", "SparseMatrixTranspose", "SparseReorder", "SparseReshape",
    "SparseSparseMaximum", "SparseSparseMinimum", "SparseTensorToCSRSparseMatrix",
]
# fmt: on

Whole = np.ndarray[Any, np.dtype[np.int64]]


def _whole(value: TensorLike, name: str) -> Whole:
    """Whole numbers that are known."""
    found = known_values(value, f"where the elements are hangs on {name}")
    if found.dtype.kind not in "iu":
        raise TypeError(f"{name} must be whole numbers, got {found.dtype}.")
    return found.astype(np.int64)


def _places(indices: TensorLike, shape: TensorLike, name: str) -> tuple[Whole, tuple[int, ...]]:
    """(positions (n, axes), sizes) of a sparse Tensor, checked."""
    at, sizes = _whole(indices, f"{name}_indices"), _whole(shape, f"{name}_shape")
    if at.ndim != 2 or sizes.shape != (at.shape[1],):
        raise ValueError(
            f"{name}: the positions must be (n, axes) and the shape (axes,), got {at.shape} and "
            f"{sizes.shape}."
        )
    if ((at < 0) | (at >= sizes)).any():
        raise PositionError(f"{name}: a position is outside of the shape {sizes.tolist()}.")
    return at, tuple(int(n) for n in sizes)


def _coo(indices: TensorLike, values: TensorLike, shape: TensorLike, name: str) -> COOTensor:
    at, sizes = _places(indices, shape, name)
    return COOTensor(Tensor(at), Tensor(values), sizes)


def _sorted(at: Whole) -> Whole:
    """The order of positions, the first axis first."""
    return np.lexsort(at.T[::-1])


class SparseAdd:
    """The sum of two sparse Tensors, without elements that are smaller than a threshold."""

    def __call__(
        self,
        x1_indices: TensorLike,
        x1_values: TensorLike,
        x1_shape: TensorLike,
        x2_indices: TensorLike,
        x2_values: TensorLike,
        x2_shape: TensorLike,
        thresh: TensorLike,
    ) -> Any:
        """(positions, elements, shape) of the sum, in order.

        Raises:
            ValueError: other shapes. PositionError: positions outside of them.
        """
        first = _coo(x1_indices, x1_values, x1_shape, "x1")
        found = sparse.coo_add(first, _coo(x2_indices, x2_values, x2_shape, "x2"), thresh)
        return found.indices, found.values, Tensor(np.array(found.shape, np.int64))


class SparseConcat:
    """Sparse Tensors one behind the other.

    Args:
        concat_dim: the axis.
    """

    def __init__(self, concat_dim: int = 0) -> None:
        self.concat_dim = concat_dim

    def __call__(
        self,
        sp_input_indices: list[Tensor],
        sp_input_values: list[Tensor],
        sp_input_shape: list[Tensor],
    ) -> Any:
        """(positions, elements, shape), in order.

        Args:
            sp_input_indices: the positions of each.
            sp_input_values: the elements of each.
            sp_input_shape: the shape of each.

        Raises:
            ValueError: fewer than two, or shapes that differ elsewhere.
        """
        parts = zip(sp_input_indices, sp_input_values, sp_input_shape, strict=True)
        given = [_coo(*part, f"input {i}") for i, part in enumerate(parts)]
        found = sparse.coo_concat(given, self.concat_dim)
        return found.indices, found.values, Tensor(np.array(found.shape, np.int64))


class SparseReorder:
    """The elements of a sparse Tensor in the order of their positions, the first axis first."""

    def __call__(self, indices: TensorLike, values: TensorLike, shape: TensorLike) -> Any:
        """(positions, elements)."""
        at, _ = _places(indices, shape, "x")
        order = _sorted(at)
        return Tensor(at[order]), Tensor(values)[Tensor(order)]


class SparseReshape:
    """The positions of a sparse Tensor in another shape."""

    def __call__(self, indices: TensorLike, shape: TensorLike, new_shape: TensorLike) -> Any:
        """(positions, shape).

        Args:
            indices: (n, axes): positions.
            shape: (axes,).
            new_shape: (other axes,), one of which may be -1: what is left.

        Raises:
            ValueError: another number of elements. PositionError: positions outside.
        """
        at, sizes = _places(indices, shape, "x")
        wanted = _whole(new_shape, "new_shape")
        count = int(np.prod(sizes))
        if (wanted == -1).sum() == 1:
            rest = int(np.prod(wanted[wanted != -1]))
            wanted = np.where(wanted == -1, count // rest if rest else 0, wanted)
        if int(np.prod(wanted)) != count or (wanted < 0).any():
            raise ValueError(f"new_shape {wanted.tolist()} does not have the elements of {sizes}.")
        flat = np.ravel_multi_index(tuple(at.T), sizes)
        found = np.stack(np.unravel_index(flat, tuple(wanted)), -1).astype(np.int64)
        return Tensor(found.reshape(-1, len(wanted))), Tensor(wanted)


class _Extreme:
    """The larger or smaller elements of two sparse Tensors; what is not there is 0."""

    _choose: ClassVar[Callable[..., object]]

    def __call__(
        self,
        x1_indices: TensorLike,
        x1_values: TensorLike,
        x1_shape: TensorLike,
        x2_indices: TensorLike,
        x2_values: TensorLike,
        x2_shape: TensorLike,
    ) -> Any:
        """(positions of both, elements), in order.

        Raises:
            ValueError: other shapes. PositionError: positions outside of them.
        """
        (first, one), (second, two) = (
            _places(x1_indices, x1_shape, "x1"),
            _places(x2_indices, x2_shape, "x2"),
        )
        if one != two:
            raise ValueError(f"{type(self).__name__}: the shapes differ: {one} and {two}.")
        at, where = np.unique(np.concatenate([first, second]), axis=0, return_inverse=True)
        where = where.reshape(-1)
        spread = []
        for places, values in ((where[: len(first)], x1_values), (where[len(first) :], x2_values)):
            given = Tensor(values)
            empty = ops.zeros((len(at),), given.dtype)
            spread.append(ops.tensor_scatter_update(empty, Tensor(places[:, None]), given))
        return Tensor(at), type(self)._choose(*spread)


class SparseSparseMaximum(_Extreme):
    """The larger elements of two sparse Tensors; what is not there is 0."""

    _choose = staticmethod(ops.maximum)


class SparseSparseMinimum(_Extreme):
    """The smaller elements of two sparse Tensors; what is not there is 0."""

    _choose = staticmethod(ops.minimum)


class _DenseElements:
    """The elements of a sparse Tensor with those of a dense one at their positions."""

    _combine: ClassVar[Callable[..., object]]

    def __call__(
        self, x1_indices: TensorLike, x1_values: TensorLike, x1_shape: TensorLike, x2: TensorLike
    ) -> Any:
        """(n,): the new elements. `x2` is of a shape that broadcasts to that of the sparse one."""
        at, sizes = _places(x1_indices, x1_shape, "x1")
        dense = ops.broadcast_to(Tensor(x2), sizes)
        return type(self)._combine(Tensor(x1_values), ops.gather_nd(dense, Tensor(at)))


class SparseDenseCwiseAdd(_DenseElements):
    """The elements of a sparse Tensor plus those of a dense one at their positions."""

    _combine = staticmethod(ops.add)


class SparseDenseCwiseMul(_DenseElements):
    """The elements of a sparse Tensor times those of a dense one at their positions."""

    _combine = staticmethod(ops.mul)


def _quotient(x: Tensor, y: Tensor) -> Any:
    return ops.truncate_div(x, y) if x.dtype.is_integer() else ops.div(x, y)


class SparseDenseCwiseDiv(_DenseElements):
    """The elements of a sparse Tensor by those of a dense one, whole numbers towards 0."""

    _combine = staticmethod(_quotient)


class SparseAddmm:
    """beta * x3 + alpha * (x1 @ x2) of a sparse x1."""

    def __call__(
        self,
        x1_indices: TensorLike,
        x1_values: TensorLike,
        x1_shape: TensorLike,
        x2: TensorLike,
        x3: TensorLike,
        alpha: TensorLike,
        beta: TensorLike,
    ) -> Any:
        """(q, m) of x1 (q, p), x2 (p, m) and x3 (q, m); alpha and beta are (1,)."""
        at, sizes = _places(x1_indices, x1_shape, "x1")
        product = ops.sparse_tensor_dense_matmul(Tensor(at), Tensor(x1_values), sizes, Tensor(x2))
        return Tensor(beta) * Tensor(x3) + Tensor(alpha) * product


class SparseCountSparseOutput:
    """How often each whole number is in each row of a sparse Tensor, as one.

    Args:
        binary_output: 1 for each number that is there.
        minlength: the least length of the result's last axis; -1: none.
        maxlength: its length, numbers from it on are left out; -1: one more than the largest.

    Raises:
        TypeError: `binary_output` is not a bool, or a length no int.
    """

    def __init__(
        self, binary_output: bool = False, minlength: int = -1, maxlength: int = -1
    ) -> None:
        if not isinstance(binary_output, bool):
            raise TypeError(f"binary_output must be a bool, got {binary_output!r}.")
        for name, given in (("minlength", minlength), ("maxlength", maxlength)):
            if not isinstance(given, int) or isinstance(given, bool):
                raise TypeError(f"{name} must be an int, got {given!r}.")
        self.binary_output, self.minlength, self.maxlength = binary_output, minlength, maxlength

    def __call__(
        self, indices: TensorLike, values: TensorLike, dense_shape: TensorLike, weights: TensorLike
    ) -> Any:
        """(positions (m, axes), counts (m,), shape (axes,)): a row, and the number.

        Args:
            indices: (n, axes): positions.
            values: (n,): whole numbers from 0 on, one for each position.
            dense_shape: (axes,).
            weights: (n,): what each counts; none, of size 0: 1.

        Raises:
            ValueError: another number of values. PositionError: positions outside. RuntimeError:
                another number of weights, or negative values.
        """
        at, sizes = _places(indices, dense_shape, "x")
        numbers = _whole(values, "values")
        given = known_values(weights, "what is counted hangs on weights")
        if numbers.shape != (len(at),):
            raise ValueError(
                f"there must be a value for each of {len(at)} positions, got {numbers.shape}."
            )
        if given.size not in (0, len(at)):
            raise RuntimeError(
                f"there must be a weight for each of {len(at)} positions, or none, got "
                f"{given.shape}."
            )
        if (numbers < 0).any():
            raise RuntimeError(f"values must be from 0 on, got {int(numbers.min())}.")
        length = self.maxlength
        if length <= 0:
            length = max(self.minlength, int(numbers.max(initial=-1)) + 1)
        kept = numbers < length
        rows = at[:, :1] if len(sizes) > 1 else at[:, :0]
        keys = np.concatenate([rows, numbers[:, None]], -1)[kept]
        found, where = np.unique(keys, axis=0, return_inverse=True)
        counted = given[kept] if given.size else np.ones(len(keys), given.dtype)
        counts = np.zeros(len(found), given.dtype)
        if self.binary_output:
            counts[:] = 1
        else:
            np.add.at(counts, where.reshape(-1), counted)
        shape = np.array([*sizes[:-1][:1], length] if len(sizes) > 1 else [length], np.int64)
        return Tensor(found), Tensor(counts), Tensor(shape)


@dataclass(frozen=True)
class _Csr:
    """A batch of sparse matrices: the matrix, row and column of each element."""

    shape: tuple[int, ...]
    at: Whole
    dtype: np.dtype[Any]

    @classmethod
    def read(
        cls, shape: TensorLike, batches: TensorLike, rows: TensorLike, columns: TensorLike
    ) -> Self:
        """Of the parts of a csr, checked."""
        given = known_values(shape, "where the elements are hangs on the shape")
        sizes = tuple(int(n) for n in given)
        if len(sizes) not in (2, 3):
            raise ValueError(f"x_dense_shape must have two or three numbers, got {sizes}.")
        starts, begins = _whole(batches, "x_batch_pointers"), _whole(rows, "x_row_pointers")
        along = _whole(columns, "x_col_indices")
        count, height = (sizes[0] if len(sizes) == 3 else 1), sizes[-2]
        if starts.ndim == 0 and count == 1:  # the number of elements of the only matrix
            starts = np.array([0, starts.item()])
        if starts.shape != (count + 1,) or begins.shape != (count * (height + 1),):
            raise ValueError(
                f"{count} matrices of {height} rows have {count + 1} batch and "
                f"{count * (height + 1)} row pointers, got {starts.shape} and {begins.shape}."
            )
        lengths = np.diff(begins.reshape(count, height + 1), axis=1)
        if (lengths < 0).any() or lengths.sum() != len(along) or (np.diff(starts) < 0).any():
            raise ValueError("the batch and row pointers do not fit the columns.")
        row = np.repeat(np.tile(np.arange(height), count), lengths.reshape(-1))
        batch = np.repeat(np.arange(count), lengths.sum(1))
        return cls(sizes, np.stack([batch, row, along], -1), given.dtype)

    def parts(self, values: Tensor) -> Any:
        """(shape, batch pointers, row pointers, columns, values) of elements that are in order."""
        count, height = (self.shape[0] if len(self.shape) == 3 else 1), self.shape[-2]
        batch, row, along = self.at.T
        starts = np.searchsorted(batch, np.arange(count + 1))
        lengths = np.zeros((count, height + 1), np.int64)
        np.add.at(lengths, (batch, row + 1), 1)
        begins = np.cumsum(lengths, axis=1).reshape(-1)
        found = (np.array(self.shape), starts, begins, along)
        return *(Tensor(each.astype(self.dtype)) for each in found), values


class SparseTensorToCSRSparseMatrix:
    """A sparse Tensor of two or three axes, in order, as a csr."""

    def __call__(
        self, x_indices: TensorLike, x_values: TensorLike, x_dense_shape: TensorLike
    ) -> Any:
        """(shape, batch pointers, row pointers, columns, values), in the type of the shape.

        Raises:
            ValueError: another number of axes. PositionError: positions outside.
        """
        at, sizes = _places(x_indices, x_dense_shape, "x")
        if len(sizes) not in (2, 3):
            raise ValueError(f"x_dense_shape must have two or three numbers, got {sizes}.")
        places = at if len(sizes) == 3 else np.insert(at, 0, 0, axis=1)
        order = _sorted(places)
        dtype = known_values(x_indices, "the positions").dtype
        return _Csr(sizes, places[order], dtype).parts(Tensor(x_values)[Tensor(order)])


class SparseMatrixTranspose:
    """The transposed matrices of a csr.

    Args:
        conjugate: of complex elements their conjugates.
    """

    def __init__(self, conjugate: bool = False) -> None:
        self.conjugate = conjugate

    def __call__(
        self,
        x_dense_shape: TensorLike,
        x_batch_pointers: TensorLike,
        x_row_pointers: TensorLike,
        x_col_indices: TensorLike,
        x_values: TensorLike,
    ) -> Any:
        """(shape, batch pointers, row pointers, columns, values)."""
        x = _Csr.read(x_dense_shape, x_batch_pointers, x_row_pointers, x_col_indices)
        turned = x.at[:, [0, 2, 1]]
        order = _sorted(turned)
        shape = (*x.shape[:-2], x.shape[-1], x.shape[-2])
        values = Tensor(x_values)[Tensor(order)]
        if self.conjugate:
            values = ops.conj(values)
        return _Csr(shape, turned[order], x.dtype).parts(values)


class SparseMatrixNNZ:
    """How many elements each matrix of a csr has."""

    def __call__(
        self,
        x_dense_shape: TensorLike,
        x_batch_pointers: TensorLike,
        x_row_pointers: TensorLike,
        x_col_indices: TensorLike,
        x_values: TensorLike,
    ) -> Any:
        """(matrices,) in Int32."""
        return Tensor(np.diff(_whole(x_batch_pointers, "x_batch_pointers")).astype(np.int32))


class SparseMatrixSoftmax:
    """The softmax of each row of a csr, over the elements that are there.

    Args:
        dtype: Float32 or Float64.

    Raises:
        TypeError: another type.
    """

    def __init__(self, dtype: DTypeLike) -> None:
        if to_dtype(dtype) not in (float32, float64):
            raise TypeError(f"dtype must be Float32 or Float64, got {dtype}.")

    def __call__(
        self,
        x_dense_shape: TensorLike,
        x_batch_pointers: TensorLike,
        x_row_pointers: TensorLike,
        x_col_indices: TensorLike,
        x_values: TensorLike,
    ) -> Any:
        """(shape, batch pointers, row pointers, columns, values)."""
        x = _Csr.read(x_dense_shape, x_batch_pointers, x_row_pointers, x_col_indices)
        rows = x.at[:, 0] * x.shape[-2] + x.at[:, 1]
        count = int(np.prod(x.shape[:-1]))
        values = Tensor(x_values)
        largest = ops.unsorted_segment_max(values, Tensor(rows), count)
        parts = ops.exp(values - ops.gather(largest, Tensor(rows), 0))
        totals = ops.unsorted_segment_sum(parts, Tensor(rows), count)
        found = parts / ops.gather(totals, Tensor(rows), 0)
        given = x_dense_shape, x_batch_pointers, x_row_pointers, x_col_indices
        return *(Tensor(each) for each in given), found


class SparseMatrixMatMul:
    """The products of the matrices of a csr with dense ones.

    Args:
        transpose_x1, transpose_x2: an operand is transposed.
        adjoint_x1, adjoint_x2: an operand is transposed and conjugated.
        transpose_output: the product is transposed.
        conjugate_output: the product is conjugated.

    Raises:
        ValueError: an operand is transposed twice.
    """

    def __init__(
        self,
        transpose_x1: bool = False,
        transpose_x2: bool = False,
        adjoint_x1: bool = False,
        adjoint_x2: bool = False,
        transpose_output: bool = False,
        conjugate_output: bool = False,
    ) -> None:
        if (transpose_x1 and adjoint_x1) or (transpose_x2 and adjoint_x2):
            raise ValueError("transpose and adjoint of one operand exclude each other.")
        self.first, self.second = (transpose_x1, adjoint_x1), (transpose_x2, adjoint_x2)
        self.output = transpose_output, conjugate_output

    def __call__(
        self,
        x1_dense_shape: TensorLike,
        x1_batch_pointers: TensorLike,
        x1_row_pointers: TensorLike,
        x1_col_indices: TensorLike,
        x1_values: TensorLike,
        x2_dense: TensorLike,
    ) -> Any:
        """(..., m, k) of x1 (..., m, n) and x2_dense (..., n, k)."""
        x1 = _Csr.read(x1_dense_shape, x1_batch_pointers, x1_row_pointers, x1_col_indices)
        values = Tensor(x1_values)
        at = x1.at[:, 3 - len(x1.shape) :]
        empty = ops.zeros(x1.shape, values.dtype)
        dense = ops.tensor_scatter_update(empty, Tensor(at), values)
        left, right = _turned(dense, *self.first), _turned(Tensor(x2_dense), *self.second)
        product = ops.matmul(left, right)
        transposed, conjugated = self.output
        product = ops.swapaxes(product, -1, -2) if transposed else product
        return ops.conj(product) if conjugated else product


def _turned(x: Tensor, transposed: bool, adjoint: bool) -> Tensor:
    x = ops.swapaxes(x, -1, -2) if transposed or adjoint else x
    return ops.conj(x) if adjoint else x
