"""A script with servers of its own leaves no process and no file, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PROGRAM = """
import os, sys
import numpy as np
from paramesh import Tensor, context, nn, set_seed
from paramesh.ps import session as sessions

context.set_ps_context(enable_ps=True, server_num=2)
set_seed(1)
net = nn.Dense(4, 1)
net.set_param_ps()
class Loss(nn.Cell):
    def construct(self, x):
        return (net(x) ** 2).mean()
step = nn.TrainOneStepCell(Loss(), nn.SGD(net.trainable_params(), 0.1))
for _ in range(3):
    step(Tensor(np.ones((8, 4), np.float32)))
client = sessions.running().client
print(client._cluster._scratch, *[said["pid"] for said in client.stats()], flush=True)
if sys.argv[1] == "raise":
    raise RuntimeError("an error of the script")
if sys.argv[1] == "kill":
    os.kill(os.getpid(), 9)
"""

JANITOR = """
import os, sys, time
from pathlib import Path
from paramesh.ps.processes.janitor import Janitor
folder = Path(sys.argv[1])
janitor = Janitor(folder)
if sys.argv[2] == "dismiss":
    janitor.dismiss()
os.kill(os.getpid(), 9)
"""


def gone(what: list[Path], seconds: float = 30.0) -> bool:
    until = time.monotonic() + seconds
    while any(path.exists() for path in what):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@pytest.mark.slow
@pytest.mark.parametrize(("end", "code"), [("", 0), ("raise", 1), ("kill", -signal.SIGKILL)])
def test_nothing_is_left(end: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, end],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == code, done.stderr
    assert ("an error of the script" in done.stderr) == (end == "raise")
    scratch, *pids = done.stdout.split()
    assert len(pids) == 2
    assert gone([Path(scratch), *[Path("/proc", pid) for pid in pids]])


@pytest.mark.skipif(os.name != "posix", reason="the janitor works on POSIX alone")
def test_a_killed_process_leaves_no_folder(tmp_path: Path) -> None:
    folder, kept = tmp_path / "gone", tmp_path / "kept"
    for path, word in ((folder, "clean"), (kept, "dismiss")):
        (path / "below").mkdir(parents=True)
        (path / "below" / "file").write_text("x")
        done = subprocess.run([sys.executable, "-c", JANITOR, path, word], check=False, timeout=120)
        assert done.returncode == -signal.SIGKILL
    assert gone([folder])
    assert kept.exists()
