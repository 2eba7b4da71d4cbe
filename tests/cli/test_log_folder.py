"""The output of a run on several hosts in one folder, and on the terminal."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from paramesh.cli import log_folder
from paramesh.cli.log_folder import LogFolder
from paramesh.ps.processes import events


def event(path: Path, who: str, what: str, **facts: object) -> None:
    path.parent.mkdir(exist_ok=True)
    line = {"time": "2026-11-26T15:04:05+00:00", "who": who, "host": "node-b", "event": what}
    with path.open("a") as file:
        file.write(json.dumps(line | facts) + "\n")


def shown(logs: LogFolder) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    logs.look(lambda *line: found.append(line))
    return found


def test_lines_of_servers_once_and_without_those_of_earlier_starts(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir(mode=0o700)
    output = tmp_path / "logs" / "server-0.node-b.log"
    output.write_text("of before\n")
    output.chmod(0o600)
    logs = LogFolder(tmp_path)
    assert shown(logs) == []
    with output.open("a") as file:
        file.write("one\ntwo\nhal")
    assert shown(logs) == [("server 0 on node-b", b"one"), ("server 0 on node-b", b"two")]
    with output.open("a") as file:
        file.write("f\n")
    standby = tmp_path / "logs" / "server-1-standby.node.c.log"
    standby.write_text("warm\n")
    assert shown(logs) == [("server 0 on node-b", b"half"), ("server 1 on node.c", b"warm")]
    assert shown(logs) == []


def test_a_line_without_end_is_shown_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_folder, "_AT_ONCE", 4)
    logs = LogFolder(tmp_path)
    (tmp_path / "logs" / "server-0.b.log").write_text("abcdef\n")
    assert [shown(logs), shown(logs)] == [
        [("server 0 on b", b"abcd")],
        [("server 0 on b", b"ef")],
    ]


def test_events_but_not_those_that_happen_all_the_time(tmp_path: Path) -> None:
    path = tmp_path / "server-1" / events.NAME
    event(path, "server-1", "started")
    logs = LogFolder(tmp_path)
    event(path, "server-1", "recovered", incarnation=2, version=41)
    event(path, "server-1", "snapshot", version=50)
    event(tmp_path / f"worker-3.{events.NAME}", "worker-3", "lost", server=1)
    with path.open("a") as file:
        file.write("no JSON\n")
    assert shown(logs) == [
        ("server 1 on node-b", b"recovered: incarnation 2, version 41"),
        ("worker 3 on node-b", b"lost: server 1"),
    ]


def test_what_comes_at_the_very_end_is_shown(tmp_path: Path) -> None:
    logs = LogFolder(tmp_path)
    found: list[tuple[str, bytes]] = []
    with logs.followed(lambda *line: found.append(line)):
        (tmp_path / "logs" / "server-0.b.log").write_text("last word\n")
    assert found == [("server 0 on b", b"last word")]


def test_lines_of_workers_and_a_folder_that_is_another_users(tmp_path: Path) -> None:
    logs = LogFolder(tmp_path)
    before = time.strftime("%Y-")
    logs.write(0, "node-a", b"step 1")
    logs.write(0, "node-b", b"step \xff")
    first, second = (tmp_path / "logs" / "worker-0.log").read_bytes().splitlines()
    assert first.startswith(before.encode())
    assert first.endswith(b" node-a step 1")
    assert second.endswith(b" node-b step \xff")
    logs.path.chmod(0o777)
    with pytest.raises(PermissionError, match="is writable by others"):
        LogFolder(tmp_path)
