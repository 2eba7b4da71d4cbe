"""`paramesh launch` with real processes: what it shows, how it fails, and that nothing is left."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from environments import without_virtual_devices
from paramesh.cli.launch import Launch, LaunchError, workers
from process_output import rest_of

LAUNCH = [sys.executable, "-c", "from paramesh.cli import main; main()", "launch"]

#: Meets the others, and then does what its arguments say.
PROGRAM = """
import os, sys, time
import numpy as np
import jax
from jax.experimental.multihost_utils import process_allgather

from elsewhere import NAME

def meet():
    return process_allgather(np.array([jax.process_index()])).ravel().tolist()

def fail(how):
    if how == "raise":
        raise ValueError("the weights are no good")
    if how == "exit":
        sys.exit(7)
    os.kill(os.getpid(), signal_of[how])

signal_of = {"kill": 9, "segv": 11}
# What it starts itself, such as readers of data, must not take itself for this process.
ours = [name for name in os.environ if name.startswith("PARAMESH_")]
met, devices = meet(), jax.device_count()
print(f"args={sys.argv[1:]} ours={ours} name={__name__} {NAME} met={met} devices={devices}")
if sys.argv[1] in ("raise", "exit", *signal_of):
    if jax.process_index() == int(sys.argv[2]):
        fail(sys.argv[1])
    meet()
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "elsewhere.py").write_text("NAME = 'beside'")
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def launch(*words: str, **more: Any) -> subprocess.CompletedProcess[str]:
    options: dict[str, Any] = {"env": without_virtual_devices()} | more
    return subprocess.run([*LAUNCH, *words], capture_output=True, text=True, timeout=120, **options)


def said(stdout: str) -> list[str]:
    """What the programs wrote, with the prefixes: gloo's C++ writes into the same lines."""
    found = []
    for line in stdout.splitlines():
        prefix, _, rest = line.partition("] ")
        if "args=" in rest:
            found.append(f"{prefix}] {rest[rest.index('args=') :]}")
    return found


class TestRuns:
    def test_a_script_with_arguments(self, script: Path) -> None:
        done = launch("-n", "2", str(script), "--lr=0.1", "-n")
        assert done.returncode == 0, done.stderr
        lines = said(done.stdout)
        expected = "args=['--lr=0.1', '-n'] ours=[] name=__main__ beside met=[0, 1]"
        assert sorted(lines) == [f"[rank {r}] {expected} devices=2" for r in (0, 1)]

    @pytest.mark.slow
    def test_a_module_in_processes_of_two_devices(self, script: Path) -> None:
        words = ["-n", "2", "--devices-per-process", "2", "-m", "program", "x"]
        done = launch(*words, cwd=script.parent)
        assert done.returncode == 0, done.stderr
        lines = said(done.stdout)
        expected = "args=['x'] ours=[] name=__main__ beside met=[0, 1]"
        assert sorted(lines) == [f"[process {p}] {expected} devices=4" for p in (0, 1)]

    @pytest.mark.slow
    def test_one_process(self, tmp_path: Path) -> None:
        path = tmp_path / "one.py"
        path.write_text("import jax; print(jax.process_count(), __file__)")
        done = launch(str(path))
        assert (done.returncode, done.stdout) == (0, f"[rank 0] 1 {path}\n")


class TestFailures:
    @pytest.mark.parametrize(
        ("how", "rank", "code", "message"),
        [
            ("raise", 1, 1, "rank 1 of 2 exited with code 1; the others were terminated. Its"),
            ("kill", 0, 137, r"rank 0 of 2 was killed by SIGKILL \(signal 9\); the others were"),
            pytest.param("kill", 1, 137, r"rank 1 of 2 was killed", marks=pytest.mark.slow),
            pytest.param("raise", 0, 1, r"rank 0 of 2 exited with code 1", marks=pytest.mark.slow),
            pytest.param("exit", 1, 7, "rank 1 of 2 exited with code 7", marks=pytest.mark.slow),
            pytest.param(
                "segv", 0, 139, "rank 0 of 2 was killed by SIGSEGV", marks=pytest.mark.slow
            ),
        ],
    )
    def test_who_failed_and_why(
        self, script: Path, how: str, rank: int, code: int, message: str
    ) -> None:
        done = launch("-n", "2", str(script), how, str(rank))
        assert done.returncode == code, done.stderr
        said, _, last = done.stderr.rpartition("\nparamesh: ")
        assert re.match(message, last), last
        if how == "raise":
            assert last.endswith("ValueError: the weights are no good\n")
            shown = last[last.index("Traceback") :].splitlines()
            assert [line for line in shown if line.startswith("  File")] == [
                line for line in shown if str(script) in line
            ]
            assert f"[rank {rank}] ValueError: the weights are no good" in said

    @pytest.mark.slow
    def test_four_processes(self, script: Path) -> None:
        done = launch("-n", "4", str(script), "kill", "2")
        assert done.returncode == 137
        assert "\nparamesh: rank 2 of 4 was killed by SIGKILL" in done.stderr

    @pytest.mark.slow
    def test_a_script_that_cannot_be_read(self, tmp_path: Path) -> None:
        path = tmp_path / "broken.py"
        path.write_text("def f(:\n")
        done = launch(str(path))
        assert done.returncode == 1
        assert done.stderr.endswith("SyntaxError: invalid syntax\n")
        assert "paramesh: rank 0 of 1 exited with code 1. Its last output" in done.stderr

    def test_mistakes_in_the_arguments(self, tmp_path: Path) -> None:
        with pytest.raises(
            LaunchError, match=r"nothing\.py: no such script; for a module, give -m"
        ):
            workers(Launch(2, str(tmp_path / "nothing.py")))
        done = launch("-n", "2", "nothing.py")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "paramesh: nothing.py: no such script; for a module, give -m\n"
        assert launch("-n", "0", "x.py").returncode == 2


#: Says who it is, and waits.
WAITING = """
import os, signal, sys, time
try:
    print("pid", os.getpid(), flush=True)
    time.sleep(600)
except KeyboardInterrupt:
    print("saved", flush=True)
    raise
"""


class TestEnds:
    @pytest.fixture
    def waiting(self, tmp_path: Path) -> Any:
        """A launcher with two waiting processes, and their ids."""
        path = tmp_path / "waiting.py"
        path.write_text(WAITING)
        words = [*LAUNCH, "-n", "2", str(path)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        with subprocess.Popen(words, env=without_virtual_devices(), **pipes) as launcher:
            try:
                assert launcher.stdout is not None
                lines = [launcher.stdout.readline() for _ in range(2)]
                yield launcher, [int(line.split()[-1]) for line in lines]
            finally:
                launcher.kill()

    def test_ctrl_c_goes_to_all(self, waiting: Any) -> None:
        launcher, pids = waiting
        launcher.send_signal(signal.SIGINT)
        out, err = rest_of(launcher, 60)
        assert launcher.returncode == 130
        assert sorted(out.splitlines()) == ["[rank 0] saved", "[rank 1] saved"]
        # A process whose coordinator ended before it may say so too.
        assert err.endswith("paramesh: interrupted\n")
        assert "Traceback" not in err
        assert not any(map(lives, pids))

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel of Linux does it")
    def test_a_launcher_that_is_killed_leaves_nobody(self, waiting: Any) -> None:
        launcher, pids = waiting
        launcher.kill()
        launcher.wait(timeout=60)
        until = time.monotonic() + 30
        while any(map(lives, pids)):
            assert time.monotonic() < until
            time.sleep(0.02)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # Whoever is to wait for it may be slow; a zombie does not live.
    stat = Path(f"/proc/{pid}/stat")
    try:
        return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class TestWorkers:
    def test_their_variables(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = tmp_path / "x.py"
        path.touch()
        monkeypatch.setenv("XLA_FLAGS", "--a=1 --xla_force_host_platform_device_count=8 --b=2")
        first, second = workers(Launch(2, str(path), ("--n", "3"), devices=4, port=5000))
        assert (first.label, second.label) == ("process 0", "process 1")
        assert second.command[-3:] == [str(path), "--n", "3"]
        assert second.variables["PARAMESH_COORDINATOR"] == "127.0.0.1:5000"
        assert second.variables["PARAMESH_PROCESS"] == "1"
        assert second.variables["PARAMESH_DEVICES"] == "4-7"
        flags = "--a=1 --b=2 --xla_force_host_platform_device_count=4"
        assert second.variables["XLA_FLAGS"] == flags
        alone = workers(Launch(1, str(path)))[0]
        assert "XLA_FLAGS" not in alone.variables
        assert alone.label == "rank 0"
