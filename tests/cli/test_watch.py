"""`paramesh watch`: which runs there are, what is shown of one, and who may see the page."""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import browser_driver
from paramesh.cli import watch as command
from paramesh.cli.errors import CommandError
from paramesh.cli.watching import gathering, server
from paramesh.cli.watching.gathering import Gatherer, events_of
from paramesh.cli.watching.picture import NO_LOOK, WINDOW, Look, picture
from paramesh.cli.watching.runs import Servers, chosen, watched_runs
from paramesh.cli.watching.terminal import rendered, sparkline
from paramesh.ps.deployment.registry import Run
from paramesh.telemetry.journal import Facts, Watched
from paramesh.telemetry.recorder import Event, Sample

NOW = 1_000_000.0
LIVE: dict[str, Any] = {"name": "server-0-a", "role": "server", "version": 1234, "incarnation": 2}
LIVE |= {"rows": 56_789, "bytes": 1 << 20, "bytes_logged": 4096, "lag": 1, "shards": 512}
LIVE |= {"updates_per_second": 12.5, "bytes_per_second": 2048.0, "bytes_pulled_per_second": 1024.0}
LIVE |= {"staged": {}, "last_snapshot": {"version": 1200, "time": NOW - 60}}
SILENT = {"name": "server-1", "silent": True, "shards": 512}
STANDBY = {"name": "server-0-b", "role": "standby", "version": 1230, "trouble": "", "shards": 0}


def process(pid: int, group: str = "", rank: int = 0, steps: int = 30, **sources: Any) -> Watched:
    facts = Facts(group or f"process {pid}", rank, pid, "host", f"train{pid}.py", NOW - 100, "cpu")
    samples = [
        Sample(
            NOW - steps + at,
            10 * (at + 1),
            320 * (at + 1),
            1.0,
            1.0 / (at + 1),
            {"epoch": 2.0, "epochs": 3.0, "left": 75.0, "memory": 2.0**30, "rate": 0.1},
            {"data": 0.25, "wait": 0.5},
        )
        for at in range(steps)
    ]
    return Watched(facts, NOW - 2, samples, [Event(NOW - 9, "epoch 1/3 done")], sources)


def registered(port: int, **more: Any) -> Run:
    facts: dict[str, Any] = {"address": f"127.0.0.2:{port}", "job": "default", "pid": 5000 + port}
    facts |= {"started": NOW - 50, "wal_dir": None, "servers": 2, "workers": 2}
    facts |= {"program": "launch", "token": "secret"}
    return Run(**facts | more)


def at(port: int, **more: Any) -> dict[str, Any]:
    return {"address": f"127.0.0.2:{port}", "job": "default", **more}


def test_processes_that_train_together_are_one_run() -> None:
    processes = [
        process(3),
        process(22, "127.0.0.1:9", rank=1),
        process(21, "127.0.0.1:9", rank=0),
        process(31, servers=at(1, wal_dir="/data/run")),
        process(32, rank=1, servers=at(1)),
        process(4, servers={}),
    ]
    runs = watched_runs(processes, [registered(1), registered(2)])
    assert {run.name: [w.facts.pid for w in run.workers] for run in runs} == {
        "3": [3],
        "21": [21, 22],
        "31": [31, 32],
        "4": [4],
        "5002": [],
    }
    by_name = {run.name: run.servers for run in runs}
    assert by_name["31"] == Servers("127.0.0.2:1", "default", "secret", "/data/run")
    assert by_name["5002"] == Servers("127.0.0.2:2", "default", "secret", None)
    assert by_name["3"] is None
    assert [run.name for run in chosen(runs, "22")] == ["21"]
    assert [run.name for run in chosen(runs, "train3")] == ["3", "31"]
    assert chosen(runs, "other") == []
    assert len(chosen(runs, None)) == 5


def shown(*processes: Watched, look: Look = NO_LOOK, runs: Any = ()) -> dict[str, Any]:
    (run,) = watched_runs(processes, runs)
    found = picture(run, look, [], NOW)
    json.dumps(found, allow_nan=False)
    return found


def test_rates_and_shares_are_those_of_the_last_seconds() -> None:
    run = process(1)
    early = [s._replace(seconds=50.0, phases={"data": 50.0}) for s in run.samples[: -int(WINDOW)]]
    found = shown(run._replace(samples=[*early, *run.samples[-int(WINDOW) :]]))
    assert found["steps_per_second"] == pytest.approx(10)
    assert found["examples_per_second"] == pytest.approx(320)
    assert found["phases"] == {"compute": 0.25, "data": 0.25, "wait": 0.5}
    assert (found["step"], found["idle"], found["loss"]) == (300, 2.0, 1 / 30)
    assert found["curves"]["step"][-1] == 300


@pytest.mark.parametrize("steps", [1, 2, 299, 300, 301, 1000])
def test_curves_are_short_and_end_with_the_last_sample(steps: int) -> None:
    curves = shown(process(1, steps=steps))["curves"]
    assert {len(values) for values in curves.values()} == {
        min(steps, -(-steps // -(-steps // 300)))
    }
    assert curves["step"][-1] == 10 * steps
    assert all(rate == pytest.approx(10) for rate in curves["rate"])


def test_two_workers_are_added_up() -> None:
    found = shown(process(1, "g"), process(2, "g", rank=1))
    assert found["examples_per_second"] == pytest.approx(640)
    assert found["steps_per_second"] == pytest.approx(10)
    assert found["memory"] == 2 * 2**30
    assert {event["who"] for event in found["events"]} == {"worker-0", "worker-1"}


def test_a_loss_that_is_not_finite() -> None:
    run = process(1)
    found = shown(run._replace(samples=[*run.samples, run.samples[-1]._replace(loss="nan")]))
    assert found["loss"] == "nan"
    assert found["curves"]["loss"][-1] is None


def text_of(found: dict[str, Any], width: int = 120) -> str:
    console = Console(width=width)
    with console.capture() as captured:
        console.print(rendered(found, console))
    return captured.get()


def test_on_a_terminal() -> None:
    caches = {"table": {"looked_up": 100, "hits": 75}}
    rows = {"way": "rows ahead", "ms": {}}
    worker = process(7, servers=at(1, caches=caches, rows=rows, version=3))
    found = shown(worker, look=Look([LIVE, STANDBY, SILENT], None), runs=[registered(1)])
    text = text_of(found)
    for word in (
        "train7.py  process 7, began 100 s ago",
        "step 300   epoch 2/3   loss 0.03333   steps/s 10   examples/s 320   left 1:15",
        "■ compute 25%   ■ data 25%   ■ wait 50%",
        "75%",
        "rows ahead",
        "at 1200, 60 s ago",
        "server-0 (standby)",
        "no answer",
        "training  epoch 1/3 done",
    ):
        assert word in text, word
    assert "secret" not in text
    narrow = text_of(found, 60)
    assert "1,234" in narrow
    assert "last snapshot" not in narrow
    assert "ended" in text_of(found | {"ended": True})
    assert "no step for 42 s" in text_of(found | {"idle": 42.0})


def test_a_run_with_servers_alone() -> None:
    found = shown(runs=[registered(1)], look=Look([], "the run has ended"))
    assert "the run has ended" in text_of(found)
    assert "loss -" in text_of(found)


def test_sparkline() -> None:
    assert sparkline([0.0, None, 1.0], 10) == "▁ █"
    assert sparkline([5.0, 5.0], 10) == "▁▁"
    assert sparkline([None], 10) == ""
    assert len(sparkline([float(at) for at in range(100)], 40)) == 40


def test_events_of_servers_and_workers(tmp_path: Path) -> None:
    line = {"time": "2026-11-26T15:04:05.123+00:00", "who": "server-0", "event": "recovered"}
    folder = tmp_path / "server-0"
    folder.mkdir()
    for path in (folder / "events.jsonl", tmp_path / "worker-0.events.jsonl"):
        path.write_text(json.dumps(line | {"version": 7}) + "\n" + '{"time": "20')
        path.chmod(0o600)
    (folder / "events.jsonl").write_text("x" * 70_000 + "\n" + json.dumps(line | {"version": 8}))
    (run,) = watched_runs([], [registered(1, wal_dir=str(tmp_path))])
    found = sorted(events_of(run), key=lambda event: event.text)
    assert [event.text for event in found] == ["recovered: version 7", "recovered: version 8"]
    assert {(event.who, event.time) for event in found} == {("server-0", 1795705445.123)}


class NoLooks:
    def latest(self) -> Look:
        return Look([LIVE | {"last_snapshot": {}}], None)

    def close(self) -> None:
        pass


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> list[Watched]:
    """The processes that train now."""
    found: list[Watched] = []
    monkeypatch.setattr(gathering, "watched", lambda: (list(found), []))
    monkeypatch.setattr(gathering, "runs", list)
    return found


def gatherer(wanted: str | None = None) -> Gatherer:
    return Gatherer(wanted, look=lambda servers, every: NoLooks())


def test_a_run_that_has_ended_stays_to_be_seen(there: list[Watched]) -> None:
    watching = gatherer()
    assert (watching.state()["runs"], watching.state()["run"]) == ([], None)
    there.append(process(1, servers=at(1)))
    assert watching.state()["run"]["per_server"][0]["version"] == 1234
    there.append(process(2))
    assert watching.state("1")["run"]["name"] == "1"
    assert len(watching.state()["runs"]) == 2
    there.clear()
    ended = watching.state("1")
    assert ended["runs"] == []
    assert (ended["run"]["name"], ended["run"]["ended"]) == ("1", True)
    assert watching.state("7")["run"] is None


def lines(there: list[Watched], wanted: str | None = None, **options: bool) -> str:
    chosen_options = command.Options(False, "127.0.0.1", 0, 0.1, True, False)._replace(**options)
    console = Console(width=200)
    with pytest.MonkeyPatch.context() as patch, console.capture() as captured:
        patch.setattr(command, "Gatherer", lambda wanted=None, every=1.0: gatherer(wanted))
        command.watch(wanted, chosen_options, console)
    return captured.get()


def test_the_command(there: list[Watched]) -> None:
    with pytest.raises(
        CommandError, match=r"no training of this user .* Model\.train, or .*report"
    ):
        lines(there)
    with pytest.raises(CommandError, match="no training of this user"):
        lines(there, json_lines=True)
    there.append(process(1))
    assert "train1.py" in lines(there)
    assert json.loads(lines(there, json_lines=True))["run"]["step"] == 300
    with pytest.raises(CommandError, match="no run on this host has 'train9' in its program"):
        lines(there, "train9")
    there.append(process(2))
    text = lines(there)
    assert "Choose one: paramesh watch 2" in text
    assert "train2.py" in lines(there, "2")
    with pytest.raises(CommandError, match="leave out --once and --json"):
        lines(there, page=True)


@contextmanager
def served(there: list[Watched]) -> Iterator[str]:
    """The address of the page, with its token; the server is stopped with the block."""
    import uvicorn

    running: list[uvicorn.Server] = []

    class Known(uvicorn.Server):
        def __init__(self, config: uvicorn.Config) -> None:
            super().__init__(config)
            running.append(self)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield  # this is not the main thread

    console = Console(width=200)
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn, "Server", Known)
        patch.setattr(console, "print", lambda text, **_: told.append(text))
        thread = threading.Thread(
            target=server.serve, args=(gatherer(), "127.0.0.1", 0, console), daemon=True
        )
        thread.start()
        until = time.monotonic() + 60
        while not (running and running[0].started):
            assert time.monotonic() < until
            time.sleep(0.01)
    try:
        yield told[0]
    finally:
        running[0].should_exit = True
        thread.join(30)


def answer(url: str, **headers: str) -> tuple[int, str, dict[str, str]]:
    class Stay(urllib.request.HTTPRedirectHandler):
        def redirect_request(self, *_: Any, **__: Any) -> None:
            return None

    opener = urllib.request.build_opener(Stay)
    try:
        with opener.open(urllib.request.Request(url, headers=headers), timeout=30) as said:
            return said.status, said.read().decode(), dict(said.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), dict(error.headers)


def test_who_may_see_the_page(there: list[Watched]) -> None:
    there.append(process(1))
    with served(there) as url:
        root, _, token = url.partition("/?token=")
        assert len(token) == 32
        assert root.startswith("http://127.0.0.1:")
        wrong = token[:-1] + ("y" if token.endswith("x") else "x")
        for path in ("/", "/state", "/?token=", f"/?token={wrong}", f"/state?token={token}"):
            code, text, headers = answer(root + path)
            assert code == 403, path
            assert "train1" not in text
            assert token not in text + str(headers)
        code, _, headers = answer(url)
        assert (code, headers["location"]) == (303, "/")
        cookie = headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        mine = {"Cookie": cookie.partition(";")[0]}
        code, text, headers = answer(root + "/", **mine)
        assert code == 200
        assert "default-src 'none'" in headers["content-security-policy"]
        assert not any(name.lower().startswith("access-control") for name in headers)
        code, text, _ = answer(root + "/state", **mine)
        assert (code, json.loads(text)["run"]["program"]) == (200, "train1.py")
        code, text, _ = answer(root + "/state", Host="evil.example:80", **mine)
        assert code == 421
        assert "train1" not in text
        assert answer(root + "/other", **mine)[0] == 404


def test_a_port_that_is_taken(there: list[Watched]) -> None:
    with served(there) as url:
        port = int(url.partition("/?")[0].rpartition(":")[2])
        with pytest.raises(CommandError, match=f"--port {port}: Address already in use"):
            server.serve(gatherer(), "127.0.0.1", port, Console())


def test_the_page_in_a_browser(there: list[Watched], tmp_path: Path) -> None:
    missing = browser_driver.missing()
    if missing:
        pytest.skip(missing)
    hostile = "<img src=x onerror=alert(1)>.py"
    rows = {"way": "rows on demand", "ms": {}}
    caches = {"t": {"looked_up": 4, "hits": 1}}
    worker = process(7, servers=at(1, caches=caches, rows=rows))
    there.append(worker._replace(facts=worker.facts._replace(program=hostile)))
    with served(there) as url, browser_driver.browser() as page:
        page.resize(1200, 900)
        page.visit(url)
        said = page.wait("return document.body.dataset.updates > 1 && document.body.innerText")
        words = (hostile, "300", "0.03333", "320", "compute 25 %", "server-0", "1,234", "25 %")
        for word in (*words, "rows on demand"):
            assert word in said, word
        assert "token" not in page.run("return location.href")
        assert page.run("return document.querySelectorAll('svg .curve').length") == 2
        for width in (1200, 500):
            page.resize(width, 900)
            over = "return document.documentElement.scrollWidth - window.innerWidth"
            assert page.run(over) <= 0, f"the page is wider than {width}"
        there.append(process(8))
        page.wait("return !document.getElementById('runs').hidden")
        page.run(
            "const list = document.getElementById('runs'); list.value = '8';"
            "list.dispatchEvent(new Event('change'))"
        )
        page.wait("return document.getElementById('title').textContent === 'train8.py'")
        there.clear()
        page.wait("return document.getElementById('about').textContent.includes('ended')")
        assert page.errors() == []
        if where := os.environ.get("PARAMESH_TEST_SCREENSHOTS"):
            page.screenshot(Path(where) / "watch.png")
