"""What a step over the parameter server costs: `python benchmarks/server.py`.

Prints medians, and ratios against a plain Ray actor that is sent and returns the same bytes in one
call, and against copying them twice in memory:

    dense       one worker, one server, SGD: push the gradient, log it, apply it, return the values
    embedding   50,000 of 1,000,000 rows of 64, Adagrad: pull, and push
    snapshot    steps of 1,000 rows while 1 GiB of state (Adagrad) is written beside them
    recovery    from SIGKILL to the answer of the next step: with 24 MiB, and with 1 GiB of state
    takeover    from SIGKILL of a small server, several times, without and with a standby

Needs paramesh[ps]. The servers write their logs to the folder for temporary files; `--folder` names
another.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

import record
from paramesh.initializer import initializer
from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.deployment.connection import RayClient
from paramesh.ps.specification.initial_values import initial_values_of

SIZES = {"4 KB": 4096, "1 MB": 1 << 20, "100 MB": 100 * (1 << 20)}
SGD = {"rule": "SGD", "momentum": 0.0, "dampening": 0.0, "nesterov": False}
ADAGRAD = {"rule": "Adagrad", "accum": 0.1, "update_slots": True}
RATE = {"learning_rate": 0.01}


class Echo:
    """Ray's part alone: bytes in, as many bytes out."""

    def __init__(self, size: int) -> None:
        self.values = np.zeros(size // 4, np.float32)

    async def step(self, grad: np.ndarray) -> np.ndarray:
        """What a server gives back."""
        return self.values


def milliseconds(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1e3


def client_of(
    folder: str,
    job: str,
    spec: dict[str, Any],
    values: Any,
    standby: bool = False,
    **config: Any,
) -> RayClient:
    where = os.path.join(folder, job)
    cluster = Cluster(1, {"workers": 1} | config, folder=where, job=job, standby=standby)
    client = RayClient(cluster)
    client.declare([spec], values)
    return client


def dense(folder: str, name: str, size: int, runs: int) -> None:
    shape = [size // 4]
    spec = {"name": "w", "kind": "dense", "shape": shape, "dtype": "float32", "recipe": None}
    start = {"w": np.zeros(shape, np.float32)}
    client = client_of(folder, f"dense-{size}", spec | {"optimizer": SGD}, start)
    echo = ray.remote(Echo).options(num_cpus=0).remote(size)
    assert isinstance(echo, ActorHandle)
    grad = np.ones(shape, np.float32)
    out = np.empty_like(grad)
    times: dict[str, list[float]] = {"server": [], "ray": [], "memcpy": []}
    for step in range(runs + 2):
        found = {
            "server": milliseconds(
                lambda step=step: client.step(step, {"w": {"grad": grad}}, RATE, ["w"])
            ),
            "ray": milliseconds(lambda: ray.get(echo.step.remote(grad))),
            "memcpy": milliseconds(lambda: (np.copyto(out, grad), np.copyto(out, grad))),
        }
        for key, value in found.items():
            if step >= 2:
                times[key].append(value)
    server, plain, copy = (statistics.median(times[key]) for key in ("server", "ray", "memcpy"))
    print(
        f"dense {name:>7}: server {server:8.2f} ms, plain Ray {plain:8.2f} ms "
        f"({server / plain:.2f} times), memcpy twice {copy:.3f} ms",
        flush=True,
    )
    ray.kill(echo)
    client.close()


def embedding(folder: str, runs: int) -> None:
    rows, width, batch = 1_000_000, 64, 50_000
    recipe = initializer("normal", (rows, width), "float32").recipe
    assert recipe is not None
    spec = {"name": "t", "kind": "rows", "row_shape": [width], "rows": rows, "dtype": "float32"}
    spec |= {"recipe": initial_values_of("t", recipe), "optimizer": ADAGRAD}
    client = client_of(folder, "embedding", spec, {})
    rng = np.random.default_rng(0)
    grad = rng.standard_normal((batch, width)).astype(np.float32)
    pulls: list[float] = []
    pushes: list[float] = []
    ids = np.sort(rng.choice(rows, batch, replace=False))
    for step in range(runs + 2):
        update = {"t": {"ids": ids, "grad": grad}}
        push = milliseconds(lambda u=update, s=step: client.step(s, u, RATE, []))
        pull = milliseconds(lambda s=step: client.pull_rows(s + 1, "t", ids))
        if step >= 2:
            pushes.append(push)
            pulls.append(pull)
    print(
        f"embedding, {batch} rows that exist: pull {statistics.median(pulls):.1f} ms, "
        f"push {statistics.median(pushes):.1f} ms",
        flush=True,
    )
    recovered(client, runs + 2, ids[:1])
    client.close()


def recovered(client: RayClient, step: int, ids: np.ndarray) -> None:
    before = client.stats()[0]
    began = time.perf_counter()
    os.kill(before["pid"], signal.SIGKILL)
    client.pull_rows(step, "t", ids)
    seconds = time.perf_counter() - began
    said = client.stats()[0]
    print(
        f"recovery after SIGKILL: {seconds:.2f} s, of which log and state "
        f"{said['recovery_seconds']:.2f} s ({said['bytes'] / 2**20:.0f} MiB of state, "
        f"version {said['version']}, last snapshot of version "
        f"{before['last_snapshot'].get('version', 'none')})",
        flush=True,
    )


def snapshot(folder: str, size: int, steps: int) -> None:
    """Steps while a snapshot is written, against those while none is."""
    width, batch, chunk = 64, 1000, 1 << 17
    rows = size // (2 * 4 * width)
    recipe = initializer("normal", (rows, width), "float32").recipe
    assert recipe is not None
    spec = {"name": "t", "kind": "rows", "row_shape": [width], "rows": rows, "dtype": "float32"}
    spec |= {"recipe": initial_values_of("t", recipe), "optimizer": ADAGRAD}
    client = client_of(folder, "snapshot", spec, {}, snapshot_every=steps)
    values = np.ones((chunk, width), np.float32)
    for first in range(0, rows, chunk):
        ids = np.arange(first, min(first + chunk, rows))
        client.put("t", {"value": values[: len(ids)], "accum": values[: len(ids)]}, ids)
    rng = np.random.default_rng(0)
    grad = rng.standard_normal((batch, width)).astype(np.float32)
    spans: list[tuple[float, float]] = []
    written: list[dict[str, float]] = []
    step, ids = 0, np.arange(1)
    while len(written) < 3 and step < 100 * steps:
        ids = np.unique(rng.integers(0, rows, batch))
        began = time.time()
        client.step(step, {"t": {"ids": ids, "grad": grad[: len(ids)]}}, RATE, [])
        spans.append((began, time.time() - began))
        step += 1
        if step % 20 == 0:
            last = client.stats()[0]["last_snapshot"]
            if "version" in last and last["version"] not in [s["version"] for s in written]:
                written.append(last)
    beside: list[float] = []
    for last in written:
        start, stop = last["time"] - last["seconds"], last["time"]
        beside += [took for began, took in spans if start < began + took and began < stop]
    alone = [took for _, took in spans]
    for took in beside:
        alone.remove(took)
    usual = statistics.median(alone)
    seconds = statistics.median(last["seconds"] for last in written)
    print(
        f"snapshot of {size / 2**30:g} GiB beside steps: {seconds:.2f} s; "
        f"a step takes {usual * 1e3:.1f} ms without (at most {max(alone) * 1e3:.1f}), "
        f"{statistics.median(beside) * 1e3:.1f} ms beside it (at most {max(beside) * 1e3:.1f}, "
        f"{(max(beside) - usual) * 1e3:.1f} more; {len(beside)} steps)",
        flush=True,
    )
    recovered(client, step, ids[:1])
    client.close()


def takeover(folder: str, kills: int) -> None:
    """From SIGKILL to the answer of the next step, as the waiting worker sees it."""
    shape = [1 << 18]
    spec = {"name": "w", "kind": "dense", "shape": shape, "dtype": "float32", "recipe": None}
    grad = np.ones(shape, np.float32)
    for standby in (False, True):
        start = {"w": np.zeros(shape, np.float32)}
        job = f"takeover-{standby:d}"
        client = client_of(folder, job, spec | {"optimizer": SGD}, start, standby)
        times: list[float] = []
        for step in range(kills):
            if standby:
                wait_for_standby(client)
            os.kill(client.stats()[0]["pid"], signal.SIGKILL)
            update = {"w": {"grad": grad}}
            times.append(
                milliseconds(lambda u=update, s=step, c=client: c.step(s, u, RATE, ["w"])) / 1e3
            )
        print(
            f"takeover {'with' if standby else 'without'} a standby: answer "
            f"{statistics.median(times):.2f} s after SIGKILL (median of {kills}, "
            f"{min(times):.2f} to {max(times):.2f})",
            flush=True,
        )
        client.close()


def wait_for_standby(client: RayClient) -> None:
    """Until a second process holds what the server holds."""
    version = client.stats()[0]["version"]
    peer, actors = client.delivery.caller.peers[0], client._cluster.pairs()[0]
    while True:
        try:
            said = ray.get(actors[1 - peer.at].look.remote(), timeout=60)
        except RayError:
            time.sleep(0.1)
            continue
        assert not isinstance(said, list)
        if said["version"] == version:
            return
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", default=None)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--kills", type=int, default=7)
    parser.add_argument("--only", choices=["dense", "embedding", "snapshot", "takeover"])
    parser.add_argument("--snapshot-mib", type=int, default=1024)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        base = Cluster(1, {"workers": 1}, job="base")
        try:
            for name, size in SIZES.items() if given.only in (None, "dense") else ():
                dense(folder, name, size, given.runs if size < 1 << 24 else 5)
            if given.only in (None, "embedding"):
                embedding(folder, given.runs)
            if given.only in (None, "snapshot"):
                snapshot(folder, given.snapshot_mib << 20, 200)
            if given.only in (None, "takeover"):
                takeover(folder, given.kills)
        finally:
            base.close()


if __name__ == "__main__":
    record.run(main)
