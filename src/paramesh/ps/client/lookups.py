"""The different rows of all lookups of a step: sorted and deduplicated once for all tables.

The order that comes of it serves twice: before the step to pull each row once, and after it to add
up the gradients of each row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from paramesh.ps.specification.id_range import NO_ID

Array = np.ndarray[Any, Any]

#: Keys of rows have to be Int64.
_MOST = 1 << 62
#: What scipy multiplies.
_MULTIPLIED = (np.float32, np.float64)


class Distinct(NamedTuple):
    """The different rows of the lookups of one table.

    Attributes:
        ids: sorted, each once; without padding.
        places: for each lookup, for each of its indices, where its row is in `ids`; `len(ids)` for
            padding.
        order: the places of all indices but padding among those of all lookups, one lookup after
            another: by id, those of the same id as they were looked up.
        starts: where in `order` those of each id begin.
    """

    ids: Array
    places: list[Array]
    order: Array
    starts: Array


def distinct(lookups: Sequence[tuple[int, Sequence[Array]]]) -> list[Distinct]:
    """The different rows of each table.

    Args:
        lookups: for each table how many rows it has, and the ids of its lookups; Int64, NO_ID
            for padding, otherwise inside of the table.
    """
    small = [at for at, (rows, _) in enumerate(lookups) if rows < _MOST]
    if sum(lookups[at][0] + 1 for at in small) > _MOST:
        small = []
    found = dict(zip(small, _together([lookups[at] for at in small]), strict=True))
    return [found[at] if at in found else _of_table(ids) for at, (_, ids) in enumerate(lookups)]


def _together(lookups: Sequence[tuple[int, Sequence[Array]]]) -> list[Distinct]:
    """As `distinct`, of tables whose rows can have keys."""
    if not lookups:
        return []
    # The key of a row is its place among the rows of all tables. Each table has one more in front,
    # for padding.
    firsts = np.cumsum([0] + [rows + 1 for rows, _ in lookups])
    lengths = [[len(one) for one in ids] for _, ids in lookups]
    sizes = np.array([sum(mine) for mine in lengths])
    keys = np.maximum(np.concatenate([one for _, ids in lookups for one in ids]), -1)
    keys += np.repeat(firsts[:-1] + 1, sizes)
    order, keys = _by_key(keys, int(firsts[-1]))
    unique, starts, places = _counted(order, keys)
    # Where the ids of each table begin, and where its keys do.
    begin = np.searchsorted(unique, firsts)
    first = np.cumsum([0, *sizes.tolist()])
    found: list[Distinct] = []
    for table, mine in enumerate(lengths):
        ids = unique[begin[table] : begin[table + 1]] - (firsts[table] + 1)
        at, end = int(first[table]), int(first[table + 1])
        of_ids = starts[begin[table] : begin[table + 1]] - at
        padded = len(ids) > 0 and ids[0] < 0
        where = places[at:end] - begin[table]
        ordered = order[at:end] - at
        found.append(_without_padding(ids, where, ordered, of_ids, mine, padded))
    return found


def _of_table(ids: Sequence[Array]) -> Distinct:
    everything = np.concatenate(ids)
    order = np.argsort(everything, kind="stable")
    unique, starts, places = _counted(order, everything[order])
    padded = len(unique) > 0 and unique[0] == NO_ID
    return _without_padding(unique, places, order, starts, [len(one) for one in ids], padded)


def _by_key(keys: Array, end: int) -> tuple[Array, Array]:
    """(the places of keys by key, those of the same key in order; the sorted keys).

    Args:
        keys: from 0.
        end: all of them are below it.
    """
    bits = len(keys).bit_length()
    if end >> (62 - bits):
        order = np.argsort(keys, kind="stable")
        return order, keys[order]
    # Numbers alone are sorted faster than places by their numbers.
    keys = (keys << bits) | np.arange(len(keys))
    keys.sort()
    return keys & ((1 << bits) - 1), keys >> bits


def _counted(order: Array, keys: Array) -> tuple[Array, Array, Array]:
    """(the different keys, where each begins, which of them is at each place)."""
    begins = np.ones(len(keys), bool)
    np.not_equal(keys[1:], keys[:-1], out=begins[1:])
    starts = np.flatnonzero(begins)
    places = np.empty(len(keys), np.int64)
    places[order] = np.cumsum(begins) - 1
    return keys[starts], starts, places


def _without_padding(
    ids: Array, places: Array, order: Array, starts: Array, lengths: list[int], padded: bool
) -> Distinct:
    if padded:
        ids = ids[1:]
        places = np.where(places == 0, len(ids), places - 1)
        some = int(starts[1]) if len(starts) > 1 else len(order)
        order, starts = order[some:], starts[1:] - some
    return Distinct(ids, np.split(places, np.cumsum(lengths)[:-1]), order, starts)


def gathered(rows: Array, places: Array) -> Array:
    """The row of each index of a lookup; zeros for padding.

    Args:
        rows: of `Distinct.ids`.
        places: of `Distinct.places`.
    """
    if not len(places) or int(places.max()) < len(rows):
        return np.take(rows, places, axis=0)
    out = np.zeros((len(places), *rows.shape[1:]), rows.dtype)
    inside = places < len(rows)
    out[inside] = rows[places[inside]]
    return out


def summed(grad: Array, order: Array, starts: Array) -> Array:
    """The gradient of each row: those of its lookups, added up in their order.

    Args:
        grad: a row for each index of the lookups.
        order: of `Distinct`.
        starts: likewise.
    """
    if len(starts) == len(order):
        return np.take(grad, order, axis=0)
    if grad.dtype not in _MULTIPLIED:
        return np.add.reduceat(np.take(grad, order, axis=0), starts, axis=0)
    # As a product of matrices, whose terms scipy adds one after another: ones times rows.
    width = math.prod(grad.shape[1:])
    index = np.int32 if len(grad) <= np.iinfo(np.int32).max else np.int64
    ends = np.append(starts, len(order)).astype(index)
    ones = np.ones(len(order), grad.dtype)
    matrix = sparse.csr_array((ones, order.astype(index), ends), shape=(len(starts), len(grad)))
    return (matrix @ grad.reshape(len(grad), width)).reshape(len(starts), *grad.shape[1:])
