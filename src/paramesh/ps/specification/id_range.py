"""Which ids a table on servers has rows for.

Glossary
    bounded     a table of so many rows: ids from 0
    unbounded   a table with a row for every integer of 64 bits, signed or not: an id of Uint64
                stands for the row of the signed number with the same bits
    NO_ID       stands for "no row" among the ids of a table: for padding, and for an empty slot. It
                is the smallest Int64, and the only integer of 64 bits without a row
"""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

NO_ID = -(1 << 63)
#: The rows of an unbounded table: what its spec and the shape of its Parameter say.
UNBOUNDED = 1 << 64


def is_unbounded(rows: int) -> bool:
    """Whether a table of so many rows has one for every id."""
    return rows >= UNBOUNDED


def inside(ids: Array, rows: int) -> Array:
    """For each id (Int64), whether a table of so many rows has it."""
    if is_unbounded(rows):
        return ids != NO_ID
    return (ids >= 0) & (ids < rows)


def all_inside(ids: Array, rows: int) -> bool:
    """Whether a table of so many rows has all of these ids (Int64)."""
    if not len(ids):
        return True
    least = int(ids.min())
    if is_unbounded(rows):
        return least != NO_ID  # the least of all
    return least >= 0 and int(ids.max()) < rows


def range_of(rows: int) -> str:
    """The ids of a table, for messages."""
    if is_unbounded(rows):
        return f"rows for every integer of 64 bits but {NO_ID}"
    return f"rows 0 to {rows - 1}"
