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
