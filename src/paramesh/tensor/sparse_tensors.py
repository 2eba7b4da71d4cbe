"""COOTensor and CSRTensor: the elements of a Tensor that are not 0, and where they are.

Glossary
    COO   indices (n, axes): the position of each element
    CSR   a matrix row by row: `indptr` (rows + 1,) says where in `indices` and `values` the columns
          and the elements of each row begin

Both are trees of JAX with three and two arrays. What is computed from them is in
`paramesh.ops.sparse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax

from paramesh.dtype import DTypeLike, to_dtype
from paramesh.providers import providers
from paramesh.tensor.base import Tensor
from paramesh.tensor.conversion import TensorInput


def _tensor(owner: str, name: str, value: TensorInput | None) -> Tensor:
    if value is None:
        raise TypeError(f"{owner} takes its parts, or another one; {name} is missing.")
    return value if isinstance(value, Tensor) else Tensor(value)


def _sizes(owner: str, shape: Sequence[int] | None) -> tuple[int, ...]:
    if not isinstance(shape, tuple | list) or not all(isinstance(n, int) for n in shape):
        raise TypeError(f"{owner}: shape must be a tuple of ints, got {shape!r}.")
    return tuple(shape)


def _integers(owner: str, name: str, value: Tensor) -> None:
    if not value.dtype.is_integer():
        raise TypeError(f"{owner}: {name} must be whole numbers, got {value.dtype}.")


class SparseTensor:
    """What both forms have in common."""

    _values: Tensor
    _shape: tuple[int, ...]

    @property
    def values(self) -> Tensor:
        """(n,): the elements."""
        return self._values

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole."""
        return self._shape

    @property
    def dense_shape(self) -> tuple[int, ...]:
        """Of the whole, by MindSpore 1.x's name."""
        return self._shape

    @property
    def dtype(self) -> Any:
        """The element type."""
        return self._values.dtype

    @property
    def size(self) -> int:
        """How many elements are kept."""
        return self._values.shape[0]

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self._values.itemsize

    @property
    def ndim(self) -> int:
        """The number of axes of the whole."""
        return len(self._shape)

    def _with(self, values: Tensor) -> Any:
        raise NotImplementedError

    def abs(self) -> Any:
        """The absolute values of the elements."""
        return self._with(self._values.abs())

    def astype(self, dtype: DTypeLike) -> Any:
        """The elements in another element type."""
        return self._with(self._values.astype(to_dtype(dtype)))

    def to_dense(self) -> Tensor:
        """The whole, with zeros elsewhere."""
        return providers.operator("sparse_dense")(self)

    def __neg__(self) -> Any:
        return self._with(-self._values)


class COOTensor(SparseTensor):
    """Elements of a Tensor by their positions; one that is named twice counts as the sum.

    Args:
        indices: (n, axes) whole numbers.
        values: (n,).
        shape: of the whole.
        coo_tensor: another one, instead of the three.

    Raises:
        TypeError: something is missing, or indices that are no whole numbers.
        ValueError: shapes that do not fit.
    """

    def __init__(
        self,
        indices: TensorInput | None = None,
        values: TensorInput | None = None,
        shape: Sequence[int] | None = None,
        coo_tensor: COOTensor | None = None,
    ) -> None:
        if coo_tensor is not None:
            if any(given is not None for given in (indices, values, shape)):
                raise ValueError("COOTensor takes indices, values and shape, or coo_tensor.")
            indices, values, shape = coo_tensor.to_tuple()
        self._indices = _tensor("COOTensor", "indices", indices)
        self._values = _tensor("COOTensor", "values", values)
        self._shape = _sizes("COOTensor", shape)
        _integers("COOTensor", "indices", self._indices)
        wanted = (*self._values.shape, len(self._shape))
        if len(wanted) != 2 or self._indices.shape != wanted:
            raise ValueError(
                f"COOTensor: indices {self._indices.shape} and values {self._values.shape} do not "
                f"fit the shape {self._shape}: expected (n, {len(self._shape)}) and (n,)."
            )

    @property
    def indices(self) -> Tensor:
        """(n, axes): where the elements are."""
        return self._indices

    def _with(self, values: Tensor) -> COOTensor:
        return COOTensor(self._indices, values, self._shape)

    def to_tuple(self) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """(indices, values, shape)."""
        return self._indices, self._values, self._shape

    def coalesce(self) -> COOTensor:
        """Each position once, in order, with the sum of its elements; not inside programs."""
        return providers.operator("coo_coalesce")(self)

    def to_csr(self) -> CSRTensor:
        """Row by row, if it is a matrix, in the order of rows."""
        return providers.operator("coo_to_csr")(self)

    def add(self, other: COOTensor, thresh: TensorInput) -> COOTensor:
        """The sum of two, without elements whose size is at most `thresh`."""
        return providers.operator("coo_add")(self, other, thresh)

    def __add__(self, other: object) -> Any:
        if isinstance(other, COOTensor):
            return self.add(other, Tensor(0, self.dtype))
        if isinstance(other, Tensor):
            return other + self.to_dense()
        return NotImplemented

    def __sub__(self, other: object) -> Any:
        return self + -other if isinstance(other, COOTensor | Tensor) else NotImplemented

    def __mul__(self, other: TensorInput) -> COOTensor:
        return providers.operator("sparse_times")(self, other)

    def __truediv__(self, other: TensorInput) -> COOTensor:
        return providers.operator("sparse_over")(self, other)

    def __repr__(self) -> str:
        return (
            f"COOTensor(shape={list(self._shape)}, dtype={self.dtype}, indices={self._indices!r}, "
            f"values={self._values!r})"
        )


class CSRTensor(SparseTensor):
    """The elements of a matrix row by row.

    Args:
        indptr: (rows + 1,) whole numbers.
        indices: (n,) whole numbers: the columns.
        values: (n,), or (n, ...) of a Tensor with more axes.
        shape: of the whole.
        csr_tensor: another one, instead of the four.

    Raises:
        TypeError: something is missing, or indices that are no whole numbers.
        ValueError: shapes that do not fit.
    """

    def __init__(
        self,
        indptr: TensorInput | None = None,
        indices: TensorInput | None = None,
        values: TensorInput | None = None,
        shape: Sequence[int] | None = None,
        csr_tensor: CSRTensor | None = None,
    ) -> None:
        if csr_tensor is not None:
            if any(given is not None for given in (indptr, indices, values, shape)):
                raise ValueError("CSRTensor takes its four parts, or csr_tensor.")
            indptr, indices, values, shape = csr_tensor.to_tuple()
        self._indptr = _tensor("CSRTensor", "indptr", indptr)
        self._indices = _tensor("CSRTensor", "indices", indices)
        self._values = _tensor("CSRTensor", "values", values)
        self._shape = _sizes("CSRTensor", shape)
        _integers("CSRTensor", "indptr", self._indptr)
        _integers("CSRTensor", "indices", self._indices)
        fits = self._values.shape[:1] == self._indices.shape and len(self._shape) >= 2
        if not fits or self._indptr.shape != tuple(n + 1 for n in self._shape[:1]):
            raise ValueError(
                f"CSRTensor: indptr {self._indptr.shape}, indices {self._indices.shape} and values "
                f"{self._values.shape} do not fit the shape {self._shape}: expected "
                "(rows + 1,), (n,) and (n, ...)."
            )

    @property
    def indptr(self) -> Tensor:
        """(rows + 1,): where each row begins."""
        return self._indptr

    @property
    def indices(self) -> Tensor:
        """(n,): the columns."""
        return self._indices

    def _with(self, values: Tensor) -> CSRTensor:
        return CSRTensor(self._indptr, self._indices, values, self._shape)

    def to_tuple(self) -> tuple[Tensor, Tensor, Tensor, tuple[int, ...]]:
        """(indptr, indices, values, shape)."""
        return self._indptr, self._indices, self._values, self._shape

    def to_coo(self) -> COOTensor:
        """By positions."""
        return providers.operator("csr_to_coo")(self)

    def mv(self, dense_vector: TensorInput) -> Tensor:
        """Times a vector (columns, 1): (rows, 1)."""
        return providers.operator("csr_mv")(self, dense_vector)

    def mm(self, matrix: TensorInput | CSRTensor) -> Any:
        """Times a matrix (columns, k): (rows, k); times a CSRTensor: a CSRTensor."""
        return providers.operator("csr_mm")(self, matrix)

    def sum(self, axis: int) -> Tensor:
        """The sums along axis 1: (rows, 1)."""
        return providers.operator("csr_reduce_sum")(self, axis)

    def add(self, b: CSRTensor, alpha: TensorInput, beta: TensorInput) -> CSRTensor:
        """Alpha times this one and beta times another; not inside programs."""
        return providers.operator("csr_add")(self, b, alpha, beta)

    def __add__(self, other: object) -> Any:
        if not isinstance(other, CSRTensor):
            return NotImplemented
        one = Tensor(1, self.dtype)
        return self.add(other, one, one)

    def __sub__(self, other: object) -> Any:
        return self + -other if isinstance(other, CSRTensor) else NotImplemented

    def __mul__(self, other: TensorInput) -> CSRTensor:
        return providers.operator("csr_mul")(self, other)

    def __truediv__(self, other: TensorInput) -> CSRTensor:
        return providers.operator("csr_div")(self, other)

    def __repr__(self) -> str:
        return (
            f"CSRTensor(shape={list(self._shape)}, dtype={self.dtype}, indptr={self._indptr!r}, "
            f"indices={self._indices!r}, values={self._values!r})"
        )


def _flatten_coo(tensor: COOTensor) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    return (tensor._indices, tensor._values), tensor._shape


def _unflatten_coo(shape: tuple[int, ...], parts: tuple[Any, Any]) -> COOTensor:
    made = object.__new__(COOTensor)
    made._indices, made._values = parts
    made._shape = shape
    return made


def _flatten_csr(tensor: CSRTensor) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    return (tensor._indptr, tensor._indices, tensor._values), tensor._shape


def _unflatten_csr(shape: tuple[int, ...], parts: tuple[Any, Any, Any]) -> CSRTensor:
    made = object.__new__(CSRTensor)
    made._indptr, made._indices, made._values = parts
    made._shape = shape
    return made


jax.tree_util.register_pytree_node(COOTensor, _flatten_coo, _unflatten_coo)
jax.tree_util.register_pytree_node(CSRTensor, _flatten_csr, _unflatten_csr)
