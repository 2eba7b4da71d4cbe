"""The file of a training process: there while it trains, whole whenever it is read, private."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, cast

import pytest

from paramesh.files import live_entries
from paramesh.telemetry.journal import Facts, Journal, watched
from paramesh.telemetry.recorder import Recorder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="entries are locked as POSIX does")

FACTS = Facts("process 7", 0, 7, "host", "train.py", 100.0, "cpu")

PROGRAM = """
import sys, time
from pathlib import Path
from paramesh.files import live_entries
from paramesh.telemetry.journal import Facts, Journal
from paramesh.telemetry.recorder import Recorder
live_entries.folders = lambda: [Path(sys.argv[1])]
recorder = Recorder(lambda r: None, dict, time.monotonic, time.time, 0.0)
recorder.step(0.5)
Journal(Facts("group", 1, 1, "host", "other.py", 1.0, "cpu")).write(recorder, {})
print("written", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    where = tmp_path / "paramesh"
    monkeypatch.setattr(live_entries, "folders", lambda: [where])
    return where


def recorded(steps: int) -> Recorder:
    found = Recorder(lambda r: None, lambda: {"data": 0.5}, lambda: 0.0, lambda: 200.0, 0.0)
    for at in range(steps):
        found.step(float("nan") if at == 1 else at / 2, 8, {"rate": 0.1})
    found.event("epoch 1/2 done")
    return found


def test_what_is_written_is_read(folder: Path) -> None:
    assert watched() == ([], [])
    journal = Journal(FACTS)
    written = recorded(3)
    journal.write(written, {"servers": {"address": "127.0.0.1:1", "job": "j"}})
    (found,), troubles = watched()
    assert (found.facts, troubles) == (FACTS, [])
    assert found.samples == written.samples
    assert found.samples[1].loss == "nan"
    assert found.events == written.events
    assert found.sources == {"servers": {"address": "127.0.0.1:1", "job": "j"}}
    assert folder.stat().st_mode & 0o777 == 0o700
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    journal.close()
    assert watched() == ([], [])
    assert list(folder.iterdir()) == []
    journal.close()


def test_readers_find_one_state_or_the_next(folder: Path) -> None:
    journal, over = Journal(FACTS), threading.Event()
    journal.write(recorded(1), {})
    seen: set[int] = set()

    def read() -> None:
        while not over.is_set():
            (found,), _ = watched()
            assert len(found.samples) == found.samples[-1].step
            seen.add(len(found.samples))

    thread = threading.Thread(target=read)
    thread.start()
    while len(seen) < 5 and thread.is_alive() and journal.error is None:
        for steps in range(1, 40):
            journal.write(recorded(steps), {})
    over.set()
    thread.join()
    assert journal.error is None
    assert len(seen) >= 5
    assert len(list(folder.iterdir())) == 1
    journal.close()


def test_a_reader_leaves_the_lock_of_a_file_that_is_being_made(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(FACTS)
    journal.write(recorded(1), {})
    locked = live_entries.fcntl.flock
    found: list[int] = []

    def read_first(file: int, how: int) -> None:
        if how & live_entries.fcntl.LOCK_EX:
            with monkeypatch.context() as patch:
                patch.setattr(
                    live_entries.fcntl, "flock", lambda f, how: found.append(os.fstat(f).st_ino)
                )
                watched()
            made = [one.stat().st_ino for one in folder.iterdir() if one.name.startswith(".")]
            assert len(made) == 1
            assert made[0] not in found
        locked(file, how)

    monkeypatch.setattr(live_entries.fcntl, "flock", read_first)
    journal.write(recorded(2), {})
    assert found
    assert journal.error is None


def test_what_could_not_be_replaced_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(FACTS)
    journal.write(recorded(1), {})
    with monkeypatch.context() as patch:
        patch.setattr(live_entries.os, "write", full)
        journal.write(recorded(2), {})
        assert journal.error == "No space left on device"
    journal.write(recorded(3), {})
    assert journal.error is None
    assert len(watched()[0][0].samples) == 3


def full(file: int, content: memoryview) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_killed_process_leaves_nothing_that_stays(folder: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert cast("IO[bytes]", process.stdout).readline() == b"written\n"
        (found,), _ = watched()
        assert (found.facts.program, found.samples[0].loss) == ("other.py", 0.5)
        process.kill()
        process.wait()
        assert watched() == ([], [])
        assert list(folder.iterdir()) == []


def test_a_fork_neither_writes_nor_removes_what_is_its_parents(folder: Path) -> None:
    """As a worker of a dataset that was forked, and ends as programs do."""
    program = (
        PROGRAM.replace(
            'print("written", flush=True)',
            "import os\njournal.write(recorder, {})\nif not os.fork():\n"
            "    recorder.step(0.25)\n    journal.write(recorder, {})\n    journal.close()\n"
            '    os._exit(0)\nos.wait()\nprint("written", flush=True)',
        )
        .replace("Journal(Facts", "journal = Journal(Facts")
        .replace(").write(recorder, {})", ")", 1)
    )
    words = [sys.executable, "-W", "ignore::RuntimeWarning", "-c", program, str(folder)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert cast("IO[bytes]", process.stdout).readline() == b"written\n"
        (found,), _ = watched()
        assert [sample.loss for sample in found.samples] == [0.5]
        process.communicate(b"")
    assert watched() == ([], [])


def test_a_host_without_a_folder_costs_nothing(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    journal = Journal(FACTS)
    journal.write(recorded(1), {})
    assert "is not private to this user" in (journal.error or "")
    journal.write(recorded(2), {})
    assert list(folder.iterdir()) == []
    _, troubles = watched()
    assert len(troubles) == 1
    journal.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"facts": {}}', b"\xff\xfe"])
def test_a_file_of_another_version_is_left_out(folder: Path, content: bytes) -> None:
    entry = live_entries.LiveEntry(content, ".watch")
    assert watched() == ([], [])
    entry.close()
