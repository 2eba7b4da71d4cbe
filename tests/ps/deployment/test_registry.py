"""The runs of this user on this host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from paramesh.errors import ParameterServerError
from paramesh.files import live_entries
from paramesh.ps.deployment.registry import Entry, Run, runs

pytestmark = pytest.mark.skipif(os.name != "posix", reason="entries are locked as POSIX does")

FACTS: dict[str, Any] = {"address": "127.0.0.2:7001", "job": "default", "servers": 2, "workers": 4}

#: Enters a run, says so, and waits.
PROGRAM = """
import sys
from pathlib import Path
from paramesh.files import live_entries
from paramesh.ps.deployment import registry
live_entries.folders = lambda: [Path(sys.argv[1])]
entry = registry.Entry(address=sys.argv[2], job="default", servers=1, workers=1, token="secret")
print("entered", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    where = tmp_path / "paramesh"
    monkeypatch.setattr(live_entries, "folders", lambda: [where])
    return where


def test_a_run_is_there_while_it_lives(folder: Path) -> None:
    assert runs() == []
    entry = Entry(**FACTS, wal_dir="/data/run", token="secret")
    (run,) = runs()
    assert run.address == "127.0.0.2:7001"
    assert (run.pid, run.wal_dir, run.token) == (os.getpid(), "/data/run", "secret")
    assert "secret" not in repr(run)
    assert "secret" not in json.dumps(run.public())
    assert folder.stat().st_mode & 0o777 == 0o700
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    entry.close()
    assert runs() == []
    assert list(folder.iterdir()) == []
    entry.close()


def test_a_killed_process_leaves_nothing_that_stays(folder: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, str(folder)]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([*words, "127.0.0.2:1"], **pipes) as killed,
        subprocess.Popen([*words, "127.0.0.2:2"], **pipes) as living,
    ):
        for process in (killed, living):
            assert process.stdout is not None
            assert process.stdout.readline() == "entered\n"
        assert {run.pid for run in runs()} == {killed.pid, living.pid}
        killed.kill()
        killed.wait()
        assert [run.pid for run in runs()] == [living.pid]
        assert len(list(folder.iterdir())) == 1
        living.communicate("")
    assert runs() == []


def test_what_several_processes_say_of_one_run_is_put_together(folder: Path) -> None:
    other_job: dict[str, Any] = FACTS | {"job": "other"}
    entries = [
        Entry(**FACTS, token="secret"),
        Entry(**FACTS, wal_dir="/data/run"),
        Entry(**other_job),
    ]
    first, other = runs()
    assert (first.job, first.token, first.wal_dir) == ("default", "secret", "/data/run")
    assert (other.job, other.token, other.wal_dir) == ("other", None, None)
    for entry in entries:
        entry.close()


def test_what_another_user_may_have_put_there_is_not_used(folder: Path, tmp_path: Path) -> None:
    def refused(message: str) -> None:
        with pytest.raises(ParameterServerError, match=message):
            runs()
        with pytest.warns(
            RuntimeWarning, match="will not find this run without --address: .*" + message
        ):
            Entry(**FACTS, token="secret").close()

    folder.mkdir(mode=0o700)
    folder.chmod(0o755)
    refused("is not private to this user .*mode 0755")
    assert list(folder.iterdir()) == []
    folder.rmdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    folder.symlink_to(elsewhere)
    refused("paramesh")
    assert list(elsewhere.iterdir()) == []
    folder.unlink()
    folder.write_text("")
    refused("Not a directory")


def test_a_folder_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o700)
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    with pytest.raises(ParameterServerError, match=f"owner {user}, mode 0700"):
        runs()


def test_links_and_strange_files_are_no_runs(folder: Path, tmp_path: Path) -> None:
    entry = Entry(**FACTS)
    (tmp_path / "theirs.json").write_text("{}")
    (folder / "1-link.json").symlink_to(tmp_path / "theirs.json")
    os.mkfifo(folder / "2-pipe.json")
    (folder / "3-dead.json").write_text("not JSON, and nobody has it locked")
    (folder / ".4-new.json.tmp").write_text("")
    (folder / "notes").write_text("")
    assert [run.pid for run in runs()] == [os.getpid()]
    assert (tmp_path / "theirs.json").exists()
    assert not (folder / "3-dead.json").exists()
    assert (folder / ".4-new.json.tmp").exists()  # it may be locked in a moment
    os.utime(folder / ".4-new.json.tmp", (0, 0))
    runs()
    assert not (folder / ".4-new.json.tmp").exists()
    entry.close()


def test_the_first_folder_that_can_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.mkdir()
    bad.chmod(0o777)
    monkeypatch.setattr(live_entries, "folders", lambda: [bad, good])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        entry = Entry(**FACTS)
    assert [type(run) for run in runs()] == [Run]
    assert list(bad.iterdir()) == []
    entry.close()
    assert len(list(good.iterdir())) == 0


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert live_entries.folders()[0] == tmp_path / "paramesh"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "none"))
    assert tmp_path / "none" / "paramesh" not in live_entries.folders()
    assert live_entries.folders()[-1] == Path(f"/tmp/paramesh-{os.getuid()}")


def test_workers_that_move_to_other_hosts(folder: Path) -> None:
    entry = Entry(**FACTS, places=["a", "b"])
    mine = Entry(**FACTS, wal_dir="/data/run")  # of a worker: it does not know
    assert runs()[0].places == ["a", "b"]
    entry.move(["a", "c"])
    (run,) = runs()
    assert (run.places, run.wal_dir) == (["a", "c"], "/data/run")
    entry.close()
    mine.close()
    entry.move(["a", "d"])  # too late: nothing comes back
    assert runs() == []
