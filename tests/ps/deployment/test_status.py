"""Looking for servers from outside, where there are none."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from paramesh.cli.servers import table_of
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment import status


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(status, "PATIENCE", 0.1)
    with pytest.raises(ParameterServerError, match=r"no Ray cluster answers at 127\.0\.0\.2:1 "):
        status.find_servers("127.0.0.2:1")
    assert capfd.readouterr() == ("", "")  # nothing of Ray's own tries


def test_what_is_no_address() -> None:
    with pytest.raises(ParameterServerError, match="is HOST:PORT or ray://HOST:PORT"):
        status.find_servers("localhost")


def test_the_table_names_who_serves_whatever_its_actor_is_called() -> None:
    serving: dict[str, Any] = {"name": "server-0-standby", "seen": 1.0, "role": "server"}
    serving |= {"version": 7, "incarnation": 2, "rows": 1, "bytes": 4, "bytes_logged": 4}
    serving |= {"bytes_pushed": 4, "bytes_pulled": 4, "staged": {}, "last_snapshot": {}}
    serving |= {"over_zmq": [0], "workers": 1}
    following = {"name": "server-0", "seen": 1.0, "role": "standby", "version": 5, "trouble": ""}
    looks = [following, serving, {"name": "server-1", "seen": 1.0, "silent": True}]
    console = Console(width=200)
    with console.capture() as shown:
        console.print(table_of(looks, looks))
    lines = [line.split() for line in shown.get().splitlines() if " server-" in line]
    assert [line[0] for line in lines] == ["server-0", "server-0", "server-1"]
    assert lines[0][1:] == ["(standby)", "5", "2"]
    assert lines[1][1:5] == ["2", "128", "7", "0"]
    assert lines[2][1:] == ["no", "answer"]
