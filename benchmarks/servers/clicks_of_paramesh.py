"""The click model in paramesh, everything on servers; see `clicks`.

Its second argument is what `set_ps_context` is given, as JSON, and further: "prefetch": whether the
next batch is announced; "cache": rows of each table on the device; "delay": seconds that messages
take to the servers, and as many back. With `paramesh launch` it is one of several workers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from clicks import ACCUMULATOR, BATCHES, BOTTOM, PAIRS, RATE, ROWS, TOP, WIDTH, batch
from driving import drive

import paramesh
from paramesh import Tensor, context, nn, ops
from paramesh.ps.integration import session as sessions
from paramesh.telemetry import phases

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))
from relay import far_away


def layers(widths: tuple[int, ...], last: bool) -> nn.SequentialCell:
    found: list[Any] = []
    for at, (inside, outside) in enumerate(itertools.pairwise(widths)):
        found.append(nn.Dense(inside, outside))
        if last or at < len(widths) - 2:
            found.append(nn.ReLU())
    return nn.SequentialCell(found)


class Net(nn.Cell):
    def __init__(self, cache: int) -> None:
        super().__init__()
        self.tables = nn.CellList(
            [nn.EmbeddingLookup(rows, WIDTH, vocab_cache_size=cache) for rows in ROWS]
        )
        self.bottom, self.top = layers(BOTTOM, True), layers(TOP, False)
        self.loss = nn.BCEWithLogitsLoss()
        self.pairs = Tensor(PAIRS[0].astype(np.int32)), Tensor(PAIRS[1].astype(np.int32))

    def construct(self, ids: Any, numbers: Any, clicked: Any) -> Any:
        x = self.bottom(numbers)
        vectors = [table(ids[f]) for f, table in enumerate(self.tables)]
        everything = ops.stack([x, *vectors], 1)
        products = ops.matmul(everything, everything.swapaxes(1, 2))
        z = ops.concat((x, products[:, self.pairs[0], self.pairs[1]]), 1)
        return self.loss(self.top(z).squeeze(1), clicked)


def main() -> None:
    settings = json.loads(sys.argv[2])
    prefetch, cache = settings.pop("prefetch", False), settings.pop("cache", 0)
    delay = settings.pop("delay", None)
    away = contextlib.nullcontext() if delay is None else far_away(delay)
    rank = int(os.environ.get("PARAMESH_PS_RANK", "0"))
    context.set_ps_context(enable_ps=True, **settings)
    paramesh.set_seed(0)
    net = Net(cache)
    net.set_param_ps(init_in_server=True)
    optimizer = nn.Adagrad(net.trainable_params(), accum=ACCUMULATOR, learning_rate=RATE)
    step = nn.TrainOneStepCell(net, optimizer)
    inputs = [tuple(map(Tensor, batch(number, rank))) for number in range(BATCHES)]
    phases.start()

    def run(at: int) -> float:
        if prefetch:
            step.prefetch(*inputs[(at + 1) % BATCHES])
        return float(step(*inputs[at % BATCHES]))

    def facts() -> dict[str, Any]:
        session = sessions.running()
        servers = [] if session is None else session.client.stats()
        pids = [server["pid"] for server in servers if "pid" in server]
        way = "" if session is None else str(session.rows.ways.choice)
        return {"servers": pids, "phases": phases.taken(), "way": way}

    with away:
        drive(run, facts)


if __name__ == "__main__":
    main()
