"""Compiled programs that compute the elements of a slice of an array, each from its own position.

Glossary
    place       which elements of which full array: the offset along each axis, and the full shape

Keys, offsets and a spec's numbers are arguments of the compiled programs; only the sampling
function, the slice's shape and the element type are compile-time constants. Small arrays of every
shape share one program (`batched`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding

from paramesh.array_types import ArrayLike, HostArray
from paramesh.dtype import DType
from paramesh.sampling.batched import SMALL, sample_rows
from paramesh.sampling.distribution import (
    HEADER,
    DistributionSpec,
    compiled,
    computing_dtype,
    default_platform,
    evaluated,
    key_words,
)
from paramesh.sampling.sampler import Sampler
from paramesh.sampling.seed import Key

Array = jax.Array


class _Place(NamedTuple):
    """The part of a slice's place that is a compile-time constant.

    `shares_upper_word`: all elements share the upper word of their position in the full array.
    """

    shape: tuple[int, ...]
    full_shape: tuple[int, ...] | None
    shares_upper_word: bool


def _positions(
    place: _Place, starts: Sequence[ArrayLike], strides: Sequence[ArrayLike]
) -> tuple[Array, Array]:
    """The two words of each element's position in the row-major order of the full array."""
    base: Array = jnp.uint64(0)
    for start, stride in zip(starts, strides, strict=True):
        base = base + jnp.asarray(start, jnp.uint64) * jnp.asarray(stride, jnp.uint64)
    kind = jnp.uint32 if place.shares_upper_word else jnp.uint64
    position = jnp.broadcast_to(base.astype(kind), place.shape)
    for axis, stride in enumerate(strides):
        along = lax.broadcasted_iota(kind, place.shape, axis)
        position = position + along * jnp.asarray(stride).astype(kind)
    if place.shares_upper_word:
        return position, (base >> jnp.uint64(32)).astype(jnp.uint32)
    return position.astype(jnp.uint32), (position >> jnp.uint64(32)).astype(jnp.uint32)


def _elements(
    sample_fn: Callable[..., Array],
    place: _Place,
    dtype: DType,
    header: Array,
    starts: Sequence[ArrayLike],
    integers: Sequence[Array],
    reals: Sequence[Array],
) -> Array:
    rank = len(place.shape)
    words = [header[i].astype(jnp.uint32) for i in range(HEADER)]
    strides = [header[HEADER + i] for i in range(rank)]
    sampler = Sampler(
        place.shape,
        place.full_shape,
        computing_dtype(dtype),
        words[:3],
        words[3],
        _positions(place, starts, strides),
        starts,
    )
    return evaluated(sample_fn, sampler, reals, integers, dtype)


@functools.lru_cache(maxsize=1024)
def _slice_program(
    sample_fn: Callable[..., Array],
    place: _Place,
    shape: tuple[int, ...],
    dtype: DType,
    platform: str,
) -> Callable[..., Array]:
    rank = len(place.shape)

    def paramesh_sample(header: Array, reals: Array) -> Array:
        rest = header[HEADER + rank :]
        starts = [rest[i] for i in range(rank)]
        integers = [rest[i] for i in range(rank, rest.shape[0])]
        values = _elements(sample_fn, place, dtype, header, starts, integers, list(reals))
        return values.reshape(shape)

    return compiled(paramesh_sample, platform, dtype)


@functools.lru_cache(maxsize=1024)
def _sharded_program(
    sample_fn: Callable[..., Array],
    place: _Place,
    shape: tuple[int, ...],
    dtype: DType,
    sharding: NamedSharding,
) -> Callable[..., Array]:
    rank = len(place.shape)
    names = [_axes_of(sharding, axis) for axis in range(len(shape))]

    def paramesh_sample_shard(header: Array, reals: Array) -> Array:
        rest = header[HEADER + rank :]
        starts: list[Array] = []
        for axis in range(rank):
            shard = lax.axis_index(names[axis]) if names[axis] else 0
            starts.append(jnp.asarray(shard).astype(jnp.uint64) * rest[axis])
        integers = [rest[i] for i in range(rank, rest.shape[0])]
        values = _elements(sample_fn, place, dtype, header, starts, integers, list(reals))
        return values.reshape(shape)

    none = jax.sharding.PartitionSpec()
    return compiled(
        jax.shard_map(
            paramesh_sample_shard,
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
    full_shape: tuple[int, ...], starts: Sequence[int], shape: Sequence[int]
) -> tuple[tuple[int, ...], list[int], list[int]]:
    """A place with the trailing axes that are covered entirely joined to the axis before them.

    Returns the slice's shape, its starts and its strides.
    """
    first = len(full_shape) - 1
    while first > 0 and shape[first] == full_shape[first]:
        first -= 1
    first = max(first, 0)
    rest = math.prod(full_shape[first + 1 :])
    strides = [math.prod(full_shape[axis + 1 :]) for axis in range(first)] + [1]
    head = [*shape[:first], (shape[first] if full_shape else 1) * rest]
    moved = [*starts[:first], (starts[first] if full_shape else 0) * rest]
    return tuple(head), moved, strides


def _strides(full_shape: Sequence[int]) -> list[int]:
    return [math.prod(full_shape[axis + 1 :]) for axis in range(len(full_shape))]


def _share_upper_word(starts: Sequence[int], strides: Sequence[int], shape: Sequence[int]) -> bool:
    first = sum(s * t for s, t in zip(starts, strides, strict=True))
    last = first + sum((n - 1) * t for n, t in zip(shape, strides, strict=True))
    return first >> 32 == last >> 32


def sample_slice(
    spec: DistributionSpec,
    key: Key,
    full_shape: tuple[int, ...],
    dtype: DType,
    starts: Sequence[int],
    shape: tuple[int, ...],
) -> Array:
    """The elements of the slice at `starts` of shape `shape`, on the default device."""
    if math.prod(shape) == 0:
        return jnp.zeros(shape, dtype.np_dtype)
    if spec.elementwise:
        inner, moved, strides = _collapse(full_shape, starts, shape)
        if len(inner) == 1 and inner[0] <= SMALL:
            return sample_rows([(spec, key, moved[0], shape)], dtype)[0]
    else:
        inner, moved, strides = shape, list(starts), _strides(full_shape)
    place = _Place(
        inner, None if spec.elementwise else full_shape, _share_upper_word(moved, strides, inner)
    )
    program = _slice_program(spec.sample_fn, place, shape, dtype, default_platform())
    return program(*_arguments(spec, key, dtype, strides, moved))


def sample_sharded(
    spec: DistributionSpec,
    key: Key,
    full_shape: tuple[int, ...],
    dtype: DType,
    sharding: NamedSharding,
) -> Array:
    """The full array, every device computing its own shard, in one program."""
    shape = sharding.shard_shape(full_shape)
    if spec.elementwise:
        inner, _, strides = _collapse(full_shape, [0] * len(full_shape), shape)
    else:
        inner, strides = shape, _strides(full_shape)
    place = _Place(
        inner, None if spec.elementwise else full_shape, math.prod(full_shape) <= 1 << 32
    )
    program = _sharded_program(spec.sample_fn, place, shape, dtype, sharding)
    # A shard starts at its index along the axis times the shard's size.
    return program(*_arguments(spec, key, dtype, strides, inner))


def _arguments(
    spec: DistributionSpec, key: Key, dtype: DType, strides: Sequence[int], starts: Sequence[int]
) -> tuple[HostArray, HostArray]:
    header = np.array([*key_words(key), 0, *strides, *starts, *spec.integers], np.uint64)
    return header, np.array(spec.reals, computing_dtype(dtype))
