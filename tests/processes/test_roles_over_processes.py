"""The same script as scheduler, servers and workers, started as MindSpore starts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from environments import without_virtual_devices
from paramesh.ps.deployment.cluster import HOST
from paramesh.ps.deployment.node import free_port
from paramesh.ps.deployment.roles import folder_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name != "posix", reason="the scheduler's folder has POSIX's modes"),
]

PROGRAM = """
import os, sys, time
import numpy as np
import ray  # before the token is known
from paramesh.ps.deployment.roles import folder_of
from paramesh import Tensor, context, nn, set_seed

end, timeout = sys.argv[1], int(sys.argv[2])
context.set_ps_context(enable_ps=True, timeout=timeout)
assert os.environ["MS_ROLE"] == "MS_WORKER"  # no other comes back
rank = int(os.environ["PARAMESH_PS_RANK"])
assert (context.get_ps_context("server_num"), context.get_ps_context("worker_num")) == (2, 2)
set_seed(1)
net = nn.Dense(4, 1)
net.set_param_ps()

class Loss(nn.Cell):
    def construct(self, x):
        return (net(x) ** 2).mean()

step = nn.TrainOneStepCell(Loss(), nn.SGD(net.trainable_params(), 0.1))
for i in range(3):
    step(Tensor(np.random.default_rng([i, rank]).normal(size=(8, 4)).astype(np.float32)))
print("final", *map(float.hex, net.weight.asnumpy().ravel().tolist()), flush=True)
if rank == 1 and end == "exit":
    sys.exit(3)
if end == "exit":
    time.sleep(300)
"""


class Run:
    """A scheduler, two servers and two workers, some of which may be left out."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port(HOST)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, end: str, timeout: int, *without: str) -> None:
        script = self.folder / "train.py"
        script.write_text(PROGRAM)
        common = without_virtual_devices() | {
            "MS_SCHED_HOST": "127.0.0.1",
            "MS_SCHED_PORT": str(self.port),
            "MS_SERVER_NUM": "2",
            "MS_WORKER_NUM": "2",
        }
        kinds = {"sched": "MS_SCHED", "server": "MS_PSERVER", "worker": "MS_WORKER"}
        for name in ("worker 0", "server 0", "sched", "server 1", "worker 1"):
            if name in without:
                continue
            kind, _, number = name.partition(" ")
            mine = {"MS_ROLE": kinds[kind]} | ({"MS_NODE_ID": number} if number else {})
            with open(self.folder / name, "wb") as output:
                self.processes[name] = subprocess.Popen(
                    [sys.executable, "-W", "error", str(script), end, str(timeout)],
                    env=common | mine,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )

    def codes(self) -> dict[str, int]:
        until = time.monotonic() + 240
        return {n: p.wait(max(0.1, until - time.monotonic())) for n, p in self.processes.items()}

    def said(self, name: str) -> str:
        return (self.folder / name).read_text()

    @property
    def scratch(self) -> Path:
        """The scheduler's folder."""
        return folder_of(self.port)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    try:
        yield made
    finally:
        for process in made.processes.values():
            process.kill()
            process.wait()


def test_all_end_well(run: Run) -> None:
    run.start("", 120)
    codes = run.codes()
    said = {name: run.said(name) for name in codes}
    assert set(codes.values()) == {0}, said
    finals = [re.findall("^final .*$", said[name], re.MULTILINE) for name in sorted(said)]
    assert [len(final) for final in finals] == [0, 0, 0, 1, 1]
    assert finals[3] == finals[4]
    assert not run.scratch.exists()


def test_a_worker_with_another_exit_code_ends_all(run: Run) -> None:
    run.start("exit", 120)
    codes = run.codes()
    said = {name: run.said(name) for name in codes}
    assert codes == dict.fromkeys(codes, 1) | {"worker 1": 3}, said
    for name in codes.keys() - {"worker 1"}:
        assert said[name].count("ended with an error: exit code 3") == 1, said
        assert "the run has failed: worker 1 (process" in said[name]
    assert not run.scratch.exists()


def test_one_that_does_not_come(run: Run) -> None:
    run.start("", 30, "server 1")
    codes = run.codes()
    said = {name: run.said(name) for name in codes}
    assert codes == dict.fromkeys(codes, 1), said
    for text in said.values():
        assert text.count("ParameterServerError: ") == 1
        assert "1 of 2 servers" in text
    assert not run.scratch.exists()
