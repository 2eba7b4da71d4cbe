"""The different rows of all lookups of a step: sorted and deduplicated once for all tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from paramesh.ps.specification.id_range import NO_ID

Array = np.ndarray[Any, Any]

#: Keys of rows have to be Int64.
_MOST = 1 << 62


class Distinct(NamedTuple):
    """The different rows of the lookups of one table.

    Attributes:
        ids: sorted, each once; without padding.
        places: for each lookup, for each of its indices, where its row is in `ids`; `len(ids)` for
            padding.
    """

    ids: Array
    places: list[Array]


def distinct(lookups: Sequence[tuple[int, Sequence[Array]]]) -> list[Distinct]:
    """The different rows of each table.

    Args:
        lookups: for each table how many rows it has, and the ids of its lookups; Int64, NO_ID
            for padding, otherwise inside of the table.
    """
    small = [at for at, (rows, _) in enumerate(lookups) if rows < _MOST]
    if len(small) < 2 or sum(lookups[at][0] + 1 for at in small) > _MOST:
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
    parts = [one for _, ids in lookups for one in ids]
    lengths = np.array([len(one) for one in parts])
    owners = np.repeat(np.arange(len(lookups)), [len(ids) for _, ids in lookups])
    keys = np.maximum(np.concatenate(parts), -1) + np.repeat(firsts[owners] + 1, lengths)
    unique, inverse = np.unique(keys, return_inverse=True)
    edges = np.searchsorted(unique, firsts)
    each = np.split(inverse, np.cumsum(lengths)[:-1])
    found: list[Distinct] = []
    at = 0
    for table, (_, ids) in enumerate(lookups):
        first, stop = edges[table], edges[table + 1]
        mine = unique[first:stop] - (firsts[table] + 1)
        padded = len(mine) > 0 and mine[0] < 0
        places = [one - first for one in each[at : at + len(ids)]]
        if padded:
            mine = mine[1:]
            places = [np.where(one == 0, len(mine), one - 1) for one in places]
        found.append(Distinct(mine, places))
        at += len(ids)
    return found


def _of_table(ids: Sequence[Array]) -> Distinct:
    everything = np.concatenate(ids)
    unique, inverse = np.unique(everything, return_inverse=True)
    if len(unique) and unique[0] == NO_ID:
        unique = unique[1:]
        inverse = np.where(inverse == 0, len(unique), inverse - 1)
    return Distinct(unique, np.split(inverse, np.cumsum([len(one) for one in ids])[:-1]))


def gathered(rows: Array, places: Array) -> Array:
    """The row of each index of a lookup; zeros for padding.

    Args:
        rows: of `Distinct.ids`.
        places: of `Distinct.places`.
    """
    if not len(places) or int(places.max()) < len(rows):
        return rows[places]
    out = np.zeros((len(places), *rows.shape[1:]), rows.dtype)
    inside = places < len(rows)
    out[inside] = rows[places[inside]]
    return out
