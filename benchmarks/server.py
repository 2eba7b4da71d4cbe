"""What a step over the parameter server costs: `python benchmarks/server.py`.

Prints medians over each transport, and ratios against a plain Ray actor that is sent and returns
the same bytes in one call, and a bare ZeroMQ peer that does (one frame, neither encrypted nor
logged), and against copying them twice in memory; all in one run, by turns of some calls of each:

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
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import ray
import zmq
from ray.actor import ActorHandle
from ray.exceptions import RayError

import processor_time
import record
from paramesh.initializer import initializer
from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.deployment.connection import RayClient
from paramesh.ps.specification.initial_values import initial_values_of

#: Bytes, and calls that count for each of `--runs`: of short ones there are many in a training, and
#: the first dozens take half as long again, until the interpreter has adapted to them.
SIZES = {"4 KB": (4096, 20), "1 MB": (1 << 20, 5), "100 MB": (100 * (1 << 20), 1)}
SGD = {"rule": "SGD", "momentum": 0.0, "dampening": 0.0, "nesterov": False}
ADAGRAD = {"rule": "Adagrad", "accum": 0.1, "update_slots": True}
RATE = {"learning_rate": 0.01}
TRANSPORTS = ("ray", "zmq")
#: Steps that do not count.
WARM = 3
#: Calls of one kind after another: a training makes its steps in a row, too.
TURN = 10


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
    transport: str = "ray",
    standby: bool = False,
    **config: Any,
) -> RayClient:
    where = os.path.join(folder, job)
    cluster = Cluster(1, {"workers": 1} | config, folder=where, job=job, standby=standby)
    client = RayClient(cluster, transport=transport)
    client.declare([spec], values)
    return client


class BareZmq:
    """ZeroMQ's part alone: a process that sends back what it gets, not encrypted, not checked."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, os.path.join(os.path.dirname(__file__), "servers", "of_zmq.py")],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        address = self._process.stdout.readline().strip()
        self._socket = zmq.Context.instance().socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.connect(address)

    def step(self, grad: np.ndarray) -> np.ndarray:
        """The bytes that come back."""
        self._socket.send(grad, copy=False)
        return np.frombuffer(self._socket.recv(copy=False).buffer, grad.dtype)

    def close(self) -> None:
        """End the process."""
        self._socket.close()
        self._process.kill()
        self._process.wait()


class Measured:
    """Times of one kind of call, and the processor time of both ends meanwhile."""

    def __init__(self, pid: int | None = None) -> None:
        self.times: list[float] = []
        self._pid = pid
        self._used: list[float] = []

    def run(self, call: Callable[[], Any], *, count: bool) -> None:
        """Make the call; `count`: it is one that counts."""
        other = 0.0 if self._pid is None else processor_time.of_process(self._pid)
        own = time.process_time()
        took = milliseconds(call)
        own = time.process_time() - own
        other = 0.0 if self._pid is None else processor_time.of_process(self._pid) - other
        if count:
            self.times.append(took)
            self._used.append((own + other) * 1e3)

    @property
    def median(self) -> float:
        """Milliseconds of a call."""
        return statistics.median(self.times)

    @property
    def cpu(self) -> float:
        """Milliseconds of processor time of a call, of the worker and the server together."""
        return statistics.median(self._used)


def dense(folder: str, name: str, size: int, runs: int) -> None:
    shape = [size // 4]
    spec = {"name": "w", "kind": "dense", "shape": shape, "dtype": "float32", "recipe": None}
    start = {"w": np.zeros(shape, np.float32)}
    clients = {
        transport: client_of(
            folder, f"dense-{size}-{transport}", spec | {"optimizer": SGD}, start, transport
        )
        for transport in TRANSPORTS
    }
    echo = ray.remote(Echo).options(num_cpus=0).remote(size)
    assert isinstance(echo, ActorHandle)
    bare = BareZmq()
    grad = np.ones(shape, np.float32)
    out = np.empty_like(grad)
    found = {t: Measured(client.stats()[0]["pid"]) for t, client in clients.items()}
    found |= {"plain Ray": Measured(), "bare ZeroMQ": Measured(), "memcpy twice": Measured()}
    update = {"w": {"grad": grad}}
    calls: dict[str, Callable[[int], Any]] = {
        transport: lambda s, c=client: c.step(s, update, RATE, ["w"])
        for transport, client in clients.items()
    }
    calls["plain Ray"] = lambda _: ray.get(echo.step.remote(grad))
    calls["bare ZeroMQ"] = lambda _: bare.step(grad)
    calls["memcpy twice"] = lambda _: (np.copyto(out, grad), np.copyto(out, grad))
    turn, warm = (TURN, 2 * TURN) if size < 1 << 24 else (1, WARM)
    for first in range(0, runs + warm, turn):
        for name_of_call, call in calls.items():
            for step in range(first, min(first + turn, runs + warm)):
                found[name_of_call].run(lambda s=step, c=call: c(s), count=step >= warm)
    carried = {t: clients[t].delivery.transport.describe()["server-0"] for t in clients}
    bare_time, ray_time = found["bare ZeroMQ"].median, found["plain Ray"].median
    for transport in TRANSPORTS:
        mine = found[transport]
        print(
            f"dense {name:>7} over {transport:>3} ({carried[transport]}): {mine.median:8.2f} ms, "
            f"{mine.cpu:.2f} ms of processor time; {mine.median / ray_time:.2f} times plain Ray "
            f"({ray_time:.2f} ms), {mine.median / bare_time:.2f} times bare ZeroMQ "
            f"({bare_time:.2f} ms); memcpy twice {found['memcpy twice'].median:.3f} ms",
            flush=True,
        )
    ray.kill(echo)
    bare.close()
    for client in clients.values():
        client.close()


def embedding(folder: str, runs: int) -> None:
    rows, width, batch = 1_000_000, 64, 50_000
    recipe = initializer("normal", (rows, width), "float32").recipe
    assert recipe is not None
    spec = {"name": "t", "kind": "rows", "row_shape": [width], "rows": rows, "dtype": "float32"}
    spec |= {"recipe": initial_values_of("t", recipe), "optimizer": ADAGRAD}
    clients = {
        transport: client_of(folder, f"embedding-{transport}", spec, {}, transport)
        for transport in TRANSPORTS
    }
    rng = np.random.default_rng(0)
    grad = rng.standard_normal((batch, width)).astype(np.float32)
    ids = np.sort(rng.choice(rows, batch, replace=False))
    pushes = {transport: Measured() for transport in TRANSPORTS}
    pulls = {transport: Measured() for transport in TRANSPORTS}
    update = {"t": {"ids": ids, "grad": grad}}
    for step in range(runs + WARM):
        for transport, client in clients.items():
            pushes[transport].run(
                lambda s=step, c=client: c.step(s, update, RATE, []), count=step >= WARM
            )
            pulls[transport].run(
                lambda s=step, c=client: c.pull_rows(s + 1, "t", ids), count=step >= WARM
            )
    for transport in TRANSPORTS:
        print(
            f"embedding over {transport:>3}, {batch} rows that exist: "
            f"pull {pulls[transport].median:.1f} ms, push {pushes[transport].median:.1f} ms",
            flush=True,
        )
    recovered(clients["ray"], runs + WARM, ids[:1])
    for client in clients.values():
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
        client = client_of(folder, job, spec | {"optimizer": SGD}, start, standby=standby)
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
            for name, (size, more) in SIZES.items() if given.only in (None, "dense") else ():
                dense(folder, name, size, more * given.runs if size < 1 << 24 else 5)
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
