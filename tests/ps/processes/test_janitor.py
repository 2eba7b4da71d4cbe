"""What ends with a run's folder: the processes that were started for it, and nobody else."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from paramesh.ps.processes import janitor
from paramesh.ps.processes.janitor import MARK, Janitor, clean, marked, users

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/environ").exists(), reason="processes are found in /proc"
)

HOLDS = "import sys, time; f = open(sys.argv[1]); print('here', flush=True); time.sleep(60)"
#: Opens a file that the command line does not name.
HOLDS_UNNAMED = (
    "import os, time; f = open(os.environ['LOG']); print('here', flush=True); time.sleep(60)"
)
PARENT = """
import os, signal, sys
from pathlib import Path
from paramesh.ps.processes import janitor
if sys.argv[2:]:
    janitor.__file__ = sys.argv[3]
janitor.Janitor(Path(sys.argv[1]), detached="detached" in sys.argv)
print("here", flush=True)
sys.stdin.read()
"""


class Started:
    """Processes of a test."""

    def __init__(self) -> None:
        self._all: list[subprocess.Popen[str]] = []

    def __call__(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            words,
            env=os.environ | variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._all.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "here\n"
        return process

    def end(self) -> None:
        for process in self._all:
            process.kill()
            process.communicate()


@pytest.fixture
def started() -> Iterator[Started]:
    found = Started()
    yield found
    found.end()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "logs" / "server.log"
    path.parent.mkdir(parents=True)
    path.write_text("here\n")
    return path


def test_who_looks_at_a_log_survives(log: Path, tmp_path: Path, started: Started) -> None:
    folder = tmp_path / "run"
    mark = marked(folder)
    python = sys.executable
    reader = started("tail", "-f", str(log))
    other_run = started(python, "-c", HOLDS, str(log), **{MARK: f"{folder}-of-another:/tmp"})
    elsewhere = started(python, "-c", HOLDS, os.devnull, **mark)
    ours = started(python, "-c", HOLDS, str(log), **mark)
    unnamed = started(python, "-c", HOLDS_UNNAMED, LOG=str(log), **mark)
    nested = started(python, "-c", HOLDS, str(log), **{MARK: f"/tmp/outer:{folder}"})
    assert sorted(users(str(folder))) == sorted([ours.pid, unnamed.pid, nested.pid])
    clean(str(folder), patience=0.0)
    for one in (ours, unnamed, nested):
        assert one.wait(60) == -signal.SIGKILL
    assert not folder.exists()
    for one in (reader, other_run, elsewhere):
        assert one.poll() is None


def test_when_the_parent_is_killed(log: Path, tmp_path: Path, started: Started) -> None:
    folder = tmp_path / "run"
    reader = started("tail", "-f", str(log))
    ours = started(sys.executable, "-c", HOLDS, str(log), **marked(folder))
    parent = started(sys.executable, "-c", PARENT, str(folder))
    parent.kill()
    assert ours.wait(60) == -signal.SIGKILL
    until = time.monotonic() + 60
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not folder.exists()
    assert reader.poll() is None


@pytest.mark.parametrize("handles", [True, False])
def test_a_detached_one_outlives_the_children_of_the_process(
    handles: bool, tmp_path: Path, started: Started
) -> None:
    """Ray ends these with an actor. Without handles of processes, it is a child as others are."""
    folder = tmp_path / "run"
    folder.mkdir()
    program = Path(janitor.__file__)
    if not handles:
        text = program.read_text().replace("os.pidfd_open", "os.no_handle_of")
        program = tmp_path / "janitor.py"
        program.write_text(text)
    parent = started(sys.executable, "-c", PARENT, str(folder), "detached", str(program))
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    assert len(children) == (0 if handles else 1)
    parent.kill()
    until = time.monotonic() + 60
    while folder.exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not folder.exists()


def test_marks_are_added_to_those_of_whoever_started_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(MARK, raising=False)
    assert marked(tmp_path) == {MARK: str(tmp_path)}
    monkeypatch.setenv(MARK, "/tmp/outer")
    assert marked(tmp_path) == {MARK: f"/tmp/outer:{tmp_path}"}


def test_the_janitor_is_no_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command line names the folder, and it is dismissed last."""
    folder = tmp_path / "run"
    folder.mkdir()
    made = Janitor(folder)
    try:
        assert users(str(folder)) == []
    finally:
        made.dismiss()
        shutil.rmtree(folder)
