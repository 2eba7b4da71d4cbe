"""Compiled programs that compute the elements of a slice of an array, each from its own position.

Glossary
    place       which elements of which whole: the offset along each axis, and the whole's shape

Keys, offsets and a law's numbers are arguments of the compiled programs; only the rule, the slice's
shape and the element type are compiled in. Small arrays of every shape share one program
(`batched`).
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

from paramesh.dtype import DType
from paramesh.sampling.batched import SMALL, draw_rows
from paramesh.sampling.distribution import (
    HEADER,
    DistributionSpec,
    Sampler,
    compiled,
    computing_dtype,
    default_platform,
    evaluated,
    key_words,
)
from paramesh.sampling.seed import Key

Array = jax.Array


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
    words = [header[i].astype(jnp.uint32) for i in range(HEADER)]
    strides = [header[HEADER + i] for i in range(rank)]
    draw = Sampler(
        place.shape,
        place.whole,
        computing_dtype(dtype),
        words[:3],
        words[3],
        _positions(place, starts, strides),
        starts,
    )
    return evaluated(rule, draw, reals, integers, dtype)


@functools.lru_cache(maxsize=1024)
def _slice_program(
    rule: Callable[..., Array],
    place: _Place,
    shape: tuple[int, ...],
    dtype: DType,
    platform: str,
) -> Callable[..., Array]:
    rank = len(place.shape)

    def paramesh_draw(header: Array, reals: Array) -> Array:
        rest = header[HEADER + rank :]
        starts = [rest[i] for i in range(rank)]
        integers = [rest[i] for i in range(rank, rest.shape[0])]
        values = _elements(rule, place, dtype, header, starts, integers, list(reals))
        return values.reshape(shape)

    return compiled(paramesh_draw, platform, dtype)


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
        rest = header[HEADER + rank :]
        starts: list[Any] = []
        for axis in range(rank):
            shard = lax.axis_index(names[axis]) if names[axis] else 0
            starts.append(jnp.asarray(shard).astype(jnp.uint64) * rest[axis])
        integers = [rest[i] for i in range(rank, rest.shape[0])]
        values = _elements(rule, place, dtype, header, starts, integers, list(reals))
        return values.reshape(shape)

    none = jax.sharding.PartitionSpec()
    return compiled(
        jax.shard_map(
            paramesh_draw_shard,
            mesh=sharding.mesh,
            in_specs=(none, none),
            out_specs=sharding.spec,
            check_vma=False,
        ),
        next(iter(sharding.device_set)).platform,
    )


def _axes_of(sharding: NamedSharding, axis: int) -> tuple[str, ...]:
    entry = sharding.spec[axis] if axis < len(sharding.spec) else None
    if entry is None:
        return ()
    return (entry,) if isinstance(entry, str) else tuple(entry)


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
    law: DistributionSpec,
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
    program = _slice_program(law.rule, place, shape, dtype, default_platform())
    return program(*_arguments(law, key, dtype, strides, moved))


def draw_sharded(
    law: DistributionSpec, key: Key, whole: tuple[int, ...], dtype: DType, sharding: NamedSharding
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
    law: DistributionSpec, key: Key, dtype: DType, strides: Sequence[int], starts: Sequence[int]
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    header = np.array([*key_words(key), 0, *strides, *starts, *law.integers], np.uint64)
    return header, np.array(law.reals, computing_dtype(dtype))
