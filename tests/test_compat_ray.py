"""The private interfaces of Ray that paramesh uses are as they were; no cluster is started."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys

import pytest

from paramesh._compat import ray as ray_inside

ray = pytest.importorskip("ray")


def test_ray_is_not_imported_before_it_is_asked_for() -> None:
    program = "import sys; from paramesh._compat import ray; assert ray.read_token_again(); "
    done = subprocess.run([sys.executable, "-c", program + "assert 'ray' not in sys.modules"])
    assert done.returncode == 0


def test_ray_takes_a_token_that_it_gets_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ray_inside.AUTH_MODE, "disabled")
    assert ray_inside.read_token_again()
    inside = importlib.import_module("ray._raylet")
    assert inside.get_authentication_mode() == inside.AuthenticationMode.DISABLED
    monkeypatch.setenv(ray_inside.AUTH_MODE, "token")
    monkeypatch.setenv(ray_inside.AUTH_TOKEN, "word")
    assert ray_inside.read_token_again()
    assert inside.get_authentication_mode() == inside.AuthenticationMode.TOKEN
    monkeypatch.undo()
    ray_inside.read_token_again()


def test_a_token_that_ray_does_not_take_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    inside = importlib.import_module("ray._raylet")
    off = inside.AuthenticationMode.DISABLED
    monkeypatch.setattr(inside, "get_authentication_mode", lambda: off)
    monkeypatch.setenv(ray_inside.AUTH_MODE, "disabled")
    assert ray_inside.read_token_again()
    monkeypatch.setenv(ray_inside.AUTH_MODE, "Token")
    assert not ray_inside.read_token_again()
    monkeypatch.undo()
    ray_inside.read_token_again()


def test_options_of_init_that_are_not_documented() -> None:
    options = ray_inside.place_of_driver("127.0.0.2") | ray_inside.scratch_of_cluster("/x")
    source = inspect.getsource(inspect.unwrap(ray.init))
    assert [
        name for name in options if f'"{name}"' not in source and f"{name}:" not in source
    ] == []


def test_node_of_the_driver() -> None:
    assert ray_inside.node_of_driver() is None  # this program has started none
    node = importlib.import_module("ray._private.node").Node
    assert callable(node.dead_processes)
    worker = importlib.import_module("ray._private.worker")
    assert hasattr(worker, "_global_node")


def test_settings_that_are_there_keep_their_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_worker_niceness", "5")
    settings = ray_inside.settings("a.module")
    assert settings["RAY_worker_niceness"] == "5"
    assert settings["RAY_preload_python_modules"] == "a.module"
    assert all(name.startswith("RAY_") for name in settings)


@pytest.mark.parametrize(
    ("value", "expected"), [("1", True), ("True", True), ("0", False), ("", False)]
)
def test_encryption(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ray_inside.USE_TLS, value)
    assert ray_inside.encrypts() is expected


def test_where_an_actor_starts_and_where_never() -> None:
    node, other = "a" * 56, "b" * 56
    soft = ray_inside.near(node)
    assert (soft.node_id, soft.soft) == (node, True)
    hard = ray_inside.only_at(node)
    assert (hard.node_id, hard.soft) == (node, False)
    away = ray_inside.near(node, [other])
    told = {
        kind: [(one.key, type(one.operator).__name__, one.operator.values) for one in found]
        for kind, found in (("hard", away.hard), ("soft", away.soft))
    }
    assert told == {
        "hard": [("ray.io/node-id", "NotIn", [other])],
        "soft": [("ray.io/node-id", "In", [node])],
    }


def test_the_environment_of_a_node_is_that_of_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_ID", "01000000")
    monkeypatch.delenv("RAY_RAYLET_PID", raising=False)
    assert "RAY_JOB_ID" not in ray_inside.environment_of_node()
    if sys.platform != "linux":
        return
    program = [sys.executable, "-c", "print(flush=True); import time; time.sleep(600)"]
    wanted = {"ONE": "1=2", "TWO": "x\ny"}
    with subprocess.Popen(program, env=wanted, stdout=subprocess.PIPE) as node:
        assert node.stdout is not None
        node.stdout.readline()
        monkeypatch.setenv("RAY_RAYLET_PID", str(node.pid))
        found = ray_inside.environment_of_node()
        node.kill()
    assert wanted.items() <= found.items()
    assert "RAY_JOB_ID" not in found
