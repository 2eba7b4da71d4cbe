"""What runs processes on another host: told twice it does it once, and it loses no report."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paramesh.ps.deployment import host_agent
from paramesh.ps.deployment.host_agent import HostAgent, digest
from paramesh.ps.deployment.package_versions import PACKAGES, versions
from paramesh.ps.deployment.shared_folder import Answer, asked, trouble_with

pytestmark = pytest.mark.skipif(os.name != "posix", reason="hosts are reached on POSIX alone")


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostAgent]:
    monkeypatch.setattr(host_agent, "PATIENCE", 1.0)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # as Ray does
    made = HostAgent()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    yield made
    for child in list(made._children.values()):
        child.send(signal.SIGKILL)
    made._janitor.dismiss()
    for path in made._folder.iterdir():
        path.unlink()
    made._folder.rmdir()


def started(program: str, **variables: str) -> dict[str, Any]:
    return {"words": ["-c", program], "variables": variables, "cwd": os.getcwd()}


class Reader:
    """Reads reports, each at its first time."""

    def __init__(self, agent: HostAgent) -> None:
        self.agent, self.seen = agent, 0
        self.reports: list[tuple[Any, ...]] = []

    def until(self, kind: str, count: int = 1) -> list[tuple[Any, ...]]:
        limit = time.monotonic() + 60
        while sum(report[0] == kind for report in self.reports) < count:
            assert time.monotonic() < limit, self.reports
            for number, report in self.agent.follow(self.seen):
                assert number == self.seen + 1
                self.seen = number
                self.reports.append(report)
        return [report for report in self.reports if report[0] == kind]


def test_a_command_that_comes_twice_is_carried_out_once(agent: HostAgent) -> None:
    reader = Reader(agent)
    command = ("start", 7, started("import os; print(os.environ['A'])", A="3"))
    assert [agent.tell(1, command), agent.tell(1, command)] == [1, 1]
    assert reader.until("ended") == [("ended", 7, 0, {})]
    assert agent.tell(2, ("start", 8, started("raise SystemExit(3)"))) == 2
    assert agent.tell(1, command) == 2  # it was under way for long
    assert reader.until("ended", 2)[1] == ("ended", 8, 3, {})
    assert [report for report in reader.reports if report[0] == "line"] == [
        ("line", 7, "stdout", b"3")
    ]
    assert agent.follow(reader.seen) == []
    assert agent.follow(0) == []  # all was confirmed


def test_reports_are_repeated_until_they_are_confirmed(agent: HostAgent) -> None:
    agent.tell(1, ("start", 1, started("print('one')")))
    limit = time.monotonic() + 60
    while len(first := agent.follow(0)) < 2:
        assert time.monotonic() < limit
    assert agent.follow(0) == first
    assert [report[0] for _, report in first] == ["line", "ended"]
    assert agent.follow(1) == first[1:]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_though_ctrl_c_is_blocked_as_in_an_actor(
    agent: HostAgent, number: signal.Signals
) -> None:
    reader = Reader(agent)
    agent.tell(1, ("start", 1, started("import time; print('up', flush=True); time.sleep(600)")))
    reader.until("line")
    agent.tell(2, ("signal", 1, number))
    assert reader.until("ended") == [("ended", 1, -number, {})]
    agent.tell(3, ("signal", 1, number))  # too late, and no error
    agent.tell(4, ("signal", 99, number))
    agent.tell(5, ("start", 2, started("")))
    assert reader.until("ended", 2)[1] == ("ended", 2, 0, {})


def test_what_cannot_be_started(agent: HostAgent) -> None:
    reader = Reader(agent)
    agent.tell(1, ("start", 4, started("") | {"cwd": "/nowhere/at/all"}))
    ((_, key, why),) = reader.until("failed")
    assert key == 4
    assert why == "/nowhere/at/all: No such file or directory"


def test_what_it_sees(agent: HostAgent, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("pass")
    with asked(tmp_path) as question:
        saw = agent.see(str(tmp_path), question.token, str(script), str(tmp_path))
        assert trouble_with(question, Answer(*saw["folder"])) is None
    assert saw["program"] == hashlib.sha256(b"pass").hexdigest()
    assert saw["cwd"]
    elsewhere = str(tmp_path / "elsewhere")
    saw = agent.see(elsewhere, "0", elsewhere, elsewhere)
    assert saw == {
        "folder": Answer(there=False),
        "program": "[No such file or directory]",
        "cwd": False,
    }
    assert agent.see(elsewhere, "0", None, elsewhere)["program"] is None
    assert digest(tmp_path).startswith("[")


def test_its_versions(agent: HostAgent) -> None:
    facts = agent.facts()
    assert facts["versions"] == versions()
    assert set(versions()) == {"Python", *PACKAGES}
    assert versions()["jax"] != "none"
