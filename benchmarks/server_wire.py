"""The way between a worker and a server alone: `python benchmarks/server_wire.py`.

A worker and a server in processes of their own on this host, without Ray: the server's actor on a
loop, the messages of steps over ZeroMQ, pipes and shared memory as in a run, its log on disk. The
step of `server.py --only dense` (SGD: push the gradient, log it, apply it, return the values), by
turns with a bare ZeroMQ peer that sends back what it gets. It starts in two seconds, and shows what
a change of the data path does on a busy machine: by its ratio, and by processor time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

import numpy as np

import processor_time
import record

HERE = Path(__file__).resolve()
SUPPORT = HERE.parents[1] / "tests" / "support"
sys.path.append(str(SUPPORT))

SIZES = {"4 KB": (4096, 300), "1 MB": (1 << 20, 60), "100 MB": (100 << 20, 5)}
SGD = {"rule": "SGD", "momentum": 0.0, "dampening": 0.0, "nesterov": False}
RATE = {"learning_rate": 0.01}
WARM, TURN = 10, 10


def serve(folder: str) -> None:
    """A server: what goes through Ray in a run goes through one connection here."""
    from paramesh.ps.deployment.actors import ServerActor
    from server_loops import LoopHost

    loop = asyncio.new_event_loop()

    async def made() -> ServerActor:
        return ServerActor(folder, {"workers": 1}, host=LoopHost())

    actor = loop.run_until_complete(made())
    threading.Thread(target=loop.run_forever, daemon=True).start()
    with Listener() as listening:
        print(listening.address, flush=True)
        with listening.accept() as asked:
            while True:
                try:
                    method, arguments = asked.recv()
                except EOFError:
                    os._exit(0)
                work = getattr(actor, method)(*arguments)
                asked.send(asyncio.run_coroutine_threadsafe(work, loop).result())


class Asking:
    """In the place of the servers that `LoopClient` knows: one in another process."""

    def __init__(self, connection: Any) -> None:
        self.calls: list[str] = []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.actor = self
        self._connection = connection

    def __getattr__(self, method: str) -> Any:
        async def call(*arguments: object) -> Any:
            self._connection.send((method, arguments))
            return self._connection.recv()

        return call


def started(command: list[str]) -> tuple[subprocess.Popen[str], str]:
    """A process, and the line that it begins with."""
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def measure(name: str, size: int, steps: int, folder: str) -> None:
    """Print the line of a size."""
    import zmq

    from server_loops import LoopClient

    server, address = started([str(HERE), "--serve", os.path.join(folder, f"s{size}")])
    peer, bare_address = started([str(HERE.parent / "servers" / "of_zmq.py")])
    bare = zmq.Context.instance().socket(zmq.DEALER)
    bare.linger = 0
    bare.connect(bare_address)
    client = LoopClient([Asking(Client(address))], "zmq")  # type: ignore[list-item]
    shape = [size // 4]
    spec = {"name": "w", "kind": "dense", "shape": shape, "dtype": "float32", "recipe": None}
    client.declare([spec | {"optimizer": SGD}], {"w": np.zeros(shape, np.float32)})
    grad = np.ones(shape, np.float32)
    times: dict[str, list[float]] = {"ours": [], "bare": []}
    used = 0.0
    made = 0
    turn = TURN if size < 1 << 24 else 1
    warm = WARM if size < 1 << 24 else 2
    while made < steps + warm:
        before = time.process_time() + processor_time.of_process(server.pid)
        counts = made >= warm
        for _ in range(turn):
            began = time.perf_counter()
            client.step(made, {"w": {"grad": grad}}, RATE, ["w"])
            made += 1
            if counts:
                times["ours"].append((time.perf_counter() - began) * 1e3)
        after = time.process_time() + processor_time.of_process(server.pid)
        used += (after - before) if counts else 0.0
        for _ in range(turn):
            began = time.perf_counter()
            bare.send(grad, copy=False)
            np.frombuffer(bare.recv(copy=False).buffer, grad.dtype)
            if counts:
                times["bare"].append((time.perf_counter() - began) * 1e3)
    ours, theirs = (statistics.median(times[which]) for which in ("ours", "bare"))
    cpu = used / len(times["ours"]) * 1e3
    print(
        f"{name:>7}: {ours:8.3f} ms, {cpu:.3f} ms of processor time at both ends; bare ZeroMQ "
        f"{theirs:.3f} ms, ratio {ours / theirs:.2f}",
        flush=True,
    )
    client.close()
    for process in (server, peer):
        process.kill()
        process.wait()
    bare.close()


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES))
    parser.add_argument("--folder", default=None, help="for the logs")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve is not None:
        serve(given.serve)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        for name in given.sizes:
            measure(name, *SIZES[name], folder)


if __name__ == "__main__":
    if "--serve" in sys.argv:
        main()
    else:
        record.run(main)
