"""A run gets other numbers of workers while it goes on, and one of them is killed.

The bits are those of runs that had each number from the first step on with it: each of them begins
with the checkpoint of the one before.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from environments import without_virtual_devices
from process_output import rest_of

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

PARAMESH = [sys.executable, "-c", "from paramesh.cli import main; main()"]

PROGRAM = """
import os, sys, time
import numpy as np
import paramesh
from paramesh import Model, Tensor, context, nn, set_seed
from paramesh.train import Callback, divided, pending_steps

mode, how, first, last, before, after = sys.argv[1:]
more = {"staleness": 1} if mode == "stale" else {}
context.set_ps_context(enable_ps=True, mode=mode, timeout=120, **more)
set_seed(1)

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.table = nn.EmbeddingLookup(50, 4)
        self.out = nn.Dense(4, 1)
    def construct(self, ids):
        return ((self.out(self.table(ids)) - 1) ** 2).mean()

net = Net()
net.table.embedding_table.set_param_ps(init_in_server=True)
net.out.set_param_ps()
adam = nn.Adam(net.trainable_params(), 0.1)
if before != "-":
    paramesh.load_checkpoint(before, nn.TrainOneStepCell(net, adam))

def batch(i):
    return np.random.default_rng([7, i]).integers(0, 50, (12, 3))

def said(count):
    print(f"step of {count} rows by {os.getpid()}", flush=True)
    time.sleep(0.0 if os.path.exists("fast") else 0.2)

class Say(Callback):
    def on_train_step_end(self, run_context):
        said(0)

steps = divided([batch(i) for i in range(int(first), int(last))])
if how == "model":
    model = Model(net, optimizer=adam)
    model.train(1, steps, Say(), progress=False)
    whole = model.train_network
else:
    whole = nn.TrainOneStepCell(net, adam)
    for mine in pending_steps(steps):
        whole(Tensor(mine))
        said(len(mine))
if os.environ["PARAMESH_PS_RANK"] == "0":
    if after != "-":
        paramesh.save_checkpoint(whole, after)
    rows = net.table(Tensor(np.arange(50)))
    print("end", rows.asnumpy().tobytes().hex(), net.out.weight.asnumpy().tobytes().hex())
"""

#: More than there is time for before the last change; from then on steps do not pause.
STEPS = 1000


class Launch:
    """`paramesh launch` of the script."""

    def __init__(self, place: Path, name: str, workers: int, *arguments: object) -> None:
        words = ["launch", "--servers", "2", "--workers", str(workers), "--wal-dir", name]
        self.place, self.name, self.lines = place, name, list[str]()
        self.process = subprocess.Popen(
            [*PARAMESH, *words, "train.py", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=place,
            env=without_virtual_devices(),
        )

    def until(self, text: str, count: int = 1) -> str:
        """The line that is the last of so many with a text."""
        assert self.process.stdout is not None
        while True:
            line = self.process.stdout.readline()
            assert line, self.lines
            self.lines.append(line)
            count -= text in line
            if not count:
                return line

    def change(self, workers: int) -> int:
        """The first step with another number of workers."""
        words = ["ps", "workers", self.name, "--workers", str(workers)]
        told = subprocess.run(
            [*PARAMESH, *words], cwd=self.place, capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, (told, self.lines)
        found = re.search(r"from step (\d+) on", told.stdout)
        assert found is not None, told
        return int(found[1])

    def end(self) -> str:
        out, _ = rest_of(self.process)
        assert self.process.returncode == 0, (self.lines, out)
        (found,) = (line for line in [*self.lines, *out.splitlines()] if "] end " in line)
        return found.partition("end ")[2].strip()


@pytest.mark.parametrize(
    ("mode", "how"),
    [("sync", "loop"), ("stale", "loop"), ("async", "loop"), ("sync", "model")],
)
def test_the_bits_of_runs_that_had_the_number(mode: str, how: str, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(PROGRAM)
    run = Launch(tmp_path, "run", 2, mode, how, 0, STEPS, "-", "-")
    run.until("[worker 1] step", 2)
    second = run.change(3)
    line = run.until("[worker 2] step", 2)
    os.kill(int(line.split()[-1]), signal.SIGKILL)
    run.until("restarted")
    run.until("[worker 2] step", 2)
    third = run.change(1)
    run.until("worker 2 has no more steps")
    (tmp_path / "fast").touch()
    found = run.end()
    assert 0 < second < third < STEPS
    bounds, before, expected = [0, second, third, STEPS], "-", ""
    if mode != "sync":
        return  # a checkpoint is that of one version; reads lag behind, or see what is there
    for number, (workers, first, last) in enumerate(
        zip((2, 3, 1), bounds, bounds[1:], strict=False)
    ):
        after = "-" if last == STEPS else f"part-{number}.ckpt"
        part = Launch(tmp_path, f"part-{number}", workers, mode, how, first, last, before, after)
        expected, before = part.end(), after
    assert found == expected
