"""`paramesh launch --servers --workers` with workers that SIGKILL ends and that go on."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from environments import without_virtual_devices

LAUNCH = [sys.executable, "-c", "from paramesh.cli import main; main()", "launch"]

#: Dropout, a table, a schedule, two epochs; dies once at the steps that its arguments say.
PROGRAM = """
import hashlib, os, signal, sys
from pathlib import Path
import numpy as np
import paramesh
from paramesh import Tensor, context, nn, ops
from paramesh.train import Callback, Model, first_step, pending_steps

rank = int(os.environ["PARAMESH_PS_RANK"])
how, mode, folder, *deaths = sys.argv[1:]
context.set_ps_context(enable_ps=True, mode=mode, staleness=2, timeout=120)
paramesh.set_seed(3)

class Net(nn.Cell):
    def __init__(self):
        super().__init__()
        self.item = nn.EmbeddingLookup(10**9, 4)
        self.dropout = nn.Dropout(p=0.5)
        self.out = nn.Dense(4, 1)

    def construct(self, ids, label):
        return ((self.out(self.dropout(self.item(ids))) - label) ** 2).mean()

def die(moment, step):
    name = f"{moment}-{rank}-{step}"
    if name in deaths and not (path := Path(folder) / name).exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)

class Batches:
    epoch = 0
    def set_epoch(self, epoch):
        self.epoch = epoch
    def __len__(self):
        return 6
    def __iter__(self):
        for i in range(6):
            rng = np.random.default_rng([self.epoch, i, rank])
            yield (Tensor(rng.integers(0, 10**9, 8)),
                   Tensor(rng.standard_normal((8, 1)).astype(np.float32)))

class Deaths(Callback):
    def on_train_step_begin(self, run):
        die("before", run.original_args().cur_step_num)
    def on_train_step_end(self, run):
        step = run.original_args().cur_step_num
        losses.append(float(run.original_args().net_outputs))
        die("after", step)

net = Net()
net.set_param_ps(init_in_server=True)
rate = nn.ExponentialDecayLR(0.1, 0.9, 2)
optimizer = nn.SGD(net.trainable_params(), rate)
data, losses = Batches(), []
if how == "model":
    Model(net, optimizer=optimizer).train(2, data, Deaths(), progress=False)
else:
    step = nn.TrainOneStepCell(net, optimizer)
    step.set_train()
    done = first_step()  # of the run, not of this life
    for epoch in (1, 2):
        data.set_epoch(epoch)
        for batch in pending_steps(data):
            losses.append(float(step(*batch)))
            done += 1
            die("after", done)
client = paramesh.ps.integration.session.running().client
final = [client.dump(name) for name in ("item.embedding_table", "out.weight", "out.bias")]
digest = hashlib.sha256(b"".join(f[k].tobytes() for f in final for k in sorted(f))).hexdigest()
print("final", digest, len(final[0]["ids"]), *map(float.hex, losses[-2:]), flush=True)
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(PROGRAM)
    return path


def launch(script: Path, *words: str, workers: int = 2) -> subprocess.CompletedProcess[str]:
    options = ["--servers", "2", "--workers", str(workers)]
    environment = without_virtual_devices()
    return subprocess.run(
        [*LAUNCH, *options, str(script), *words],
        capture_output=True,
        text=True,
        timeout=400,
        cwd=script.parent,
        env=environment,
        check=False,
    )


def finals(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"^\[(worker \d)\] (final .*)$", done.stdout, re.MULTILINE))


def left() -> list[str]:
    """Processes of a node of a launcher that is gone."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if "--block --node-ip-address" in words and sys.executable in words:
            found.append(words)
    return found


@pytest.mark.slow
def test_a_worker_that_is_killed_goes_on(script: Path) -> None:
    done = launch(script, "loop", "sync", str(script.parent), "after-1-3")
    found = finals(done)
    assert done.stderr.count("[worker 1] was killed by SIGKILL (signal 9): restarted") == 1
    assert found.keys() == {"worker 0", "worker 1"}
    assert len({text.split()[1] for text in found.values()}) == 1  # one state of the servers
    assert int(found["worker 0"].split()[2]) == 2 * 2 * 6 * 8  # the rows of all batches


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "stale"])
@pytest.mark.parametrize("how", ["model", "loop"])
def test_the_same_bits_as_undisturbed(script: Path, mode: str, how: str) -> None:
    folder = str(script.parent)
    undisturbed = finals(launch(script, how, mode, folder))
    # In the first epoch, at its end, and both workers at once.
    deaths = ["after-1-3", "after-0-6", "after-0-8", "after-1-8"]
    deaths += ["before-0-10"] if how == "model" else []
    done = launch(script, how, mode, folder, *deaths)
    assert finals(done) == undisturbed
    assert done.stderr.count("restarted") == len(deaths)


@pytest.mark.slow
def test_async_workers_push_each_batch_once(script: Path) -> None:
    folder = str(script.parent)
    found = finals(launch(script, "model", "async", folder, "after-1-4", "after-0-7"))
    # Who ends last sees all.
    assert max(int(text.split()[2]) for text in found.values()) == 2 * 2 * 6 * 8


@pytest.mark.slow
def test_an_exception_ends_the_run(script: Path) -> None:
    script.write_text("import os\nif os.environ['PARAMESH_PS_RANK'] == '1': raise ValueError('no')")
    done = launch(script)
    assert done.returncode == 1
    assert "restarted" not in done.stderr
    assert "paramesh: worker 1 of 2 exited with code 1; the others were terminated." in done.stderr
    assert done.stderr.rstrip().endswith("ValueError: no")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(script: Path, number: int) -> None:
    script.write_text(
        "import os, time\nprint(os.environ['PARAMESH_PS_SCRATCH'], flush=True)\ntime.sleep(600)"
    )
    words: list[Any] = [*LAUNCH, "--servers", "1", "--workers", "1", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        folder = Path(launcher.stdout.readline().split()[-1]).parent
        time.sleep(3)  # the node is coming up
        launcher.send_signal(number)
        assert launcher.wait(60) == (130 if number == signal.SIGINT else -number)
    until = time.monotonic() + 40
    while (folder.exists() or left()) and time.monotonic() < until:
        time.sleep(0.1)
    assert not folder.exists()
