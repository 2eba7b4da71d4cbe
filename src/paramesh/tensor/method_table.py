"""More methods of Tensor, as tables over `jax.numpy`: what torch's scripts call on theirs, too.

`MAKES` gives new Tensors. `WRITES` changes the Tensor itself, as the names with `_` at their end
say, and gives it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as special

from paramesh import dtype as _dtype
from paramesh.array_sizes import check_countable
from paramesh.array_types import Array
from paramesh.dtype import to_dtype, x64
from paramesh.tensor.borders import absolute
from paramesh.tensor.conversion import as_value
from paramesh.tensor.division import floor_divide, truncate_divide
from paramesh.tensor.promotion import align, cast, floating, scalar_kind


def _as(x: Array, dtype: _dtype.DTypeLike | None) -> Array:
    return x if dtype is None else cast(x, to_dtype(dtype))


def axis_of_3(x: Array) -> int:
    """The first axis of size 3, for products of vectors."""
    for axis, size in enumerate(x.shape):
        if size == 3:
            return axis
    raise TypeError(f"no axis has size 3, got shape {tuple(x.shape)}.")


def _ints(given: Any) -> tuple[int, ...]:
    if len(given) == 1 and not isinstance(given[0], int | float | str):
        given = tuple(given[0])
    sizes = tuple(operator.index(n) for n in given)
    check_countable(sizes, "sizes")
    return sizes


def _expanded(x: Array, *size: object) -> Any:
    wanted = _ints(size)
    new = len(wanted) - x.ndim
    return jnp.broadcast_to(x, [x.shape[i - new] if n == -1 else n for i, n in enumerate(wanted)])


def _chunks(x: Array, chunks: int, axis: int = 0) -> Any:
    size = max(1, -(-x.shape[axis] // chunks))
    return tuple(jnp.split(x, list(range(size, x.shape[axis], size)), axis))


def _unbound(x: Array, dim: int = 0) -> Any:
    return tuple(jnp.squeeze(part, dim) for part in jnp.split(x, x.shape[dim], dim))


def _gathered(x: Array, dim: int, index: Array) -> Any:
    at = dim % x.ndim
    cut = tuple(slice(None) if i == at else slice(n) for i, n in enumerate(index.shape))
    return jnp.take_along_axis(x[cut], index, at)


def _scattered(x: Array, dim: int, index: Array, src: Array | float, add: bool = False) -> Any:
    at = list(jnp.indices(index.shape, sparse=True))
    at[dim % x.ndim] = index
    src = jnp.asarray(src, x.dtype)
    if src.ndim:
        src = src[tuple(slice(n) for n in index.shape)]
    place = x.at[tuple(at)]
    return place.add(src) if add else place.set(src)


def _indexed(x: Array, dim: int, index: Array) -> tuple[Any, ...]:
    return (slice(None),) * (dim % x.ndim) + (index,)


def _masked(x: Array, mask: Array) -> Any:
    shape = jnp.broadcast_shapes(x.shape, mask.shape)
    return jnp.broadcast_to(x, shape)[jnp.broadcast_to(mask, shape)]


def _mask_scattered(x: Array, mask: Array, source: Array) -> Any:
    mask = jnp.broadcast_to(mask, x.shape).reshape(-1)
    order = jnp.cumsum(mask) - 1
    flat = source.reshape(-1)[jnp.clip(order, 0, source.size - 1)]
    return jnp.where(mask, flat.astype(x.dtype), x.reshape(-1)).reshape(x.shape)


def _nonzero(x: Array, *, as_tuple: bool = False) -> Any:
    found = tuple(cast(part, _dtype.int64) for part in jnp.nonzero(x))
    with x64(_dtype.int64):
        return found if as_tuple else jnp.stack(found, 1)


def _divided(x: Array, other: Array | float, *, rounding_mode: str | None = None) -> Any:
    other = number(other)
    if rounding_mode == "floor":
        return floor_divide(x, other)
    if rounding_mode == "trunc":
        return truncate_divide(x, other)
    return floating(x) / other


def _resized(x: Array, *new_shape: object) -> Any:
    """Elements row by row in another shape; more of them are 0, those beyond are left out."""
    sizes = _ints(new_shape)
    wanted, flat = math.prod(sizes), x.reshape(-1)[: math.prod(sizes)]
    return jnp.pad(flat, (0, wanted - flat.size)).reshape(sizes)


def _chosen(x: Array, choices: Any, mode: str = "clip") -> Any:
    arrays = [jnp.asarray(c) for c in choices]
    return jnp.choose(x, jnp.broadcast_arrays(*arrays), mode=mode)


def _placed(x: Array, indices: Any, values: Any, accumulate: bool = False) -> Any:
    if not isinstance(indices, tuple) or any(isinstance(i, str | dict) for i in indices):
        raise TypeError(f"indices must be a tuple of Tensors, got {indices!r}.")
    place = x.at[tuple(jnp.asarray(i) for i in indices)]
    values = jnp.asarray(number(values), x.dtype)
    return place.add(values) if accumulate else place.set(values)


def _put_flat(x: Array, index: Array, source: Array, accumulate: bool = False) -> Any:
    flat, given = x.reshape(-1), source.reshape(-1).astype(x.dtype)
    if index.size != given.size:
        raise ValueError(f"source must have {index.size} elements as index, got {given.size}.")
    place = flat.at[index.reshape(-1)]
    return (place.add(given) if accumulate else place.set(given)).reshape(x.shape)


def _filled_diagonal(x: Array, fill_value: float, wrap: bool = False) -> Any:
    if x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) > 1):
        raise ValueError(
            f"a matrix or axes of one size have a diagonal, got the shape {tuple(x.shape)}."
        )
    step = sum(math.prod(x.shape[at + 1 :]) for at in range(x.ndim))
    end = x.size if wrap or x.ndim > 2 else min(x.size, x.shape[1] ** 2)
    return x.reshape(-1).at[:end:step].set(jnp.asarray(fill_value, x.dtype)).reshape(x.shape)


def _with_place(best: Callable[..., Any], place: Callable[..., Any]) -> Callable[..., Any]:
    def find(x: Array, axis: int | None = 0, keep_dims: bool = False) -> Any:
        at = cast(place(x, axis, keepdims=keep_dims), _dtype.int64)
        return best(x, axis, keepdims=keep_dims), at

    return find


def _unique(
    x: Array,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    found = jnp.unique(x, return_inverse=True, return_counts=True, axis=dim)
    places = cast(found[1], _dtype.int64), cast(found[2], _dtype.int64)
    kept = (return_inverse and places[0], return_counts and places[1])
    more = tuple(part for part in kept if part is not False)
    return (found[0], *more) if more else found[0]


def _qr(x: Array, some: bool = True) -> Any:
    return tuple(jnp.linalg.qr(x, "reduced" if some else "complete"))


def _new(content: Any) -> Callable[..., Any]:
    def make(x: Array, *size: object, dtype: _dtype.DTypeLike | None = None) -> Any:
        kind = to_dtype(x.dtype if dtype is None else dtype).np_dtype
        return jnp.full(_ints(size), content, kind)

    return make


def _of_one(fn: Callable[..., Any]) -> Any:
    return lambda x: fn(floating(x))


def _meeting(x: Array, given: Any) -> AbstractContextManager[Any]:
    """Truths and a python int meet as Int64, which neither of them has."""
    return x64(*[_dtype.int64] if x.dtype == bool and scalar_kind(given) == "int" else ())


def _of_two(fn: Callable[..., Any]) -> Any:
    def combine(x: Array, other: object) -> Any:
        given = number(other)
        with _meeting(x, given):
            return fn(*align(x, given))

    return combine


def _diagonal(x: Array, diagonal: int | None = None) -> Any:
    """MindSpore's `diag`; with a diagonal, or of a vector, that of numpy."""
    if x.ndim == 1 or diagonal is not None:
        return jnp.diag(x, diagonal or 0)
    return jnp.diag(x.reshape(-1)).reshape(x.shape * 2)


def _traced(x: Array, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Any:
    if dtype is None and to_dtype(x.dtype).kind in ("bool", "int"):
        dtype = _dtype.int64
    value = _as(x, dtype)
    with x64(value):
        return jnp.trace(value, offset, axis1, axis2)


def _running_product(x: Array, dim: int, dtype: Any = None) -> Any:
    if dtype is None and to_dtype(x.dtype).kind in ("bool", "int"):
        dtype = _dtype.int64
    value = _as(x, dtype)
    with x64(value):
        return jnp.cumprod(value, dim)


def _scaled(fn: Callable[..., Any]) -> Any:
    def combine(x: Array, other: object, *, alpha: float = 1) -> Any:
        with _meeting(x, number(other)):
            x, given = align(x, number(other))
            return fn(x, given if alpha == 1 else cast(alpha * given, to_dtype(given.dtype)))

    return combine


def number(other: object) -> Any:
    """An operand; numbers in a tuple are an array.

    Raises:
        TypeError: it is neither an array nor a number.
    """
    if isinstance(other, tuple):
        return as_value(other)
    if scalar_kind(other) is None and not hasattr(other, "dtype"):
        raise TypeError(
            f"other must be a Tensor, an array or a number, got {other!r} ({type(other).__name__})."
        )
    return other


def adjoint(x: Array) -> Array:
    """Matrices in the last two axes, transposed and conjugated."""
    return jnp.conj(jnp.swapaxes(x, -1, -2))


def _type_as(x: Any, other: Any) -> Any:
    return cast(x, to_dtype(other.dtype))


_FRACTIONS: dict[str, Any] = {
    "acos": jnp.arccos, "acosh": jnp.arccosh, "asin": jnp.arcsin, "asinh": jnp.arcsinh,
    "atan": jnp.arctan, "atanh": jnp.arctanh, "cosh": jnp.cosh, "erf": special.erf,
    "erfc": special.erfc, "erfinv": special.erfinv, "expm1": jnp.expm1, "log10": jnp.log10,
    "log1p": jnp.log1p, "log2": jnp.log2, "reciprocal": jnp.reciprocal, "sinh": jnp.sinh,
    "i0": special.i0,
    "tan": jnp.tan, "sinc": jnp.sinc, "digamma": special.digamma, "lgamma": special.gammaln,
    "deg2rad": jnp.deg2rad, "rad2deg": jnp.rad2deg,
}  # fmt: skip
_OPERANDS: dict[str, Any] = {
    "add": jnp.add, "sub": jnp.subtract, "mul": jnp.multiply, "multiply": jnp.multiply,
    "subtract": jnp.subtract, "eq": jnp.equal, "equal": jnp.equal, "ne": jnp.not_equal,
    "not_equal": jnp.not_equal, "gt": jnp.greater, "greater": jnp.greater,
    "ge": jnp.greater_equal, "greater_equal": jnp.greater_equal, "lt": jnp.less, "less": jnp.less,
    "le": jnp.less_equal, "less_equal": jnp.less_equal, "maximum": jnp.maximum,
    "minimum": jnp.minimum, "fmod": jnp.fmod, "remainder": jnp.remainder,
    "floor_divide": floor_divide, "logical_and": jnp.logical_and,
    "logical_or": jnp.logical_or, "logical_xor": jnp.logical_xor, "bitwise_and": jnp.bitwise_and,
    "bitwise_or": jnp.bitwise_or, "bitwise_xor": jnp.bitwise_xor, "atan2": jnp.arctan2,
}  # fmt: skip
#: name -> a function of the raw value and of raw arguments.
MAKES: dict[str, Any] = {
    "contiguous": lambda x: x, "clone": lambda x: x, "chunk": _chunks, "unbind": _unbound,
    "expand": _expanded, "type_as": _type_as, "gather_elements": _gathered,
    "repeat_interleave": lambda x, repeats, dim=None: jnp.repeat(x, repeats, dim),
    "t": lambda x: x.T, "new_zeros": _new(0), "new_ones": _new(1), "new_empty": _new(0),
    "new_full": lambda x, size, fill_value, *, dtype=None: _new(fill_value)(x, size, dtype=dtype),
    "softmax": lambda x, axis=-1, dtype=None:
        jax.nn.softmax(floating(x) if dtype is None else cast(x, to_dtype(dtype)), axis),
    "masked_select": _masked, "masked_scatter": _mask_scattered,
    "index_select": lambda x, axis, index: jnp.take(x, index, axis),
    "gather": lambda x, input_indices, axis, batch_dims=0: jnp.take(x, input_indices, axis)
        if hasattr(input_indices, "shape") else _gathered(x, input_indices, axis),
    "scatter": lambda x, axis, index, src: _scattered(x, axis, index, src),
    "scatter_add": lambda x, dim, index, src: _scattered(x, dim, index, src, True),
    "index_add": lambda x, dim, index, source, *, alpha=1:
        x.at[_indexed(x, dim, index)].add(alpha * source),
    "index_fill": lambda x, axis, index, value:
        x.at[_indexed(x, axis, index)].set(jnp.asarray(value, x.dtype)),
    "select": lambda x, dim, index: jnp.take(x, index, dim),
    "narrow": lambda x, axis, start, length:
        jax.lax.slice_in_dim(x, start, start + length, axis=axis),
    "inverse": jnp.linalg.inv, "inv": jnp.reciprocal, "det": jnp.linalg.det, "qr": _qr,
    "tril": lambda x, diagonal=0: jnp.tril(x, diagonal),
    "triu": lambda x, diagonal=0: jnp.triu(x, diagonal),
    "diag": _diagonal,
    "diagonal": lambda x, offset=0, axis1=0, axis2=1: jnp.diagonal(x, offset, axis1, axis2),
    "trace": _traced,
    "nonzero": _nonzero, "movedim": jnp.moveaxis, "moveaxis": jnp.moveaxis,
    "swapdims": jnp.swapaxes, "reshape_as": lambda x, other: jnp.reshape(x, other.shape),
    "round": lambda x, decimals=0: jnp.round(x, decimals), "bmm": jnp.matmul, "mm": jnp.matmul,
    "dot": jnp.dot, "outer": jnp.outer, "ger": jnp.outer,
    "baddbmm": lambda x, batch1, batch2, beta=1, alpha=1:
        beta * x + alpha * jnp.matmul(batch1, batch2),
    "addmv": lambda x, mat, vec, *, beta=1, alpha=1: beta * x + alpha * jnp.matmul(mat, vec),
    "addr": lambda x, vec1, vec2, *, beta=1, alpha=1: beta * x + alpha * jnp.outer(vec1, vec2),
    "addbmm": lambda x, batch1, batch2, *, beta=1, alpha=1:
        beta * x + alpha * jnp.sum(jnp.matmul(batch1, batch2), 0),
    "inplace_update": lambda x, v, indices: x.at[jnp.asarray(_ints((indices,)))].set(v),
    "cross": lambda x, other, dim=None:
        jnp.cross(x, other, axis=axis_of_3(x) if dim is None else dim),
    "addmm": lambda x, mat1, mat2, *, beta=1, alpha=1: beta * x + alpha * jnp.matmul(mat1, mat2),
    "adjoint": adjoint,
    "neg": jnp.negative, "negative": jnp.negative, "floor": jnp.floor, "ceil": jnp.ceil,
    "trunc": jnp.trunc, "frac": lambda x: x - jnp.trunc(x), "sign": jnp.sign, "conj": jnp.conj,
    "real": jnp.real, "imag": jnp.imag, "isinf": jnp.isinf, "logical_not": jnp.logical_not,
    "bitwise_not": jnp.bitwise_not, "absolute": absolute, "positive": jnp.positive,
    "signbit": jnp.signbit, "flip": lambda x, dims: jnp.flip(x, dims), "fliplr": jnp.fliplr,
    "flipud": jnp.flipud, "roll": lambda x, shifts, dims=None: jnp.roll(x, shifts, dims),
    "rot90": lambda x, k, dims: jnp.rot90(x, k, dims),
    "bincount": lambda x, weights=None, minlength=0: jnp.bincount(x, weights, minlength=minlength),
    "div": _divided, "divide": _divided, "true_divide": _divided,
    "amax": lambda x, axis=None, keepdims=False: jnp.max(x, axis, keepdims=keepdims),
    "amin": lambda x, axis=None, keepdims=False: jnp.min(x, axis, keepdims=keepdims),
    "logsumexp": lambda x, axis, keepdims=False:
        jax.nn.logsumexp(floating(x), axis, keepdims=keepdims),
    "cumprod": _running_product,
    "nan_to_num": lambda x, nan=0.0, posinf=None, neginf=None: jnp.nan_to_num(
        x, nan=nan or 0.0, posinf=posinf, neginf=neginf),
    "nansum": lambda x, axis=None, keepdims=False, *, dtype=None:
        jnp.nansum(_as(x, dtype), axis, keepdims=keepdims),
    "ptp": lambda x, axis=None, keepdims=False: jnp.ptp(x, axis, keepdims=keepdims),
    "hardshrink": lambda x, lambd=0.5: jnp.where(jnp.abs(x) > lambd, x, jnp.zeros((), x.dtype)),
    "lerp": lambda x, end, weight: x + weight * (end - x),
    "isclose": lambda x, other, rtol=1e-5, atol=1e-8, equal_nan=False:
        jnp.isclose(x, other, rtol, atol, equal_nan),
    "fill": lambda x, value: jnp.full_like(x, value), "resize": _resized, "choose": _chosen,
    "index_put": _placed, "unique": _unique,
    "argmax_with_value": _with_place(jnp.max, jnp.argmax),
    "argmin_with_value": _with_place(jnp.min, jnp.argmin),
    "where": lambda x, condition, y: jnp.where(condition, x, y),
    "count_nonzero": lambda x, axis=None, keepdims=False:
        cast(jnp.count_nonzero(x, axis, keepdims=keepdims), _dtype.int32),
}  # fmt: skip
MAKES.update({name: _of_one(fn) for name, fn in _FRACTIONS.items()})
MAKES.update({name: _of_two(fn) for name, fn in _OPERANDS.items()})
MAKES.update({name: _scaled(_OPERANDS[name]) for name in ("add", "sub", "subtract")})
#: name -> a function of the raw value; its result is written, in the Tensor's element type.
WRITES: dict[str, Any] = {
    "add_": lambda x, other, *, alpha=1: x + (number(other) if alpha == 1 else alpha * other),
    "sub_": lambda x, other, *, alpha=1: x - (number(other) if alpha == 1 else alpha * other),
    "mul_": lambda x, other: x * number(other), "div_": _divided,
    "clamp_": lambda x, min=None, max=None: jnp.clip(x, min, max),
    "copy_": lambda x, src, non_blocking=False: jnp.broadcast_to(src, x.shape),
    "exp_": lambda x: jnp.exp(x), "fill_": lambda x, value: jnp.full_like(x, value),
    "floor_": jnp.floor, "zero_": jnp.zeros_like, "sigmoid_": jax.nn.sigmoid, "tanh_": jnp.tanh,
    "masked_fill_": lambda x, mask, value: jnp.where(mask, jnp.asarray(value, x.dtype), x),
    "masked_scatter_": _mask_scattered,
    "index_add_": MAKES["index_add"], "index_fill_": MAKES["index_fill"],
    "scatter_": lambda x, dim, index, src: _scattered(x, dim, index, src),
    "scatter_add_": lambda x, dim, index, src: _scattered(x, dim, index, src, True),
    "addmm_": MAKES["addmm"], "erfinv_": lambda x: special.erfinv(x), "sign_": jnp.sign,
    "floor_divide_": lambda x, other: floor_divide(x, number(other)), "put_": _put_flat,
    "fill_diagonal_": _filled_diagonal, "index_put_": _placed,
    "index_copy_": lambda x, dim, index, tensor:
        x.at[_indexed(x, dim, index)].set(jnp.asarray(tensor, x.dtype)),
    "remainder_": lambda x, other: jnp.remainder(x, other), "log_": jnp.log,
}  # fmt: skip
