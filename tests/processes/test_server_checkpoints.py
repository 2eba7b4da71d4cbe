"""Checkpoints that servers in processes of their own write, while one of them is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

PROGRAM = """
import os, signal, sys, time
import numpy as np
import paramesh
from paramesh import Tensor, context, load_checkpoint, nn, save_checkpoint
from paramesh.ps.integration import session as sessions

folder, what, servers, mode, standby = sys.argv[1:]
more = {"staleness": 1} if mode == "stale" else {}
context.set_ps_context(
    enable_ps=True, server_num=int(servers), wal_dir=f"{folder}/{what}", mode=mode,
    standby=int(standby), **more,
)
paramesh.set_seed(1)
ROWS = 60_000
class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingLookup(ROWS, 16)
        self.out = nn.Dense(16, 1)
    def construct(self, ids):
        return (self.out(self.table(ids)) ** 2).mean()
net = Net()
net.table.set_param_ps(init_in_server=True, expire_after=3)
net.out.set_param_ps()
step = nn.TrainOneStepCell(net, nn.Adam(net.trainable_params(), 0.1))

def losses(first, last):
    found = []
    for number in range(first, last):
        rng = np.random.default_rng(number)
        count = ROWS if number == 0 else 500
        ids = rng.permutation(ROWS)[:count]
        found.append(float(step(Tensor(ids))))
    return found

if what == "first":
    losses(0, 2)
    base = save_checkpoint(step, f"{folder}/base.sharded")
    losses(2, 3)
    handle = save_checkpoint(step, f"{folder}/net.sharded", async_save=True)
    pids = [one["pid"] for one in sessions.running().client.stats()]
    for number, pid in enumerate(pids):
        os.kill(pid, signal.SIGKILL)
    rest = losses(3, 9)
    handle.wait()
else:
    found = load_checkpoint(f"{folder}/net.sharded", step)
    assert not any(name.endswith(".rows") for name in found)
    rest = losses(3, 9)
print()
print("losses", rest)
"""


def run(folder: Path, what: str, servers: int, mode: str = "sync", standby: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), what, str(servers), mode, str(standby)],
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    # Ray says there, too, that a process was killed.
    (losses,) = [line for line in done.stdout.splitlines() if line.startswith("losses")]
    return losses


@pytest.mark.parametrize(("mode", "standby"), [("sync", 0), ("sync", 1)])
def test_a_server_is_killed_while_it_saves(mode: str, standby: int, tmp_path: Path) -> None:
    """The checkpoint is that of its step, and another number of servers goes on from it."""
    losses = run(tmp_path, "first", 2, mode, standby)
    assert losses.count(",") == 5
    for what, servers in (("second", 3), ("third", 1)):
        assert run(tmp_path, what, servers, mode) == losses
