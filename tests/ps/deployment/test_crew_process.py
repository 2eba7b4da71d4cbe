"""A post on a network that loses calls and answers: every command and every report once.

Ray is an object here that answers, or fails as Ray does, by a seeded plan.
"""

from __future__ import annotations

import io
import json
import random
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from paramesh.ps.deployment import crew_process, host_agent
from paramesh.ps.deployment.crew_process import Events, Post
from paramesh.ps.deployment.spread import ClusterHost
from paramesh.ps.processes.mailbox import Mailbox


class RayError(Exception):
    pass


class ActorUnavailableError(RayError):
    pass


class GetTimeoutError(RayError):
    pass


class ActorDiedError(RayError):
    pass


class OutOfMemoryError(RayError):
    """Of an actor that was killed: no kind of ActorDiedError."""


class FakeAgent:
    """As `HostAgent`, without processes: it writes down what it was told, and reports that."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.dead: RayError | None = None
        self.reports: Mailbox[tuple[Any, ...]] = Mailbox(at_once=20)
        self._last = 0

    def tell(self, number: int, command: tuple[Any, ...]) -> int:
        if number > self._last:
            self._last = number
            self.done.append(command)
            self.reports.put(("line", command[1], "stdout", f"{command[0]}".encode()), 10)
        return self._last

    def follow(self, seen: int) -> list[tuple[int, tuple[Any, ...]]]:
        return self.reports.take(seen, 0.02)

    def journals(self) -> dict[int, bytes]:
        return {}


class FakeRay:
    """Calls that are carried out or not, and answers that arrive or not."""

    exceptions = SimpleNamespace(
        RayError=RayError,
        ActorUnavailableError=ActorUnavailableError,
        GetTimeoutError=GetTimeoutError,
    )

    def __init__(self, seed: int, losses: float) -> None:
        self._random = random.Random(seed)
        self._losses = losses
        self._lock = threading.Lock()
        self.agents: list[FakeAgent] = []
        self.alive = True

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": "n", "Alive": self.alive}]

    def remote(self, kind: Any) -> Any:
        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=self._made))

    def _made(self) -> Any:
        agent = FakeAgent()
        self.agents.append(agent)
        names = ("tell", "follow", "journals")
        calls = {n: SimpleNamespace(remote=lambda *a, n=n: (agent, n, a)) for n in names}
        return SimpleNamespace(**calls)

    def get(self, ref: tuple[Any, str, Any], timeout: float) -> Any:
        agent, name, arguments = ref
        with self._lock:
            lost, how = self._random.random() < self._losses, self._random.random()
        if agent.dead is not None:
            raise agent.dead
        if lost and how < 0.4:
            raise ActorUnavailableError("it was not carried out")
        answer = getattr(agent, name)(*arguments)
        if lost:
            raise GetTimeoutError("its answer was lost")
        return answer

    def kill(self, agent: Any) -> None:
        pass


class Told(io.StringIO):
    def events(self, kind: str) -> list[dict[str, Any]]:
        said = [json.loads(line) for line in self.getvalue().splitlines()]
        return [one for one in said if one["event"] == kind]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_process, "_PAUSE", 0.002)
    monkeypatch.setattr(crew_process, "EVERY", 0.01)
    monkeypatch.setattr(crew_process.ray_inside, "only_at", lambda node: node)


def awaited(look: Any) -> None:
    until = time.monotonic() + 60
    while not look():
        assert time.monotonic() < until
        time.sleep(0.005)


@pytest.mark.parametrize("seed", range(8))
def test_every_command_is_carried_out_once_and_every_report_arrives_once(seed: int) -> None:
    ray, out = FakeRay(seed, losses=0.5), Told()
    post = Post(ray, 1, ClusterHost("10.0.0.2", "b", "n"), Events(out))  # type: ignore[arg-type]
    post.begin()
    for key in range(12):
        post.start(0, key, {"words": []})
        post.signal(key, 15)
    awaited(lambda: len(out.events("line")) >= 24)
    agent = ray.agents[0]
    wanted = [one for k in range(12) for one in (("start", k, {"words": []}), ("signal", k, 15))]
    assert agent.done == wanted
    assert [one["key"] for one in out.events("line")] == [k for k in range(12) for _ in range(2)]
    agent.dead = ActorDiedError("over")
    awaited(lambda: out.events("lost"))


@pytest.mark.parametrize("kind", [ActorDiedError, OutOfMemoryError])
def test_an_agent_that_dies_is_followed_by_another_as_long_as_its_host_lives(kind: Any) -> None:
    ray, out = FakeRay(0, losses=0.0), Told()
    post = Post(ray, 1, ClusterHost("10.0.0.2", "b", "n"), Events(out))  # type: ignore[arg-type]
    post.begin()
    post.start(0, 1, {})
    awaited(lambda: out.events("line"))
    ray.agents[0].dead = kind("killed")
    awaited(lambda: out.events("lost"))
    assert out.events("lost") == [{"event": "lost", "host": 1, "alive": True}]
    post.start(0, 2, {})  # meant for the one that has died: who wanted it hears that it is lost
    post.start(1, 3, {})
    awaited(lambda: len(out.events("line")) == 2)
    assert ray.agents[1].done == [("start", 3, {})]
    ray.alive = False
    ray.agents[1].dead = ActorDiedError("its node has died")
    awaited(lambda: len(out.events("lost")) == 2)
    assert out.events("lost")[1]["alive"] is False
    assert len(ray.agents) == 2


def test_an_agent_that_cannot_start_is_not_started_for_ever() -> None:
    ray, out = FakeRay(0, losses=0.0), Told()
    made = ray._made

    def stillborn() -> Any:
        agent = made()
        ray.agents[-1].dead = ActorDiedError("no module named paramesh")
        return agent

    ray._made = stillborn  # type: ignore[method-assign]
    post = Post(ray, 2, ClusterHost("10.0.0.2", "b", "n"), Events(out))  # type: ignore[arg-type]
    post.begin()
    awaited(lambda: out.events("lost"))
    assert out.events("lost") == [{"event": "lost", "host": 2, "alive": False}]
    assert len(ray.agents) == 1


def test_reports_as_events() -> None:
    out = Told()
    events = Events(out)
    events.report(("line", 1, "stderr", b"caf\xc3\xa9 \xff"))
    events.report(("ended", 1, -9, {"text": "why"}))
    events.report(("failed", 2, "no such folder"))
    (line,) = out.events("line")
    assert line["text"].encode(errors="surrogateescape") == b"caf\xc3\xa9 \xff"
    assert out.events("ended") == [
        {"event": "ended", "key": 1, "code": -9, "report": {"text": "why"}}
    ]
    assert out.events("failed")[0]["text"] == "no such folder"
    assert host_agent.PATIENCE < crew_process._ANSWER
