"""A run gets other numbers of servers while its script goes on, and whoever does it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from environments import without_virtual_devices
from paramesh.ps.durability import identity
from paramesh.ps.resizing.live import resize_live
from process_output import rest_of

pytest.importorskip("ray")
pytestmark = pytest.mark.slow

PROGRAM = """
import os, sys, time
import numpy as np
from paramesh import Tensor, context, nn, set_seed

folder, servers, steps, mode, standby, pause = sys.argv[1:]
more = {"staleness": 1} if mode == "stale" else {}
def say(name, array):  # in one piece, and at the beginning of a line: Ray prints too
    os.write(1, f"\\n{name} {array.asnumpy().tobytes().hex()}\\n".encode())
context.set_ps_context(
    enable_ps=True, server_num=int(servers), wal_dir=folder, mode=mode, standby=int(standby), **more
)
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
for _ in range(int(steps)):
    say("loss", step(Tensor(rng.integers(0, 1000, 64))))
    time.sleep(float(pause))
rows = net.table(Tensor(np.arange(1000)))
say("rows", rows)
say("weight", net.out.weight)
"""

MOVER = """
import os, sys
from paramesh.ps.resizing.live import resize_live
folder, servers, where = sys.argv[1:]
resize_live(
    folder, int(servers), point=lambda name: os.kill(os.getpid(), 9) if name == where else None
)
"""

STEPS = 14
LAUNCH = [sys.executable, "-c", "from paramesh.cli import main; main()", "launch"]
LAUNCH += ["--servers", "2", "--workers", "2"]


class Script:
    """A process of the script."""

    def __init__(self, folder: Path, servers: int, mode: str, standby: int, pause: float) -> None:
        arguments = (folder, servers, STEPS, mode, standby, pause)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PROGRAM, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.folder = folder
        self.lines: list[str] = []

    def steps(self, count: int) -> None:
        """Wait until it has made so many more."""
        assert self.process.stdout is not None
        while count:
            line = self.process.stdout.readline()
            assert line, (self.lines, rest_of(self.process))
            if line.startswith("loss"):  # Ray tells of processes that have ended
                self.lines.append(line)
                count -= 1

    def rest(self) -> list[str]:
        out, err = rest_of(self.process)
        assert self.process.returncode == 0, err
        said = ("loss", "rows", "weight")
        return self.lines + [o for o in out.splitlines(keepends=True) if o.startswith(said)]

    def servers(self) -> list[int]:
        """The processes that have files of its servers open."""
        found: list[int] = []
        for entry in Path("/proc").iterdir():
            try:
                if b"ServerActor" in (entry / "cmdline").read_bytes():
                    files = [os.readlink(file) for file in (entry / "fd").iterdir()]
                    if any(file.startswith(f"{self.folder}/") for file in files):
                        found.append(int(entry.name))
            except OSError:
                continue
        return sorted(found)

    def serving(self) -> list[int]:
        """As `servers`, once there are any: what was broken off takes its time to be noticed."""
        until = time.monotonic() + 60
        while not (found := self.servers()):
            assert time.monotonic() < until
            time.sleep(0.1)
        return found

    def kill_server(self) -> None:
        os.kill(self.serving()[-1], signal.SIGKILL)


def killing(script: Script, where: str) -> Callable[[str], None]:
    """A server is killed, once, when the move is at a point."""
    left = [where]

    def point(name: str) -> None:
        if name in left:
            left.clear()
            script.kill_server()

    return point


@pytest.mark.parametrize(("mode", "standby"), [("sync", 0), ("stale", 1)])
def test_moves_of_a_live_run(mode: str, standby: int, tmp_path: Path) -> None:
    calm = Script(tmp_path / "calm", 1, mode, 0, 0.0).rest()
    folder = tmp_path / "run"
    script = Script(folder, 2, mode, standby, 0.3)
    script.steps(2)
    # Until the end of the move is there, the run is what it was.
    dead = subprocess.run([sys.executable, "-c", MOVER, str(folder), "3", "built"], check=False)
    assert dead.returncode == -signal.SIGKILL
    script.steps(2)
    assert identity.read(folder).server_num == 2
    assert script.serving()
    done = resize_live(folder, 3, point=killing(script, "begun"))
    assert (done.before, done.after) == (2, 3)
    script.steps(2)
    assert identity.read(folder).server_num == 3
    # From then on it has moved, whoever dies.
    dead = subprocess.run([sys.executable, "-c", MOVER, str(folder), "1", "committed"], check=False)
    assert dead.returncode == -signal.SIGKILL
    script.steps(2)
    script.kill_server()
    assert identity.read(folder).server_num == 1
    assert script.rest() == calm


WORKER = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from paramesh import Tensor, context, nn, set_seed
from paramesh.train import pending_steps

dies, pause = sys.argv[1:]
rank = int(os.environ["PARAMESH_PS_RANK"])
context.set_ps_context(enable_ps=True, timeout=120)
set_seed(1)
net = nn.Dense(4, 1)
net.set_param_ps()
step = nn.TrainOneStepCell(
    nn.WithLossCell(net, nn.MSELoss()), nn.SGD(net.trainable_params(), 0.1)
)
batches = [
    (Tensor(np.random.default_rng([rank, i]).normal(size=(8, 4)).astype(np.float32)),
     Tensor(np.ones((8, 1), np.float32)))
    for i in range(14)
]
done = 0
for batch in pending_steps(batches):
    step(*batch)
    done += 1
    print("step", flush=True)
    time.sleep(float(pause))
    if dies == str(rank) and done == 9 and not Path("died").exists():
        Path("died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
print("weight", net.weight.asnumpy().tobytes().hex(), flush=True)
"""


class Launch:
    """`paramesh launch` of two workers and two servers."""

    def __init__(self, place: Path, dies: str, pause: float) -> None:
        self.place = place
        place.mkdir()
        (place / "train.py").write_text(WORKER)
        self.process = subprocess.Popen(
            [*LAUNCH, "--wal-dir", "run", "train.py", dies, str(pause)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=place,
            env=without_virtual_devices(),
        )
        self.lines: list[str] = []

    def steps(self, count: int) -> None:
        """Wait for so many lines of the workers about their steps."""
        assert self.process.stdout is not None
        while count:
            line = self.process.stdout.readline()
            assert line, self.lines
            self.lines.append(line)
            count -= "] step" in line

    def weights(self) -> set[str]:
        out, _ = rest_of(self.process)
        assert self.process.returncode == 0, (self.lines, out)
        found = [line.partition("weight ")[2] for line in out.splitlines() if "weight " in line]
        assert len(found) == 2
        return set(found)


def test_a_worker_that_is_started_again_finds_the_servers(tmp_path: Path) -> None:
    calm = Launch(tmp_path / "calm", "none", 0.0).weights()
    assert len(calm) == 1
    run = Launch(tmp_path / "launched", "1", 0.3)
    run.steps(6)
    done = resize_live(run.place / "run", 3)
    assert (done.before, done.after) == (2, 3)
    assert run.weights() == calm
    assert (run.place / "died").exists()
