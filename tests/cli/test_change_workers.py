"""`paramesh ps workers`: what it says, and what it refuses; and workers that a launcher starts."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import pytest
from rich.console import Console

from paramesh.cli import change_workers as command
from paramesh.cli import joining_workers
from paramesh.cli.errors import CommandError
from paramesh.cli.joining_workers import joining
from paramesh.cli.supervisor import Add, ProcessSpec, supervise
from paramesh.errors import ParameterServerError
from paramesh.ps.durability import identity, worker_files
from paramesh.ps.durability.run_folder import RunFolder
from paramesh.ps.durability.run_lock import changer_lock
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.resizing.workers import Changed
from paramesh.ps.specification.worker_sets import Verdict


@contextmanager
def live(folder: Path):
    run = RunFolder(str(folder), Identity(1, 2), None)
    run.enter("s")
    try:
        yield
    finally:
        run.leave()


def said(folder: Path, workers: int, timeout: float = 20.0) -> str:
    out = io.StringIO()
    command.change_workers(folder, workers, timeout, Console(file=out, width=200))
    return out.getvalue()


def server(folder: Path, judge: Callable[[int, int, bool], Verdict | None]) -> threading.Thread:
    """In the place of the first server: gives verdicts."""

    def look() -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            change = worker_files.open_change(folder)
            verdict = None if change is None else judge(*change)
            if verdict is not None:
                worker_files.tell(folder, verdict)
                return
            time.sleep(0.01)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    return thread


def test_it_says_from_which_step_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with live(folder):
        server(folder, lambda number, workers, _: Verdict(number, workers, 7))
        found = said(folder, 4)
        assert "waiting for workers 2 and 3 to start" in found
        assert f"from step 7 on, '{folder}' has 4 workers; it had 2" in found
        assert "start it with worker_num=4" in found
        assert said(folder, 4) == f"'{folder}' has 4 workers already\n"


def test_what_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(CommandError, match="is not the wal_dir of a run"):
        said(tmp_path, 3)
    with live(folder):
        server(folder, lambda number, *_: Verdict(number, None, 0, "the script is rigid"))
        with pytest.raises(CommandError, match="the run has 2 workers as before: the script is"):
            said(folder, 3)
        lock = changer_lock(folder)
        lock.take()
        with pytest.raises(CommandError, match=r"is being changed: process \d+ on host .* does it"):
            said(folder, 3)
        lock.release()
    with pytest.raises(CommandError, match="has made no step"):
        said(folder, 3)


def test_a_run_at_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"
    with live(folder):
        pass
    found = iter([Changed(2, 3, 7, 3), Changed(3, 1, 9, 3), Changed(1, 1, None, 1)])
    monkeypatch.setattr(command, "change_at_rest", lambda folder, workers: next(found))
    text = said(folder, 3)
    assert (
        f"from step 7 on, '{folder}' has 3 workers; it had 2\nStart it with worker_num=3." in text
    )
    text = said(folder, 1)
    assert "Start it with worker_num=3." in text
    assert "workers make them with the former number" in text
    assert said(folder, 1) == f"'{folder}' has 1 worker already\n"


def test_what_is_late_is_withdrawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "run"

    def judge(number: int, workers: int, stopped: bool) -> Verdict | None:
        return Verdict(number, None, 0, worker_files.WITHDRAWN) if stopped else None

    with live(folder):
        server(folder, judge)
        with pytest.raises(CommandError, match="as before: not all workers were there within 0.3"):
            said(folder, 3, 0.3)
        # One that was killed has left its change; it is withdrawn before the next one.
        assert worker_files.want(folder, 2, 5, "s") == 2
        server(folder, judge)
        server(folder, lambda *change: judge(*change) if change[0] == 3 else None)
        with pytest.raises(CommandError, match="the run has made no step within 0.3 seconds"):
            said(folder, 1, 0.3)
        monkeypatch.setattr(command, "_STOPPING", 0.1)
        with pytest.raises(CommandError, match="with the next step that it makes"):
            said(folder, 1, 0.1)


def test_a_launcher_starts_who_joins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining_workers, "LOOK", 0.02)
    folder, asked = tmp_path / "run", list[tuple[int, int]]()
    go = tmp_path / "go"

    def program(text: str) -> list[str]:
        return [sys.executable, "-S", "-c", text]

    def joiner(rank: int, workers: int) -> ProcessSpec:
        asked.append((rank, workers))
        go.touch()
        return ProcessSpec(f"worker {rank}", program("print('here')"))

    def later(add: Add):
        return joining(lambda: folder, joiner, add)

    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)"
    with live(folder):
        worker_files.want(folder, 2, 3, "s")
        out = io.BytesIO()
        specs = [ProcessSpec("worker 0", program(wait))]
        assert supervise(specs, out, io.BytesIO(), later=later) is None
    assert asked == [(2, 3)]
    assert out.getvalue() == b"[worker 2] here\n"


def test_a_launcher_without_room_withdraws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining_workers, "LOOK", 0.02)
    folder = tmp_path / "run"

    def joiner(rank: int, workers: int) -> ProcessSpec:
        raise ParameterServerError("no host has room.")

    with live(folder):
        worker_files.want(folder, 2, 3, "s")
        with joining(lambda: folder, joiner, lambda spec: None):
            until = time.monotonic() + 20
            while not (folder / "workers-1.stop").exists():
                assert time.monotonic() < until
                time.sleep(0.01)
    assert "no worker is started: no host has room." in capsys.readouterr().err
    assert identity.read(folder).worker_num == 2
