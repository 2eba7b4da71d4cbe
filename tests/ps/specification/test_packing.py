"""Rows and gradients of many tables in few arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramesh.errors import ParameterServerError
from paramesh.ps.specification.packing import (
    PackedIds,
    PackedRows,
    join_rows,
    pack_ids,
    pack_rows,
    pack_updates,
    split_by_server,
    unpack_ids,
    unpack_rows,
    unpack_updates,
)
from paramesh.ps.specification.partition import Partition

KINDS = [("float32", (3,)), ("float32", (2, 2)), ("float16", (3,)), ("float32", (3,))]


def rows_of(kind: tuple[str, tuple[int, ...]], ids: Any, table: int) -> Any:
    """Rows that tell which they are."""
    dtype, shape = kind
    rows = np.broadcast_to((ids + 100 * table).reshape(-1, *[1] * len(shape)), (len(ids), *shape))
    return rows.astype(dtype)


tables = st.lists(
    st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 60), max_size=9, unique=True)),
    max_size=6,
)


@given(tables, st.integers(1, 4))
def test_rows_come_back_to_their_tables(given: Any, servers: int) -> None:
    wanted = {f"t{i}": np.array(sorted(ids), np.int64) for i, (_, ids) in enumerate(given)}
    packed = pack_ids(wanted)
    home = Partition(servers).servers_of_rows(packed.ids)
    splits = dict(enumerate(split_by_server(packed, home, servers)))
    answers: dict[int, PackedRows] = {}
    for server, (places, counts) in splits.items():
        asked = unpack_ids(PackedIds(packed.names, counts, packed.ids[places]))
        assert all(
            (Partition(servers).servers_of_rows(ids) == server).all() for ids in asked.values()
        )
        answers[server] = pack_rows(
            [rows_of(given[i][0], ids, i) for i, ids in enumerate(asked.values())]
        )
    found = join_rows(packed, splits, answers)
    assert len(found) == len(given)
    for i, (ids, rows) in enumerate(zip(wanted.values(), found, strict=True)):
        expected = rows_of(given[i][0], ids, i)
        assert rows.dtype == expected.dtype
        np.testing.assert_array_equal(rows, expected)


@given(tables)
def test_an_update_comes_back(given: Any) -> None:
    updates: dict[str, Any] = {"w": {"grad": np.ones(3, np.float32)}}
    for i, (kind, ids) in enumerate(given):
        mine = np.array(sorted(ids), np.int64)
        updates[f"t{i}"] = {"ids": mine, "grad": rows_of(kind, mine, i)}
    packed = pack_updates(updates)
    assert len(packed.grads.rows) <= 3  # one array for each kind of rows
    found = unpack_updates(packed)
    assert found.keys() == updates.keys()
    for name, update in updates.items():
        assert found[name].keys() == update.keys()
        for field, array in update.items():
            assert found[name][field].dtype == array.dtype
            np.testing.assert_array_equal(found[name][field], array)


IDS = np.arange(3)
ROWS = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (PackedIds(("a", "a"), np.array([1, 2]), IDS), "names a table twice"),
        (PackedIds(("a",), np.array([2]), IDS), r"1 tables have \[2\] ids, and 3 were sent"),
        (PackedIds(("a", "b"), np.array([4, -1]), IDS), r"\[4, -1\] ids"),
        (PackedIds(("a", "b"), np.array([3]), IDS), r"2 tables have \[3\] ids"),
        (PackedIds(("a",), np.array([3]), IDS.astype(np.int32)), "1-D array of int64, got int32"),
    ],
)
def test_ids_that_are_not_valid(packed: PackedIds, message: str) -> None:
    with pytest.raises(ParameterServerError, match="the message is not valid: .*" + message):
        unpack_ids(packed)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (PackedRows((0,), (ROWS[:2],)), r"\[3\] rows were announced, and \[2\] were sent"),
        (PackedRows((1,), (ROWS,)), r"are in the groups \(1,\) of 1"),
        (PackedRows((), (ROWS,)), r"1 tables are in the groups \(\)"),
        (PackedRows((0,), (ROWS, ROWS)), r"\[3, 0\] rows were announced"),
    ],
)
def test_rows_that_are_not_valid(packed: PackedRows, message: str) -> None:
    with pytest.raises(ParameterServerError, match="the message is not valid: .*" + message):
        unpack_rows(packed, np.array([3]))


def test_a_parameter_is_named_once() -> None:
    packed = pack_updates({"a": {"ids": IDS, "grad": ROWS}})
    with pytest.raises(ParameterServerError, match="names a Parameter twice"):
        unpack_updates(packed._replace(dense={"a": ROWS}))


@pytest.mark.parametrize("wrong", [{"a": {"grad": ROWS}}, pack_updates({})._replace(dense=None)])
def test_something_else_than_an_update(wrong: Any) -> None:
    with pytest.raises(ParameterServerError, match="packed updates were expected, got "):
        unpack_updates(wrong)
