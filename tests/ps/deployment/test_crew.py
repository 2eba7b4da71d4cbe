"""The launcher's side of a crew: what it makes of what the process beside it says."""

from __future__ import annotations

import os
import queue
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.deployment import crew as crews
from paramesh.ps.deployment.crew import Crew, _trouble
from paramesh.ps.deployment.package_versions import versions
from paramesh.ps.deployment.shared_folder import answered, asked
from paramesh.ps.processes.child import End

#: In the place of `crew_process`: two hosts, of which this one is the first.
HEAD = """
import json, os, sys
def say(event, **more):
    print(json.dumps({"event": event, **more}), flush=True)
def orders():
    for line in sys.stdin:
        yield json.loads(line)
hosts = [["10.0.0.1", "a", "na"], ["10.0.0.2", "b", "nb"]]
hosts = [dict(zip(("address", "name", "node"), host)) | {"gpus": 0} for host in hosts]
"""
UP = 'say("hosts", address="10.0.0.1:6379", here=["na", "10.0.0.1"], hosts=hosts)\n'


@pytest.fixture
def crew(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Crew]:
    """Makes crews beside which a program speaks."""
    real = subprocess.Popen

    def made(program: str, head: str = UP) -> Crew:
        words = [sys.executable, "-c", HEAD + head + textwrap.dedent(program)]
        with monkeypatch.context() as patched:
            patched.setattr(crews.subprocess, "Popen", lambda _, **more: real(words, **more))
            return Crew("10.0.0.1:6379", "job")

    return made


def start(crew: Crew) -> tuple[list[Any], queue.SimpleQueue[End]]:
    lines: list[Any] = []
    ends: queue.SimpleQueue[End] = queue.SimpleQueue()
    child = crew.start(1, ["-c", ""], {"A": "1"}, lambda *line: lines.append(line), ends.put)
    child.send(signal.SIGTERM)
    return lines, ends


def test_hosts_lines_signals_and_ends(crew: Any) -> None:
    program = """
    for order in orders():
        if order["do"] == "start":
            assert order["host"] == 1 and order["life"] == 0 and order["variables"] == {"A": "1"}
            assert order["cwd"] == os.getcwd()
            say("line", key=order["key"], stream="stdout", text="caf\\u00e9 \\udcff")
        if order["do"] == "signal":
            say("ended", key=order["key"], code=-order["number"], report={"text": "why"})
        if order["do"] == "end":
            say("gone")
            break
    """
    made = crew(program)
    assert [str(host) for host in made.hosts] == ["a (10.0.0.1)", "b (10.0.0.2)"]
    assert (made.here, made.address) == (0, "10.0.0.1:6379")
    lines, ends = start(made)
    assert ends.get(timeout=60) == End(-signal.SIGTERM, {"text": "why"})
    assert lines == [("stdout", b"caf\xc3\xa9 \xff")]
    failed: list[End] = []
    made.watch(failed.append)
    made.close()
    assert failed == []  # it was asked to end


def test_a_lost_host(crew: Any) -> None:
    program = """
    for order in orders():
        if order["do"] == "start":
            say("lost", host=1, alive=False)
    """
    made, lost = crew(program), []
    made.on_loss = lost.append
    _, ends = start(made)
    end = ends.get(timeout=60)
    assert (end.code, lost) == (-signal.SIGKILL, [1])
    assert end.lost == ("was lost with its host b (10.0.0.2), which Ray does not reach any more")
    _, ends = start(made)  # there is nothing to start it on
    assert ends.get(timeout=60).lost == end.lost
    made.close()


def test_an_agent_that_was_killed_is_no_lost_host(crew: Any) -> None:
    program = """
    for order in orders():
        if order["do"] == "start" and not order["life"]:
            say("lost", host=1, alive=True)
        elif order["do"] == "start":
            say("failed", key=order["key"], text="no such folder")
    """
    made, lost = crew(program), []
    made.on_loss = lost.append
    _, ends = start(made)
    said = "was lost with the process that had started it on b (10.0.0.2)"
    assert ends.get(timeout=60).lost == said
    assert lost == []
    _, ends = start(made)  # on the next one
    end = ends.get(timeout=60)
    assert (end.code, end.report["text"]) == (1, "it could not be started: no such folder")
    made.close()


def test_the_end_of_the_cluster_comes_before_the_ends_that_follow_from_it(crew: Any) -> None:
    program = """
    for order in orders():
        if order["do"] == "start":
            print("Ray: the head has ended", file=sys.stderr)
            sys.exit(1)
    """
    made = crew(program)
    seen: queue.SimpleQueue[Any] = queue.SimpleQueue()
    made.watch(lambda end: seen.put(("cluster", end)))
    made.start(1, ["-c", ""], {}, lambda *_: None, lambda end: seen.put(("worker", end)))
    who, end = seen.get(timeout=60)
    assert (who, end.code, end.report["text"]) == ("cluster", 1, "Ray: the head has ended")
    assert seen.get(timeout=60) == ("worker", End(1, {}, "was lost with the cluster"))
    late: list[End] = []
    made.start(1, ["-c", ""], {}, lambda *_: None, late.append)
    assert [one.code for one in late] == [1]
    made.close()


def test_no_cluster(crew: Any) -> None:
    with pytest.raises(ParameterServerError, match="no Ray cluster answers"):
        crew("", 'say("error", text="no Ray cluster answers")\n')
    with pytest.raises(ParameterServerError, match="ModuleNotFoundError: no ray"):
        crew("", "raise ModuleNotFoundError('no ray')\n")


SEEN = """
for order in orders():
    if order["do"] == "see":
        sys.path[:0] = {path!r}
        from pathlib import Path
        from paramesh.ps.deployment.host_agent import digest
        from paramesh.ps.deployment.package_versions import versions
        from paramesh.ps.deployment.shared_folder import answered
        program = digest(Path(order["program"]))
        saw = {{"folder": answered(Path(order["folder"]), order["token"], "b"), "cwd": True}}
        say("seen", host=1, facts={{"versions": versions()}}, saw=saw | {{"program": program}})
        say("unseen", host=1, text="no module named paramesh")
"""


@pytest.mark.slow
def test_a_host_that_has_all_and_one_that_cannot_be_asked(crew: Any, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("")
    made = crew(SEEN.format(path=sys.path))
    made.check([], tmp_path, "/nowhere")
    made.check([1], tmp_path, str(script))
    with pytest.raises(ParameterServerError, match=r"host b \(10\.0\.0\.2\): no module named"):
        made.check([1], tmp_path, str(script))
    made.close()
    assert os.listdir(tmp_path) == ["train.py"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"jax": "0.1"}, r"it has jax 0\.1, and this host jax \S+\. Install the same"),
        ({"cwd": False}, "the folder '.*', in which the program runs, does not exist"),
        ({"program": "0"}, "'train.py' is not the same script there .another content.. Copy"),
        ({"program": "[Is a directory]"}, "is not the same script there .Is a directory."),
        ({"folder": [False]}, "wal_dir='.*' does not exist there. All hosts need the same"),
    ],
)
def test_what_a_host_lacks_is_said_in_words(
    tmp_path: Path, change: dict[str, Any], said: str | None
) -> None:
    mine = versions()
    theirs = mine | {name: change[name] for name in change if name in mine}
    with asked(tmp_path) as question:
        saw = {"folder": list(answered(tmp_path, question.token, "b")), "cwd": True}
        saw |= {"program": "d1gest"} | {name: change[name] for name in change if name in saw}
        saw |= {"program": change.get("program", "d1gest")}
        seen = {"facts": {"versions": theirs}, "saw": saw}
        found = _trouble(seen, question, mine, "train.py", "d1gest")
    assert found is None if said is None else re.search(said, str(found))
