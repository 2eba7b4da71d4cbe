"""What many tables cost over one with the same look-ups: `python benchmarks/server_tables.py`.

One worker, one server in a process of its own, rows of 16 with Adagrad and a small dense Parameter.
In every step 106,496 ids are looked up by Zipf's law (exponent 1.05) among ten million rows, which
are in 1, 26 or 104 tables: row k of the one table is row k // T of table k % T. So the rows, the
distinct rows and the bytes are the same.

    step      deduplicate the ids, pull the rows, gather them, add up the gradients, push
    pull      the part of it until the rows are gathered
    worker    processor time of the worker in a step; server: of the server's process

For each number of tables it prints medians over the steps in milliseconds, and the ratio to one
table. The numbers of tables take turns, step by step, so that all see the same machine.

Needs paramesh[ps].
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from paramesh.common.initializer import initializer

import record
from paramesh.ps.client.lookups import distinct, gathered
from paramesh.ps.client.row_gradients import to_push
from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.deployment.connection import RayClient
from paramesh.ps.specification.initial_values import initial_values_of

ROWS, WIDTH, LOOKUPS = 10_400_000, 16, 106_496
DENSE = 10_000
OPTIMIZER = {"rule": "Adagrad", "accum": 0.1, "update_slots": True}
HYPER = {"learning_rate": 0.05}


def specs(tables: int) -> list[dict[str, Any]]:
    """A dense Parameter, and tables."""
    recipe = initializer("normal", (ROWS // tables, WIDTH), "float32").recipe
    assert recipe is not None
    common = {"dtype": "float32", "optimizer": OPTIMIZER}
    size = {"kind": "rows", "row_shape": [WIDTH], "rows": ROWS // tables}
    start = {"recipe": initial_values_of("table", recipe)}
    dense = {"name": "w", "kind": "dense", "shape": [DENSE], "recipe": None}
    return [common | dense] + [common | size | start | {"name": f"table{t}"} for t in range(tables)]


def batches(steps: int) -> list[Any]:
    """Ids of the look-ups of each step."""
    rng = np.random.default_rng(0)
    edges = np.cumsum(1.0 / np.arange(1, ROWS + 1) ** 1.05)
    edges /= edges[-1]
    found: list[Any] = []
    for _ in range(steps):
        ranks = np.minimum(np.searchsorted(edges, rng.random(LOOKUPS)), ROWS - 1)
        found.append(ranks * 7919 % ROWS)
    return found


class Case:
    """A worker with its server.

    Args:
        tables: how many.
        folder: of the log.
    """

    def __init__(self, tables: int, folder: str) -> None:
        self.tables = tables
        cluster = Cluster(1, {"workers": 1}, folder=folder, job=f"tables-{tables}")
        self.client = RayClient(cluster)
        self.client.declare(specs(tables), {"w": np.zeros(DENSE, np.float32)})
        self.server = self.client.stats()[0]["pid"]
        self.at = 0
        self.times: list[tuple[float, ...]] = []

    def step(self, batch: Any) -> None:
        """One step, timed."""
        began = time.perf_counter(), time.process_time(), self._server_time()
        client, rows = self.client, ROWS // self.tables
        owners = batch % self.tables
        ids = [batch[owners == t] // self.tables for t in range(self.tables)]
        began = time.perf_counter(), time.process_time(), self._server_time()
        unique = distinct([(rows, [one]) for one in ids])
        names = [f"table{t}" for t in range(self.tables)]
        pulled = client.pull_tables(
            self.at, {n: one.ids for n, one in zip(names, unique, strict=True)}
        )
        looked_up = [
            gathered(pulled[n], one.places[0]) for n, one in zip(names, unique, strict=True)
        ]
        there = time.perf_counter()
        updates: dict[str, Any] = {"w": {"grad": np.ones(DENSE, np.float32)}}
        for name, mine, values in zip(names, ids, looked_up, strict=True):
            updates[name] = to_push(mine, values, rows, False)
        client.step(self.at, updates, HYPER, ["w"])
        self.at += 1
        now = time.perf_counter(), time.process_time(), self._server_time()
        self.times.append(
            (
                (now[0] - began[0]) * 1e3,
                (there - began[0]) * 1e3,
                (now[1] - began[1]) * 1e3,
                (now[2] - began[2]) * 1e3,
            )
        )

    def _server_time(self) -> float:
        fields = Path(f"/proc/{self.server}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def medians(self) -> list[float]:
        """Of wall time and the part until the rows are there; means of the processor times."""
        kept = self.times[len(self.times) // 3 :]
        columns = list(zip(*kept, strict=True))
        return [statistics.median(column) for column in columns[:2]] + [
            statistics.fmean(column) for column in columns[2:]
        ]


def main() -> None:
    """All numbers of tables, and the ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=int, default=30, help="of each")
    parser.add_argument("--tables", type=int, nargs="+", default=[1, 26, 104])
    options = parser.parse_args()
    steps = batches(options.steps)
    with tempfile.TemporaryDirectory() as folder:
        cases = [Case(tables, f"{folder}/{tables}") for tables in options.tables]
        try:
            for batch in steps:
                for case in cases:
                    case.step(batch)
        finally:
            for case in reversed(cases):
                case.client.close()
    rows = statistics.fmean(len(np.unique(batch)) for batch in steps)
    print(f"{LOOKUPS:,} look-ups of {rows:,.0f} distinct rows x {WIDTH} in a step, milliseconds\n")
    print("  tables      step      pull    worker    server   step/one   processor/one")
    first = cases[0].medians()
    for case in cases:
        found = case.medians()
        print(
            f"{case.tables:8}"
            + "".join(f"{value:10.1f}" for value in found)
            + f"{found[0] / first[0]:11.2f}{sum(found[2:]) / sum(first[2:]):16.2f}"
        )


if __name__ == "__main__":
    record.run(main)
