"""What `vocab_cache_size` does to a step: `python benchmarks/embedding_cache.py`.

One worker, one server in a process of its own (or several: `--servers`), a table of a million rows
of 64 with Adagrad and a small network behind it. The ids follow Zipf's law (exponent 1.05): few
rows are in every batch, and many in one. For each way it prints medians over the steps of one run:
the time of a step, the rows that it waits for before it begins, and all rows that came from the
server with their bytes. The losses of all ways have to be the same to the last bit, and it fails if
they are not.

    none        every row is pulled when its step begins
    cached      as many rows as `--cache` on the device, the next batch not known
    prefetch    the same, with the next batch announced by `step.prefetch(...)`

Needs paramesh[ps].
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from typing import Any

import numpy as np

import paramesh
import record
from paramesh import Tensor, context, nn
from paramesh.ps.integration import session as sessions

ROWS, WIDTH = 1_000_000, 64


class Net(nn.Cell):
    """Rows, and two layers over their mean."""

    def __init__(self, cached: int) -> None:
        super().__init__()
        self.table = nn.EmbeddingLookup(ROWS, WIDTH, vocab_cache_size=cached)
        self.hidden = nn.Dense(WIDTH, 128)
        self.out = nn.Dense(128, 1)

    def construct(self, ids: Any, label: Any) -> Any:
        """The loss."""
        x = self.hidden(self.table(ids).mean(1))
        return ((self.out(x.tanh()) - label) ** 2).mean()


def zipf(rng: Any, shape: tuple[int, ...]) -> Any:
    """Ids of a table of ROWS rows by Zipf's law, spread over it."""
    weights = 1.0 / np.arange(1, ROWS + 1) ** 1.05
    edges = np.cumsum(weights / weights.sum())
    ranks = np.minimum(np.searchsorted(edges, rng.random(shape)), ROWS - 1)
    return ranks * 7919 % ROWS


def run(way: str, cached: int, servers: int, batches: list[Any], folder: str) -> list[float]:
    context.reset_ps_context()
    context.set_ps_context(enable_ps=True, server_num=servers, wal_dir=folder)
    paramesh.set_seed(0)
    net = Net(cached if way != "none" else 0)
    net.table.embedding_table.set_param_ps(init_in_server=True)
    step = nn.TrainOneStepCell(net, nn.Adagrad(net.trainable_params(), learning_rate=0.05))
    times, waited, came, losses = [], [], [], []
    before = {"rows_pulled": 0, "pulled": 0}
    for number, batch in enumerate(batches):
        began = time.perf_counter()
        if way == "prefetch" and number + 1 < len(batches):
            step.prefetch(*batches[number + 1])
        losses.append(float(step(*batch)))
        times.append((time.perf_counter() - began) * 1e3)
        counts = net.table.counts()
        came.append(counts["rows_pulled"] - before["rows_pulled"])
        waited.append(counts.get("pulled", counts["rows_pulled"]) - before.get("pulled", 0))
        before = {"rows_pulled": counts["rows_pulled"]}
        before["pulled"] = counts.get("pulled", counts["rows_pulled"])
    half = len(batches) // 2  # the cache is warm by then
    ms, late, rows = (statistics.median(values[half:]) for values in (times, waited, came))
    print(
        f"{way:>8}: step {ms:7.1f} ms; rows waited for {late:7.0f}, rows from the server "
        f"{rows:7.0f} ({rows * WIDTH * 4 / 2**20:.2f} MiB)"
        + (f"; hit rate {net.table.counts()['hit_rate']:.2f}" if way != "none" else ""),
        flush=True,
    )
    sessions.end()
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--batch", type=int, default=1024, help="examples of 16 ids each")
    parser.add_argument("--cache", type=int, default=100_000)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    batches = [
        (
            Tensor(zipf(rng, (given.batch, 16)).astype(np.int32)),
            Tensor(rng.standard_normal((given.batch, 1)).astype(np.float32)),
        )
        for _ in range(given.steps)
    ]
    distinct = statistics.median(len(np.unique(ids.asnumpy())) for ids, _ in batches)
    print(f"{given.batch * 16} ids a step, {distinct:.0f} of them different", flush=True)
    found = []
    for way in ("none", "cached", "prefetch"):
        with tempfile.TemporaryDirectory() as folder:
            found.append(run(way, given.cache, given.servers, batches, folder))
    if not found[0] == found[1] == found[2]:
        raise SystemExit("the losses differ")


if __name__ == "__main__":
    record.run(main)
