"""A standby over the folder of a server: it follows, takes over, and fences the one before."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from paramesh.errors import ParameterServerError
from paramesh.ps.durability import log as logs
from paramesh.ps.durability.log import Fenced, latest_incarnation, start_incarnation
from paramesh.ps.durability.record import encoded
from paramesh.ps.server.server import Server
from paramesh.ps.server.standby import STANDBY_POINTS, Standby
from paramesh.ps.specification.protocol import POINTS, RunConfig
from server_runs import NUMBERS, Killed, Model, Run, contents, updates_of

SYNC = RunConfig(workers=2, snapshot_every=3)
STALE = RunConfig(workers=2, mode="stale", staleness=2, snapshot_every=4)
ASYNC = RunConfig(workers=2, mode="async", snapshot_every=5)
STEPS = 12


class Pair(Run):
    """A run with a standby, which takes over whenever the server dies."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.standby: Standby | None = None
        super().__init__(folder, config)

    def _started(self) -> Server:
        while True:
            try:
                standby, self.standby = self.standby or self.new_standby(), None
                server = standby.promote(latest_incarnation(self.folder))
                for worker, incarnation in enumerate(self.incarnations):
                    server.hello(worker, incarnation)
            except Killed:
                self.kills += 1
            else:
                self.standby = self.new_standby()
                return server

    def new_standby(self) -> Standby:
        return Standby(self.folder, self.config, point=self._at)

    def follow(self) -> None:
        standby = self.standby
        assert standby is not None
        try:
            while standby.follow() or standby.failure:
                pass
        except Killed:
            self.kills += 1
            self.standby = self.new_standby()
        else:
            assert standby.version == self.server.version
            assert contents(standby._server.store) == contents(self.server.store)

    def freeze(self) -> Server:
        """The standby takes over from a server that is not dead."""
        frozen = self.server
        self.server = self._started()
        self._declare()
        for worker, held in enumerate(self.held):
            for step in sorted(held):
                self._send(worker, step)
        return frozen


def wake(frozen: Server) -> None:
    """What a server may do that was frozen and was replaced: nothing of it may count."""
    with pytest.raises(Fenced):
        frozen.snapshot()
    with pytest.raises(Fenced):
        frozen.hello(0, 1_000_000)
    # It was about to write a record, or to begin a segment, when it was frozen.
    write_late(frozen)
    frozen._log.number += 1
    frozen._log.rotate()
    frozen._log._write([b"the beginning of another one"])
    frozen.close()


def write_late(frozen: Server) -> None:
    meta = {"kind": "update", "version": frozen.version, "hyper": NUMBERS, "worker": 0}
    for batch in encoded(frozen._log.number, meta, {"grad/w": np.ones(6, np.float32)}):
        frozen._log._write(batch)


def check(run: Run, steps: int = STEPS) -> None:
    assert run.server.version == steps
    assert contents(run.server.store) == contents(Model(run.config).version(steps))


@pytest.mark.parametrize("config", [SYNC, STALE])
@pytest.mark.parametrize("point", [*POINTS, *STANDBY_POINTS])
@pytest.mark.parametrize("lags", [True, False])
def test_killed_anywhere_ends_with_the_same_bits(
    config: RunConfig, point: str, lags: bool, tmp_path: Path
) -> None:
    run = Pair(tmp_path / "s", config)
    for _ in range(3):
        run.finish(min(run.next) + 3)
        if not lags:
            run.follow()
        if point in (*STANDBY_POINTS, "recovering", "reply"):
            run.armed = [] if point == "reply" else [point]
            run.restart()
        else:
            run.armed = [point, "claimed", "caught up"]
    run.finish(STEPS)
    assert run.kills >= 3
    check(run)


def test_async_loses_nothing_and_applies_nothing_twice(tmp_path: Path) -> None:
    run = Pair(tmp_path / "s", ASYNC)
    for point in ("half", "applied", "staged", "logged", "claimed"):
        run.finish(min(run.next) + 2)
        run.follow()
        run.armed = [point] if point in POINTS else ["applied", point]
    run.finish(STEPS)
    assert run.kills == 6
    assert run.server.version == 2 * STEPS
    assert run.server.workers.next_push == {0: STEPS, 1: STEPS}
    run.follow()


def test_takes_over_without_recovering(tmp_path: Path) -> None:
    run = Pair(tmp_path / "s", SYNC)
    run.finish(5)
    run.follow()
    standby = run.standby
    assert standby is not None
    assert standby.fresh_starts == 1
    run.finish(7)
    run.restart()
    assert standby.fresh_starts == 1
    assert run.server is standby._server
    run.finish(STEPS)
    check(run)


def test_lags_until_its_segments_are_dropped(tmp_path: Path) -> None:
    run = Pair(tmp_path / "s", SYNC)
    run.finish(2)
    run.follow()
    run.finish(STEPS)
    standby = run.standby
    assert standby is not None
    assert standby.follow() == 0
    assert "no longer has record" in standby.failure
    run.follow()
    assert standby.fresh_starts == 2
    run.restart()
    check(run)


def test_several_workers_agree_on_one_successor(tmp_path: Path) -> None:
    run = Pair(tmp_path / "s", SYNC)
    run.finish(2)
    others = [run.new_standby() for _ in range(3)]
    for other in others:
        other.follow()
    server = others[0].promote(1)
    for other in others[1:]:
        with pytest.raises(Fenced, match="2 is the latest already") as caught:
            other.promote(1)
        assert caught.value.latest == 2
    # One that was refused goes on following, and is the next.
    assert server.incarnation == 2
    others[1].follow()
    assert others[1].promote(2).incarnation == 3
    with pytest.raises(Fenced, match="incarnation 3 has taken over"):
        server.hello(0, 5)


@pytest.mark.parametrize("place", ["_enter", "_write_ticket", "_claims"])
def test_claims_at_the_same_time(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is slow between its claim and its entry: two never believe that they are the latest."""
    real = getattr(logs, place)
    inner: list[int] = []
    # Its first look at claims is that by which it gets one.
    left = [1 if place == "_claims" else 0]

    def slow(*arguments: Any) -> Any:
        if left[0]:
            left[0] -= 1
            return real(*arguments)
        done = real(*arguments) if place == "_claims" else None
        monkeypatch.setattr(logs, place, real)
        inner.append(start_incarnation(tmp_path))
        return done or real(*arguments)

    assert start_incarnation(tmp_path) == 1
    monkeypatch.setattr(logs, place, slow)
    with pytest.raises(Fenced, match="3 is the latest"):
        start_incarnation(tmp_path, 1)
    assert inner == [3]
    assert latest_incarnation(tmp_path) == 3  # it was not set back
    assert start_incarnation(tmp_path) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["claim-00000004", "incarnation"]


def test_record_of_a_fenced_server_that_was_read_too_early(tmp_path: Path) -> None:
    run = Pair(tmp_path / "s", SYNC)
    run.finish(2)
    first, standby = run.server, run.standby
    assert standby is not None
    standby.follow()
    successor = run.new_standby()
    successor.follow()
    number = successor.stats()["record"]
    incarnation = start_incarnation(tmp_path / "s", 1)
    write_late(first)
    assert standby.follow() == 1
    assert standby.version == 3
    successor._server.begin(incarnation, number, 0.0)
    run.server = successor._server
    run.follow()
    assert standby.fresh_starts == 2
    # Begun by a server that had been fenced already: what is behind it goes on from before it.
    (tmp_path / "s" / f"log-{run.server._log.number - 1:016d}-00000002.bin").touch()
    run.finish(4)
    run.restart()
    run.finish(STEPS)
    check(run)


def test_record_that_is_taken_back_was_not_followed(tmp_path: Path) -> None:
    """A server whose update fails when its record is written already takes the record back."""
    run = Pair(tmp_path / "s", RunConfig(workers=2))
    run.finish(2)
    size = run.server._log._size
    write_late(run.server)
    standby = run.standby
    assert standby is not None
    standby.follow()
    assert standby.version == 3
    os.ftruncate(run.server._log._file, size)
    run.finish(4)
    run.follow()
    assert standby.fresh_starts == 2
    run.restart()
    run.finish(STEPS)
    check(run)


def test_frozen_server_that_wakes_up_changes_nothing(tmp_path: Path) -> None:
    run = Pair(tmp_path / "s", SYNC)
    for step in range(2, STEPS, 2):
        run.finish(step)
        if step % 4:
            run.follow()
        frozen = run.freeze()
        update = updates_of(step, 0, run.read(step))
        frozen.push(0, 1, step, update, NUMBERS)
        with pytest.raises(Fenced):
            frozen.push(1, 1, step, update, NUMBERS)
        run.finish(step + 1)
        wake(frozen)
        run.follow()
    run.finish(STEPS)
    check(run)
    run.restart()
    check(run)


def test_a_server_that_is_replaced_during_its_write_acknowledges_nothing(tmp_path: Path) -> None:
    """It looks before the write, is frozen, and its standby begins at this record's number."""
    taken: list[int] = []
    mine = start_incarnation(tmp_path)

    def frozen(point: str) -> None:
        if not taken:
            taken.append(start_incarnation(tmp_path, mine))
            logs.Log(tmp_path, taken[0], 0).close()

    log = logs.Log(tmp_path, mine, 0, point=frozen)
    with pytest.raises(Fenced, match="incarnation 2 has taken over"):
        log.append({"kind": "update"}, {})
    with pytest.raises(Fenced):  # nor later: the record is there
        log.append({"kind": "update"}, {})
    log.close()
    assert list(logs.read_log(tmp_path, 0)) == []


def test_damaged_log_stops_the_successor(tmp_path: Path) -> None:
    run = Pair(tmp_path / "s", RunConfig(workers=2))
    run.finish(4)
    (_, _, path) = logs.segments(tmp_path / "s")[0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    standby = run.standby
    assert standby is not None
    assert standby.follow() == 0
    assert "is damaged at byte" in standby.failure
    with pytest.raises(ParameterServerError, match=r"cannot be recovered: .* is damaged at byte"):
        standby.promote(1)


class Machine(RuleBasedStateMachine):
    """Pushes, deaths of either or both, promotions, frozen servers that wake up, in any order."""

    config_of_run = SYNC

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.run = Pair(Path(self.scratch.name) / "s", self.config_of_run)
        self.model = Model(self.config_of_run)
        self.frozen: list[Server] = []

    @rule(worker=st.integers(0, 1), times=st.integers(1, 3))
    def push(self, worker: int, times: int) -> None:
        for _ in range(times):
            for one in (worker, 1 - worker):
                if self.run.can_push(one):
                    self.run.push(one)

    @rule(worker=st.integers(0, 1))
    def push_once(self, worker: int) -> None:
        if self.run.can_push(worker):
            self.run.push(worker)

    @rule(worker=st.integers(0, 1))
    def repeat(self, worker: int) -> None:
        for step in sorted(self.run.held[worker]):
            self.run._send(worker, step)

    @rule(points=st.lists(st.sampled_from([*POINTS, *STANDBY_POINTS]), min_size=1, max_size=3))
    def kill_later(self, points: list[str]) -> None:
        self.run.armed = points

    @rule()
    def follow(self) -> None:
        self.run.follow()

    @rule()
    def kill_server(self) -> None:
        self.run.restart()

    @rule()
    def kill_standby(self) -> None:
        self.run.standby = self.run.new_standby()

    @rule()
    def kill_both(self) -> None:
        self.run.standby = None
        self.run.restart()

    @rule(worker=st.integers(0, 1))
    def kill_worker(self, worker: int) -> None:
        self.run.replace_worker(worker)

    @rule()
    def freeze(self) -> None:
        self.frozen.append(self.run.freeze())

    @precondition(lambda self: self.frozen)
    @rule()
    def wake(self) -> None:
        self.run.armed = []
        wake(self.frozen.pop())

    @rule()
    def snapshot(self) -> None:
        try:
            self.run.server.snapshot()
        except Killed:
            self.run.restart()

    @precondition(lambda self: self.run.config.mode != "async")
    @rule(back=st.integers(0, 5))
    def read_back(self, back: int) -> None:
        server = self.run.server
        version = server.version - min(back, self.run.config.behind)
        if version >= 0:
            step = version + self.run.config.staleness
            ids = np.arange(50)
            expected = self.model.version(version)
            assert server.read(step, "w").tobytes() == expected.read("w").tobytes()
            assert server.read(step, "t", ids).tobytes() == expected.read("t", ids).tobytes()

    @invariant()
    def same_as_model(self) -> None:
        if self.run.config.mode != "async":
            version = self.run.server.version
            assert contents(self.run.server.store) == contents(self.model.version(version))

    @invariant()
    def every_push_once(self) -> None:
        server = self.run.server
        if self.run.config.mode == "async":
            assert server.version == sum(server.workers.next_push.values())
            assert [server.workers.next_push.get(worker, 0) for worker in range(2)] == self.run.next

    def teardown(self) -> None:
        for server in (self.run.server, *self.frozen):
            server.close()
        self.scratch.cleanup()


class StaleMachine(Machine):
    config_of_run = STALE


class AsyncMachine(Machine):
    config_of_run = ASYNC


_FEW: Any = settings(max_examples=10, stateful_step_count=30)
TestSync = Machine.TestCase
TestSync.settings = _FEW
TestStale = StaleMachine.TestCase
TestStale.settings = _FEW
TestAsync = AsyncMachine.TestCase
TestAsync.settings = _FEW
