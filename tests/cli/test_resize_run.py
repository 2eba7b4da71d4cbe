"""`paramesh ps resize`: what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from paramesh.cli import app
from paramesh.ps.durability import identity, run_lock
from server_folders import RunOfServers


def said(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["ps", "resize", *map(str, arguments)])
    error = "" if done.exception is None else str(done.exception)
    return done.exit_code, f"{done.output} {error}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run = RunOfServers(tmp_path / "run")
    for _ in range(3):
        run.push()
    run.close()
    return run.folder


def test_in_place_and_elsewhere(folder: Path, tmp_path: Path) -> None:
    code, text = said(folder, "--servers", 3, "--out", tmp_path / "out")
    assert code == 0
    assert "version 3 of" in text
    assert f"which had 2 servers, is on 3 servers in '{tmp_path / 'out'}'" in text
    assert re.search(r"emb/t: \d+ rows", text)
    assert identity.read(folder).server_num == 2
    code, text = said(folder, "--servers", 1)
    assert code == 0
    assert "is on 1 server in" in text
    assert "server_num=1" in text
    assert identity.read(folder).server_num == 1
    assert "has 1 server already" in said(folder, "--servers", 1)[1]


def test_what_is_refused(folder: Path, tmp_path: Path) -> None:
    code, text = said(folder, "--servers", 3, "--out", folder)
    assert code
    assert "is not an empty folder" in text
    file = tmp_path / "file"
    file.touch()
    for out in (file / "x", file / "x" / "y"):
        code, text = said(folder, "--servers", 3, "--out", out)
        assert code
        assert f"{out}: '{file}' is a file, so that no folder can be in it" in text
    code, text = said(tmp_path, "--servers", 3)
    assert code
    assert "is not the wal_dir of a run" in text
    assert said(folder, "--servers", 257)[0] == 2


def test_a_live_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_lock, "_PARTING", 0.0)
    lock = run_lock.RunLock(folder)
    lock.take("going on")
    lock.settle()
    lock.hold()
    code, text = said(folder, "--servers", 3, "--out", tmp_path / "out")
    assert code
    assert "only while no process has the run" in text
    code, text = said(folder, "--servers", 3)
    assert code == 0
    assert "which had 2 servers, is on 3 servers in" in text
    assert re.search(r"The run goes on with them\. It was moved in \d+\.\d seconds\.", text)
    assert "Once it has ended, start it with server_num=3." in text
    assert identity.moved_from(folder, "going on") == (2, 3)
    assert "has 3 servers already" in said(folder, "--servers", 3)[1]
    lock.release()
