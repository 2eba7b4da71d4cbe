"""Runs of separately started processes: who they are, who comes, and who does not."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from paramesh.errors import ContextError, ParameterServerError
from paramesh.parallel.processes.membership import detect as joined
from paramesh.ps.deployment import roles
from paramesh.ps.deployment.cluster import HOST
from paramesh.ps.deployment.roster import SILENCE, Roster

VARIABLES = {"MS_SERVER_NUM": "1", "MS_WORKER_NUM": "2", "MS_SCHED_PORT": "7002"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Run:
    """A roster, and the processes that speak to it."""

    def __init__(self, servers: int = 1, workers: int = 2) -> None:
        self.clock = Clock()
        self.roster = Roster(servers, workers, 60.0, self.clock)

    def meet(self, role: str, process: int, host: str = "a", wish: int | None = None) -> Any:
        return self.roster.meet(role, (host, process), wish)

    def complete(self) -> None:
        for role, process in (("server", 1), ("worker", 2), ("worker", 3)):
            self.meet(role, process)


class TestDetect:
    @pytest.mark.parametrize(
        ("name", "role"),
        [
            ("MS_SCHED", "scheduler"),
            ("MS_PSERVER", "server"),
            ("MS_SERVER", "server"),
            ("MS_WORKER", "worker"),
        ],
    )
    def test_roles(self, name: str, role: str) -> None:
        found = roles.detect(VARIABLES | {"MS_ROLE": name, "MS_SCHED_HOST": "127.0.0.1"})
        assert found is not None
        assert (found.role, found.servers, found.workers) == (role, 1, 2)
        # 127.0.0.1 would be replaced by an address of the network.
        assert found.address == f"{HOST}:7002"

    def test_none(self) -> None:
        assert roles.detect({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": "2"}) is None
        assert roles.detect(VARIABLES | {"MS_ROLE": "MS_WORKER", "MS_SERVER_NUM": "0"}) is None

    @pytest.mark.parametrize(
        ("more", "message"),
        [
            ({"MS_ROLE": "MS_WAITER"}, "MS_ROLE='MS_WAITER' is not one of MS_SCHED"),
            ({"MS_ROLE": "MS_WORKER", "MS_WORKER_NUM": ""}, "but MS_WORKER_NUM is not"),
            ({"MS_ROLE": "MS_WORKER", "MS_NODE_ID": "2"}, r"MS_NODE_ID=2 is outside 0\.\.1"),
        ],
    )
    def test_mistakes(self, more: dict[str, str], message: str) -> None:
        with pytest.raises(ContextError, match=message):
            roles.detect(VARIABLES | more)

    def test_jax_does_not_join_them(self) -> None:
        assert joined(VARIABLES | {"MS_ROLE": "MS_SCHED"}) is None
        assert joined(VARIABLES | {"MS_ROLE": "MS_WORKER", "MS_NODE_ID": "1"}) is None

    def test_a_scheduler_on_a_network_needs_token_and_encryption(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
        monkeypatch.delenv("RAY_USE_TLS", raising=False)
        role = roles.detect(VARIABLES | {"MS_ROLE": "MS_SCHED", "MS_SCHED_HOST": "10.0.0.7"})
        assert role is not None
        with pytest.raises(ParameterServerError, match="without a token .* and encryption"):
            roles.take_part(role, 1.0)

    def test_a_scheduler_that_does_not_come(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "ray", raising=False)  # by tests before this one
        role = roles.detect(VARIABLES | {"MS_ROLE": "MS_WORKER", "MS_SCHED_PORT": "1"})
        assert role is not None
        with pytest.raises(ParameterServerError, match=f"no Ray cluster answers at {HOST}:1 "):
            roles.take_part(role, 0.1)

    @pytest.mark.skipif(os.name != "posix", reason="the modes of files are POSIX's")
    def test_a_token_is_taken_from_a_folder_of_this_user_alone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
            monkeypatch.delenv(name, raising=False)
        role = roles.detect(VARIABLES | {"MS_ROLE": "MS_WORKER"})
        assert role is not None
        folder = tmp_path / "run"
        monkeypatch.setattr(roles, "folder_of", lambda port: folder)
        with pytest.raises(ParameterServerError, match="has left no token"):
            roles._token(role)
        folder.mkdir(mode=0o700)
        (folder / "token").write_text("12")
        assert roles._token(role) == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "12"}
        folder.chmod(0o755)
        with pytest.raises(ParameterServerError, match="not a folder of this user alone"):
            roles._token(role)


class TestRoster:
    def test_numbers_when_all_are_there(self) -> None:
        run = Run()
        said = run.meet("worker", 30)
        assert (said["number"], said["waiting"]) == (None, "1 of 1 servers and 1 of 2 workers")
        assert run.meet("server", 10)["waiting"] == "1 of 2 workers"
        # In the order of their starts, whoever came first.
        assert run.meet("worker", 20)["number"] == 0
        assert run.meet("worker", 30)["number"] == 1
        assert run.meet("server", 10)["number"] == 0
        assert run.roster.look() == {"done": False, "failed": None, "here": 3}

    def test_wishes(self) -> None:
        run = Run(workers=3)
        run.meet("server", 1)
        run.meet("worker", 2, host="b", wish=0)
        run.meet("worker", 3, host="b")
        assert run.meet("worker", 4, host="a")["number"] == 1
        assert run.meet("worker", 3, host="b")["number"] == 2
        assert run.meet("worker", 2, host="b")["number"] == 0

    def test_the_same_wish_twice(self) -> None:
        run = Run()
        run.meet("server", 1)
        run.meet("worker", 2, wish=1)
        said = run.meet("worker", 3, wish=1)
        assert said["number"] is None
        assert "the workers say that they are [1, 1]" in said["failed"]

    def test_one_that_does_not_come(self) -> None:
        run = Run()
        run.meet("worker", 2)
        run.clock.now = 61
        failed = "1 of 1 servers and 1 of 2 workers did not come within 60 s."
        assert run.roster.look()["failed"] == failed
        assert run.roster.beat("worker", ("a", 2))["failed"] == failed

    def test_the_place_of_a_silent_one(self) -> None:
        run = Run()
        run.complete()
        assert run.meet("worker", 4)["waiting"] == "a place: 2 workers are here already"
        run.clock.now = SILENCE + 1
        run.roster.beat("worker", ("a", 2))
        assert run.meet("worker", 4)["number"] == 1
        assert run.roster.beat("worker", ("a", 3))["replaced"]
        assert not run.roster.beat("worker", ("a", 4))["replaced"]

    def test_one_that_stays_silent(self) -> None:
        run = Run()
        run.complete()
        run.clock.now = 30
        run.roster.beat("worker", ("a", 2))
        run.roster.beat("server", ("a", 1))
        run.clock.now = 61
        failed = run.roster.look()["failed"]
        assert failed.startswith("worker 1 (process 3 on a) was last heard of 61 s ago")

    def test_the_end(self) -> None:
        run = Run()
        run.complete()
        run.roster.leave("worker", ("a", 2))
        assert not run.roster.look()["done"]
        run.roster.leave("worker", ("a", 3))
        assert run.roster.look() == {"done": True, "failed": None, "here": 1}
        run.clock.now = 1000
        assert run.roster.look()["failed"] is None

    def test_an_error(self) -> None:
        run = Run()
        run.complete()
        run.roster.leave("worker", ("a", 3), "ValueError: no")
        failed = "worker 1 (process 3 on a) ended with an error: ValueError: no"
        assert run.roster.look()["failed"] == failed
