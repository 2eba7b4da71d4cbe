"""What a seed decides before a run begins: its size, its mode, and which faults it has, how often.

Every seed leaves most kinds of faults out and has much of the others ("swarm testing", Groce et
al., ISSTA 2012): what finds one fault would often be hidden by another.
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any


@dataclasses.dataclass(frozen=True)
class Config:
    """What a run is.

    Attributes:
        mode, staleness, workers, servers, steps, snapshot_every, standby, fsync: as in
            `set_ps_context`.
        table: there is a table beside the dense Parameters.
        ahead: the share of steps whose rows are requested ahead.
        beside: bytes of an update from which on the log is written by another thread.
        restart: the most seconds until Ray has started a process.
        latency: seconds that a message takes, about.
        follow: seconds between two looks of a standby.
        same_host: workers can kill a frozen server.
        duplicated, late, lost: shares of the messages.
        killed, frozen: of the file operations of servers, in the middle of which they are.
        slow: of the file operations of a snapshot, beside which much else happens.
        pause: seconds between two of the other faults, about.
        kinds: of these, with their weights.
        calm: seconds after which nothing more is broken.
        saves: of the steps, before which a worker saves a checkpoint.
        behind: so many steps are made until a worker waits for what servers have saved.
        increments: checkpoints go on from one another.
        loaded: the run begins from a checkpoint, of so many servers; 0: it does not.
        resizes: numbers of servers that the run is moved to while it goes on, with the seconds.
        mover: of the points and file operations of who moves it, at which it is killed or frozen.
        changes: numbers of workers that are wanted while it goes on, with the seconds.
        withdrawn: of these, which are not wanted any more after a while.
    """

    mode: str
    staleness: int
    workers: int
    servers: int
    steps: int
    snapshot_every: int
    standby: bool
    fsync: bool
    table: bool
    ahead: float
    beside: int
    restart: float
    latency: float
    follow: float
    same_host: bool
    duplicated: float
    late: float
    lost: float
    killed: float
    frozen: float
    slow: float
    pause: float
    kinds: dict[str, float]
    calm: float
    saves: float
    behind: int
    increments: bool
    loaded: int
    resizes: tuple[tuple[float, int], ...] = ()
    mover: float = 0.0
    changes: tuple[tuple[float, int], ...] = ()
    withdrawn: float = 0.0

    def run_config(self) -> dict[str, Any]:
        """The fields of `RunConfig`."""
        return {
            "workers": self.workers,
            "mode": self.mode,
            "staleness": self.staleness,
            "snapshot_every": self.snapshot_every,
        }


#: What happens at a moment, not to a message or within a file operation.
KINDS = (
    "kill server",
    "kill worker",
    "kill pair",
    "freeze server",
    "freeze worker",
    "replace worker",
    "cut off",
    "clock",
    "power cut",
    "planned",
    "full disk",
    "flip snapshot",
    "flip log",
    "lose folder",
)
#: Those after which a run may, or must, end with an error; in few seeds.
_HARD = {"full disk": 0.12, "flip log": 0.06, "lose folder": 0.05}


#: The share of seeds whose servers are moved, and of those whose number of workers changes.
MOVED, CHANGED = 0.03, 0.03


def draw(seed: int) -> Config:
    """What a seed decides."""
    rng = random.Random(seed * 7919 + 13)

    def some(share: float, of: float) -> float:
        return rng.uniform(0.2, 1.0) * of if rng.random() < share else 0.0

    mode = rng.choice(("sync", "stale", "stale", "async"))
    fsync = rng.random() < 0.4
    standby = rng.random() < 0.45
    kinds: dict[str, float] = {}
    for kind in KINDS:
        if rng.random() < _HARD.get(kind, 0.45):
            kinds[kind] = rng.uniform(0.2, 1.0)
    if not fsync:
        kinds.pop("power cut", None)
    if not standby:
        kinds.pop("kill pair", None)
    steps = rng.randint(3, 7)
    config = Config(
        mode=mode,
        staleness=rng.randint(1, 3) if mode == "stale" else 0,
        workers=rng.choice((1, 1, 2, 2, 3)),
        servers=rng.choice((1, 1, 2)),
        steps=steps,
        snapshot_every=rng.choice((0, 1, 2, 3)),
        standby=standby,
        fsync=fsync,
        table=rng.random() < 0.3,
        beside=0 if rng.random() < 0.2 else 1 << 20,
        restart=rng.choice((0.3, 1.0, 3.0)),
        latency=rng.choice((0.001, 0.01, 0.1)),
        follow=rng.choice((0.1, 0.3, 1.0)),
        same_host=rng.random() < 0.5,
        duplicated=some(0.6, 0.3),
        late=some(0.6, 0.3),
        lost=some(0.3, 0.05),
        killed=some(0.5, 0.03 if fsync else 0.01),
        frozen=some(0.4, 0.01),
        slow=some(0.4, 0.2),
        pause=rng.choice((0.05, 0.2, 1.0)),
        kinds=kinds,
        calm=rng.uniform(2.0, 15.0),
        ahead=rng.choice((0.0, 0.8, 1.0)),
        saves=some(0.35, 0.7),
        behind=rng.choice((0, 0, 1, 2)),
        increments=rng.random() < 0.4,
        loaded=rng.choice((0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3)),
    )
    # By a chance of its own: the other seeds stay what they were.
    rng = random.Random(seed * 104729 + 7)
    if rng.random() < MOVED:
        return resized(config, rng)
    rng = random.Random(seed * 15485863 + 3)
    return changed(config, rng) if rng.random() < CHANGED else config


def changed(config: Config, rng: random.Random) -> Config:
    """A run that gets other numbers of workers while it goes on, and maybe of servers."""
    moved = rng.random() < 0.2
    if moved:
        config = resized(config, rng)
    count = rng.choice((1, 2, 3))
    times = sorted(rng.uniform(0.0, min(config.calm, 4.0)) for _ in range(count))
    left_out = ("lose folder",)
    return dataclasses.replace(
        config,
        kinds={kind: weight for kind, weight in config.kinds.items() if kind not in left_out},
        steps=config.steps + rng.randint(8, 25) * (2 if config.mode == "async" else 1),
        saves=0.0,
        loaded=0,
        changes=tuple((when, rng.randint(1, 4)) for when in times),
        withdrawn=rng.choice((0.0, 0.0, 0.3)),
    )


def resized(config: Config, rng: random.Random) -> Config:
    """A run that is moved to other numbers of servers while it goes on."""
    # Servers that have just begun have one snapshot, and no log from before it.
    left_out = ("lose folder", "flip snapshot")
    kinds = {kind: weight for kind, weight in config.kinds.items() if kind not in left_out}
    count = rng.choice((1, 1, 2, 3))
    times = sorted(rng.uniform(0.0, min(config.calm, 4.0)) for _ in range(count))
    return dataclasses.replace(
        config,
        kinds=kinds,
        table=rng.random() < 0.6,
        steps=config.steps + rng.randint(0, 6),
        # An increment goes on from what the same servers have saved; and what a worker loads once
        # more, since servers have just begun, ends a save.
        increments=False,
        saves=0.0 if config.loaded else config.saves,
        resizes=tuple((when, rng.randint(1, 4)) for when in times),
        mover=rng.choice((0.0, 0.003, 0.02)),
    )
