"""Saves into one folder at the same time: the newest one stays, and is complete."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from paramesh.checkpoint.sharded import ticket as tickets
from paramesh.checkpoint.sharded.index import part_name
from paramesh.checkpoint.sharded.source import INDEX
from paramesh.checkpoint.sharded.ticket import SAVE, Order, Ticket, order_of, read_index


class Save:
    """A save, in the steps that others may come in between."""

    def __init__(self, folder: Path, number: int, order: Order) -> None:
        self.folder, self.order = folder, order
        self.ticket = Ticket(folder, f"{number:08x}", order)
        self.parts = [part_name(self.ticket.token, i) for i in range(2)]
        content = {"files": self.parts, "metadata": {SAVE: order.text()}}
        self.index = json.dumps(content).encode()

    def begin(self) -> None:
        self.ticket.take()

    def write(self) -> None:
        for name in self.parts:
            (self.folder / name).touch()

    def commit(self) -> bool:
        return self.ticket.commit(self.index)


def check_complete(folder: Path) -> Order:
    index = json.loads((folder / INDEX).read_text())
    for name in index["files"]:
        assert (folder / name).exists(), f"{name} is missing"
    order = order_of(read_index(folder))
    assert order is not None
    return order


def test_a_save_replaces_the_one_before_it(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    saves = [Save(tmp_path, number, Order(number, 1, 0)) for number in range(3)]
    for number, save in enumerate(saves):
        for step in (save.begin, save.write, save.commit):
            step()
            assert number == 0 or check_complete(tmp_path).version >= number - 1
    there = {path.name for path in tmp_path.iterdir()}
    assert there == {INDEX, "mine.txt", *saves[-1].parts}
    assert order_of(read_index(tmp_path)) == (2, 1, 0)


@pytest.mark.parametrize("before", [False, True])
def test_in_any_order_of_their_steps_the_newer_one_stays(before: bool, tmp_path: Path) -> None:
    for at, places in enumerate(itertools.combinations(range(6), 3)):
        folder = tmp_path / str(at)
        folder.mkdir()
        if before:
            first = Save(folder, 9, Order(0, 1, 0))
            first.begin()
            first.write()
            first.commit()
        old, new = Save(folder, 1, Order(3, 1, 0)), Save(folder, 2, Order(3, 2, 0))
        left: dict[int, list[Any]] = {id(s): [s.begin, s.write, s.commit] for s in (old, new)}
        failed = 0
        for turn in range(6):
            save = old if turn in places else new
            if left[id(save)].pop(0)() is False:
                assert save is old
                failed += 1
            if before:
                check_complete(folder)
        # An old one that begins after the new one has ended is the only one that may stay.
        late = places == (3, 4, 5)
        assert check_complete(folder) == (old.order if late else new.order)
        assert failed <= 1


class _Elsewhere:
    """`os`, with something that happens before its n-th call."""

    def __init__(self, at: int, what: Any) -> None:
        self._at, self._what, self.calls = at, what, 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if not callable(real) or name == "O_EXCL":
            return real

        def call(*more: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls == self._at:
                self._what()
            return real(*more, **named)

        return call


@pytest.mark.parametrize("frozen", ["old", "new"])
def test_the_other_one_commits_in_the_middle_of_a_commit(frozen: str, tmp_path: Path) -> None:
    """At each call of the system in the commit of one, all of the other's happens."""
    for at in range(1, 60):
        folder = tmp_path / str(at)
        folder.mkdir()
        old, new = Save(folder, 1, Order(3, 1, 0)), Save(folder, 2, Order(4, 2, 0))
        outer, inner = (old, new) if frozen == "old" else (new, old)
        outer.begin()
        outer.write()
        inner.begin()
        inner.write()
        failed: list[Save] = []

        def other(inner: Save = inner, failed: list[Save] = failed) -> None:
            if not inner.commit():
                failed.append(inner)

        there = _Elsewhere(at, other)
        with mock.patch.object(tickets, "os", there):
            if not outer.commit():
                failed.append(outer)
        if there.calls < at:
            other()
        assert failed in ([], [old])
        assert check_complete(folder) == new.order
        if there.calls < at:
            return
    raise AssertionError("a commit does not end")


def test_a_newer_one_and_then_a_late_one_commit_in_the_middle_of_a_commit(tmp_path: Path) -> None:
    """Whoever is woken up by an older index must not name parts that the newer one has removed."""
    for at in range(1, 60):
        folder = tmp_path / str(at)
        folder.mkdir()
        middle, newer = Save(folder, 1, Order(3, 1, 0)), Save(folder, 2, Order(4, 2, 0))
        late = Save(folder, 3, Order(2, 2, 1))
        for save in (middle, newer):
            save.begin()
            save.write()

        def others(newer: Save = newer, late: Save = late) -> None:
            assert newer.commit()
            late.begin()
            late.write()
            assert late.commit()

        there = _Elsewhere(at, others)
        with mock.patch.object(tickets, "os", there):
            middle.commit()
        if there.calls < at:
            others()
        assert check_complete(folder) == late.order
        assert {path.name for path in folder.iterdir()} == {INDEX, *late.parts}
        if there.calls < at:
            return
    raise AssertionError("a commit does not end")


@pytest.mark.parametrize("at", ["claim", "ticket"])
def test_a_newer_one_commits_while_a_ticket_is_taken(at: str, tmp_path: Path) -> None:
    """What it has not seen as a ticket is no ticket when it has removed the claim."""
    old, new = Save(tmp_path, 1, Order(3, 1, 0)), Save(tmp_path, 2, Order(4, 2, 0))
    new.begin()
    new.write()
    real = old.ticket._made

    def made(name: str) -> int:
        file = real(name)
        if name.endswith("-claim") == (at == "claim"):
            assert new.commit()
        return file

    with mock.patch.object(old.ticket, "_made", made):
        old.begin()
    old.write()
    assert old.ticket.overtaken
    assert not old.commit()
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, *new.parts}


def test_a_newer_one_commits_while_one_commits_again(tmp_path: Path) -> None:
    """A ticket that was made after it has looked, and before it removes the claim, is removed."""
    middle, newer = Save(tmp_path, 1, Order(3, 1, 0)), Save(tmp_path, 2, Order(4, 2, 0))
    late = Save(tmp_path, 3, Order(2, 2, 1))
    middle.begin()
    middle.write()
    assert middle.ticket._put(middle.index)
    for step in (late.begin, late.write, late.commit, newer.begin, newer.write):
        step()
    assert check_complete(tmp_path) == late.order
    look, made = newer.ticket._names, []

    def names() -> list[str]:
        found = look()
        if not made:
            made.append(middle.ticket._make_ticket())
        return found

    with mock.patch.object(newer.ticket, "_names", names):
        assert newer.commit()
    assert made == [True]
    assert not middle.ticket._put(middle.index)
    assert check_complete(tmp_path) == newer.order


def test_an_older_save_learns_of_it_and_leaves_nothing(tmp_path: Path) -> None:
    old, new = Save(tmp_path, 1, Order(3, 1, 0)), Save(tmp_path, 2, Order(3, 2, 0))
    for step in (old.begin, new.begin, old.write, new.write):
        step()
    assert not old.ticket.overtaken
    assert new.commit()
    assert old.ticket.overtaken
    old.write()  # a server is late
    assert not old.commit()
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, *new.parts}


def test_tickets_of_the_dead_do_not_count(tmp_path: Path) -> None:
    dead = Save(tmp_path, 1, Order(900, 1, 0))
    dead.begin()
    dead.write()
    dead.ticket._close()  # as the kernel does
    save = Save(tmp_path, 2, Order(3, 1, 0))
    save.begin()
    save.write()
    save.commit()
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, *save.parts}


def test_what_was_given_up_leaves_nothing(tmp_path: Path) -> None:
    first, second = Save(tmp_path, 1, Order(1, 1, 0)), Save(tmp_path, 2, Order(2, 1, 0))
    for save in (first, second):
        save.begin()
        save.write()
    first.commit()
    second.ticket.give_up()
    assert {path.name for path in tmp_path.iterdir()} == {INDEX, *first.parts}
    assert check_complete(tmp_path) == first.order
