"""Batched sampling: many arrays of every shape from one program that computes rows of `ROW`
elements.

Keys, positions and a spec's numbers are columns of the program's arguments; only the sampling
function, the number of rows and the element type are compile-time constants.

Glossary
    piece       consecutive elements of a full array that become one array
    table       the rows that one run of the program computes
"""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh.array_types import HostArray
from paramesh.dtype import DType
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

ROW = 1024
#: Largest array that, computed alone, is computed in rows.
SMALL = 64 * ROW
_MOST_ROWS = 1024
#: Arrays up to this size may be put together from several tables.
_LARGEST_IN_ROWS = 4 * _MOST_ROWS * ROW
#: A program of its own takes as long to compile as so many elements to put together.
_WORTH_A_PROGRAM = 16 * _MOST_ROWS * ROW


@functools.lru_cache(maxsize=256)
def _row_program(
    sample_fn: Callable[..., Array], rows: int, dtype: DType, platform: str
) -> Callable[..., Array]:
    def paramesh_sample_rows(header: Array, reals: Array) -> Array:
        words = [header[:, i : i + 1].astype(jnp.uint32) for i in range(HEADER)]
        position = header[:, HEADER : HEADER + 1] + lax.broadcasted_iota(jnp.uint64, (rows, ROW), 1)
        place = (position.astype(jnp.uint32), (position >> jnp.uint64(32)).astype(jnp.uint32))
        integers = [header[:, i : i + 1] for i in range(HEADER + 1, header.shape[1])]
        numbers = [reals[:, i : i + 1] for i in range(reals.shape[1])]
        sampler = Sampler((rows, ROW), None, computing_dtype(dtype), words[:3], words[3], place)
        return evaluated(sample_fn, sampler, numbers, integers, dtype)

    return compiled(paramesh_sample_rows, platform, dtype)


def cheaper_in_rows(size: int, count: int) -> bool:
    """Whether `count` arrays of this size are faster in rows than with a program for their
    shape.
    """
    return size <= SMALL or (size <= _LARGEST_IN_ROWS and size * count <= _WORTH_A_PROGRAM)


class _Run(NamedTuple):
    """Consecutive rows of one piece in a table."""

    piece: int
    first: int
    rows: int


def _tables(rows_of: Sequence[int]) -> list[list[_Run]]:
    """Which rows of which pieces are in which table.

    A piece that fits into one table is not split, so that its elements are found in one run.
    """
    tables: list[list[_Run]] = [[]]
    room = _MOST_ROWS
    for piece, rows in enumerate(rows_of):
        first = 0
        while rows:
            if rows > room and room < _MOST_ROWS:
                tables.append([])
                room = _MOST_ROWS
            part = min(rows, room)
            tables[-1].append(_Run(piece, first, part))
            first, rows, room = first + part, rows - part, room - part
    return tables


def sample_rows(
    pieces: Sequence[tuple[DistributionSpec, Key, int, tuple[int, ...]]], dtype: DType
) -> list[Array]:
    """Many arrays of one elementwise sampling function, in one program whatever their shapes.

    Each piece is a spec, a key, the position of the first element, and the shape of a run of
    consecutive elements. Besides the results this takes the memory of two tables of
    `_MOST_ROWS` rows, and of one piece that does not fit into a table.
    """
    sample_fn = pieces[0][0].sample_fn
    sizes = [math.prod(shape) for _, _, _, shape in pieces]
    tables = _tables([-(-size // ROW) for size in sizes])
    rows = 1
    while rows < sum(run.rows for run in tables[0]):
        rows *= 4
    # Tables of one size are one program.
    rows = rows if len(tables) == 1 else _MOST_ROWS
    program = _row_program(sample_fn, rows, dtype, default_platform())
    results: list[Any] = [None] * len(pieces)
    upcoming = program(*_row_arguments(pieces, tables[0], rows, dtype))
    for number, table in enumerate(tables):
        current = upcoming
        if number + 1 < len(tables):  # computed while this one is sliced
            upcoming = program(*_row_arguments(pieces, tables[number + 1], rows, dtype))
        values = np.asarray(current).reshape(-1)
        at = 0
        for piece, first, count in table:
            run = values[at : at + min(count * ROW, sizes[piece] - first * ROW)]
            at += count * ROW
            if first == 0:
                results[piece] = _unshared(sizes[piece], values.dtype)
            end = first * ROW + run.size
            results[piece][first * ROW : end] = run
            if end == sizes[piece]:
                results[piece] = jax.device_put(results[piece].reshape(pieces[piece][3]))
    return results


def _unshared(size: int, dtype: np.dtype[np.floating]) -> HostArray:
    """Memory that JAX copies from, and never shares.

    A program that donates an array reuses memory that JAX alone owns; memory shared with numpy is
    copied at every step. JAX shares whatever is aligned to 64 bytes, even if `device_put` is told
    `may_alias=False`, so this is deliberately not aligned.
    """
    room = np.empty(size * dtype.itemsize + 128, np.uint8)
    start = -room.ctypes.data % 64 + 16
    return room[start : start + size * dtype.itemsize].view(dtype)


def _row_arguments(
    pieces: Sequence[tuple[DistributionSpec, Key, int, tuple[int, ...]]],
    table: Sequence[_Run],
    rows: int,
    dtype: DType,
) -> tuple[HostArray, HostArray]:
    spec = pieces[0][0]
    header = np.zeros((rows, HEADER + 1 + len(spec.integers)), np.uint64)
    reals = np.zeros((rows, len(spec.reals)), computing_dtype(dtype))
    at = 0
    for piece, first, count in table:
        spec, key, start, _ = pieces[piece]
        part = slice(at, at + count)
        header[part] = (*key_words(key), 0, start + first * ROW, *spec.integers)
        header[part, HEADER] += np.arange(count, dtype=np.uint64) * np.uint64(ROW)
        reals[part] = spec.reals
        at += count
    return header, reals


def fill(value: HostArray, shapes: Sequence[tuple[int, ...]]) -> list[Array]:
    """Constant arrays of one value (0-d), on the default device."""
    counts = collections.Counter(shapes)
    sizes = {shape: math.prod(shape) for shape in counts}
    copied = {s for s, n in counts.items() if cheaper_in_rows(sizes[s], n)}
    pattern = _unshared(max((sizes[s] for s in copied), default=0), value.dtype)
    pattern[:] = value
    return [
        jax.device_put(pattern[: sizes[shape]].reshape(shape))
        if shape in copied
        else _fill_program(shape)(value)
        for shape in shapes
    ]


@functools.lru_cache(maxsize=1024)
def _fill_program(shape: tuple[int, ...]) -> Callable[..., Array]:
    def paramesh_fill(value: Array) -> Array:
        return jnp.broadcast_to(value, shape)

    return jax.jit(paramesh_fill)
