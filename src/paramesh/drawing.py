"""Compiled programs that compute the elements of a slice of an array, each from its own position.

Glossary
    rule        a function of a `Draw` and some numbers that gives the elements of a slice
    law         a rule with its numbers (sigma, bounds, …), for one whole shape
    Draw        what a rule draws from: the random numbers and the indices of a slice's elements
    place       which elements of which whole: the offset along each axis, and the whole's shape

Keys, offsets and a law's numbers are arguments of the compiled programs; only the rule, the slice's
shape and the element type are compiled in. Small arrays of every shape share one program, in which
they are rows of `ROW` elements.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding

from paramesh import philox
from paramesh.dtype import DType, bool_
from paramesh.errors import RecipeError
from paramesh.keys import Key

Array = jax.Array

ROW = 1024
#: Largest array that is computed in the program that small arrays share.
SMALL = 64 * ROW
_MOST_ROWS = 1024


class Law(NamedTuple):
    """A rule with its numbers.

    `elementwise` says that the rule looks at nothing but the random numbers of an element: not at
    indices or shapes, so that the elements may be computed in an arrangement of any shape.
    """

    rule: Callable[..., Array]
    reals: tuple[float, ...] = ()
    integers: tuple[int, ...] = ()
    elementwise: bool = True


class Draw:
    """The random numbers and the indices of the elements of one slice.

    Each call of `bits`, `uniform`, `normal` or `cut_normal` gives fresh numbers, independent of
    those of the calls before. The numbers of an element depend on the recipe's key, the element's
    place in the whole array and the number of calls before, and on nothing else.

    Attributes:
        shape: shape of the slice, and of all that the methods return.
        whole: shape of the whole array (None in a rule that is `elementwise`).
        dtype: numpy dtype in which to compute: float64 if the result has 64-bit floats, otherwise
            float32. What a rule returns is cast to the dtype of the result.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        whole: tuple[int, ...] | None,
        dtype: np.dtype[Any],
        key: Sequence[Array],
        zero: Array,
        place: tuple[Array, Array],
        starts: Sequence[Any] = (),
    ) -> None:
        self.shape = shape
        self.whole = whole
        self.dtype = dtype
        self._key = key
        self._zero = zero
        self._place = place
        self._starts = starts
        self._calls = 0

    def _words(self) -> philox.Words:
        stream = self._calls
        self._calls += 1
        counter = (*self._place, self._key[2], jnp.uint32(stream))
        return philox.philox4x32(counter, (self._key[0], self._key[1]))

    def _number(self, value: Any) -> Array:
        return jnp.asarray(value).astype(self.dtype)

    def _affine(self, offset: Any, scale: Any, values: Array) -> Array:
        return self.rounded(values * self._number(scale)) + self._number(offset)

    def rounded(self, product: Array) -> Array:
        """`product`, kept apart from a sum or difference that follows.

        Compilers may join `a * b + c` into one operation that rounds once, in one program and not
        in another. A rule that writes `bits.rounded(a * b) + c` gives the same bits everywhere.
        """
        return philox.rounded(product, self._zero)

    def bits(self) -> Array:
        """Uniform uint32 words."""
        return jnp.broadcast_to(self._words()[0], self.shape)

    def uniform(self, low: Any = 0.0, high: Any = 1.0) -> Array:
        """Uniform on [low, high); rounding may give `high` itself."""
        words = self._words()
        if self.dtype == np.float64:
            unit = philox.uniform64(words[0], words[1])
        else:
            unit = philox.uniform32(words[0])
        if isinstance(low, float) and isinstance(high, float) and (low, high) == (0.0, 1.0):
            return unit
        low, high = self._number(low), self._number(high)
        return self._affine(low, high - low, unit)

    def normal(self, mean: Any = 0.0, sigma: Any = 1.0) -> Array:
        """Normal with this mean and standard deviation, by inversion."""
        words = self._words()
        return self._affine(mean, sigma, self._standard(words[0], words[1]))

    def cut_normal(self, mean: Any, sigma: Any, low: Any, width: Any) -> Array:
        """Normal, cut to the values between two probabilities in units of 2^-32.

        These are `low` and `low + width`, integers with 0 < width and low + width <= 2^32.
        """
        words = self._words()
        if self.dtype == np.float64:
            z = self._standard(*philox.cut64(words[0], words[1], low, width))
        else:
            z = self._standard(philox.cut32(words[0], low, width), words[1])
        return self._affine(mean, sigma, z)

    def _standard(self, word: Array, second: Array) -> Array:
        if self.dtype == np.float64:
            return philox.normal64(word, second, self._zero)
        return philox.normal32(word, self._zero)

    def index(self, axis: int) -> Array:
        """The elements' indices along one axis of the whole, int64, broadcastable to `shape`."""
        axis = range(len(self.shape))[axis]
        sizes = [1] * len(self.shape)
        sizes[axis] = self.shape[axis]
        along = lax.iota(jnp.int64, self.shape[axis]).reshape(sizes)
        return jnp.asarray(self._starts[axis]).astype(jnp.int64) + along


def _key_words(key: Key) -> tuple[int, int, int]:
    seed, counter = key
    return seed, counter & 0xFFFFFFFF, counter >> 32


def _computing_dtype(dtype: DType) -> np.dtype[Any]:
    return np.dtype(np.float64 if str(dtype) in ("Float64", "Complex128") else np.float32)


def cast(values: Array, dtype: DType) -> Array:
    """`values` in another element type, by numpy's rules: to integers by cutting and wrapping."""
    values = jnp.asarray(values)
    if dtype is bool_:
        return values != jnp.zeros((), values.dtype)
    if dtype.is_integer() and jnp.issubdtype(values.dtype, jnp.floating):
        values = values.astype(jnp.int64)
    if dtype.is_complex() and not jnp.issubdtype(values.dtype, jnp.complexfloating):
        part = jnp.float64 if dtype.itemsize == 16 else jnp.float32
        values = values.astype(part)
        return lax.complex(values, jnp.zeros_like(values))
    return values.astype(dtype.np_dtype)


class _Place(NamedTuple):
    """What of a slice's place is compiled in.

    `narrow`: all elements share the upper word of their position in the whole.
    """

    shape: tuple[int, ...]
    whole: tuple[int, ...] | None
    narrow: bool


def _positions(place: _Place, starts: Sequence[Any], strides: Sequence[Any]) -> tuple[Array, Array]:
    """The two words of each element's position in the row-major order of the whole."""
    base: Array = jnp.uint64(0)
    for start, stride in zip(starts, strides, strict=True):
        base = base + jnp.asarray(start, jnp.uint64) * jnp.asarray(stride, jnp.uint64)
    kind = jnp.uint32 if place.narrow else jnp.uint64
    position = jnp.broadcast_to(base.astype(kind), place.shape)
    for axis, stride in enumerate(strides):
        along = lax.broadcasted_iota(kind, place.shape, axis)
        position = position + along * jnp.asarray(stride).astype(kind)
    if place.narrow:
        return position, (base >> jnp.uint64(32)).astype(jnp.uint32)
    return position.astype(jnp.uint32), (position >> jnp.uint64(32)).astype(jnp.uint32)


def _checked(values: Any, draw: Draw, rule: Callable[..., Array]) -> Array:
    values = jnp.asarray(values)
    try:
        return jnp.broadcast_to(values, draw.shape)
    except ValueError:
        raise RecipeError(
            f"{rule!r} gave values of shape {values.shape} for a slice of shape {draw.shape}. "
            "Expected an array of the slice's shape (`bits.shape`), or one that broadcasts to it."
        ) from None


_HEADER = 4  # three words of the key, and zero


def _elements(
    rule: Callable[..., Array],
    place: _Place,
    dtype: DType,
    header: Array,
    starts: Sequence[Any],
    integers: Sequence[Array],
    reals: Sequence[Array],
) -> Array:
    rank = len(place.shape)
    words = [header[i].astype(jnp.uint32) for i in range(_HEADER)]
    strides = [header[_HEADER + i] for i in range(rank)]
    draw = Draw(
        place.shape,
        place.whole,
        _computing_dtype(dtype),
        words[:3],
        words[3],
        _positions(place, starts, strides),
        starts,
    )
    return cast(_checked(rule(draw, *reals, *integers), draw, rule), dtype)


@functools.lru_cache(maxsize=1024)
def _slice_program(
    rule: Callable[..., Array], place: _Place, shape: tuple[int, ...], dtype: DType
) -> Callable[..., Array]:
    rank = len(place.shape)

    def paramesh_draw(header: Array, reals: Array) -> Array:
        rest = header[_HEADER + rank :]
        starts = [rest[i] for i in range(rank)]
        integers = [rest[i] for i in range(rank, rest.shape[0])]
        values = _elements(rule, place, dtype, header, starts, integers, list(reals))
        return values.reshape(shape)

    return jax.jit(paramesh_draw)


@functools.lru_cache(maxsize=1024)
def _sharded_program(
    rule: Callable[..., Array],
    place: _Place,
    shape: tuple[int, ...],
    dtype: DType,
    sharding: NamedSharding,
) -> Callable[..., Array]:
    rank = len(place.shape)
    names = [_axes_of(sharding, axis) for axis in range(len(shape))]

    def paramesh_draw_shard(header: Array, reals: Array) -> Array:
        rest = header[_HEADER + rank :]
        starts: list[Any] = []
        for axis in range(rank):
            shard = lax.axis_index(names[axis]) if names[axis] else 0
            starts.append(jnp.asarray(shard).astype(jnp.uint64) * rest[axis])
        integers = [rest[i] for i in range(rank, rest.shape[0])]
        values = _elements(rule, place, dtype, header, starts, integers, list(reals))
        return values.reshape(shape)

    none = jax.sharding.PartitionSpec()
    return jax.jit(
        jax.shard_map(
            paramesh_draw_shard,
            mesh=sharding.mesh,
            in_specs=(none, none),
            out_specs=sharding.spec,
            check_vma=False,
        )
    )


def _axes_of(sharding: NamedSharding, axis: int) -> tuple[str, ...]:
    entry = sharding.spec[axis] if axis < len(sharding.spec) else None
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


@functools.lru_cache(maxsize=256)
def _row_program(rule: Callable[..., Array], rows: int, dtype: DType) -> Callable[..., Array]:
    def paramesh_draw_rows(header: Array, reals: Array) -> Array:
        words = [header[:, i : i + 1].astype(jnp.uint32) for i in range(_HEADER)]
        position = header[:, _HEADER : _HEADER + 1] + lax.broadcasted_iota(
            jnp.uint64, (rows, ROW), 1
        )
        place = (position.astype(jnp.uint32), (position >> jnp.uint64(32)).astype(jnp.uint32))
        integers = [header[:, i : i + 1] for i in range(_HEADER + 1, header.shape[1])]
        numbers = [reals[:, i : i + 1] for i in range(reals.shape[1])]
        draw = Draw((rows, ROW), None, _computing_dtype(dtype), words[:3], words[3], place)
        return cast(_checked(rule(draw, *numbers, *integers), draw, rule), dtype)

    return jax.jit(paramesh_draw_rows)


def _collapse(
    whole: tuple[int, ...], starts: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[int, ...], list[int], list[int]]:
    """A place with the trailing axes that are covered whole joined to the axis before them.

    Gives the slice's shape, its starts and its strides.
    """
    first = len(whole) - 1
    while first > 0 and shape[first] == whole[first]:
        first -= 1
    first = max(first, 0)
    rest = math.prod(whole[first + 1 :])
    strides = [math.prod(whole[axis + 1 :]) for axis in range(first)] + [1]
    head = [*shape[:first], (shape[first] if whole else 1) * rest]
    moved = [*starts[:first], (starts[first] if whole else 0) * rest]
    return tuple(head), moved, strides


def _strides(whole: Sequence[int]) -> list[int]:
    return [math.prod(whole[axis + 1 :]) for axis in range(len(whole))]


def _is_narrow(starts: Sequence[int], strides: Sequence[int], shape: Sequence[int]) -> bool:
    first = sum(s * t for s, t in zip(starts, strides, strict=True))
    last = first + sum((n - 1) * t for n, t in zip(shape, strides, strict=True))
    return first >> 32 == last >> 32


def draw_slice(
    law: Law,
    key: Key,
    whole: tuple[int, ...],
    dtype: DType,
    starts: Sequence[int],
    shape: tuple[int, ...],
) -> Array:
    """The elements of the slice at `starts` of shape `shape`, on the default device."""
    if math.prod(shape) == 0:
        return jnp.zeros(shape, dtype.np_dtype)
    if law.elementwise:
        inner, moved, strides = _collapse(whole, starts, shape)
        if len(inner) == 1 and inner[0] <= SMALL:
            return draw_rows([(law, key, moved[0], shape)], dtype)[0]
    else:
        inner, moved, strides = shape, list(starts), _strides(whole)
    place = _Place(inner, None if law.elementwise else whole, _is_narrow(moved, strides, inner))
    program = _slice_program(law.rule, place, shape, dtype)
    return program(*_arguments(law, key, dtype, strides, moved))


def draw_sharded(
    law: Law, key: Key, whole: tuple[int, ...], dtype: DType, sharding: NamedSharding
) -> Array:
    """The whole, every device computing its own shard, in one program."""
    shape = sharding.shard_shape(whole)
    if law.elementwise:
        inner, _, strides = _collapse(whole, [0] * len(whole), shape)
    else:
        inner, strides = shape, _strides(whole)
    place = _Place(inner, None if law.elementwise else whole, math.prod(whole) <= 1 << 32)
    program = _sharded_program(law.rule, place, shape, dtype, sharding)
    # A shard starts at its number along the axis times the shard's size.
    return program(*_arguments(law, key, dtype, strides, inner))


def _arguments(
    law: Law, key: Key, dtype: DType, strides: Sequence[int], starts: Sequence[int]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    header = np.array([*_key_words(key), 0, *strides, *starts, *law.integers], np.uint64)
    return header, np.array(law.reals, _computing_dtype(dtype))


def draw_rows(pieces: Sequence[tuple[Law, Key, int, tuple[int, ...]]], dtype: DType) -> list[Array]:
    """Many small arrays of one elementwise rule, in one program whatever their shapes.

    Each piece is a law, a key, the position of the first element, and the shape of a run of
    elements that follow one another.
    """
    rule = pieces[0][0].rule
    headers: list[list[int]] = []
    reals: list[tuple[float, ...]] = []
    counts = []
    for law, key, first, shape in pieces:
        rows = -(-math.prod(shape) // ROW)
        counts.append(rows)
        for row in range(rows):
            headers.append([*_key_words(key), 0, first + row * ROW, *law.integers])
            reals.append(law.reals)
    parts = []
    for at in range(0, len(headers), _MOST_ROWS):
        parts.append(
            _run_rows(rule, headers[at : at + _MOST_ROWS], reals[at : at + _MOST_ROWS], dtype)
        )
    table = parts[0] if len(parts) == 1 else np.concatenate(parts)
    results = []
    row = 0
    for (_, _, _, shape), rows in zip(pieces, counts, strict=True):
        flat = table[row : row + rows].reshape(-1)[: math.prod(shape)]
        results.append(jax.device_put(flat.reshape(shape).copy()))
        row += rows
    return results


def _run_rows(
    rule: Callable[..., Array],
    headers: Sequence[Sequence[int]],
    reals: Sequence[Sequence[float]],
    dtype: DType,
) -> np.ndarray[Any, Any]:
    rows = 1
    while rows < len(headers):
        rows *= 4
    header = np.zeros((rows, len(headers[0])), np.uint64)
    header[: len(headers)] = headers
    numbers = np.zeros((rows, len(reals[0])), _computing_dtype(dtype))
    numbers[: len(headers)] = np.array(reals, numbers.dtype).reshape(len(headers), len(reals[0]))
    return np.asarray(_row_program(rule, rows, dtype)(header, numbers))[: len(headers)]


def fill(value: np.ndarray[Any, Any], shape: tuple[int, ...]) -> Array:
    """An array with one value (0-d) everywhere, on the default device."""
    if math.prod(shape) <= SMALL:
        return jax.device_put(np.full(shape, value))
    return _fill_program(shape)(value)


@functools.lru_cache(maxsize=1024)
def _fill_program(shape: tuple[int, ...]) -> Callable[..., Array]:
    def paramesh_fill(value: Array) -> Array:
        return jnp.broadcast_to(value, shape)

    return jax.jit(paramesh_fill)
