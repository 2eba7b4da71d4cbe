"""Sparse matrices: products, sums and conversions of COOTensor and CSRTensor.

Elementwise functions of the elements alone are a table (`csr_exp`, `coo_exp`, …). What the result
has at which places depends on values for sums and products of two of them, so these are no part of
compiled programs.

Source: MindSpore's functions and operators of these names.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import DTypeLike, int32, to_dtype, x64
from paramesh.ops import activations, math
from paramesh.ops.array import ints
from paramesh.ops.table import Array, function, primitive
from paramesh.ops.unsorted_segments import unsorted_segment_sum
from paramesh.tensor.argument_types import Ints, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.known import known_values
from paramesh.tensor.promotion import cast
from paramesh.tensor.sparse_tensors import COOTensor, CSRTensor, SparseTensor

# fmt: off
__all__ = [
    "sparse_to_dense", "SparseToDense", "sparse_tensor_dense_matmul", "SparseTensorDenseMatmul",
    "sparse_dense", "sparse_times", "sparse_over", "coo_coalesce", "coo_to_csr", "coo_add",
    "coo_concat", "csr_to_coo", "csr_to_dense", "csr_mv", "csr_mm", "csr_mul", "csr_div", "csr_add",
    "csr_reduce_sum", "csr_gather", "csr_softmax", "dense_to_sparse_coo", "dense_to_sparse_csr",
    "coo_tensor_get_indices", "coo_tensor_get_values", "coo_tensor_get_dense_shape",
    "csr_tensor_get_indices", "csr_tensor_get_indptr", "csr_tensor_get_values",
    "csr_tensor_get_dense_shape",
]
# fmt: on


# Of plain Tensors.


def _positions(indices: jax.Array, shape: tuple[int, ...], values: jax.Array) -> Any:
    at = indices[:, None] if indices.ndim == 1 else indices
    if at.ndim != 2 or at.shape[1] != len(shape) or values.shape not in ((), at.shape[:1]):
        raise ValueError(
            f"expected indices (n, {len(shape)}) and values (n,) for the shape {shape}, got "
            f"{tuple(indices.shape)} and {tuple(values.shape)}."
        )
    return tuple(at[:, axis] for axis in range(len(shape)))


@function
def sparse_to_dense(indices: Array, values: Array, sparse_shape: Ints) -> Any:
    """Elements at their positions, and zeros elsewhere.

    Args:
        indices: (n, axes) whole numbers; (n,) for one axis.
        values: (n,).
        sparse_shape: of the result.
    """
    shape = ints(sparse_shape)
    at = _positions(indices, shape, values)
    if values.dtype == bool:
        return jnp.zeros(shape, jnp.int32).at[at].add(values.astype(jnp.int32)) > 0
    return jnp.zeros(shape, values.dtype).at[at].add(values)


@function
def sparse_tensor_dense_matmul(
    indices: Array,
    values: Array,
    sparse_shape: Ints,
    dense: Array,
    adjoint_st: bool = False,
    adjoint_dt: bool = False,
) -> Any:
    """A matrix that is given by its elements, times a matrix: (m, k) and (k, n) -> (m, n).

    Args:
        indices: (e, 2) whole numbers.
        values: (e,).
        sparse_shape: (m, k), that of the first matrix.
        dense: (k, n).
        adjoint_st: take the conjugate transpose of the first matrix.
        adjoint_dt: take that of the second.
    """
    shape = ints(sparse_shape)
    if len(shape) != 2 or dense.ndim != 2:
        raise ValueError(f"expected two matrices, got {shape} and {tuple(dense.shape)}.")
    rows, columns = _positions(indices, shape, values)
    other = jnp.conj(dense.T) if adjoint_dt else dense
    if adjoint_st:
        rows, columns, shape, values = columns, rows, shape[::-1], jnp.conj(values)
    if shape[1] != other.shape[0]:
        raise ValueError(f"inner sizes differ: {shape} and {tuple(other.shape)}.")
    picked = values[:, None] * other[columns].astype(values.dtype)
    return jnp.zeros((shape[0], other.shape[1]), picked.dtype).at[rows].add(picked)


SparseToDense = primitive("SparseToDense", sparse_to_dense)
SparseTensorDenseMatmul = primitive(
    "SparseTensorDenseMatmul",
    sparse_tensor_dense_matmul,
    lambda adjoint_st=False, adjoint_dt=False: dict(adjoint_st=adjoint_st, adjoint_dt=adjoint_dt),
)


# Parts.


def _coo(name: str, value: object) -> COOTensor:
    if not isinstance(value, COOTensor):
        raise TypeError(f"ops.{name} takes a COOTensor, got {type(value).__name__}.")
    return value


def _csr(name: str, value: object) -> CSRTensor:
    if not isinstance(value, CSRTensor):
        raise TypeError(f"ops.{name} takes a CSRTensor, got {type(value).__name__}.")
    return value


def coo_tensor_get_indices(coo_tensor: COOTensor) -> Tensor:
    """(n, axes): where the elements are."""
    return _coo("coo_tensor_get_indices", coo_tensor).indices


def coo_tensor_get_values(coo_tensor: COOTensor) -> Tensor:
    """(n,): the elements."""
    return _coo("coo_tensor_get_values", coo_tensor).values


def coo_tensor_get_dense_shape(coo_tensor: COOTensor) -> tuple[int, ...]:
    """The shape of the whole."""
    return _coo("coo_tensor_get_dense_shape", coo_tensor).shape


def csr_tensor_get_indptr(csr_tensor: CSRTensor) -> Tensor:
    """(rows + 1,): where each row begins."""
    return _csr("csr_tensor_get_indptr", csr_tensor).indptr


def csr_tensor_get_indices(csr_tensor: CSRTensor) -> Tensor:
    """(n,): the columns."""
    return _csr("csr_tensor_get_indices", csr_tensor).indices


def csr_tensor_get_values(csr_tensor: CSRTensor) -> Tensor:
    """(n,): the elements."""
    return _csr("csr_tensor_get_values", csr_tensor).values


def csr_tensor_get_dense_shape(csr_tensor: CSRTensor) -> tuple[int, ...]:
    """The shape of the whole."""
    return _csr("csr_tensor_get_dense_shape", csr_tensor).shape


# From one form to another.


def _rows(tensor: CSRTensor) -> Any:
    """(n,): the row of each element."""
    count = tensor.indices.shape[0]
    ends, dtype = raw(tensor.indptr)[1:], raw(tensor.indices).dtype
    with x64(ends):
        return jnp.searchsorted(ends, jnp.arange(count, dtype=ends.dtype), side="right").astype(
            dtype
        )


def csr_to_coo(tensor: CSRTensor) -> COOTensor:
    """A matrix row by row as one by positions.

    Raises:
        TypeError: no CSRTensor; ValueError: no matrix.
    """
    if len(_csr("csr_to_coo", tensor).shape) != 2:
        raise ValueError(f"ops.csr_to_coo takes a matrix, got the shape {tensor.shape}.")
    columns = raw(tensor.indices)
    with x64(columns):
        at = jnp.stack([_rows(tensor), columns], 1)
    return COOTensor(wrap(at), tensor.values, tensor.shape)


def sparse_dense(tensor: SparseTensor) -> Tensor:
    """The whole of a COOTensor or CSRTensor, with zeros elsewhere."""
    if isinstance(tensor, COOTensor):
        return sparse_to_dense(tensor.indices, tensor.values, tensor.shape)
    return csr_to_dense(_csr("sparse_dense", tensor))


def csr_to_dense(csr_tensor: CSRTensor) -> Tensor:
    """The whole of a CSRTensor, with zeros elsewhere.

    Raises:
        TypeError: no CSRTensor; ValueError: no matrix.
    """
    return sparse_dense(csr_to_coo(csr_tensor))


def coo_coalesce(tensor: COOTensor) -> COOTensor:
    """Each position once, in order, with the sum of its elements; not inside programs.

    Raises:
        ValueNeededError: inside a program.
    """
    at = known_values(_coo("coo_coalesce", tensor).indices, "the number of positions is a value")
    places, which = np.unique(at, axis=0, return_inverse=True)
    rows = wrap(jnp.asarray(which.reshape(-1), jnp.int32))
    total = unsorted_segment_sum(tensor.values, rows, len(places))
    return COOTensor(Tensor(places, tensor.indices.dtype), total, tensor.shape)


def coo_to_csr(tensor: COOTensor) -> CSRTensor:
    """A matrix by positions as one row by row; the order of elements in a row is kept.

    Raises:
        TypeError: no COOTensor; ValueError: no matrix.
    """
    if len(_coo("coo_to_csr", tensor).shape) != 2:
        raise ValueError(f"ops.coo_to_csr takes a matrix, got the shape {tensor.shape}.")
    at, values = raw(tensor.indices), raw(tensor.values)
    with x64(at, values):
        order = jnp.argsort(at[:, 0], stable=True)
        counts = jnp.zeros(tensor.shape[0] + 1, at.dtype).at[at[:, 0] + 1].add(1)
        ends, columns, kept = jnp.cumsum(counts, dtype=at.dtype), at[order, 1], values[order]
    return CSRTensor(wrap(ends), wrap(columns), wrap(kept), tensor.shape)


def dense_to_sparse_coo(tensor: TensorLike) -> COOTensor:
    """The elements of a matrix that are not 0, by positions (Int32); not inside programs.

    Raises:
        ValueNeededError: inside a program. ValueError: no matrix.
    """
    at = _nonzero("dense_to_sparse_coo", tensor)
    values = raw(tensor)[at[:, 0], at[:, 1]]
    return COOTensor(Tensor(at, int32), wrap(values), tuple(raw(tensor).shape))


def dense_to_sparse_csr(tensor: TensorLike) -> CSRTensor:
    """The elements of a matrix that are not 0, row by row (Int32); not inside programs.

    Raises:
        ValueNeededError: inside a program. ValueError: no matrix.
    """
    at = _nonzero("dense_to_sparse_csr", tensor)
    shape = tuple(raw(tensor).shape)
    ends = np.searchsorted(at[:, 0], np.arange(shape[0] + 1))
    values = wrap(raw(tensor)[at[:, 0], at[:, 1]])
    return CSRTensor(Tensor(ends, int32), Tensor(at[:, 1], int32), values, shape)


def _nonzero(name: str, tensor: TensorLike) -> np.ndarray[Any, Any]:
    known = known_values(tensor, f"{name} gives a shape that depends on the values")
    if known.ndim != 2:
        raise ValueError(f"ops.{name} takes a matrix, got shape {known.shape}.")
    return np.argwhere(known)


# Products and sums.


def _beside(tensor: SparseTensor, other: TensorLike) -> Any:
    """The elements of a Tensor, or a number, that meet those of a sparse one."""
    if not isinstance(other, Tensor | jax.Array | np.ndarray):
        return other
    value = other if isinstance(other, Tensor) else Tensor(other)
    if value.size == 1:
        return value.reshape(())
    if isinstance(tensor, CSRTensor):
        columns = raw(tensor.indices)
        places: tuple[jax.Array, ...] = (_rows(tensor), columns)
    else:
        at = raw(_coo("sparse_times", tensor).indices)
        places = tuple(at[:, axis] for axis in range(at.shape[1]))
    array = raw(value)
    with x64(array, *places):
        return wrap(jnp.broadcast_to(array, tensor.shape)[places])


def sparse_times(tensor: SparseTensor, other: TensorLike) -> Any:
    """Elements times those of a Tensor that is broadcast to its shape, or times a number."""
    beside = _beside(tensor, other)
    return tensor._with(tensor.values * beside)


def sparse_over(tensor: SparseTensor, other: TensorLike) -> Any:
    """Elements divided by those of a Tensor that is broadcast to its shape, or by a number."""
    beside = _beside(tensor, other)
    return tensor._with(tensor.values / beside)


def csr_mul(x: CSRTensor, y: TensorLike) -> CSRTensor:
    """Elements times those of a Tensor that is broadcast to the shape, or times a number."""
    return sparse_times(_csr("csr_mul", x), y)


def csr_div(x: CSRTensor, y: TensorLike) -> CSRTensor:
    """Elements divided by those of a Tensor that is broadcast to the shape, or by a number."""
    return sparse_over(_csr("csr_div", x), y)


def csr_mv(csr_tensor: CSRTensor, dense: TensorLike) -> Tensor:
    """A sparse matrix (rows, columns) times a vector (columns, 1): (rows, 1)."""
    return csr_mm(csr_tensor, dense)


def csr_mm(
    a: CSRTensor,
    b: CSRTensor | TensorLike,
    trans_a: bool = False,
    trans_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
) -> Any:
    """A sparse matrix times a matrix.

    Args:
        a: (m, k).
        b: (k, n): a Tensor, or a CSRTensor.
        trans_a: transpose `a`.
        trans_b: transpose `b`.
        adjoint_a: take the conjugate transpose of `a`.
        adjoint_b: take that of `b`.

    Returns:
        A Tensor (m, n); of two CSRTensors a CSRTensor, which is no part of programs.
    """
    first = csr_to_coo(_csr("csr_mm", a))
    if not isinstance(b, CSRTensor):
        other = b if isinstance(b, Tensor) else Tensor(b)
        second = other.T if trans_b or adjoint_b else other
        second = second.conj() if adjoint_b else second
        values, at = first.values, first.indices
        if trans_a or adjoint_a:
            first = COOTensor(at[:, ::-1], values.conj() if adjoint_a else values, a.shape[::-1])
        return sparse_tensor_dense_matmul(first.indices, first.values, first.shape, second)
    left, right = (csr_to_dense(x) for x in (a, b))
    patterns = [csr_to_dense(x._with(Tensor(np.ones(x.size, np.float32)))) for x in (a, b)]
    for one, adjoint, turned in ((0, adjoint_a, trans_a), (1, adjoint_b, trans_b)):
        if adjoint or turned:
            patterns[one] = patterns[one].T
    left = left.T if trans_a or adjoint_a else left
    right = right.T if trans_b or adjoint_b else right
    product = (left.conj() if adjoint_a else left) @ (right.conj() if adjoint_b else right)
    shape = dense_to_sparse_csr(patterns[0] @ patterns[1])
    at = csr_to_coo(shape).indices
    return CSRTensor(shape.indptr, shape.indices, product[at[:, 0], at[:, 1]], product.shape)


def csr_reduce_sum(csr_tensor: CSRTensor, axis: int) -> Tensor:
    """The sums of the rows of a sparse matrix, along axis 1: (rows, 1).

    Raises:
        ValueError: another axis.
    """
    tensor = _csr("csr_reduce_sum", csr_tensor)
    if axis not in (1, -1):
        raise ValueError(f"ops.csr_reduce_sum sums along axis 1, got axis={axis}.")
    return unsorted_segment_sum(tensor.values, wrap(_rows(tensor)), tensor.shape[0]).reshape(
        (-1, 1)
    )


def csr_gather(
    indptr: TensorLike, indices: TensorLike, dense: TensorLike, sparse_shape: Sequence[int]
) -> Tensor:
    """The elements of a Tensor at the places of a sparse one: (n,)."""
    places = Tensor(np.ones(raw(indices).shape[0], np.float32))
    return _beside(CSRTensor(indptr, indices, places, tuple(sparse_shape)), dense)


def csr_softmax(logits: CSRTensor, dtype: DTypeLike) -> CSRTensor:
    """Softmax along each row of a sparse matrix, over the elements that it has.

    Args:
        logits: (rows, columns).
        dtype: the element type of the result.
    """
    tensor = _csr("csr_softmax", logits)
    values, rows = raw(tensor.values), _rows(tensor)
    with x64(values, rows):
        low = jnp.full(tensor.shape[0], -jnp.inf, values.dtype)
        part = jnp.exp(values - low.at[rows].max(values)[rows])
        total = jnp.zeros(tensor.shape[0], values.dtype).at[rows].add(part)
        found = part / total[rows]
    return tensor._with(wrap(cast(found, to_dtype(dtype))))


def coo_add(x1: COOTensor, x2: COOTensor, thresh: TensorLike) -> COOTensor:
    """The sum of two, without elements whose size is below `thresh`; not inside programs.

    Raises:
        TypeError: no COOTensors; ValueError: of two shapes; ValueNeededError: inside a program.
    """
    first, second = _coo("coo_add", x1), _coo("coo_add", x2)
    if first.shape != second.shape:
        raise ValueError(f"ops.coo_add: the shapes differ: {first.shape} and {second.shape}.")
    both = coo_coalesce(_joined([first, second], first.shape))
    values = known_values(both.values, "which elements are kept depends on values")
    kept = np.flatnonzero(np.abs(values) >= np.asarray(known_values(thresh, "thresh is a value")))
    picked = Tensor(kept.astype(np.int32))
    return COOTensor(both.indices[picked], both.values[picked], first.shape)


def _joined(parts: Sequence[COOTensor], shape: tuple[int, ...]) -> COOTensor:
    at, values = ([raw(getattr(p, n)) for p in parts] for n in ("indices", "values"))
    with x64(*at, *values):
        places, elements = jnp.concatenate(at), jnp.concatenate(values)
    return COOTensor(wrap(places), wrap(elements), shape)


def coo_concat(sp_input: Sequence[COOTensor], concat_dim: int = 0) -> COOTensor:
    """Sparse Tensors one behind the other along an axis, in order; not inside programs.

    Raises:
        ValueError: fewer than two, or shapes that differ elsewhere.
    """
    parts = [_coo("coo_concat", each) for each in sp_input]
    if len(parts) < 2:
        raise ValueError(f"ops.coo_concat takes two or more COOTensors, got {len(parts)}.")
    ndim = len(parts[0].shape)
    if not -ndim <= concat_dim < ndim:
        raise ValueError(f"concat_dim must be from {-ndim} to {ndim - 1}, got {concat_dim}.")
    axis, start, moved = concat_dim % ndim, 0, []
    for part in parts:
        others = [s[:axis] + s[axis + 1 :] for s in (part.shape, parts[0].shape)]
        if others[0] != others[1]:
            raise ValueError(f"the shapes differ: {[p.shape for p in parts]}.")
        at = raw(part.indices)
        with x64(at):
            moved.append(COOTensor(wrap(at.at[:, axis].add(start)), part.values, part.shape))
        start += part.shape[axis]
    shape = (*parts[0].shape[:axis], start, *parts[0].shape[axis + 1 :])
    joined = _joined(moved, shape)
    at = known_values(joined.indices, "the order depends on values")
    order = Tensor(np.lexsort(at.T[::-1]).astype(np.int32))
    return COOTensor(joined.indices[order], joined.values[order], shape)


def csr_add(a: CSRTensor, b: CSRTensor, alpha: TensorLike, beta: TensorLike) -> CSRTensor:
    """Alpha * a + beta * b of two sparse matrices of one shape; not inside programs.

    Raises:
        TypeError: no CSRTensors; ValueError: of two shapes; ValueNeededError: inside a program.
    """
    first, second = _csr("csr_add", a), _csr("csr_add", b)
    if first.shape != second.shape:
        raise ValueError(f"ops.csr_add: the shapes differ: {first.shape} and {second.shape}.")
    scaled = [csr_to_coo(csr_mul(x, s)) for x, s in ((first, alpha), (second, beta))]
    return coo_to_csr(coo_coalesce(_joined(scaled, first.shape)))


# Of each element.


def _of_values(name: str, fn: Callable[[Any], Any], form: type) -> Callable[..., Any]:
    prefix = "coo" if form is COOTensor else "csr"

    def call(x: SparseTensor) -> Any:
        tensor = _coo(call.__name__, x) if form is COOTensor else _csr(call.__name__, x)
        return tensor._with(fn(tensor.values))

    call.__name__ = call.__qualname__ = f"{prefix}_{name}"
    call.__module__ = __name__
    call.__doc__ = f"`ops.{name}` of the elements of a {form.__name__}."
    return call


_ELEMENTWISE = """
    abs acos acosh asin asinh atan atanh ceil cos cosh exp expm1 floor inv isfinite isinf isnan log
    log1p neg relu relu6 round sigmoid sin sinh softsign sqrt square tan tanh
"""
_HOMES = vars(activations) | vars(math)
for _name in _ELEMENTWISE.split():
    for _form in (COOTensor, CSRTensor):
        _made = _of_values(_name, _HOMES[_name], _form)
        globals()[_made.__name__] = _made
        globals()["__all__"].append(_made.__name__)  # checkers read no computed one
