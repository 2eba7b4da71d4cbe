"""A move of servers that still have their run, without processes: who dies where."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.durability import identity, moves, run_lock
from paramesh.ps.durability.log import Fenced
from paramesh.ps.durability.moves import Move
from paramesh.ps.durability.run_lock import RunTaken, mover_lock
from paramesh.ps.resizing.live import resize_live
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
