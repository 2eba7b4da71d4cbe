"""Saves of one server: what is done around the writing of its part."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from paramesh.checkpoint.sharded.increments import open_sharded
from paramesh.checkpoint.sharded.ticket import Order, Ticket
from paramesh.ps.durability.log import segments
from paramesh.ps.durability.snapshot import snapshots
from paramesh.ps.resizing.sources import Source, check_saves
from paramesh.ps.server import saves as module
from paramesh.ps.server.saves import LOST, Saves
from paramesh.ps.specification.checkpoints import SaveOrder
from paramesh.ps.specification.protocol import RunConfig
from saved_stores import commit, orders_of
from server_runs import Run

SYNC = RunConfig(workers=2, snapshot_every=3)
#: A server of it has to know more versions than there are between two of its snapshots.
STALE = RunConfig(workers=2, mode="stale", staleness=2, snapshot_every=4)


def asked(run: Run, version: int, folder: Path) -> tuple[Ticket, SaveOrder]:
    """A server is asked for a checkpoint, and begins it."""
    folder.mkdir()
    ticket = Ticket(folder, "00000001", Order(version, 1, 0))
    ticket.take()
    (order,) = orders_of([run.server.store], folder, ticket, version)
    run.server.save(0, run.incarnations[0], order)
    return ticket, order


def damage(path: Path) -> None:
    """A bit of the text of the first record is another one."""
    content = bytearray(path.read_bytes())
    content[70] ^= 1
    path.write_bytes(content)


def test_damage_from_before_a_snapshot_does_not_hide_what_is_being_saved(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC)
    run.finish(7)
    ticket, order = asked(run, 7, tmp_path / "x.sharded")
    newest, _ = snapshots(run.folder)
    assert newest.version == 6
    first, *_, last = segments(run.folder)
    assert first[0] < newest.number == last[0]
    damage(first[2])
    order.part.unlink()
    run.restart()
    assert run.server.saves.unfinished
    assert run.server.saved(order.identity) == ""
    commit(ticket, [order])
    with open_sharded(order.part.parent) as source:
        assert source.read("w").tobytes() == run.server.store.read("w").tobytes()


def test_a_version_that_a_damaged_log_does_not_give_any_more_is_not_being_saved(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path / "s", STALE)
    run.finish(13)
    newest = snapshots(run.folder)[0]
    assert newest.version == 12
    ticket, order = asked(run, 11, tmp_path / "x.sharded")
    ticket.give_up()
    *earlier, last = segments(run.folder)
    assert last[0] == newest.number
    for _, _, path in earlier:
        damage(path)
    run.restart()
    assert run.server.saves.unfinished
    assert "a checkpoint has version 11" in str(run.server.saved(order.identity))
    assert not run.server.saves.unfinished
    # The log says so, too: the run can be moved.
    check_saves([Source(run.folder, run.config)])


def test_an_order_that_is_lost_with_the_end_of_a_log_is_given_up(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", SYNC)
    run.finish(4)
    path = segments(run.folder)[-1][2]
    before = path.stat().st_size
    _, order = asked(run, 4, tmp_path / "x.sharded")
    with path.open("r+b") as file:  # as a power failure takes it
        file.truncate(before)
    run.restart()
    assert not run.server.saves.knows(order.identity)
    for _ in range(2):
        assert run.server.saved(order.identity) == LOST
        # The message may come twice, and late.
        run.server.save(0, run.incarnations[0], order)
        assert not run.server.saves.unfinished
        run.restart()
    check_saves([Source(run.folder, run.config)])


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("beside", [True, False])
def test_freed_memory_is_given_back_before_and_after_a_part_is_written_beside_the_steps(
    beside: bool, fails: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []

    def write(*_: Any) -> None:
        said.append("written")
        if fails:
            raise OSError("the disk is full")

    monkeypatch.setattr(module, "write_part", write)
    monkeypatch.setattr(module.freed_memory, "give_back", lambda: said.append("given back"))
    saves = Saves(lambda name: None, in_background=beside)
    saves.write()
    order: Any = SimpleNamespace(identity="one")
    view: Any = SimpleNamespace(release=lambda: said.append("released"), tables=[])
    saves.begin(order, 3, {}, lambda: view)
    saves.wait()
    saves.close()
    assert saves.done() == [("one", "the disk is full" if fails else "")]
    around = ["given back"] if beside else []
    assert said == [*around, "written", "released", *around]
