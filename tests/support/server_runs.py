"""A run of workers and one server without processes, and what it must compute."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.initializer import initializer
from paramesh.ps.server.server import Server
from paramesh.ps.server.store import Store
from paramesh.ps.server.sums import reduce_updates
from paramesh.ps.specification.initial_values import initial_values_of
from paramesh.ps.specification.protocol import RunConfig

SIZE, ROWS, WIDTH = 6, 50, 2
NUMBERS = {"learning_rate": 0.1, "momentum": 0.9}
MOMENTUM = {"rule": "Momentum", "nesterov": False}
#: Values that no recipe has to give: rows start at a constant.
SPECS: list[dict[str, Any]] = [
    {
        "name": "w",
        "kind": "dense",
        "shape": [SIZE],
        "dtype": "float32",
        "recipe": None,
        "optimizer": MOMENTUM,
    },
]
START = {"w": np.linspace(-1, 1, SIZE).astype(np.float32)}


@functools.cache
def table_spec() -> dict[str, Any]:
    # The key is the same in every process, whatever was initialized there before.
    recipe = initializer("normal", (ROWS, WIDTH), "float32").recipe
    assert recipe is not None
    return {
        "name": "t",
        "kind": "rows",
        "row_shape": [WIDTH],
        "rows": ROWS,
        "dtype": "float32",
        "recipe": initial_values_of("t", recipe) | {"key": [0, 0]},
        "optimizer": {"rule": "Adagrad", "accum": 0.1, "update_slots": True},
    }


def ids_of(step: int, worker: int) -> np.ndarray:
    return np.unique(np.random.default_rng([step, worker]).integers(0, ROWS, 8))


def updates_of(step: int, worker: int, read: Any) -> dict[str, dict[str, np.ndarray]]:
    """What a worker computes: from the values it reads, its number and the step alone."""
    ids = ids_of(step, worker)
    dense, rows = read("w"), read("t", ids)
    noise = np.random.default_rng([step, worker, 1]).standard_normal(SIZE).astype(np.float32)
    return {
        "w": {"grad": dense * np.float32(0.3) + noise},
        "t": {"ids": ids, "grad": rows * np.float32(0.5) + np.float32(worker + 1)},
    }


class Model:
    """Every version that a run in sync or stale mode has, on plain stores."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._versions = [self._first()]

    def _first(self) -> Store:
        store = Store()
        for spec in [*SPECS, table_spec()]:
            store.declare(spec)
        store.put("w", START["w"])
        return store

    def version(self, number: int) -> Store:
        while len(self._versions) <= number:
            step = len(self._versions) - 1
            source = self._versions[self.config.version_read(step)]
            pushed = [updates_of(step, w, source.read) for w in range(self.config.workers)]
            following = Store()
            following.load(self._versions[step].view().pieces())
            following.apply(step, reduce_updates(pushed), NUMBERS)
            self._versions.append(following)
        return self._versions[number]


def contents(store: Store) -> dict[str, bytes]:
    return {key: array.tobytes() for key, array in store.dump()}


class Killed(BaseException):
    """The process of the server is gone."""


class Run:
    """Workers that push to a server, which dies at armed points and starts again."""

    def __init__(self, folder: Path, config: RunConfig, **options: Any) -> None:
        self.folder, self.config, self._options = folder, config, options
        self.armed: list[str] = []
        self.next = [0] * config.workers
        self.held: list[dict[int, Any]] = [{} for _ in range(config.workers)]
        #: Everything that was ever pushed: worker, its incarnation, step, update.
        self.sent: list[tuple[int, int, int, Any]] = []
        self.incarnations = [1] * config.workers
        self.kills = 0
        self.server: Server = self._started()
        self._declare()

    def _at(self, point: str) -> None:
        if self.armed and self.armed[0] == point:
            self.armed.pop(0)
            raise Killed(point)

    def _started(self) -> Server:
        while True:
            try:
                server = Server(self.folder, self.config, point=self._at, **self._options)
                for worker, incarnation in enumerate(self.incarnations):
                    server.hello(worker, incarnation)
            except Killed:
                self.kills += 1
            else:
                return server

    def _declare(self) -> None:
        self.server.declare([*SPECS, table_spec()], START)

    def restart(self) -> None:
        """Kill the server and have everybody send again what was not known to be applied."""
        self.kills += 1
        self.server.close()
        before = self.server.version
        self.server = self._started()
        self._declare()
        if self.config.mode != "async":
            assert self.server.version >= before, "an applied update was lost"
        for worker, held in enumerate(self.held):
            for step in sorted(held):
                self._send(worker, step)

    def _send(self, worker: int, step: int) -> None:
        while True:
            try:
                self.server.push(
                    worker, self.incarnations[worker], step, self.held[worker][step], NUMBERS
                )
            except Killed:
                self.restart()
            else:
                return

    def read(self, step: int) -> Any:
        return lambda name, ids=None: self.server.read(step, name, ids)

    def can_push(self, worker: int) -> bool:
        return self.server.released(self.next[worker])

    def push(self, worker: int) -> None:
        """The next step of a worker."""
        step = self.next[worker]
        update = updates_of(step, worker, self.read(step))
        self.held[worker][step] = update
        self.sent.append((worker, self.incarnations[worker], step, update))
        self._send(worker, step)
        self.next[worker] += 1
        held = self.held[worker]
        for old in [s for s in held if self.config.mode != "async" and s < self.server.version]:
            del held[old]

    def replace_worker(self, worker: int) -> None:
        """Kill a worker; another one goes on from what the server says."""
        self.incarnations[worker] += 1
        self.held[worker].clear()
        try:
            said = self.server.hello(worker, self.incarnations[worker])
        except Killed:
            self.restart()
            said = self.server.hello(worker, self.incarnations[worker])
        self.next[worker] = said["next"]

    def finish(self, steps: int) -> None:
        """Run until every worker has done so many steps."""
        while min(self.next) < steps:
            moved = False
            for worker in range(self.config.workers):
                if self.next[worker] < steps and self.can_push(worker):
                    self.push(worker)
                    moved = True
            assert moved, "nobody can go on"
