"""Methods of Tensor that MindSpore 2.x added, as a table over `jax.numpy`; see `method_table`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.scipy.special import erfinv, i0

from paramesh import dtype as _dtype
from paramesh.array_types import Array, Tree
from paramesh.dtype import to_dtype
from paramesh.tensor.promotion import cast, floating


def _adjoint(x: Array) -> Array:
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def _with_position(
    choose: Callable[..., Any], reduce: Callable[..., Any]
) -> Callable[..., tuple[Any, Any]]:
    """(values, positions), as in MindSpore 2.10."""

    def both(x: Array, axis: int = 0, keep_dims: bool = False) -> tuple[Any, Any]:
        at = choose(x, axis, keepdims=keep_dims)
        return reduce(x, axis, keepdims=keep_dims), cast(at, _dtype.int64)

    return both


def _kth(x: Array, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Any, Any]:
    order = jnp.argsort(x, dim, stable=True)
    if not 1 <= k <= x.shape[dim]:
        raise ValueError(f"k must be from 1 to {x.shape[dim]}, the size of axis {dim}, got {k}.")
    at = jnp.take(order, jnp.asarray([k - 1]), dim)
    values = jnp.take_along_axis(x, at, dim)
    at = cast(at, _dtype.int64)
    return (values, at) if keepdim else (jnp.squeeze(values, dim), jnp.squeeze(at, dim))


def _choose(x: Array, choices: Iterable[Array], mode: str = "clip") -> Any:
    if mode not in ("raise", "wrap", "clip"):
        raise ValueError(f"mode must be 'raise', 'wrap' or 'clip', got {mode!r}.")
    return jnp.choose(x, list(choices), mode="clip" if mode == "raise" else mode)


def _diagonal_scattered(
    x: Array, src: Array, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> Array:
    moved = jnp.moveaxis(x, (dim1, dim2), (-2, -1))
    count = jnp.diagonal(moved, offset, -2, -1).shape[-1]
    rows = jnp.arange(count) + max(-offset, 0)
    filled = moved.at[..., rows, rows + offset].set(src)
    return jnp.moveaxis(filled, (-2, -1), (dim1, dim2))


def _diagonal_filled(x: Array, fill_value: float, wrap: bool = False) -> Array:
    if x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) > 1):
        raise ValueError(f"two axes, or axes of one size, are needed, got {tuple(x.shape)}.")
    if x.ndim > 2:
        at = jnp.arange(x.shape[0])
        return x.at[(at,) * x.ndim].set(jnp.asarray(fill_value, x.dtype))
    rows, columns = x.shape
    end = rows * columns if wrap else min(rows, columns) * columns
    flat = x.reshape(-1).at[slice(0, end, columns + 1)]
    return flat.set(jnp.asarray(fill_value, x.dtype)).reshape(x.shape)


def _position(index: Array) -> Array:
    """Positions as Int32, which needs no 64-bit mode; a mask as it is."""
    return index if to_dtype(index.dtype).kind == "bool" else cast(index, _dtype.int32)


def _put_at(x: Array, indices: Tree, values: Array, accumulate: bool = False) -> Array:
    parts = indices if isinstance(indices, tuple | list) else (indices,)
    place = x.at[tuple(map(_position, parts))]
    values = jnp.asarray(values, x.dtype)
    return place.add(values) if accumulate else place.set(values)


def _put_flat(x: Array, index: Array, source: Array, accumulate: bool = False) -> Array:
    flat = _put_at(x.reshape(-1), (index.reshape(-1),), source.reshape(-1), accumulate)
    return flat.reshape(x.shape)


def _index_copied(x: Array, dim: int, index: Array, tensor: Array) -> Array:
    return x.at[(slice(None),) * (dim % x.ndim) + (index,)].set(tensor)


def _summed_to(x: Array, *size: Tree) -> Array:
    wanted = tuple(size[0]) if len(size) == 1 and not isinstance(size[0], int) else size
    if len(wanted) > x.ndim or any(
        n not in (1, m) for n, m in zip(wanted, x.shape[x.ndim - len(wanted) :], strict=True)
    ):
        raise ValueError(f"size {wanted} cannot be expanded to the shape {tuple(x.shape)}.")
    before = x.ndim - len(wanted)
    ones = tuple(i + before for i, n in enumerate(wanted) if n == 1 and x.shape[i + before] != 1)
    return jnp.sum(jnp.sum(x, ones, keepdims=True), tuple(range(before)))


def _sgn(x: Array) -> Array:
    if to_dtype(x.dtype).kind != "complex":
        return jnp.sign(x)
    size = jnp.abs(x)
    return jnp.where(size == 0, jnp.zeros((), x.dtype), x / jnp.where(size == 0, 1, size))


def _solved(
    x: Array, A: Array, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> tuple[Array, Array]:
    shape = jnp.broadcast_shapes(x.shape[:-2], A.shape[:-2])
    b = jnp.broadcast_to(x, shape + x.shape[-2:])
    a = jnp.broadcast_to(A, shape + A.shape[-2:])
    trans = "T" if transpose else "N"
    return solve_triangular(a, b, trans=trans, lower=not upper, unit_diagonal=unitriangular), a


def _covariance(
    x: Array,
    *,
    correction: int = 1,
    fweights: Array | None = None,
    aweights: Array | None = None,
) -> Array:
    return jnp.cov(floating(x), ddof=correction, fweights=fweights, aweights=aweights)


def _unique(
    x: Array,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    del sorted  # they are
    found = jnp.unique(x, return_inverse=return_inverse, return_counts=return_counts, axis=dim)
    if not isinstance(found, tuple):
        return found
    return found[0], *(cast(part, _dtype.int64) for part in found[1:])


def _log_determinant(x: Array) -> Array:
    sign, size = jnp.linalg.slogdet(x)
    return jnp.where(sign < 0, jnp.nan, size)


def _nanmedian(x: Array, axis: int = -1, keepdims: bool = False) -> tuple[Any, Any]:
    count = jnp.sum(~jnp.isnan(x), axis, keepdims=True)
    order = jnp.argsort(x, axis, stable=True)  # nan come last
    at = jnp.take_along_axis(order, jnp.maximum(count - 1, 0) // 2, axis)
    values = jnp.take_along_axis(x, at, axis)
    at = cast(at, _dtype.int64)
    return (values, at) if keepdims else (jnp.squeeze(values, axis), jnp.squeeze(at, axis))


#: name -> a function of the raw value and of raw arguments; it gives new Tensors.
MAKES: dict[str, Callable[..., Tree]] = {
    "adjoint": _adjoint, "i0": lambda x: i0(floating(x)), "sgn": _sgn, "cov": _covariance,
    "argmax_with_value": _with_position(jnp.argmax, jnp.max),
    "argmin_with_value": _with_position(jnp.argmin, jnp.min),
    "kthvalue": _kth, "nanmedian": _nanmedian, "msort": lambda x: jnp.sort(x, 0),
    "choose": _choose, "unique": _unique,
    "diagflat": lambda x, offset=0: jnp.diagflat(x, offset),
    "diagonal_scatter": _diagonal_scattered, "index_put": _put_at,
    "sum_to_size": _summed_to, "triangular_solve": _solved,
    "soft_shrink": lambda x, lambd=0.5:
        jnp.where(x > lambd, x - lambd, jnp.where(x < -lambd, x + lambd, jnp.zeros((), x.dtype))),
    "logdet": _log_determinant, "matrix_determinant": jnp.linalg.det,
    "log_matrix_determinant": lambda x: tuple(jnp.linalg.slogdet(x)),
    "eigvals": lambda x: jnp.linalg.eigvals(x),
    "fills": lambda x, value: jnp.full_like(x, value),
}  # fmt: skip
#: name -> a function of the raw value; its result is written, in the Tensor's element type.
WRITES: dict[str, Callable[..., Tree]] = {
    "addmm_": lambda x, mat1, mat2, *, beta=1, alpha=1: beta * x + alpha * jnp.matmul(mat1, mat2),
    "erfinv_": lambda x: erfinv(x), "sign_": jnp.sign,
    "floor_divide_": lambda x, other: jnp.floor_divide(x, other),
    "fill_diagonal_": _diagonal_filled, "index_copy_": _index_copied,
    "index_put_": _put_at, "put_": _put_flat,
}  # fmt: skip


class LaterMethods:
    """What is no table: attributes, and questions about the Tensor."""

    __slots__ = ()
    _get: Callable[[], Tree]
    _wrap: Callable[[Array], Tree]
    assign_value: Callable[[Tree], Tree]

    @property
    def data(self) -> Any:
        """This Tensor itself; what is assigned to it is its new value."""
        return self

    @data.setter
    def data(self, value: Tree) -> None:
        self.assign_value(value)

    @property
    def mT(self) -> Any:  # noqa: N802 - MindSpore's name
        """The last two axes exchanged."""
        return self._wrap(jnp.swapaxes(self._get(), -1, -2))

    @property
    def mH(self) -> Any:  # noqa: N802 - MindSpore's name
        """The last two axes exchanged, and complex numbers conjugated."""
        return self._wrap(_adjoint(self._get()))

    @property
    def H(self) -> Any:  # noqa: N802 - MindSpore's name
        """A matrix transposed and conjugated.

        Raises:
            ValueError: another number of axes than 0 or 2.
        """
        value = self._get()
        shape = tuple(value.shape)
        if len(shape) not in (0, 2):
            raise ValueError(f"Tensor.H: a matrix is needed, got shape {shape}: see mH.")
        return self._wrap(_adjoint(value) if shape else jnp.conj(value))

    @property
    def device(self) -> str:
        """The backend that JAX runs on: "CPU", "GPU", "TPU"."""
        return jax.default_backend().upper()

    def is_signed(self) -> bool:
        """Whether the elements may be negative."""
        name = to_dtype(self._get().dtype).long_name
        return not name.startswith(("uint", "bool"))

    def storage_offset(self) -> int:
        """0: a Tensor has its elements alone."""
        return 0

    def stride(self, dim: int | None = None) -> tuple[int, ...] | int:
        """By how many elements the next element of each axis is away, row by row.

        Raises:
            IndexError: there is no axis `dim`.
        """
        sizes = tuple(self._get().shape)
        steps = tuple(math.prod(sizes[i + 1 :]) for i in range(len(sizes)))
        return steps if dim is None else steps[dim]
