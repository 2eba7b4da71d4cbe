"""`paramesh ps status`: which runs are meant, and what is shown of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from paramesh.cli import runs, servers
from paramesh.cli.errors import CommandError
from paramesh.cli.servers import show_status
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.registry import Run
from paramesh.ps.deployment.status import RunEnded

LIVE: dict[str, Any] = {"name": "server-0", "role": "server", "version": 7, "incarnation": 1}
LIVE |= {"rows": 1, "bytes": 4, "bytes_logged": 4, "bytes_pushed": 4, "bytes_pulled": 4}
LIVE |= {"staged": {}, "last_snapshot": {}, "over_zmq": [0], "workers": 2}


def run_at(port: int, job: str = "default", token: str | None = "secret", **more: Any) -> Run:
    facts: dict[str, Any] = {"wal_dir": "/data/run", "servers": 2, "workers": 4}
    facts |= {"pid": 4000 + port, "started": time.time() - 7300, "program": "train.py " * 20}
    facts |= {"address": f"127.0.0.2:{port}", "job": job, "token": token}
    return Run(**facts | more)


class Looking:
    """In the place of `Looker`: what it was asked for, and what it sees."""

    asked: tuple[str, str, str | None] | None = None
    answers: Iterator[Any] = iter(())

    def __init__(self, *asked: Any) -> None:
        Looking.asked = asked

    def __enter__(self) -> Looking:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def look(self) -> list[dict[str, Any]]:
        answer = next(Looking.answers)
        if isinstance(answer, Exception):
            raise answer
        return [LIVE | {"seen": time.monotonic()}]


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """The runs that are registered."""
    found: list[Run] = []
    monkeypatch.setattr(runs, "runs", lambda: list(found))
    monkeypatch.setattr(servers, "Looker", Looking)
    monkeypatch.setattr(servers.time, "sleep", lambda seconds: None)
    Looking.asked, Looking.answers = None, iter([1, 1])
    return found


def shown(address: str | None = None, job: str | None = None, **more: Any) -> str:
    console = Console(width=more.pop("width", 100))
    with console.capture() as captured:
        show_status(address, job, more.pop("every", None), console, **more)
    return captured.get()


def test_the_only_run_is_found_with_its_token(known: list[Run]) -> None:
    known.append(run_at(1, "mine"))
    text = shown()
    assert Looking.asked == ("127.0.0.2:1", "mine", "secret")
    assert "job mine at 127.0.0.2:1, process 4001, began 2 h ago, wal_dir /data/run" in text
    assert "server-0" in text
    assert "secret" not in text


@pytest.mark.parametrize("width", [40, 100, 250])
def test_of_several_runs_there_is_a_table(known: list[Run], width: int) -> None:
    known += [run_at(1), run_at(2, "other")]
    text = shown(width=width)
    assert Looking.asked is None
    assert all(one in text for one in ("127.0.0.2:1 ", "127.0.0.2:2 ", "default", "other"))
    assert (
        text.replace("\n", " ")
        .rstrip()
        .endswith("2 runs are on this host. Choose one: paramesh ps status --address 127.0.0.2:2")
    )
    assert max(len(line) for line in text.splitlines()[:-1]) <= width
    assert ("/data/run" in text) == (width >= 100)
    assert ("train.py" in text) == (width == 250)
    assert "secret" not in text
    told = json.loads(shown(json_lines=True))
    assert [one["address"] for one in told["runs"]] == ["127.0.0.2:1", "127.0.0.2:2"]
    assert "token" not in told["runs"][0]


def test_jobs_on_one_cluster_are_distinguished(known: list[Run]) -> None:
    known += [run_at(1), run_at(1, "other", None)]
    assert shown().rstrip().endswith("--address 127.0.0.2:1 --job other")
    shown(job="other")
    assert Looking.asked == ("127.0.0.2:1", "other", "secret")  # the token is the cluster's


def test_a_job_that_is_not_entered_is_looked_for_with_the_token(known: list[Run]) -> None:
    known.append(run_at(1))
    shown("127.0.0.2:1", "else")
    assert Looking.asked == ("127.0.0.2:1", "else", "secret")


def test_an_address_elsewhere(known: list[Run], monkeypatch: pytest.MonkeyPatch) -> None:
    known.append(run_at(1))
    text = shown("10.0.0.7:6379")
    assert Looking.asked == ("10.0.0.7:6379", "default", None)
    assert "server-0" in text

    def refused() -> list[Run]:
        raise ParameterServerError("a folder of somebody else")

    monkeypatch.setattr(runs, "runs", refused)
    Looking.answers = iter([1, 1])
    assert "server-0" in shown("10.0.0.7:6379")
    with pytest.raises(ParameterServerError, match="a folder of somebody else"):
        shown()


def test_no_run_at_all(known: list[Run]) -> None:
    with pytest.raises(CommandError, match="this user has no run with servers on this host; for"):
        shown()
    known.append(run_at(1))
    with pytest.raises(CommandError, match="on this host by the job 'other'; for one elsewhere"):
        shown(job="other")


def test_a_run_that_ends_while_it_is_looked_at(known: list[Run]) -> None:
    known.append(run_at(1))
    Looking.answers = iter([1, RunEnded("the run has ended")])
    with pytest.raises(RunEnded, match="the run has ended"):
        shown()
    # To watch it until then is not an error.
    Looking.answers = iter([1, 1, 1, RunEnded("the run has ended")])
    assert shown(every=1.0).rstrip().endswith("the run has ended")
    Looking.answers = iter([1, 1, RunEnded("the run has ended")])
    lines = shown(every=1.0, json_lines=True).splitlines()
    assert [sorted(json.loads(line)) for line in lines] == [["servers", "time"], ["ended", "time"]]


def test_a_run_that_has_ended_before_it_is_looked_at(
    known: list[Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = [[run_at(1)], [run_at(1)], []]
    monkeypatch.setattr(runs, "runs", lambda: entered.pop(0))
    Looking.answers = iter([ParameterServerError("nobody answers")])
    with pytest.raises(RunEnded, match=r"the run at 127\.0\.0\.2:1 has ended"):
        shown()
    known.append(run_at(1))
    monkeypatch.setattr(runs, "runs", lambda: known)
    Looking.answers = iter([ParameterServerError("nobody answers")])
    with pytest.raises(ParameterServerError, match="nobody answers"):
        shown()


def test_hosts_of_servers_and_workers(known: list[Run]) -> None:
    known.append(run_at(1, places=["a", "b", "a", "a"]))
    assert "workers: 0, 2 and 3 on a; 1 on b" in shown()
    known[0] = run_at(1)
    Looking.answers = iter([1, 1])
    assert "workers:" not in shown()


@pytest.mark.parametrize("width", [70, 250])
def test_the_host_goes_last_where_there_are_several_and_first_where_there_is_one(
    width: int,
) -> None:
    for others, first in (("node-b", width == 250), ("node-a", width == 250)):
        now = [
            LIVE | {"seen": 1.0, "host": "node-a"},
            LIVE | {"seen": 1.0, "name": "server-1", "host": others},
        ]
        console = Console(width=width)
        with console.capture() as captured:
            console.print(servers.fitting(console, now, now))
        assert ("node-a" in captured.get()) == (first or others == "node-b")
