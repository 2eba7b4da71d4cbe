"""Another number of workers: what the first server decides, and what it keeps of that."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.server.server import Server
from paramesh.ps.specification.protocol import RunConfig
from paramesh.ps.specification.worker_sets import AHEAD, Change, WorkerSets

SGD = {"rule": "SGD", "momentum": False, "dampening": 0.0, "nesterov": False}
SPEC = {"name": "w", "kind": "dense", "shape": [2], "dtype": "float32", "recipe": None}


class Run:
    """One server of an elastic run, and its workers."""

    def __init__(self, folder: Path, config: RunConfig, *, leads: bool = True) -> None:
        self.folder, self.config, self.leads = folder, config, leads
        self.start()
        self.server.declare([SPEC | {"optimizer": SGD}], {"w": np.zeros(2, np.float32)})
        for worker in range(config.workers):
            self.server.hello(worker, 1)

    def start(self) -> None:
        self.server = Server(self.folder, self.config, elastic=True, leads=self.leads)

    def step(self, number: int, of: int | None = None, *, divides: bool = True) -> None:
        workers = of or self.server.changes.sets.at(number)
        for worker in range(workers):
            self.push(worker, number, workers, divides=divides)

    def push(
        self, worker: int, number: int, of: int | None = None, *, divides: bool = True
    ) -> None:
        of = of or self.server.changes.sets.at(number)
        update = {"w": {"grad": np.full(2, worker + 1.0, np.float32)}}
        self.server.push(worker, 1, number, update, {"learning_rate": 1.0}, of, divides)

    @property
    def weight(self) -> float:
        return float(self.server.dump("w")["value"][0])


def test_the_border_is_known_to_all_before_they_are_there(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", RunConfig(workers=2))
    change = Change(1, 3)
    assert run.server.change_workers(change) is None  # nobody has pushed
    run.step(0)
    assert run.server.change_workers(change) is None  # worker 2 is not here
    run.server.hello(2, 1)
    verdict = run.server.change_workers(change)
    assert verdict is not None
    assert (verdict.workers, verdict.border) == (3, 1 + AHEAD)
    assert run.server.change_workers(change) == verdict
    for number in range(1, 3):
        run.step(number)
    with pytest.raises(ParameterServerError, match=r"step 3 as one of 2 workers, and .* has 3"):
        run.server.push(0, 1, 3, {}, {}, 2)
    for number in range(3, 5):
        run.step(number)
    assert run.weight == -(3 * 3 + 2 * 6)  # three steps of 1 + 2, two of 1 + 2 + 3


def test_a_successor_knows_it_from_log_and_snapshot(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", RunConfig(workers=2))
    run.step(0)
    verdict = run.server.change_workers(Change(4, 1))
    for snapshot in (False, True):
        if snapshot:
            run.server.snapshot()
        run.server.close()
        run.start()
        assert run.server.changes.sets.others == ((3, 1),)
        assert run.server.change_workers(Change(4, 1)) == verdict
    for number in range(1, 4):
        run.step(number)
    assert run.server.hello(0, 1)["sets"] == ((3, 1),)
    assert run.weight == -(3 * 3 + 1)


def test_another_server_learns_it_from_the_pushes(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", RunConfig(workers=2), leads=False)
    run.step(0)
    run.server.hello(2, 1)
    run.step(1, of=3)
    run.server.close()
    run.start()
    assert run.server.changes.sets.others == ((1, 3),)
    assert run.weight == -(3 + 6)


@pytest.mark.parametrize(
    ("mode", "change", "divides", "why"),
    [
        ("sync", Change(1, 2), True, "has 2 workers already"),
        ("sync", Change(1, 3, stopped=True), True, "withdrawn"),
        ("sync", Change(1, 3), False, r"worker 0 does not divide .* paramesh.train.divided"),
        ("async", Change(1, 3), False, r"worker 0 does not divide"),
    ],
)
def test_what_is_refused(
    mode: str, change: Change, divides: bool, why: str, tmp_path: Path
) -> None:
    run = Run(tmp_path / "s", RunConfig(workers=2, mode=mode))
    run.step(0, divides=divides)
    verdict = run.server.change_workers(change)
    assert verdict is not None
    assert verdict.workers is None
    assert re.search(why, verdict.why)
    run.step(1)


def test_a_second_one_waits_until_all_know_of_the_first(tmp_path: Path) -> None:
    config = RunConfig(workers=2, mode="stale", staleness=1)
    run = Run(tmp_path / "s", config)
    run.step(0)
    first = run.server.change_workers(Change(1, 1))
    assert first is not None
    for number in range(1, first.border + config.behind):
        assert run.server.change_workers(Change(2, 2)) is None
        run.step(number)
    second = run.server.change_workers(Change(2, 2))
    assert second is not None
    assert second.border > first.border + config.behind


ASYNC = RunConfig(workers=2, mode="async")


def in_async(folder: Path, **more: bool) -> Run:
    """Worker 0 has made seven steps, and worker 1 two."""
    run = Run(folder, ASYNC, **more)
    for worker, steps in enumerate((7, 2)):
        for number in range(steps):
            run.push(worker, number)
    return run


def test_in_async_mode_the_border_is_counted_from_the_worker_ahead(tmp_path: Path) -> None:
    run = in_async(tmp_path / "s")
    run.server.hello(2, 1)
    verdict = run.server.change_workers(Change(1, 3))
    assert verdict is not None
    assert (verdict.workers, verdict.border) == (3, 7 + AHEAD)
    # The one that joins begins at once, the slow one makes its steps with the former number.
    place = run.server.changes.place_of(2, run.server.version, run.server.workers)
    assert not place.waits
    assert not place.why
    with pytest.raises(ParameterServerError, match="worker 2 sent push 10, but 9 is expected"):
        run.push(2, 10)
    run.push(2, 9)
    assert run.server.sets_to_tell() == ((9, 3),)
    with pytest.raises(ParameterServerError, match="step 2 as one of 3 workers, and .* has 2"):
        run.push(1, 2, 3)
    for number in range(2, 9):
        run.push(1, number)
    with pytest.raises(ParameterServerError, match="step 9 as one of 2 workers, and .* has 3"):
        run.push(1, 9, 2)
    run.push(1, 9)
    assert run.weight == -(7 + 10 * 2 + 3)
    assert run.server.workers.next_push == {0: 7, 1: 10, 2: 10}
    # Log, and snapshot, have what is expected of whom.
    for snapshot in (False, True):
        if snapshot:
            run.server.snapshot()
        run.server.close()
        run.start()
        assert run.server.workers.next_push == {0: 7, 1: 10, 2: 10}
        assert run.server.changes.sets.others == ((9, 3),)
        run.push(2, 9)  # once more: nothing
    assert run.weight == -(7 + 10 * 2 + 3)


def test_in_async_mode_the_last_ones_leave_after_their_steps(tmp_path: Path) -> None:
    run = in_async(tmp_path / "s")
    server = run.server
    assert server.change_workers(Change(1, 1)) is not None
    assert server.changes.sets.last == (9, 1)
    for number in range(7, 11):
        run.push(0, number)
    # Not before the one that leaves has made its steps, or who joins would be in their middle.
    server.hello(1, 1)
    assert server.change_workers(Change(2, 2)) is None
    for number in range(2, 9):
        assert not server.changes.place_of(1, server.version, server.workers).waits
        run.push(1, number)
    with pytest.raises(ParameterServerError, match="as one of 1 workers"):
        run.push(1, 9)
    verdict = server.change_workers(Change(2, 2))
    assert verdict is not None
    assert (verdict.workers, verdict.border) == (2, 13)
    run.push(1, 13)


def test_in_async_mode_another_server_learns_it_from_whoever_comes_first(tmp_path: Path) -> None:
    run = in_async(tmp_path / "s", leads=False)
    run.server.hello(2, 1)
    run.push(2, 9, 3)  # of who joins
    run.push(1, 2)
    assert run.server.changes.sets.others == ((9, 3),)
    with pytest.raises(ParameterServerError, match="push 8, but 7 is expected"):
        run.push(0, 8)
    for number in (7, 8, 9):
        run.push(0, number)
    run.push(0, 10, 1)  # of one that stays
    run.server.close()
    run.start()
    assert run.server.changes.sets.others == ((9, 3), (10, 1))


def test_in_async_mode_nothing_changes_once_somebody_has_finished(tmp_path: Path) -> None:
    run = in_async(tmp_path / "s")
    run.server.leave(0, 1)
    verdict = run.server.change_workers(Change(1, 1))
    assert verdict is not None
    assert verdict.why == "it is coming to its end: worker 0 has finished"


def test_who_joins_is_told_when_the_run_has_ended(tmp_path: Path) -> None:
    run = Run(tmp_path / "s", RunConfig(workers=1))
    run.step(0)
    run.server.hello(1, 1)
    changes, workers = run.server.changes, run.server.workers
    assert "1 worker" in changes.place_of(1, 1, workers).why
    assert run.server.change_workers(Change(1, 2)) is not None
    assert changes.place_of(1, 1, workers).waits
    assert run.server.leave(0, 1) == 1
    assert changes.place_of(1, 1, workers).why == "it has come to its end"
    assert run.server.leave(1, 1) == 0


def test_sets() -> None:
    sets = WorkerSets(2, [(5, 3), (9, 1)])
    assert [sets.at(step) for step in (0, 4, 5, 8, 9, 99)] == [2, 2, 3, 3, 1, 1]
    assert sets.first_step(2, 0) == 5
    assert sets.first_step(2, 9) is None
    assert (sets.tail(5), sets.last, sets.most) == (((9, 1),), (9, 1), 3)
    assert [sets.steps_of(worker, 12) for worker in range(4)] == [12, 9, 4, 0]
    assert [sets.steps_of(2, before) for before in (5, 7)] == [0, 2]
    sets.take([(5, 3), (12, 2)])
    with pytest.raises(ParameterServerError, match="contradict"):
        sets.add(9, 2)
