"""Which rows of a table exist, against plain dictionaries; the same for every replay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramesh.initializer import initializer
from paramesh.ps.server import row_life
from paramesh.ps.server.row_life import RowLife
from paramesh.ps.server.store import Store
from paramesh.ps.specification.id_range import NO_ID, UNBOUNDED
from paramesh.ps.specification.initial_values import initial_values_of
from paramesh.ps.specification.partition import Partition

#: Any id may be at an edge of Int64.
IDS = [NO_ID + 1, -(2**40), -1, 0, 1, 2, 3, 4, 2**40, 2**63 - 1]
UPDATES = st.lists(st.sets(st.sampled_from(IDS), max_size=6).map(sorted), min_size=1, max_size=12)
LIVES = [
    {"admit": 2},
    {"admit": 3, "expire": 2},
    {"expire": 3},
    {"max_rows": 4},
    {"max_rows": 2, "admit": 2},
    {"max_rows": 3, "admit_probability": 0.5, "expire": 4},
    {"admit": 2, "admit_probability": 0.5},
]
SGD = {"rule": "SGD", "momentum": False, "dampening": 0.0, "nesterov": False}


def spec(**life: Any) -> dict[str, Any]:
    recipe = initializer("normal", (UNBOUNDED, 2), "float32").recipe
    assert recipe is not None
    return {
        "name": "t",
        "kind": "rows",
        "row_shape": [2],
        "rows": UNBOUNDED,
        "dtype": "float32",
        "recipe": initial_values_of("t", recipe),
        "optimizer": SGD,
        **life,
    }


def store_of(**life: Any) -> Store:
    store = Store()
    store.declare(spec(**life))
    return store


def push(store: Store, step: int, ids: list[int]) -> None:
    grad = np.full((len(ids), 2), step + 1.0, np.float32)
    update = {"t": {"ids": np.array(ids, np.int64), "grad": grad}}
    store.apply(step, update, {"learning_rate": 1.0})


class Model:
    """One id at a time, in dictionaries."""

    def __init__(self, life: dict[str, Any]) -> None:
        self.life = life
        self.admit, self.most = life.get("admit", 1), life.get("max_rows", 0)
        self.expire = life.get("expire", 0)
        self.rows: dict[int, int] = {}
        self.candidates: dict[int, tuple[int, int]] = {}
        self.counts = dict.fromkeys(("admitted", "rejected", "expired", "evicted"), 0)
        self.chance = RowLife(spec(**life))

    def update(self, step: int, ids: list[int]) -> list[int]:
        """The rows that are updated."""
        probability = self.life.get("admit_probability", 1.0)
        for id_ in ids:
            if id_ in self.rows:
                continue
            count = self.candidates.pop(id_, (0, 0))[0] + 1
            drawn = probability == 1 or self.chance._drawn(step, np.array([id_]))[0]
            if count >= self.admit and drawn:
                self.counts["admitted"] += 1
                self.rows[id_] = step
            else:
                self.counts["rejected"] += 1
                self.candidates[id_] = (min(count, self.admit), step)
        updated = [id_ for id_ in ids if id_ in self.rows]
        self.rows |= dict.fromkeys(updated, step)
        over = 0 < self.most < len(self.rows)
        if over or (self.expire and (step + 1) % self.expire == 0):
            expired, evicted = self.gone(step, self.rows)
            self.counts["expired"] += len(expired)
            self.counts["evicted"] += len(evicted)
            for id_ in (*expired, *evicted):
                del self.rows[id_]
            met = {id_: last for id_, (_, last) in self.candidates.items()}
            for some in self.gone(step, met):
                for id_ in some:
                    del self.candidates[id_]
        return updated

    def gone(self, step: int, last: dict[int, int]) -> tuple[list[int], list[int]]:
        expired: list[int] = []
        if self.expire and (step + 1) % self.expire == 0:
            expired = [id_ for id_, met in last.items() if met <= step - self.expire]
        others = sorted((met, id_) for id_, met in last.items() if id_ not in expired)
        if not 0 < self.most < len(others):
            return expired, []
        kept = self.most - self.most // 16
        return expired, [id_ for _, id_ in others[: len(others) - kept]]


@given(UPDATES, st.sampled_from(LIVES))
def test_the_rows_are_those_of_a_model(updates: list[list[int]], life: dict[str, Any]) -> None:
    store, model = store_of(**life), Model(life)
    first = dict(zip(IDS, store.read("t", np.array(IDS)), strict=True))
    values = dict(first)
    for step, ids in enumerate(updates):
        push(store, step, ids)
        for id_ in model.update(step, ids):
            values[id_] = values[id_] - np.float32(step + 1)
        values = {id_: values[id_] if id_ in model.rows else first[id_] for id_ in IDS}
        assert store.rows("t").tolist() == sorted(model.rows)
        np.testing.assert_array_equal(
            store.read("t", np.array(IDS)), np.array([values[id_] for id_ in IDS])
        )
        report = store.life()["t"]
        assert {key: report[key] for key in model.counts} == model.counts
        assert report["candidates"] == len(model.candidates)


@given(UPDATES, st.sampled_from(LIVES), st.integers(0, 11))
def test_a_snapshot_and_the_rest_of_the_log_give_the_same(
    updates: list[list[int]], life: dict[str, Any], at: int
) -> None:
    store, twin = store_of(**life), Store()
    for step, ids in enumerate(updates):
        if step == min(at, len(updates) - 1):
            twin.load(store.view().pieces())
        push(store, step, ids)
        if twin.specs():
            push(twin, step, ids)
    assert {k: a.tobytes() for k, a in twin.dump()} == {k: a.tobytes() for k, a in store.dump()}
    assert twin.life() == store.life()


def test_the_latest_events_are_kept() -> None:
    store = store_of(max_rows=4)
    for step in range(3):
        push(store, step, [3 * step, 3 * step + 1, 3 * step + 2])
    report = store.life()["t"]
    assert report["last_admitted"] == [[at // 3, at] for at in range(9)]
    assert report["last_dropped"] == [[1, 0], [1, 1], [2, 2], [2, 3], [2, 4]]
    many = RowLife(spec(expire=5))
    many.meet(7, np.arange(500))
    assert many.report()["last_admitted"] == [[7, at] for at in range(400, 500)]
    assert row_life.LATEST == 100


def test_chance_admits_the_part_that_was_asked_for() -> None:
    life = RowLife(spec(admit_probability=0.25))
    drawn = [life._drawn(step, np.arange(20_000)) for step in (0, 1)]
    assert all(abs(one.mean() - 0.25) < 0.02 for one in drawn)
    # Independent from update to update, and of other tables.
    assert abs((drawn[0] & drawn[1]).mean() - 0.0625) < 0.01
    other = RowLife(spec(admit_probability=0.25) | {"name": "other"})
    assert abs((drawn[0] & other._drawn(0, np.arange(20_000))).mean() - 0.0625) < 0.01


def test_memory_of_ids_that_were_seen_once_is_given_back() -> None:
    life = RowLife(spec(admit=2, expire=1))
    undo: Any = None
    for step in range(5):
        ids = np.arange(10_000) + step * 10_000
        _, undo = life.meet(step, ids)
        life.leaving(step, ids[:0], ids[:0], undo)
    assert len(life._candidates._index) <= 20_000


@pytest.mark.parametrize("servers", [1, 3, 5])
def test_servers_share_the_capacity(servers: int) -> None:
    partition = Partition(servers)
    shares = [pieces[0]["max_rows"] for pieces in partition.split_spec(spec(max_rows=1000))]
    assert sum(shares) == 1000
    assert max(shares) - min(shares) <= 5
    assert all(pieces[0]["max_rows"] == 1 for pieces in partition.split_spec(spec(max_rows=1)))


def test_initial_values_are_a_function_of_the_id() -> None:
    store = store_of()
    ids = np.array(IDS)
    rows = store.read("t", ids)
    alone = np.concatenate([store.read("t", ids[at : at + 1]) for at in range(len(ids))])
    assert rows.tobytes() == alone.tobytes()
    # No two numbers are the same, also where `id * width` would be modulo 2**64.
    assert len(np.unique(rows)) == rows.size
    pairs = store.read("t", np.array([1, 1 + 2**62, 1 - 2**63, 1 - 2**62]))
    assert len(np.unique(pairs)) == pairs.size
    # Those of a created row are the same.
    push(store, 0, [-1])
    assert (store.read("t", np.array([-1]))[0] == rows[IDS.index(-1)] - np.float32(1)).all()
    with pytest.raises(ValueError, match=f"every integer of 64 bits but {NO_ID}; row {NO_ID} is"):
        store.read("t", np.array([NO_ID]))
