"""The protocol of one server in any order of pushes, duplicates, deaths, zombies and full disks."""

from __future__ import annotations

import errno
import functools
import os
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.log import Fenced
from paramesh.ps.durability.snapshot import snapshots
from paramesh.ps.server.store import Store
from paramesh.ps.server.sums import reduce_updates
from paramesh.ps.specification.protocol import POINTS, Replaced, RunConfig
from server_runs import NUMBERS, ROWS, Killed, Model, Run, contents, updates_of

WORKERS = st.integers(0, 11)  # modulo how many there are
PLACES = st.integers(0, 1 << 16)


class Machine(RuleBasedStateMachine):
    """One server and its workers, against plain stores: a store for each version in sync and stale
    mode, the pushes in the order in which they were taken in async mode.
    """

    config_of_run = RunConfig(workers=2, snapshot_every=3)

    def __init__(self) -> None:
        super().__init__()
        self.scratch = tempfile.TemporaryDirectory()
        self.config = self.config_of_run
        self.run = Run(Path(self.scratch.name) / "s", self.config)
        self.model = Model(self.config)
        # In async mode: the state, and how many pushes of each worker are in it.
        self.taken: Store = self.model.version(0)
        self.counts = [0] * self.config.workers

    def _one_of(self, number: int) -> int:
        return number % self.config.workers

    @rule(worker=WORKERS)
    def push(self, worker: int) -> None:
        if self.run.can_push(self._one_of(worker)):
            self.run.push(self._one_of(worker))

    @rule(worker=WORKERS)
    def repeat(self, worker: int) -> None:
        for step in self.run.held[self._one_of(worker)]:
            self.run._send(self._one_of(worker), step)

    @precondition(lambda self: self.run.sent)
    @rule(place=PLACES)
    def late_message(self, place: int) -> None:
        worker, incarnation, step, update = self.run.sent[place % len(self.run.sent)]
        if incarnation == self.run.incarnations[worker]:
            try:
                self.run.server.push(worker, incarnation, step, update, NUMBERS)
            except Killed:
                self.run.restart()
        else:
            with pytest.raises(Replaced):
                self.run.server.push(worker, incarnation, step, update, NUMBERS)

    @rule(point=st.sampled_from(POINTS), again=st.booleans())
    def kill_later(self, point: str, again: bool) -> None:
        self.run.armed = [point, *["recovering"] * again]

    @rule()
    def kill(self) -> None:
        self.run.restart()

    @rule(worker=WORKERS)
    def kill_worker(self, worker: int) -> None:
        self.run.replace_worker(self._one_of(worker))

    @rule(worker=WORKERS)
    def kill_both(self, worker: int) -> None:
        self.run.restart()
        self.run.replace_worker(self._one_of(worker))

    @rule()
    def snapshot(self) -> None:
        try:
            self.run.server.snapshot()
        except Killed:
            self.run.restart()

    @rule()
    def zombie(self) -> None:
        """The server is frozen, replaced, and wakes up with a push in its hands."""
        frozen = self.run.server
        self.run.armed = []
        self.run.server = self.run._started()
        step = frozen.version
        for worker in range(self.config.workers):
            mine = frozen.workers.next_push.get(worker, 0) if self.config.mode == "async" else step
            update = updates_of(mine, worker, functools.partial(frozen.read, mine))
            kept = self.run.held[worker].get(mine, update)
            try:
                frozen.push(worker, self.run.incarnations[worker], mine, kept, NUMBERS)
            except Fenced:
                pass
            else:
                assert self.config.mode != "async"
        assert frozen.version == step
        frozen.close()
        self.run._declare()
        for worker, held in enumerate(self.run.held):
            for step in sorted(held):
                self.run._send(worker, step)

    @rule(worker=WORKERS, some=st.booleans())
    def full_disk(self, worker: int, some: bool) -> None:
        """Writes fail, some of them half way; the worker tries again when there is room."""
        worker = self._one_of(worker)
        if not self.run.can_push(worker):
            return
        self.run.armed = []
        real = os.writev

        def writev(file: int, parts: Any) -> int:
            if some:
                real(file, [bytes(parts[0])[:10]])
            raise OSError(errno.ENOSPC, "No space left on device")

        version, before = self.run.server.version, contents(self.run.server.store)
        with mock.patch.object(os, "writev", writev):
            refused = ""
            try:
                self.run.push(worker)
            except ParameterServerError as error:
                refused = str(error)
        if not refused:
            return  # it waits for others' pushes: nothing had to be written
        assert "No space left" in refused
        assert self.run.server.version == version
        assert contents(self.run.server.store) == before
        self.run._send(worker, self.run.next[worker])
        self.run.next[worker] += 1

    @precondition(lambda self: len(snapshots(self.run.folder)) > 1)
    @rule(place=PLACES)
    def damaged_snapshot(self, place: int) -> None:
        path = snapshots(self.run.folder)[0].path
        content = bytearray(path.read_bytes())
        content[place % len(content)] ^= 1 << (place % 8)
        path.write_bytes(content)
        self.run.armed = []
        self.run.restart()

    @precondition(lambda self: self.config.mode != "async")
    @rule(back=st.integers(0, 7))
    def read_back(self, back: int) -> None:
        server = self.run.server
        version = server.version - min(back, self.config.behind)
        if version >= 0:
            step = version + self.config.staleness
            ids = np.arange(ROWS)
            expected = self.model.version(version)
            assert server.read(step, "w").tobytes() == expected.read("w").tobytes()
            assert server.read(step, "t", ids).tobytes() == expected.read("t", ids).tobytes()

    @invariant()
    def same_as_model(self) -> None:
        server = self.run.server
        if self.config.mode != "async":
            expected = self.model.version(server.version)
        else:
            self._take()
            expected = self.taken
        assert contents(server.store) == contents(expected)

    def _take(self) -> None:
        server = self.run.server
        assert server.version == sum(server.workers.next_push.values())
        for worker in range(self.config.workers):
            following = server.workers.next_push.get(worker, 0)
            assert following == self.run.next[worker]
            assert following - self.counts[worker] in (0, 1)
            if following > self.counts[worker]:
                # The last one that was sent under this number is the one that was taken.
                update = next(
                    update
                    for who, _, step, update in reversed(self.run.sent)
                    if (who, step) == (worker, self.counts[worker])
                )
                self.taken.apply(sum(self.counts), reduce_updates([update]), NUMBERS)
                self.counts[worker] += 1

    def teardown(self) -> None:
        self.run.server.close()
        self.scratch.cleanup()


class StaleMachine(Machine):
    config_of_run = RunConfig(workers=2, mode="stale", staleness=2, snapshot_every=4)


class AsyncMachine(Machine):
    config_of_run = RunConfig(workers=2, mode="async", snapshot_every=5)


_FEW = settings(max_examples=12, stateful_step_count=30)
TestSync = Machine.TestCase
TestSync.settings = _FEW
TestStale = StaleMachine.TestCase
TestStale.settings = _FEW
TestAsync = AsyncMachine.TestCase
TestAsync.settings = _FEW


class SyncOfThree(Machine):
    config_of_run = RunConfig(workers=3, snapshot_every=2)


class StaleOfThree(Machine):
    config_of_run = RunConfig(workers=3, mode="stale", staleness=3, snapshot_every=2)


class StaleAlone(Machine):
    config_of_run = RunConfig(workers=1, mode="stale", staleness=1, snapshot_every=3)


class AsyncOfFour(Machine):
    config_of_run = RunConfig(workers=4, mode="async", snapshot_every=3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "machine",
    [Machine, StaleMachine, AsyncMachine, SyncOfThree, StaleOfThree, StaleAlone, AsyncOfFour],
)
def test_long(machine: type[Machine]) -> None:
    run_state_machine_as_test(machine, settings=_MANY)


_MANY = settings(max_examples=150, stateful_step_count=80)
