"""What the environment says of servers, and how it meets what a script says."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from paramesh import context
from paramesh.errors import ContextError, ParameterServerError
from paramesh.ps.deployment import access, cluster, environment, node
from paramesh.ps.deployment.cluster import HOST

LAUNCHED = {
    environment.SERVERS: "2",
    environment.WORKERS: "4",
    environment.ADDRESS: f"{HOST}:7001",
    environment.SCRATCH: "scratch/servers",
    environment.RANK: "3",
}


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    for name, value in LAUNCHED.items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    context.reset_ps_context()


def test_nothing_is_said() -> None:
    assert environment.outside({}) == ({}, {}, {})


def test_what_the_launcher_says_fills_in(launched: pytest.MonkeyPatch) -> None:
    context.set_ps_context(timeout=20)
    assert context.get_ps_context("server_num") == 0  # before the servers are asked for
    context.set_ps_context(enable_ps=True)
    found = {name: context.get_ps_context(name) for name in ("server_num", "worker_num", "address")}
    assert found == {"server_num": 2, "worker_num": 4, "address": f"{HOST}:7001"}
    assert context.get_ps_context("wal_dir") == "scratch/servers"
    assert environment.rank(4) == 3


def test_a_script_may_say_the_same_and_choose_its_folder(launched: pytest.MonkeyPatch) -> None:
    context.set_ps_context(server_num=2, wal_dir="mine")
    context.set_ps_context(enable_ps=True, worker_num=4)
    assert context.get_ps_context("wal_dir") == "mine"


def test_a_script_that_says_otherwise_is_refused_entirely(launched: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContextError, match=r"server_num=3, but .*server_num=2 \(PARAMESH_PS_SER"):
        context.set_ps_context(enable_ps=True, server_num=3, timeout=5)
    assert context.get_ps_context("timeout") == 300
    launched.setenv(environment.WAL_DIR, "/theirs")
    with pytest.raises(ContextError, match="wal_dir='mine', but .*PARAMESH_PS_WAL_DIR=/theirs"):
        context.set_ps_context(enable_ps=True, wal_dir="mine")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (environment.SERVERS, "two", "PARAMESH_PS_SERVERS='two' must be an integer"),
        (environment.WORKERS, "0", r"PARAMESH_PS_WORKERS=0 is outside 1\.\.4096"),
    ],
)
def test_values_that_are_none(name: str, value: str, message: str) -> None:
    with pytest.raises(ContextError, match=message):
        environment.outside({name: value})


def test_a_rank_beyond_the_workers(launched: pytest.MonkeyPatch) -> None:
    with pytest.raises(ContextError, match=r"PARAMESH_PS_RANK=3 is outside 0\.\.1"):
        environment.rank(2)


def test_a_cluster_that_does_not_come(tmp_path: Path) -> None:
    port = node.free_port()
    with pytest.raises(ParameterServerError, match=f"answers at {HOST}:{port} within 0.2 s"):
        node.wait_for_cluster(f"{HOST}:{port}", 0.2)
    with pytest.raises(ParameterServerError, match="is HOST:PORT or ray://HOST:PORT"):
        node.wait_for_cluster("somewhere", 0.2)


def test_a_node_is_on_the_loopback_and_its_files_in_one_folder(tmp_path: Path) -> None:
    words = node.start_command(tmp_path, port=7001)
    assert words[words.index("--node-ip-address") + 1] == HOST
    assert words[words.index("--temp-dir") + 1] == str(tmp_path / "ray")
    assert words[words.index("--include-dashboard") + 1] == "false"
    assert len(access.token_variables()["RAY_AUTH_TOKEN"]) == 64
    assert access.token_variables() != access.token_variables()


@pytest.mark.parametrize(
    ("address", "where"), [(None, "on this host"), ("127.0.0.2:1", "at address='127.0.0.2:1'")]
)
def test_ray_that_cannot_start_is_one_error(
    address: str | None, where: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Ray:
        ended = 0

        def is_initialized(self) -> bool:
            return False

        def init(self, **_: object) -> None:
            raise Exception("the node timed out during startup.")

        def shutdown(self) -> None:
            self.ended += 1

    ray = Ray()
    monkeypatch.setattr(cluster, "ray_module", lambda: ray)
    monkeypatch.setattr(cluster, "join", lambda address: {})
    with pytest.raises(ParameterServerError, match=f"{where}: the node timed out during startup"):
        cluster.Cluster(1, {"workers": 1}, address=address, folder=str(tmp_path))
    assert ray.ended == (address is None)


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_what_ray_leaves_when_it_is_interrupted_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    scratch: list[Path] = []

    class Ray:
        def is_initialized(self) -> bool:
            return False

        def init(self, **settings: Any) -> None:
            scratch.append(Path(settings["_temp_dir"]).parent)
            words = [sys.executable, "-c", "import time; time.sleep(60)", settings["_temp_dir"]]
            started.append(subprocess.Popen(words))
            raise KeyboardInterrupt

        def shutdown(self) -> None:
            """It does not know of it."""

    monkeypatch.setattr(cluster, "ray_module", Ray)
    with pytest.raises(KeyboardInterrupt):
        cluster.Cluster(1, {"workers": 1})
    try:
        assert started[0].wait(10) == -signal.SIGKILL
        assert not scratch[0].exists()
    finally:
        started[0].kill()


def test_the_transport_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert context.get_ps_context("transport") == "auto"
    monkeypatch.setenv(environment.TRANSPORT, "ray")
    try:
        context.set_ps_context(enable_ps=True)
        assert context.get_ps_context("transport") == "ray"
        with pytest.raises(ContextError, match="PARAMESH_PS_TRANSPORT=ray"):
            context.set_ps_context(transport="zmq")
        monkeypatch.setenv(environment.TRANSPORT, "pigeon")
        with pytest.raises(ContextError, match="'pigeon': the transport is one of"):
            context.set_ps_context(enable_ps=True)
    finally:
        context.reset_ps_context()
    with pytest.raises(ValueError, match="transport='pigeon'"):
        context.set_ps_context(transport="pigeon")
