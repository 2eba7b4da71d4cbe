"""A long run in the simulation: nothing of it grows with its steps.

The run on real processes is `benchmarks/server_soak.py`; this one has faults all the time.
"""

from __future__ import annotations

import dataclasses
import gc
import os
import tracemalloc
from collections import deque
from collections.abc import Callable
from pathlib import Path

import pytest

from paramesh.ps.server.store import Store
from simulation import model
from simulation.configs import Config, draw
from simulation.model import Model
from simulation.run import Run

#: Steps of all parts of the slow test together.
STEPS, PARTS = 1_000_000, 10
#: Versions that the model keeps: more than any worker is behind.
_KEPT = 64
#: How often a run is measured.
_LOOKS = 12


class WindowedModel(Model):
    """The model of a run of sync or stale mode that is too long for all versions to be kept."""

    def __init__(self, config: Config) -> None:
        super().__init__(config.mode, config.staleness, config.workers, config.table)
        # Those of the base class keep all that was ever asked for.
        self.store_at, self.at_the_end = self._store_at, self._at_the_end
        self.reads, self.reads_rows = self._reads, self._reads_rows
        self._window = deque(self._versions, maxlen=_KEPT)
        self._newest = 0

    def version(self, number: int) -> Store:
        """As in `Model`, of the newest ones."""
        while self._newest < number:
            step = self._newest
            source = self._at(self.run_config.version_read(step))
            pushed = [
                model.update_of(self.mode, step, rank, source.read, self.table)
                for rank in range(self.sets.at(step))
            ]
            self._window.append(self._next(self._window[-1], step, pushed))
            self._newest += 1
        return self._at(number)

    def _at(self, number: int) -> Store:
        back = self._newest - number
        assert back < len(self._window), f"version {number} is too old, {self._newest} is there"
        return self._window[-1 - back]


@dataclasses.dataclass(frozen=True)
class Look:
    """What there is at a moment: of this process, and of the simulated ones."""

    step: int
    memory: int
    objects: int
    disk: int
    files: int
    descriptors: int
    events_to_come: int


class Soak(Run):
    """A run that is measured while it goes on."""

    def __init__(self, seed: int, config: Config, every: int, memory: Callable[[], int]) -> None:
        super().__init__(seed, config)
        self.model = WindowedModel(config)
        self.looks: list[Look] = []
        self._every, self._memory = every, memory
        self.world.after(0.02, self._look)

    def _look(self) -> None:
        step = max((worker.step for worker in self._workers.values()), default=0)
        if step >= (len(self.looks) + 1) * self._every:
            # Of numbers that the model has drawn nothing is kept, either.
            model.ids_of.cache_clear()
            model._whole.cache_clear()
            gc.collect()
            folders = self.disk.folders.values()
            self.looks.append(
                Look(
                    step,
                    self._memory(),
                    len(gc.get_objects()),
                    sum(len(inode.data) for folder in folders for inode in folder.values()),
                    sum(map(len, folders)),
                    self.disk.descriptors(),
                    len(self.world._heap),
                )
            )
        self.world.after(0.02, self._look)


def traced() -> int:
    """Bytes that were allocated since `tracemalloc` began: exact, and slow."""
    return tracemalloc.get_traced_memory()[0]


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def soaked(seed: int, steps: int, memory: Callable[[], int]) -> Soak:
    """Run so many steps, a fault each hundred or so."""
    mode = ("sync", "stale")[seed % 2]
    config = dataclasses.replace(
        draw(0),
        mode=mode,
        staleness=2 if mode == "stale" else 0,
        workers=1 + seed % 2,
        servers=1 + seed // 2 % 2,
        steps=steps,
        snapshot_every=20 if steps > 1000 else 4,
        standby=seed % 3 > 0,
        fsync=seed % 3 == 1,
        table=seed % 5 == 0,
        ahead=0.5,
        beside=1 << 20,
        restart=0.1,
        latency=0.001,
        follow=0.1,
        same_host=True,
        duplicated=0.01,
        late=0.001,
        lost=0.0,
        killed=0.0,
        frozen=0.0,
        slow=0.0,
        pause=0.5,
        kinds={
            "kill server": 1.0,
            "kill worker": 0.5,
            "freeze server": 0.2,
            "freeze worker": 0.2,
            "replace worker": 0.3,
            # Not "cut off": nobody ends such a process here, as Ray does.
        },
        calm=steps * 0.1,
        saves=0.0,
        loaded=0,
        resizes=(),
        changes=(),
    )
    run = Soak(seed, config, steps // _LOOKS, memory)
    result = run.run()
    assert not result.ended
    assert result.faults.total() > steps / 500, result.faults
    return run


def check_flat(looks: list[Look]) -> None:
    """After the first third nothing has grown, but for what comes and goes."""
    assert len(looks) >= _LOOKS - 1
    third = len(looks) // 3
    for name in ("memory", "objects", "disk", "files", "descriptors", "events_to_come"):
        values = [getattr(look, name) for look in looks]
        # Which moment it is between two snapshots, and who is just down, is chance.
        early, late = max(values[:third]), min(values[-third:])
        assert late <= 1.1 * early + 10, f"{name} grows: {values}"


@pytest.mark.slow
def test_a_short_soak_is_flat() -> None:
    gc.collect()
    gc.freeze()  # what other tests have left is not looked through
    tracemalloc.start(1)
    try:
        run = soaked(4, 360, traced)
    finally:
        tracemalloc.stop()
        gc.unfreeze()
    check_flat(run.looks)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="this system has no /proc")
@pytest.mark.parametrize("part", range(PARTS))
def test_a_million_steps_are_flat(part: int, capsys: pytest.CaptureFixture[str]) -> None:
    run = soaked(part, STEPS // PARTS, resident)
    with capsys.disabled():
        print(f"\n{run.config.mode}, {run.world.faults.total()} faults")
        for look in run.looks:
            print(f"  {look}")
    check_flat(run.looks)
