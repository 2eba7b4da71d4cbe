"""Runs that are looked at from another terminal, and whose Ray node dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from environments import without_virtual_devices
from process_output import rest_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks for processes in /proc"),
]

PARAMESH = [sys.executable, "-c", "from paramesh.cli import main; main()"]

#: Says when it has made its first step, and at which it began; ends when it is asked to.
PROGRAM = """
import os, sys, time
import numpy as np
from paramesh import Tensor, context, nn, set_seed
from paramesh.train import first_step

folder, wal_dir = sys.argv[1:]
own = {} if "PARAMESH_PS_SERVERS" in os.environ else {"server_num": 1, "wal_dir": wal_dir}
context.set_ps_context(enable_ps=True, timeout=60, **own)
set_seed(1)
net = nn.Dense(4, 1)
net.set_param_ps()
step = nn.TrainOneStepCell(nn.WithLossCell(net, nn.MSELoss()), nn.SGD(net.trainable_params(), 0.1))
x, y = Tensor(np.ones((8, 4), np.float32)), Tensor(np.ones((8, 1), np.float32))
begin = first_step()
step(x, y)
print("began at", begin, flush=True)
while not os.path.exists(os.path.join(folder, "stop")):
    step(x, y)
    time.sleep(0.02)
print("done", flush=True)
"""


def awaited(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + 90
    while not (found := condition()):
        assert time.monotonic() < until
        time.sleep(0.1)
    return found


class Script:
    """A script with servers of its own, or what `paramesh launch` makes of it."""

    def __init__(self, folder: Path, *launch: str) -> None:
        self.folder = folder
        self.runtime = folder / "runtime"
        self.runtime.mkdir(mode=0o700, exist_ok=True)
        (folder / "train.py").write_text(PROGRAM)
        words = [str(folder / "train.py"), str(folder), str(folder / "wal")]
        start = [*PARAMESH, "launch", *launch] if launch else [sys.executable]
        self.output = folder / f"output-{len(list(folder.glob('output-*')))}"
        self.environment = without_virtual_devices() | {"XDG_RUNTIME_DIR": str(self.runtime)}
        for name in [name for name in self.environment if name.startswith("RAY_AUTH")]:
            del self.environment[name]
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [*start, *words], stdout=output, stderr=output, env=self.environment
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def began(self) -> int:
        def find() -> re.Match[str] | None:
            assert self.process.poll() is None, self.said
            return re.search(r"began at (\d+)", self.said)

        return int(awaited(find)[1])

    @property
    def entry(self) -> dict[str, Any]:
        (file,) = [*self.runtime.glob("paramesh/*.json")][:1]
        return json.loads(file.read_text())

    def status(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PARAMESH, "ps", "status", *words],
            capture_output=True,
            text=True,
            timeout=120,
            env=self.environment | {"COLUMNS": "160"},
            check=False,
        )

    def part(self, name: str) -> int:
        """A process of Ray that this one, or its node, has started."""

        def children(pid: int) -> list[int]:
            return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

        waiting = [self.process.pid]
        while waiting:
            pid = waiting.pop()
            if os.readlink(f"/proc/{pid}/exe").endswith(f"/{name}"):
                return pid
            waiting += children(pid)
        raise AssertionError(f"there is no {name}")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Script]]:
    made: list[Script] = []

    def begin(*launch: str) -> Script:
        made.append(Script(tmp_path, *launch))
        return made[-1]

    yield begin
    for script in made:
        script.process.kill()
        script.process.wait()


def test_a_run_is_found_with_its_token_until_it_ends(
    start: Callable[..., Script], tmp_path: Path
) -> None:
    script = start()
    script.began()
    entry = script.entry
    assert (entry["wal_dir"], entry["servers"]) == (str(tmp_path / "wal"), 1)
    address = entry["address"]
    shown = script.status("--address", address)
    assert shown.returncode == 0, shown.stderr
    assert f"at {address}, process {script.process.pid}, began" in shown.stdout
    assert "server-0" in shown.stdout
    assert address in script.status().stdout  # there may be others of this user
    other = script.status("--address", address, "--job", "other")
    assert other.returncode == 2
    assert "no servers of the job 'other'" in other.stderr
    assert "there are those of default" in other.stderr
    assert entry["token"] not in shown.stdout + other.stderr
    # Whoever does not know the token hears so at once, in one line.
    stranger = script.environment | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b" * 64}
    script.environment = stranger | {"XDG_RUNTIME_DIR": str(tmp_path / "none")}
    refused = script.status("--address", address)
    assert refused.returncode == 2
    assert "rejects the token of this process" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    script.environment["XDG_RUNTIME_DIR"] = str(script.runtime)
    with subprocess.Popen(
        [*PARAMESH, "ps", "status", "--json", "--every", "0.1", "--address", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=script.environment,
    ) as live:
        assert live.stdout is not None
        assert "servers" in json.loads(live.stdout.readline())
        (tmp_path / "stop").touch()
        said, errors = rest_of(live, 90)
    assert (live.returncode, errors) == (0, "")
    assert "has ended" in json.loads(said.splitlines()[-1])["ended"]
    assert script.process.wait(60) == 0, script.said
    assert list(script.runtime.glob("paramesh/*")) == []


@pytest.mark.parametrize("launched", [False, True])
def test_a_raylet_that_dies_is_one_sentence_that_works(
    start: Callable[..., Script], tmp_path: Path, launched: bool
) -> None:
    words = ["--servers", "1", "--workers", "1", "--wal-dir", str(tmp_path / "wal")]
    first = start(*words if launched else ())
    assert first.began() == 0
    time.sleep(1.0)  # some steps
    os.kill(first.part("raylet"), signal.SIGKILL)
    assert first.process.wait(90) == 1
    assert "paramesh: Ray's raylet was killed by SIGKILL (signal 9)" in first.said
    setting = "--wal-dir" if launched else "wal_dir"
    assert f"Start the run again with the same {setting} ({tmp_path / 'wal'})" in first.said
    if launched:
        assert "[state-dump]" not in first.said.partition("paramesh: Ray's")[2]
    again = start(*words if launched else ())
    assert again.began() > 0
    (tmp_path / "stop").touch()
    assert again.process.wait(60) == 0, again.said
