"""The folder of a run, written by its servers in this process: with a table and a matrix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from paramesh.initializer import initializer
from paramesh.ps.durability import identity
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.server.server import Server
from paramesh.ps.server.store import Store
from paramesh.ps.specification.initial_values import initial_values_of
from paramesh.ps.specification.partition import LEAST, Partition
from paramesh.ps.specification.protocol import RunConfig

ROWS = 500
#: Large enough that two servers share it.
SHAPE = (2, LEAST)
ADAGRAD = {"rule": "Adagrad", "accum": 0.1, "update_slots": True}
SGD = {"rule": "SGD", "momentum": False, "dampening": 0.0, "nesterov": False}
RATE = {"learning_rate": 0.5}
START = np.linspace(-1, 1, 2 * LEAST).astype(np.float32).reshape(SHAPE)


def specs(dtype: str = "float32", **of_table: Any) -> list[dict[str, Any]]:
    """A matrix and a table of rows (2, 3)."""
    recipe = initializer("normal", (ROWS, 2, 3), dtype).recipe
    assert recipe is not None
    matrix = {"name": "w", "kind": "dense", "shape": list(SHAPE), "dtype": "float32"}
    table = {"name": "emb/t", "kind": "rows", "row_shape": [2, 3], "rows": ROWS, "dtype": dtype}
    return [
        matrix | {"recipe": None, "optimizer": SGD},
        table | {"recipe": initial_values_of("t", recipe), "optimizer": ADAGRAD} | of_table,
    ]


class RunOfServers:
    """Servers of one worker, and plain stores with every version that they had.

    Args:
        folder: of the run.
        servers: how many.
        mode, staleness, snapshot_every: as in `set_ps_context`.
        dtype: of the table.
        of_table: more of its spec.
    """

    def __init__(
        self,
        folder: Path,
        servers: int = 2,
        mode: str = "sync",
        staleness: int = 0,
        snapshot_every: int = 0,
        dtype: str = "float32",
        **of_table: Any,
    ) -> None:
        self.folder = folder
        self.partition = Partition(servers)
        mine = Identity(servers, 1, mode, staleness)
        identity.own(folder, make=True)
        identity.write(folder, mine, "session")
        config = RunConfig(1, mode, staleness, snapshot_every)
        self.servers = [
            Server(identity.server_folder(folder, number), config) for number in range(servers)
        ]
        self.specs = specs(dtype, **of_table)
        self.versions = [self._new_store()]
        for number, server in enumerate(self.servers):
            server.hello(0, 1)
            pieces = [
                piece for spec in self.specs for piece in self.partition.split_spec(spec)[number]
            ]
            server.declare(pieces, self.partition.split_values("w", START)[number])
        self.rng = np.random.default_rng(0)

    def _new_store(self) -> Store:
        store = Store()
        for spec in self.specs:
            store.declare(spec)
        store.put("w", START)
        return store

    def push(self, servers: int | None = None) -> None:
        """A step; it may come to the first servers alone."""
        step = len(self.versions) - 1
        ids = np.unique(self.rng.integers(0, ROWS, 20))
        dtype = np.float32
        update = {
            "w": {"grad": self.rng.standard_normal(SHAPE).astype(dtype)},
            "emb/t": {
                "ids": ids,
                "grad": self.rng.standard_normal((len(ids), 2, 3)).astype(dtype),
            },
        }
        split = self.partition.split_updates(update)
        for server, mine in list(zip(self.servers, split, strict=True))[:servers]:
            server.push(0, 1, step, mine, RATE)
        following = Store()
        following.load(self.versions[-1].view().pieces())
        following.apply(step, update, RATE)
        self.versions.append(following)

    def close(self) -> None:
        """End the servers."""
        for server in self.servers:
            server.close()
