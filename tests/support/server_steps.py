"""What a worker of the tests trains: a vector over all servers, and a table."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh.ps.integration.local_client import LocalClient
from server_runs import MOMENTUM, NUMBERS, ids_of, table_spec

SIZE = 70_000  # two ranges, one on each of two servers
SPECS: list[dict[str, Any]] = [
    {
        "name": "v",
        "kind": "dense",
        "shape": [SIZE],
        "dtype": "float32",
        "recipe": None,
        "optimizer": MOMENTUM,
    },
]
#: What carries the steps of clients; tests change it.
TRANSPORT = "ray"
START = {"v": np.linspace(-1, 1, SIZE).astype(np.float32)}


def update_of(step: int, values: np.ndarray, rows: np.ndarray, ids: np.ndarray) -> Any:
    return {
        "v": {"grad": values * np.float32(0.3) + np.float32(step)},
        "t": {"ids": ids, "grad": rows * np.float32(0.5) + np.float32(1)},
    }


def train(client: Any, first: int, last: int, ahead: bool = False) -> bytes:
    """Steps of a worker; the values after them.

    Args:
        client: of the servers.
        first: step.
        last: the step that is not made any more.
        ahead: request the rows of each step during the one before.
    """
    values = client.pull(first, ["v"])["v"]
    for step in range(first, last):
        ids = ids_of(step, client.rank)
        update = update_of(step, values, client.pull_tables(step, {"t": ids})["t"], ids)
        if ahead:
            client.ask_ahead(step + 1, {"t": ids_of(step + 1, client.rank)})
        values = client.step(step, update, NUMBERS, ["v"])["v"]
    return values.tobytes() + client.pull_tables(last, {"t": np.arange(50)})["t"].tobytes()


def local_run(servers: int, steps: int) -> bytes:
    """What a run of one worker gives if nothing happens."""
    client = LocalClient(servers)
    client.declare([*SPECS, table_spec()], START)
    return train(client, 0, steps)
