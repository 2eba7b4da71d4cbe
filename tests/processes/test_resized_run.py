"""A run gets another number of servers between two starts of its script."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from paramesh.ps.resizing.resize import resize

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

PROGRAM = """
import os, sys
import numpy as np
from paramesh import Tensor, context, nn, set_seed
from paramesh.train import pending_steps

folder, servers, steps, mode, killed = sys.argv[1:]
more = {"staleness": 1} if mode == "stale" else {}
context.set_ps_context(enable_ps=True, server_num=int(servers), wal_dir=folder, mode=mode, **more)
set_seed(1)
class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingLookup(1000, 4)
        self.out = nn.Dense(4, 1)
    def construct(self, ids):
        return (self.out(self.table(ids)) ** 2).mean()
net = Net()
net.table.embedding_table.set_param_ps(init_in_server=True)
net.out.set_param_ps()
step = nn.TrainOneStepCell(net, nn.Adam(net.trainable_params(), 0.1))
rng = np.random.default_rng(3)
batches = [Tensor(rng.integers(0, 1000, 64)) for _ in range(int(steps))]
made = 0
for batch in pending_steps(batches):
    step(batch)
    made += 1
if killed == "True":
    os.kill(os.getpid(), 9)
rows = net.table(Tensor(np.arange(1000)))
print(made, rows.asnumpy().tobytes().hex(), net.out.weight.asnumpy().tobytes().hex())
"""


def run(folder: Path, servers: int, steps: int, mode: str, killed: bool = False) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM]
        + [str(argument) for argument in (folder, servers, steps, mode, killed)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == (-9 if killed else 0), done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("mode", ["sync", "stale", "async"])
def test_it_goes_on(mode: str, tmp_path: Path) -> None:
    run(tmp_path / "run", 2, 4, mode, killed=True)
    assert resize(tmp_path / "run", 3).version == 4
    made, *values = run(tmp_path / "run", 3, 7, mode)
    always = run(tmp_path / "always", 3, 7, mode)
    assert made == "3"
    assert always == ["7", *values]
