"""Views of a store at one version, while updates go on."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from paramesh.errors import ParameterStateError
from paramesh.ps.durability.snapshot_view import Room
from paramesh.ps.server.store import Store, Undo
from small_stores import LIFE, apply, contents, make_store


@pytest.mark.parametrize("back", [0, 1, 2, 3])
@pytest.mark.parametrize("life", [{}, LIFE, {"expire": 1}], ids=["plain", "all", "expire"])
def test_a_version_that_can_be_read_back(back: int, life: dict[str, Any]) -> None:
    store = make_store(**life)
    undos: list[Undo] = []
    seen = [contents(store)]
    for step in range(8):
        undos.append(apply(store, step))
        seen.append(contents(store))
    view = store.view(undos[len(undos) - back :] if back else ())
    pieces = iter(view.pieces())
    found = [next(pieces), next(pieces)]
    spare: Undo | None = None
    for step in range(8, 14):
        spare = apply(store, step, spare)
        found += [piece for piece in [next(pieces, None)] if piece is not None]
    twin = Store()
    twin.load([*found, *pieces])
    assert contents(twin) == seen[8 - back]
    view.release()


def test_ids_are_those_of_the_version_before_and_while_updates_go_on() -> None:
    store = make_store(**LIFE)
    for step in range(4):
        apply(store, step)
    expected = {name: store.rows(name).tolist() for name in ("plain", "living")}
    view = store.view()
    for step in range(4, 9):
        apply(store, step)
    for table in view.tables:
        blocks = list(table.ids())
        assert sorted(i for ids, _ in blocks for i in ids) == expected[table.spec["name"]]
        assert all((last < 4).all() for _, last in blocks)
    twin = Store()
    twin.load(view.pieces())
    assert {name: twin.rows(name).tolist() for name in expected} == expected


def test_an_update_waits_for_the_reader_when_there_is_no_room() -> None:
    store = make_store()
    apply(store, 0, count=900)
    before = contents(store)
    view = store.view()
    apply(store, 1)
    view.room.limit = 100
    made = threading.Event()

    def more() -> None:
        apply(store, 2)
        made.set()

    thread = threading.Thread(target=more)
    thread.start()
    assert not made.wait(0.05)
    twin = Store()
    twin.load(view.pieces())
    thread.join(10)
    assert made.is_set()
    assert contents(twin) == before
    assert view.room._taken == 0


def test_a_version_that_nobody_reads_is_given_up_when_there_is_no_room() -> None:
    store = make_store()
    apply(store, 0, count=900)
    view = store.view()
    view.room.limit, view.room.patience = 100, 0.0
    apply(store, 1)
    with pytest.raises(ParameterStateError, match="changed by updates faster than it could be"):
        list(view.pieces())
    view.release()
    assert view.room._taken == 0


def test_saved_rows_of_all_tables_are_read_when_it_is_crowded() -> None:
    store = make_store()
    apply(store, 0, count=900)
    before = contents(store)
    view = store.view()
    view.room.limit = 4  # crowded at once
    view.room.wait = lambda: True  # type: ignore[method-assign]
    found: list[Any] = []
    pieces = view.pieces()
    for step in range(1, 5):
        apply(store, step, count=200)
        found.append(next(pieces))
        found.append(next(pieces))
    found += pieces
    twin = Store()
    twin.load(found)
    assert contents(twin) == before
    ids = [i for said, fields in found if said.get("name") == "plain" for i in fields["ids"]]
    assert len(ids) == len(np.unique(ids))


def test_room() -> None:
    room = Room(limit=8, patience=0.0)
    room.take(8)
    assert room.wait()
    assert room.crowded
    room.take(1)
    assert not room.wait()
    room.give_back(9)
    assert room.wait()
    assert not room.crowded
