"""A move of servers that still have their run, without processes: who dies where."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.durability import identity, moves, run_lock
from paramesh.ps.durability.log import Fenced
from paramesh.ps.durability.moves import Move, MoveEnded
from paramesh.ps.durability.run_lock import RunTaken, mover_lock
from paramesh.ps.resizing import live
from paramesh.ps.resizing.live import move_live, resize_live
from paramesh.ps.resizing.sources import PushesUnfinished
from paramesh.ps.specification.partition import Partition
from server_folders import RunOfServers

POINTS = ("begun", "fenced", "copied", "snapshots", "log", "built", "committed", "moved", "removed")


class Death(BaseException):
    """The mover is dead."""


@contextlib.contextmanager
def silent(move: Move) -> Generator[None]:
    yield


@pytest.mark.parametrize("where", POINTS)
def test_a_death_leaves_the_former_run_or_the_new_one(where: str, tmp_path: Path) -> None:
    run = RunOfServers(tmp_path / "run")
    for _ in range(3):
        run.push()

    def point(name: str) -> None:
        if name == where:
            raise Death

    with pytest.raises(Death):
        resize_live(run.folder, 3, point=point, beating=silent)
    moved = POINTS.index(where) >= POINTS.index("committed")
    assert identity.read(run.folder).server_num == (3 if moved else 2)
    identity.check(run.folder, identity.read(run.folder))
    run.close()
    done = resize_live(run.folder, 3)
    assert (done.before, done.after, done.version) == (3 if moved else 2, 3, 3)
    assert not moves.open_move(run.folder)


def test_a_fenced_server_answers_no_push(tmp_path: Path) -> None:
    run = RunOfServers(tmp_path / "run")
    run.push()
    resize_live(run.folder, 1)
    with pytest.raises(ParameterServerError) as found:
        run.push()
    assert isinstance(found.value, Fenced) or "was removed" in str(found.value)
    assert resize_live(run.folder, 1).version == 1
    run.close()


def test_a_mover_that_another_one_has_overtaken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was frozen after it had read which servers there are, and before it began."""
    run = RunOfServers(tmp_path / "run")
    run.push()
    before, check = [3], live.check_saves

    def overtaken(sources: Any) -> None:
        check(sources)
        if before:
            move_live(run.folder, Partition(before.pop()), lambda name: None, silent)

    monkeypatch.setattr(live, "check_saves", overtaken)
    done = move_live(run.folder, Partition(1), lambda name: None, silent)
    assert (done.before, done.after, done.version) == (3, 1, 1)
    assert identity.generation(run.folder) == 3  # the second one was given up
    run.close()


def test_a_mover_whose_move_was_ended_says_so(tmp_path: Path) -> None:
    """It was frozen while it copied, and its servers have gone on: their files are others."""
    run = RunOfServers(tmp_path / "run")
    run.push()

    def frozen(name: str) -> None:
        if name == "fenced":
            moves.abandon(run.folder, 1, "it was frozen")
            min(identity.server_folder(run.folder, 0).glob("log-*")).write_bytes(b"gone on")

    with pytest.raises(MoveEnded, match=r"was ended by its servers.*goes on as before"):
        move_live(run.folder, Partition(3), frozen, silent)
    run.close()


def test_a_push_that_only_some_servers_have_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunOfServers(tmp_path / "run")
    run.push()
    tries, built = [PushesUnfinished("worker 0"), PushesUnfinished("worker 0")], live.build

    def build(*arguments: Any, **more: Any) -> Any:
        if tries:
            raise tries.pop()
        return built(*arguments, **more)

    pauses: list[float] = []
    monkeypatch.setattr(live, "build", build)
    # Its own time: threads of other tests may still wait.
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=pauses.append)
    monkeypatch.setattr(live, "time", clock)
    assert resize_live(run.folder, 3).version == 1
    assert pauses == [0.5, 1.0]  # longer and longer: each look stops the servers
    run.close()


def test_of_two_moves_one_begins(tmp_path: Path) -> None:
    first, late, higher = Move(tmp_path, 2, 1), Move(tmp_path, 1, 2), Move(tmp_path, 3, 3)
    assert first.begin()
    assert not higher.begin()
    assert not late.begin()
    assert moves.open_move(tmp_path) == 2
    first.finish({"folder": "resized-2"})
    for other in (1, 3):
        end = moves.end_of(tmp_path, other)
        assert end is not None
        assert (end["run"], end["why"]) == (None, "another move came first")
    first.close()


def test_a_move_that_a_power_cut_has_brought_back_is_ended(tmp_path: Path) -> None:
    before = Move(tmp_path, 1, 1)
    assert before.begin()
    before.close()
    assert moves.abandon(tmp_path, 1, "dead")
    left = (tmp_path / "move-1.json").read_bytes()
    after = Move(tmp_path, 2, 1)
    assert after.begin()
    after.finish({"folder": "resized-2"})
    after.close()
    moves.clear(tmp_path)
    (tmp_path / "move-1.json").write_bytes(left)
    now = [0.0]
    watch = moves.MoveWatch(tmp_path, lambda: now[0])
    assert watch.look() == moves.open_move(tmp_path) == 1
    now[0] += moves.LEASE
    assert watch.look() == 0
    assert moves.open_move(tmp_path) == 0
    third = Move(tmp_path, 3, 1)
    assert third.begin()
    third.close()


def test_who_else_moves_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_PARTING", 0.0)
    run = RunOfServers(tmp_path / "run")
    run.push()
    lock = mover_lock(run.folder)
    lock.take()
    with pytest.raises(RunTaken, match="is being changed: process"):
        resize_live(run.folder, 3)
    lock.release()
    with pytest.raises(ParameterServerError, match="is not the wal_dir"):
        resize_live(tmp_path, 3)
    run.close()


@pytest.mark.parametrize("before", [1, 2, 3])
@pytest.mark.parametrize("after", [1, 2])
def test_an_update_in_parts_is_joined_again(before: int, after: int) -> None:
    rng = np.random.default_rng(before)
    update: dict[str, dict[str, Any]] = {
        "w[x]": {"grad": rng.normal(size=(3, 1 << 15)).astype(np.float32)},
        "t": {
            "ids": np.unique(rng.integers(0, 999, 50)),
            "grad": rng.normal(size=(50, 2)).astype(np.float32),
        },
    }
    update["t"]["grad"] = update["t"]["grad"][: len(update["t"]["ids"])]
    joined = Partition(before).join_updates(Partition(before).split_updates(update))
    again = Partition(after).split_updates(joined)
    for found, expected in zip(again, Partition(after).split_updates(update), strict=True):
        assert found.keys() == expected.keys()
        for name in found:
            for field in found[name]:
                np.testing.assert_array_equal(found[name][field], expected[name][field])
