"""Rows and gradients of many tables in few arrays: what one message carries.

Glossary
    packed      the arrays of all tables one after another, with the names and lengths of the parts
    group       tables whose rows have the same shape and element type: their rows make one array

A message costs time for each array in it, whatever its size. So a message has one array of ids for
all tables, and one array of rows for each group. Unpacking makes views, and copies nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from paramesh.errors import ParameterServerError

Array = np.ndarray[Any, Any]
Update = Mapping[str, Mapping[str, Array]]


class PackedIds(NamedTuple):
    """Ids of several tables.

    Attributes:
        names: of the tables.
        counts: (tables,) Int64: how many ids each has.
        ids: (sum of `counts`,) Int64.
    """

    names: tuple[str, ...]
    counts: Array
    ids: Array


class PackedRows(NamedTuple):
    """Rows of several tables, in the order of the ids that they were requested by.

    Attributes:
        groups: for each table, which of `rows` it is in.
        rows: (rows of the group, *row) of each group.
    """

    groups: tuple[int, ...]
    rows: tuple[Array, ...]


class PackedUpdates(NamedTuple):
    """An update (see `Store.apply`).

    Attributes:
        dense: gradients of dense Parameters, by name.
        ids: of the tables.
        grads: the gradient of each row.
    """

    dense: dict[str, Array]
    ids: PackedIds
    grads: PackedRows


_EMPTY = np.empty(0, np.int64)
_EMPTY.flags.writeable = False
_NO_TABLES, _NO_ROWS = PackedIds((), _EMPTY, _EMPTY), PackedRows((), ())


def bounds(counts: Array) -> list[tuple[int, int]]:
    """Where parts of these lengths begin and end, one after another."""
    edges = [0, *np.cumsum(counts).tolist()]
    return list(itertools.pairwise(edges))


def pack_ids(wanted: Mapping[str, Array]) -> PackedIds:
    """Ids of several tables in one array."""
    if not wanted:
        return _NO_TABLES
    parts = list(wanted.values())
    counts = np.array([len(part) for part in parts], np.int64)
    if len(parts) == 1:
        ids = parts[0]
    else:
        ids = np.concatenate([np.empty(0, np.int64), *parts])
    return PackedIds(tuple(wanted), counts, ids)


def unpack_ids(packed: PackedIds) -> dict[str, Array]:
    """Ids by table; views.

    Raises:
        ParameterServerError: the lengths do not match the ids, or a name occurs twice.
    """
    names, counts, ids = packed
    _check_lengths(names, counts, len(ids))
    if ids.ndim != 1 or ids.dtype != np.int64:
        raise ParameterServerError(
            f"the message is not valid: row ids must be a 1-D array of int64, got {ids.dtype}"
            f"{list(ids.shape)}."
        )
    return {n: ids[a:b] for n, (a, b) in zip(names, bounds(counts), strict=True)}


def _check_lengths(names: Sequence[str], counts: Array, total: int) -> None:
    if len(set(names)) != len(names):
        raise ParameterServerError("the message is not valid: it names a table twice.")
    if len(counts) != len(names) or (len(counts) and counts.min() < 0) or counts.sum() != total:
        raise ParameterServerError(
            f"the message is not valid: {len(names)} tables have {counts.tolist()} ids, and "
            f"{total} were sent."
        )


def grouped(kinds: Iterable[tuple[Any, tuple[int, ...]]]) -> tuple[tuple[int, ...], list[Any]]:
    """(the group of each table, the kind of each group), from (element type, row shape) of each."""
    known: dict[Any, int] = {}
    groups = tuple(known.setdefault(kind, len(known)) for kind in kinds)
    return groups, list(known)


def places_in(groups: Sequence[int], counts: Array) -> list[tuple[int, int]]:
    """Where the rows of each table begin and end in the array of its group."""
    ends: dict[int, int] = {}
    found: list[tuple[int, int]] = []
    for group, count in zip(groups, counts.tolist(), strict=True):
        first = ends.get(group, 0)
        ends[group] = first + count
        found.append((first, first + count))
    return found


def pack_rows(parts: Sequence[Array]) -> PackedRows:
    """Rows of several tables, joined by group."""
    if not parts:
        return _NO_ROWS
    groups, kinds = grouped((part.dtype, part.shape[1:]) for part in parts)
    by_group: list[list[Array]] = [[] for _ in kinds]
    for group, part in zip(groups, parts, strict=True):
        by_group[group].append(part)
    return PackedRows(groups, tuple(p[0] if len(p) == 1 else np.concatenate(p) for p in by_group))


def unpack_rows(packed: PackedRows, counts: Array) -> list[Array]:
    """The rows of each table; views.

    Raises:
        ParameterServerError: the lengths do not match the rows.
    """
    groups, rows = packed
    if len(groups) != len(counts) or any(not 0 <= group < len(rows) for group in groups):
        raise ParameterServerError(
            f"the message is not valid: {len(counts)} tables are in the groups {groups} of "
            f"{len(rows)}."
        )
    places = places_in(groups, counts)
    ends = [0] * len(rows)
    for group, (_, end) in zip(groups, places, strict=True):
        ends[group] = end
    if ends != [len(array) for array in rows]:
        raise ParameterServerError(
            f"the message is not valid: groups of {ends} rows were announced, and "
            f"{[len(array) for array in rows]} were sent."
        )
    return [rows[group][a:b] for group, (a, b) in zip(groups, places, strict=True)]


def pack_updates(updates: Update) -> PackedUpdates:
    """An update of Parameters in few arrays."""
    tables = {name: update for name, update in updates.items() if "ids" in update}
    dense = {name: update["grad"] for name, update in updates.items() if "ids" not in update}
    ids = pack_ids({name: update["ids"] for name, update in tables.items()})
    return PackedUpdates(dense, ids, pack_rows([update["grad"] for update in tables.values()]))


def unpack_updates(packed: PackedUpdates) -> dict[str, dict[str, Array]]:
    """An update by the names of Parameters; views.

    Raises:
        ParameterServerError: it is something else, lengths do not match, or a name occurs twice.
    """
    if not isinstance(packed, PackedUpdates) or not isinstance(packed.dense, dict):
        raise ParameterServerError(
            f"the message is not valid: packed updates were expected, got {type(packed).__name__}."
        )
    found: dict[str, dict[str, Array]] = {
        name: {"grad": grad} for name, grad in packed.dense.items()
    }
    names, counts, rows_of_tables = packed.ids
    if not (names or packed.grads.groups or packed.grads.rows or len(counts) + len(rows_of_tables)):
        return found
    ids = unpack_ids(packed.ids)
    if found.keys() & ids.keys():
        raise ParameterServerError("the message is not valid: it names a Parameter twice.")
    grads = unpack_rows(packed.grads, packed.ids.counts)
    for (name, mine), grad in zip(ids.items(), grads, strict=True):
        found[name] = {"ids": mine, "grad": grad}
    return found


def split_by_server(packed: PackedIds, home: Array, servers: int) -> list[tuple[Array, Array]]:
    """(places of the ids, how many each table has) for each server.

    Args:
        packed: ids of several tables.
        home: the server of each id.
        servers: how many there are.
    """
    edges = np.concatenate([[0], np.cumsum(packed.counts)])
    found: list[tuple[Array, Array]] = []
    for server in range(servers):
        places = np.flatnonzero(home == server)
        found.append((places, np.diff(np.searchsorted(places, edges))))
    return found


def join_rows(
    packed: PackedIds, splits: Mapping[int, tuple[Array, Array]], parts: Mapping[int, PackedRows]
) -> list[Array]:
    """The rows of each table, from the answers of several servers.

    Args:
        packed: the ids that were requested.
        splits: as `split_by_server` returned them, by server.
        parts: the answers, by server.
    """
    groups = next(iter(parts.values())).groups
    shapes = next(iter(parts.values())).rows
    in_group = np.repeat(np.array(groups, np.int64), packed.counts)
    out: list[Array] = []
    for group, like in enumerate(shapes):
        mine = in_group == group
        rows = np.empty((int(mine.sum()), *like.shape[1:]), like.dtype)
        # From places among all ids to places in the array of the group.
        to = np.cumsum(mine) - 1
        for server, (places, _) in splits.items():
            rows[to[places[mine[places]]]] = parts[server].rows[group]
        out.append(rows)
    return unpack_rows(PackedRows(groups, tuple(out)), packed.counts)
