"""Steps over several servers and workers on this host: `python benchmarks/server_scaling.py`.

Prints the steps in a second, and the bytes that are pushed and read, for 1, 2 and 4 servers and 1,
2, 4 and 8 workers in sync mode, log included. The workers are threads of one process. On a host
with fewer cores than processes more servers cannot be faster: what is to be seen is their cost.

Needs paramesh[ps]. The servers write their logs to the folder for temporary files; `--folder` names
another.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np

from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.deployment.connection import RayClient

SGD = {"rule": "SGD", "momentum": 0.0, "dampening": 0.0, "nesterov": False}
RATE = {"learning_rate": 0.01}


def steps_of(client: RayClient, grad: np.ndarray, count: int, barrier: Barrier) -> list[float]:
    times: list[float] = []
    for step in range(count + 2):
        if step == 2:
            barrier.wait()
        began = time.perf_counter()
        client.step(step, {"w": {"grad": grad}}, RATE, ["w"])
        times.append(time.perf_counter() - began)
    return times[2:]


def measured(folder: str, servers: int, workers: int, size: int, count: int) -> None:
    job = f"scaling-{servers}-{workers}"
    cluster = Cluster(servers, {"workers": workers}, folder=os.path.join(folder, job), job=job)
    try:
        clients = [RayClient(cluster, rank=rank, workers=workers) for rank in range(workers)]
        shape = [size // 4]
        spec = {"name": "w", "kind": "dense", "shape": shape, "dtype": "float32", "recipe": None}
        barrier = Barrier(workers)
        grad = np.ones(shape, np.float32)
        with ThreadPoolExecutor(workers) as pool:
            first = {"w": np.zeros(shape, np.float32)}
            list(pool.map(lambda c: c.declare([spec | {"optimizer": SGD}], first), clients))
            times = list(pool.map(lambda c: steps_of(c, grad, count, barrier), clients))
    finally:
        cluster.close()
    middle = statistics.median(took for mine in times for took in mine)
    print(
        f"{servers} servers, {workers} workers, {size / 2**20:g} MiB: {middle * 1e3:8.2f} ms, "
        f"{1 / middle:7.1f} steps/s, {2 * workers * size / middle / 2**20:8.1f} MiB/s",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", default=None)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--mib", type=float, default=4.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        base = Cluster(1, {"workers": 1}, job="base")
        try:
            for servers in (1, 2, 4):
                for workers in (1, 2, 4, 8):
                    measured(folder, servers, workers, int(given.mib * 2**20), given.steps)
        finally:
            base.close()


if __name__ == "__main__":
    main()
