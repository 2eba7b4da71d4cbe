"""What workers compute, and what has to come of it, on plain stores without servers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from paramesh.ps.server.store import Store
from paramesh.ps.server.sums import reduce_updates
from paramesh.ps.specification.protocol import RunConfig
from paramesh.ps.specification.worker_sets import WorkerSets

Array = np.ndarray[Any, Any]
Update = dict[str, dict[str, Array]]

SIZE, ROWS, WIDTH = 4, 24, 2
#: Names whose slices are on different ones of two servers.
DENSE = ("a", "b")
START = {
    name: np.arange(1, SIZE + 1, dtype=np.float32) * np.float32(place + 1)
    for place, name in enumerate(DENSE)
}
#: Tables and the widths of their rows: two, so that one message has rows of several.
TABLES = {"t": WIDTH, "u": WIDTH + 1}
HYPER = {"learning_rate": 0.125, "momentum": 0.5}

_MOMENTUM = {"rule": "Momentum", "nesterov": False}
#: Sums of small integers are the same in any order: what async mode is checked by.
_SGD = {"rule": "SGD", "momentum": False, "dampening": 0.0, "nesterov": False}


def specs(mode: str, table: bool) -> list[dict[str, Any]]:
    """The Parameters of a run."""
    optimizer = _SGD if mode == "async" else _MOMENTUM
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "kind": "dense",
            "shape": [SIZE],
            "dtype": "float32",
            "recipe": None,
            "optimizer": optimizer,
        }
        for name in DENSE
    ]
    if table:
        found += [
            {
                "name": name,
                "kind": "rows",
                "row_shape": [width],
                "rows": ROWS,
                "dtype": "float32",
                "recipe": {"dtype": "float32", "law": "constant", "value": 2.0},
                "optimizer": optimizer,
            }
            # What expires depends on the order of the pushes, which is any in async mode.
            | ({"expire": 2} if name == "u" and mode != "async" else {})
            for name, width in TABLES.items()
        ]
    return found


def slots_of(mode: str) -> list[str]:
    """The state of the optimizer."""
    return [] if mode == "async" else ["moments"]


@functools.cache
def ids_of(step: int, rank: int) -> dict[str, Array]:
    """The rows that a worker meets in a step, by table."""
    rng = np.random.default_rng([step, rank])
    return {name: np.unique(rng.integers(0, ROWS, 5)) for name in TABLES}


@functools.cache
def _whole(step: int, rank: int) -> Array:
    found = np.random.default_rng([step, rank, 1]).integers(-999, 1000, SIZE)
    return found.astype(np.float32)


def update_of(mode: str, step: int, rank: int, read: Callable[..., Array], table: bool) -> Update:
    """What a worker pushes: from what it read, the step and its rank; in async mode not of that."""
    noise = _whole(step, rank)
    kept = np.float32(0.0 if mode == "async" else 0.25)
    found: Update = {
        name: {"grad": read(name) * kept + noise * np.float32(place + 1)}
        for place, name in enumerate(DENSE)
    }
    if table:
        for name, ids in ids_of(step, rank).items():
            width = TABLES[name]
            found[name] = {"ids": ids, "grad": read(name, ids) * kept + noise[:width]}
    return found


class Model:
    """Every version of a run in sync or stale mode; of async mode, what is there in the end."""

    def __init__(
        self, mode: str, staleness: int, workers: int, table: bool, loaded: bool = False
    ) -> None:
        #: How many workers each step has; a run whose number changes adds what it learns.
        self.sets = WorkerSets(workers)
        self.mode, self.table = mode, table
        # As long as the model lives, and no longer.
        self.store_at = functools.cache(self._store_at)
        self.at_the_end = functools.cache(self._at_the_end)
        self.reads = functools.cache(self._reads)
        self.reads_rows = functools.cache(self._reads_rows)
        self.run_config = RunConfig(workers=workers, mode=mode, staleness=staleness)
        first = Store()
        for spec in specs(mode, table):
            first.declare(spec)
        for name, values in START.items():
            first.put(name, values)
        self._versions = [first]
        if loaded:
            take_over(first, started_from(mode, table))

    def version(self, number: int) -> Store:
        """The Parameters after so many updates."""
        while len(self._versions) <= number:
            step = len(self._versions) - 1
            source = self._versions[self.run_config.version_read(step)]
            pushed = [
                update_of(self.mode, step, rank, source.read, self.table)
                for rank in range(self.sets.at(step))
            ]
            self._versions.append(self._next(self._versions[step], step, pushed))
        return self._versions[number]

    def _next(self, before: Store, step: int, pushed: list[Update]) -> Store:
        following = Store()
        following.load(before.view().pieces())
        following.apply(step, reduce_updates(pushed), HYPER)
        return following

    def _store_at(self, steps: int) -> Store:
        """What is there when all workers have made so many steps."""
        if self.mode != "async":
            return self.version(steps)
        store = self._versions[0]
        pushes = [(step, rank) for step in range(steps) for rank in range(self.sets.at(step))]
        for place, (step, rank) in enumerate(pushes):
            update = update_of(self.mode, step, rank, store.read, self.table)
            store = self._next(store, place, [update])
        return store

    def _at_the_end(self, steps: int) -> Mapping[str, Mapping[str, Array]]:
        """What `dump` gives when all workers have made so many steps."""
        store = self.store_at(steps)
        return {spec["name"]: _dump(store, spec) for spec in specs(self.mode, self.table)}

    def _reads(self, step: int, name: str) -> bytes:
        """The values of a dense Parameter that a step reads."""
        return self.version(self.run_config.version_read(step)).read(name).tobytes()

    def _reads_rows(self, step: int, rank: int) -> Mapping[str, bytes]:
        """The rows that a worker reads in a step, by table."""
        store = self.version(self.run_config.version_read(step))
        return {name: store.read(name, ids).tobytes() for name, ids in ids_of(step, rank).items()}


def _dump(store: Store, spec: dict[str, Any]) -> dict[str, Array]:
    name = spec["name"]
    ids = store.rows(name) if spec["kind"] == "rows" else None
    found = {} if ids is None else {"ids": ids}
    return found | {field: store.read(name, ids, field=field) for field in store.fields(name)}


@functools.cache
def model_of(mode: str, staleness: int, workers: int, table: bool, loaded: bool = False) -> Model:
    """The model of all runs of a kind: they are the same."""
    return Model(mode, staleness, workers, table, loaded)


#: The version of the checkpoint that runs are loaded from.
LOADED = 3


def started_from(mode: str, table: bool) -> Store:
    """What the checkpoint has that runs are loaded from."""
    return model_of("async" if mode == "async" else "sync", 0, 1, table).store_at(LOADED)


def take_over(store: Store, source: Store) -> None:
    """What loading does: tables, and the state of the optimizer of the others."""
    arrays = dict(source.dump())
    for name, spec in source.specs().items():
        slots = [field for field in source.fields(name) if field != "value"]
        if spec["kind"] == "dense":
            for field in slots:
                store.put(name, arrays[f"{field}/{name}"], field=field)
            continue
        rows = {field: arrays[f"{field}/{name}"] for field in ("value", *slots)}
        if "expire" in spec:
            store.take_life(name, {"offset": np.array([LOADED])})
            rows["last"] = arrays[f"last/{name}"]
        store.take_rows(name, rows | {"ids": arrays[f"ids/{name}"]})
