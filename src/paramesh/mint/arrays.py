"""`mint`'s functions that make, rearrange, reduce, pick and count."""

from __future__ import annotations

import builtins
import typing
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import random
from paramesh.array_sizes import check_countable, check_matrix
from paramesh.array_types import Array
from paramesh.dtype import DType, float32, int32, int64, to_dtype, x64
from paramesh.mint.table import fill
from paramesh.ops.array import axis_in, ints
from paramesh.tensor.argument_types import Ints, NumberLike, RawNumber, TensorLike
from paramesh.tensor.base import raw
from paramesh.tensor.promotion import cast, floating


def _axes(dim: Ints | None) -> Any:
    return None if dim is None or dim == () else dim if isinstance(dim, int) else ints(dim)


def _summed(value: Array, dtype: DType | None) -> Any:
    if dtype is not None:
        return cast(value, dtype)
    return cast(value, int64) if to_dtype(value.dtype).kind in ("bool", "int") else value


def _sum(
    input: Array, dim: Ints | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Any:
    value = _summed(input, dtype)
    with x64(value):
        return jnp.sum(value, _axes(dim), value.dtype, keepdims=keepdim)


def _prod(
    input: Array, dim: Ints | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Any:
    value = _summed(input, dtype)
    with x64(value):
        return jnp.prod(value, _axes(dim), value.dtype, keepdims=keepdim)


def _mean(
    input: Array, dim: Ints | None = None, keepdim: bool = False, *, dtype: DType | None = None
) -> Any:
    value = floating(input) if dtype is None else cast(input, dtype)
    return jnp.mean(value, _axes(dim), keepdims=keepdim)


def _spread(fn: Callable[..., Any]) -> Any:
    def compute(
        input: Array, dim: Ints | None = None, *, correction: int = 1, keepdim: bool = False
    ) -> Any:
        return fn(floating(input), _axes(dim), ddof=correction, keepdims=keepdim)

    return compute


def _with_mean(fn: Callable[..., Any]) -> Any:
    def compute(
        input: Array, dim: Ints | None = None, *, correction: int = 1, keepdim: bool = False
    ) -> Any:
        x, axes = floating(input), _axes(dim)
        return fn(x, axes, ddof=correction, keepdims=keepdim), jnp.mean(x, axes, keepdims=keepdim)

    return compute


def _extreme(fn: Callable[..., Any], index: Callable[..., Any], both: Callable[..., Any]) -> Any:
    def compute(input: Array, dim: int | TensorLike | None = None, keepdim: bool = False) -> Any:
        if dim is None:
            return fn(input)
        if not isinstance(dim, int):  # max(input, other)
            return both(input, raw(dim))
        place = cast(index(input, dim, keepdims=keepdim), int64)
        return fn(input, dim, keepdims=keepdim), place

    return compute


def _index(fn: Callable[..., Any]) -> Any:
    def compute(input: Array, dim: int | None = None, keepdim: bool = False) -> Any:
        return cast(fn(input, dim, keepdims=keepdim), int64)

    return compute


def _median(input: Array, dim: int | None = None, keepdim: bool = False) -> Any:
    if dim is None:
        flat = jnp.sort(input.reshape(-1))
        return flat[(flat.shape[0] - 1) // 2]
    at = (input.shape[dim] - 1) // 2
    order = jnp.argsort(input, dim, stable=True)
    place = jax.lax.slice_in_dim(order, at, at + 1, axis=axis_in(dim, input.ndim))
    found = jnp.take_along_axis(input, place, dim), cast(place, int64)
    return found if keepdim else tuple(jnp.squeeze(part, dim) for part in found)


def _norm(
    input: Array,
    p: Any = "fro",
    dim: Ints | None = None,
    keepdim: bool = False,
    *,
    dtype: DType | None = None,
) -> Any:
    value = floating(input) if dtype is None else cast(input, dtype)
    order = 2 if p in ("fro", None) else p
    return jnp.linalg.vector_norm(value, axis=_axes(dim), keepdims=keepdim, ord=order)


def _sort(input: Array, *, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    order = jnp.argsort(input, dim, descending=descending, stable=True)
    return jnp.take_along_axis(input, order, dim), cast(order, int64)


def _argsort(input: Array, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    return cast(jnp.argsort(input, dim, descending=descending, stable=True), int64)


def _topk(input: Array, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    order = jnp.argsort(input, dim, descending=largest, stable=True)
    place = jax.lax.slice_in_dim(order, 0, k, axis=axis_in(dim, input.ndim))
    return jnp.take_along_axis(input, place, dim), cast(place, int64)


def _split(input: Array, split_size_or_sections: Ints, dim: int = 0) -> Any:
    total = input.shape[dim]
    if isinstance(split_size_or_sections, int):
        cuts = list(range(split_size_or_sections, total, split_size_or_sections))
    else:
        cuts = np.cumsum(ints(split_size_or_sections)).tolist()
        if cuts[-1] != total:
            raise ValueError(f"sizes add up to {cuts[-1]}, but axis {dim} has {total}.")
        cuts = cuts[:-1]
    return tuple(jnp.split(input, cuts, dim))


def _chunk(input: Array, chunks: int, dim: int = 0) -> Any:
    size = builtins.max(1, -(-input.shape[dim] // chunks))
    return tuple(jnp.split(input, list(range(size, input.shape[dim], size)), dim))


def _unbind(input: Array, dim: int = 0) -> Any:
    return tuple(jnp.squeeze(part, dim) for part in jnp.split(input, input.shape[dim], dim))


def _repeat(
    input: Array, repeats: NumberLike, dim: int | None = None, *, output_size: int | None = None
) -> Any:
    given = raw(repeats)
    return jnp.repeat(input, given, dim, total_repeat_length=output_size)


def _flatten(input: Array, start_dim: int = 0, end_dim: int = -1) -> Any:
    first, last = (
        axis_in(start_dim, builtins.max(input.ndim, 1)),
        axis_in(end_dim, builtins.max(input.ndim, 1)),
    )
    return jnp.reshape(input, (*input.shape[:first], -1, *input.shape[last + 1 :]))


def _placed(input: Array, dim: int, index: Array, values: Array | NumberLike, add: bool) -> Any:
    at = list(jnp.indices(index.shape, sparse=True))
    at[axis_in(dim, input.ndim)] = index
    values = jnp.asarray(raw(values), input.dtype)
    if values.ndim:
        values = values[tuple(slice(n) for n in index.shape)]
    place = input.at[tuple(at)]
    return place.add(values) if add else place.set(values)


def _gather(input: Array, dim: int, index: Array) -> Any:
    axis = axis_in(dim, input.ndim)
    cut = tuple(slice(None) if i == axis else slice(n) for i, n in enumerate(index.shape))
    return jnp.take_along_axis(input[cut], index, axis)


def _where(
    condition: TensorLike, input: Array | None = None, other: Array | RawNumber | None = None
) -> Any:
    if input is None and other is None:
        return tuple(cast(part, int64) for part in jnp.nonzero(raw(condition)))
    # One None is for jax to refuse.
    return jnp.where(raw(condition), input, other)  # pyright: ignore[reportArgumentType]


def _nonzero(input: Array, *, as_tuple: bool = False) -> Any:
    found = tuple(cast(part, int64) for part in jnp.nonzero(input))
    with x64(int64):
        return found if as_tuple else jnp.stack(found, 1)


def _unique(input: Array, sorted: bool = True, return_inverse: bool = False,
            return_counts: bool = False, dim: int | None = None) -> Any:  # fmt: skip
    found = jnp.unique(input, return_inverse=return_inverse, return_counts=return_counts, axis=dim)
    if isinstance(found, tuple):
        return (found[0], *(cast(part, int64) for part in found[1:]))
    return found


# Made.


def _sizes(size: tuple[Any, ...]) -> tuple[int, ...]:
    sizes = ints(size[0]) if len(size) == 1 and not isinstance(size[0], int) else ints(size)
    check_countable(sizes, "size")
    return sizes


def _kind(dtype: DType | None, default: DType = float32) -> Any:
    return (to_dtype(dtype) if dtype is not None else default).np_dtype


def _wide(make: Callable[..., Any], kind: np.dtype[Any]) -> Any:
    with x64(kind):
        return make()


def _filled(number: float) -> Any:
    def compute(*size: Ints, dtype: DType | None = None) -> Any:
        kind = _kind(dtype)
        return _wide(lambda: jnp.full(_sizes(size), number, kind), kind)

    return compute


def _empty(*size: Ints, dtype: DType | None = None, device: object = None) -> Any:
    kind = _kind(dtype)
    return _wide(lambda: jnp.zeros(_sizes(size), kind), kind)


def _full(size: Ints, fill_value: NumberLike, *, dtype: DType | None = None) -> Any:
    value = raw(fill_value)
    default = to_dtype(jnp.asarray(value).dtype)
    kind = _kind(
        dtype, int64 if isinstance(value, int) and not isinstance(value, bool) else default
    )
    return _wide(lambda: jnp.full(_sizes((size,)), value, kind), kind)


def _like(number: float) -> Any:
    def compute(input: Array, *, dtype: DType | None = None) -> Any:
        return jnp.full(input.shape, number, _kind(dtype, to_dtype(input.dtype)))

    return compute


def _arange(
    start: NumberLike = 0,
    end: NumberLike | None = None,
    step: NumberLike = 1,
    *,
    dtype: DType | None = None,
) -> Any:
    first, last = (0, start) if end is None else (start, end)
    whole = builtins.all(isinstance(raw(v), int) for v in (first, last, step))
    kind = _kind(dtype, int64 if whole else float32)
    return _wide(lambda: jnp.arange(raw(first), raw(last), raw(step), kind), kind)


def _linspace(start: NumberLike, end: NumberLike, steps: int, *, dtype: DType | None = None) -> Any:
    kind = _kind(dtype)
    return _wide(lambda: jnp.linspace(raw(start), raw(end), steps, dtype=kind), kind)


def _eye(n: int, m: int | None = None, dtype: DType | None = None) -> Any:
    kind = _kind(dtype)
    check_matrix(n, m)
    return _wide(lambda: jnp.eye(n, m, dtype=kind), kind)


def _drawn(fn: Callable[..., Any]) -> Any:
    def compute(
        *size: Ints, generator: object = None, dtype: DType | None = None, device: object = None
    ) -> Any:
        return fn(_key(generator), _sizes(size), _kind(dtype))

    return compute


def _drawn_like(fn: Callable[..., Any]) -> Any:
    def compute(input: Array, *, dtype: DType | None = None, device: object = None) -> Any:
        return fn(random.next_key(), input.shape, _kind(dtype, to_dtype(input.dtype)))

    return compute


def _key(generator: object) -> Any:
    if generator is not None:
        raise ValueError("generator is not offered here: seed the default one by manual_seed.")
    return random.next_key()


def _randint(
    *given: Any, generator: object = None, dtype: DType | None = None, device: object = None
) -> Any:
    low, high, size = given if len(given) == 3 else (0, *given)
    drawn = jax.random.randint(_key(generator), ints(size), low, high)
    return cast(drawn, to_dtype(dtype) if dtype is not None else int64)


def _bounds(given: tuple[Any, ...]) -> tuple[Any, Any]:
    return (0, given[0]) if len(given) == 1 else typing.cast("tuple[Any, Any]", given)


def _randperm(n: int, *, generator: object = None, dtype: DType | None = None) -> Any:
    return cast(jax.random.permutation(_key(generator), n), to_dtype(dtype) if dtype else int64)


def _normal(
    mean: NumberLike = 0.0,
    std: NumberLike = 1.0,
    size: Ints | None = None,
    generator: object = None,
) -> Any:
    mean, std = jnp.asarray(raw(mean), jnp.float32), jnp.asarray(raw(std), jnp.float32)
    shape = jnp.broadcast_shapes(mean.shape, std.shape) if size is None else ints(size)
    return mean + std * jax.random.normal(_key(generator), shape)  # pyright: ignore[reportArgumentType]


def _bernoulli(input: Array, *, generator: object = None) -> Any:
    return jax.random.bernoulli(_key(generator), input, input.shape).astype(input.dtype)


def _multinomial(
    input: Array, num_samples: int, replacement: bool = False, *, generator: object = None
) -> Any:
    logits, key = jnp.log(floating(input)), _key(generator)
    if replacement:
        shape = (num_samples, *input.shape[:-1])
        drawn = jnp.moveaxis(jax.random.categorical(key, logits, shape=shape), 0, -1)
    else:
        drawn = jax.lax.top_k(logits + jax.random.gumbel(key, logits.shape), num_samples)[1]
    return cast(drawn, int64)


def _histc(input: Array, bins: int = 100, min: float = 0, max: float = 0) -> Any:
    low, high = (jnp.min(input), jnp.max(input)) if min == max == 0 else (min, max)
    at = jnp.floor((input - low) / (high - low) * bins).astype(jnp.int32)
    inside = (input >= low) & (input <= high)
    at = jnp.where(inside, jnp.clip(at, 0, bins - 1), bins).reshape(-1)
    return jnp.zeros(bins, jnp.int32).at[at].add(1, mode="drop").astype(input.dtype)


def _searchsorted(sorted_sequence: Array, values: Array | NumberLike, *, out_int32: bool = False,
                  right: bool = False,
                  side: str | None = None, sorter: TensorLike | None = None) -> Any:  # fmt: skip
    rows = (
        sorted_sequence if sorter is None else jnp.take_along_axis(sorted_sequence, raw(sorter), -1)
    )
    behind = "right" if right or side == "right" else "left"
    find = lambda a, v: jnp.searchsorted(a, v, side=behind)  # noqa: E731
    for _ in range(rows.ndim - 1):
        find = jax.vmap(find)
    return cast(find(rows, values), int32 if out_int32 else int64)


def _meshgrid(*tensors: TensorLike, indexing: str | None = None) -> Any:
    return tuple(jnp.meshgrid(*(raw(t) for t in tensors), indexing=indexing or "ij"))


def _einsum(equation: str, *operands: TensorLike) -> Any:
    return jnp.einsum(equation, *(raw(operand) for operand in operands))


_AS = "As torch's `{}`; axes are `dim`, `keepdim` leaves them with size 1."
_ROWS: dict[str, Any] = {
    "sum": _sum, "prod": _prod, "mean": _mean, "std": _spread(jnp.std), "var": _spread(jnp.var),
    "std_mean": _with_mean(jnp.std), "var_mean": _with_mean(jnp.var),
    "max": _extreme(jnp.max, jnp.argmax, jnp.maximum),
    "min": _extreme(jnp.min, jnp.argmin, jnp.minimum), "argmax": _index(jnp.argmax),
    "argmin": _index(jnp.argmin), "median": _median, "norm": _norm, "sort": _sort,
    "argsort": _argsort, "topk": _topk, "split": _split, "chunk": _chunk, "unbind": _unbind,
    "repeat_interleave": _repeat, "flatten": _flatten, "gather": _gather, "where": _where,
    "nonzero": _nonzero, "unique": _unique, "histc": _histc, "searchsorted": _searchsorted,
    "bernoulli": _bernoulli, "multinomial": _multinomial, "meshgrid": _meshgrid, "einsum": _einsum,
    "all": lambda input, dim=None, keepdim=False: jnp.all(input, _axes(dim), keepdims=keepdim),
    "any": lambda input, dim=None, keepdim=False: jnp.any(input, _axes(dim), keepdims=keepdim),
    "amax": lambda input, dim=(), keepdim=False: jnp.max(input, _axes(dim), keepdims=keepdim),
    "amin": lambda input, dim=(), keepdim=False: jnp.min(input, _axes(dim), keepdims=keepdim),
    "nansum": lambda input, dim=None, keepdim=False, *, dtype=None:
        jnp.nansum(_summed(input, dtype), _axes(dim), keepdims=keepdim),
    "logsumexp": lambda input, dim, keepdim=False:
        jax.nn.logsumexp(floating(input), _axes(dim), keepdims=keepdim),
    "count_nonzero": lambda input, dim=None: cast(jnp.count_nonzero(input, _axes(dim)), int64),
    "cumsum": lambda input, dim, dtype=None: _running(jnp.cumsum, _summed(input, dtype), dim),
    "cumprod": lambda input, dim, dtype=None: _running(jnp.cumprod, _summed(input, dtype), dim),
    "softmax": lambda input, dim, *, dtype=None:
        jax.nn.softmax(floating(input) if dtype is None else cast(input, dtype), dim),
    "log_softmax": lambda input, dim=None, *, dtype=None:
        jax.nn.log_softmax(floating(input) if dtype is None else cast(input, dtype),
                           -1 if dim is None else dim),
    "reshape": lambda input, *shape: jnp.reshape(input, _sizes(shape)),
    "permute": lambda input, dims: jnp.transpose(input, ints(dims)),
    "transpose": lambda input, dim0, dim1: jnp.swapaxes(input, dim0, dim1),
    "swapaxes": lambda input, axis0, axis1: jnp.swapaxes(input, axis0, axis1),
    "t": lambda input: input.T,
    "squeeze": lambda input, dim=None: jnp.squeeze(input, _of_size_1(input, dim)),
    "unsqueeze": lambda input, dim: jnp.expand_dims(input, dim),
    "broadcast_to": lambda input, shape: jnp.broadcast_to(input, _kept(input, ints(shape))),
    "tile": lambda input, dims: jnp.tile(input, ints(dims)),
    "flip": lambda input, dims: jnp.flip(input, ints(dims)),
    "roll": lambda input, shifts, dims=None:
        jnp.roll(input, ints(shifts), None if dims is None else ints(dims)),
    "narrow": lambda input, dim, start, length:
        jax.lax.slice_in_dim(input, int(raw(start)), int(raw(start)) + length,
                             axis=axis_in(dim, input.ndim)),
    "select": lambda input, dim, index: jnp.take(input, index, dim),
    "index_select": lambda input, dim, index: jnp.take(input, index, dim),
    "index_add": lambda input, dim, index, source, *, alpha=1:
        input.at[(slice(None),) * axis_in(dim, input.ndim) + (index,)].add(alpha * raw(source)),
    "scatter": lambda input, dim, index, src: _placed(input, dim, index, src, False),
    "scatter_add": lambda input, dim, index, src: _placed(input, dim, index, src, True),
    "take": lambda input, index: jnp.take(input.reshape(-1), index),
    "masked_select": lambda input, mask: input[mask] if input.shape == mask.shape
        else jnp.broadcast_to(input, jnp.broadcast_shapes(input.shape, mask.shape))[
            jnp.broadcast_to(mask, jnp.broadcast_shapes(input.shape, mask.shape))],
    "tril": lambda input, diagonal=0: jnp.tril(input, diagonal),
    "triu": lambda input, diagonal=0: jnp.triu(input, diagonal),
    "diag": lambda input, diagonal=0: jnp.diag(input, diagonal),
    "trace": lambda input: jnp.trace(input),
    "diff": lambda input, n=1, dim=-1, prepend=None, append=None:
        jnp.diff(input, n, dim, raw(prepend), raw(append)),
    "bincount": lambda input, weights=None, minlength=0:
        cast(jnp.bincount(input, minlength=minlength), int64) if weights is None
        else jnp.bincount(input, weights, minlength=minlength),
    "isin": lambda input, other: jnp.isin(input, other),
    "concat": lambda tensors, dim=0: jnp.concatenate(tensors, dim),
    "stack": lambda tensors, dim=0: jnp.stack(tensors, dim),
    "hstack": lambda tensors: jnp.hstack(tensors),
    "dstack": lambda tensors: jnp.dstack(tensors),
    "zeros": _filled(0), "ones": _filled(1), "empty": _empty, "full": _full, "arange": _arange,
    "linspace": _linspace, "eye": _eye, "zeros_like": _like(0), "ones_like": _like(1),
    "empty_like": lambda input, *, dtype=None, device=None:
        jnp.zeros(input.shape, _kind(dtype, to_dtype(input.dtype))),
    "full_like": lambda input, fill_value, *, dtype=None:
        jnp.full(input.shape, raw(fill_value), _kind(dtype, to_dtype(input.dtype))),
    "rand": _drawn(jax.random.uniform), "randn": _drawn(jax.random.normal),
    "rand_like": _drawn_like(jax.random.uniform), "randn_like": _drawn_like(jax.random.normal),
    "randint": _randint, "randperm": _randperm, "normal": _normal,
    "randint_like": lambda input, *bounds, dtype=None, device=None: cast(
        jax.random.randint(random.next_key(), input.shape, *_bounds(bounds)),
        to_dtype(dtype) if dtype is not None else to_dtype(input.dtype)),
}  # fmt: skip


def _running(fn: Callable[..., Any], value: Array, dim: int) -> Any:
    with x64(value):
        return fn(value, dim)


def _of_size_1(x: Array, dim: Ints | None) -> Any:
    if dim is None:
        return None
    axes = (dim,) if isinstance(dim, int) else ints(dim)
    return tuple(a for a in axes if x.shape[a] == 1)


def _kept(x: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    new = len(shape) - x.ndim
    return tuple(x.shape[i - new] if n == -1 else n for i, n in enumerate(shape))


__all__: list[str] = []
__all__ += fill({name: (compute, _AS.format(name)) for name, compute in _ROWS.items()})
cat = globals()["concat"]
__all__ += ["cat"]
