"""Workers that join a run, and leave it, over every transport; servers and workers are threads."""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from paramesh.ps.deployment.actors import ServerActor
from paramesh.ps.durability import identity, whose_folder, worker_files
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.specification.worker_sets import Verdict
from server_loops import LoopClient, LoopHost, LoopServer

SGD = {"rule": "SGD", "momentum": False, "dampening": 0.0, "nesterov": False}
SPECS = [
    {"name": name, "kind": "dense", "shape": [2], "dtype": "float32", "recipe": None}
    | {"optimizer": SGD}
    for name in "ab"
]


class RunServer(LoopServer):
    """A server of the run in a folder."""

    def __init__(self, folder: Path, number: int) -> None:
        self._place = folder, number
        super().__init__(identity.server_folder(folder, number), workers=2)

    async def _make(self, folder: Path, config: dict[str, Any]) -> ServerActor:
        home, number = self._place
        run = identity.run_name(home), number
        return ServerActor(str(folder), config, run=run, home=str(home), host=LoopHost())


class Worker:
    """One worker, on a thread of its own."""

    def __init__(self, servers: list[RunServer], transport: str, rank: int) -> None:
        self.client = LoopClient(servers, transport, rank)
        self.client.divide()
        self.told = list[int]()
        self.client._cluster = SimpleNamespace(staff=self.told.append)  # type: ignore[assignment]
        self.rank, self.step, self.values = rank, 0, {}

    def train(self, ends: Callable[[], float]) -> str:
        """Why it has ended; "" behind the last step, which the others need not make."""
        client = self.client
        why = client._run(client.worker.join)
        if why:
            return why
        client.declare(SPECS, {name: np.zeros(2, np.float32) for name in "ab"})
        for step in itertools.count(client.worker.start):
            self.step = step
            if self.rank >= client.workers_at(step):
                client._run(client.worker.settle)
                client._run(client.worker.leave)
                return "it has left"
            grad = np.full(2, self.rank + 1, np.float32)
            updates = {name: {"grad": grad} for name in "ab"}
            self.values = client.step(step, updates, {"learning_rate": 1.0}, ["a", "b"])
            if step >= ends():
                break
        return ""


def verdict_on(folder: Path, before: int, workers: int) -> Verdict:
    number = worker_files.want(folder, before, workers, "s")
    assert number is not None
    until = time.monotonic() + 30
    while (found := worker_files.verdict_on(folder, number)) is None:
        assert time.monotonic() < until
        time.sleep(0.01)
    return found


@pytest.mark.parametrize("transport", ["ray", "zmq"])
def test_two_then_three_then_one(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if transport == "zmq":
        pytest.importorskip("zmq")
    monkeypatch.setattr("paramesh.ps.deployment.change_calls.LOOK", 0.01)
    folder, last = tmp_path / "run", [math.inf]
    whose_folder.own(folder, make=True)
    identity.write(folder, Identity(2, 2), "s")
    with contextlib.ExitStack() as stack:
        servers = [RunServer(folder, number) for number in range(2)]
        threads = stack.enter_context(concurrent.futures.ThreadPoolExecutor(4))
        for server in servers:
            stack.callback(server.close)

        def hired(rank: int) -> tuple[Worker, concurrent.futures.Future[str]]:
            worker = Worker(servers, transport, rank)
            stack.callback(worker.client.close)
            return worker, threads.submit(worker.train, lambda: last[0])

        stack.callback(last.__setitem__, 0, 0)
        zero, ended = hired(0)
        _, one_ended = hired(1)
        _, unwanted = hired(2)
        assert unwanted.result(20) == "it has 2 workers"
        joins = threads.submit(verdict_on, folder, 2, 3)
        while not (folder / "workers-1.json").exists():
            time.sleep(0.005)
        _, two_ended = hired(2)
        second = joins.result(30)
        third = verdict_on(folder, 3, 1)
        last[0] = third.border + 5
        assert ended.result(60) == ""
        assert {one_ended.result(20), two_ended.result(20)} == {"it has left"}
        assert 0 < second.border < third.border
        sizes = [
            2 if step < second.border else 3 if step < third.border else 1
            for step in range(zero.step + 1)
        ]
        expected = -sum(sum(range(1, size + 1)) for size in sizes)
        assert {float(zero.values[name][0]) for name in "ab"} == {expected}
        assert identity.read(folder).worker_num == 1
        assert zero.told == [3, 1]
