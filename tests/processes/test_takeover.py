"""Servers with standbys, in processes of their own: killed, frozen, in pairs, with their node."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from ray.exceptions import RayError

import server_steps
from paramesh.errors import ParameterServerError
from paramesh.ps.deployment.cluster import Cluster
from paramesh.ps.deployment.connection import RayClient
from paramesh.ps.deployment.delivery import Delivery
from paramesh.ps.specification.protocol import POINTS
from server_runs import table_spec
from server_steps import SPECS, START, local_run, train

pytestmark = [
    # Ray leaves sockets and the processes of its services to the garbage collector.
    pytest.mark.filterwarnings(
        "ignore:unclosed:ResourceWarning", "ignore:subprocess .* is still running:ResourceWarning"
    ),
    pytest.mark.slow,
]


@pytest.fixture(autouse=True, params=["ray", pytest.param("zmq", marks=pytest.mark.slow)])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of all clients of the test."""
    if request.param == "zmq":
        pytest.importorskip("zmq")
    monkeypatch.setattr("server_steps.TRANSPORT", request.param)
    return request.param


@pytest.fixture(scope="module")
def base() -> Iterator[Cluster]:
    """A Ray cluster; starting one takes most of the time."""
    cluster = Cluster(1, {"workers": 1}, job="base")
    yield cluster
    cluster.close()


class Pair:
    """Servers with standbys, and the processes that they are."""

    def __init__(self, folder: Path, servers: int = 1, kills: Any = None, **config: Any) -> None:
        self.config = {"workers": 1, **config}
        self.cluster = Cluster(
            servers, self.config, folder=str(folder), job=folder.name, kills=kills, standby=True
        )
        self.clients: list[RayClient] = []

    def client(self, rank: int = 0, timeout: float = 120.0) -> RayClient:
        workers = self.config["workers"]
        eager = self.config.get("mode") == "async"
        client = RayClient(
            self.cluster,
            rank=rank,
            workers=workers,
            timeout=timeout,
            eager=eager,
            staleness=self.config.get("staleness", 0),
            transport=server_steps.TRANSPORT,
        )
        self.clients.append(client)
        return client

    def roles(self, server: int = 0) -> dict[str, dict[str, Any]]:
        """What both actors of a server say, by role; waits until both are there, and alike."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            refs = [actor.look.remote() for actor in self.cluster.pairs()[server]]
            try:
                said = ray.get(refs, timeout=20)
            except RayError:
                continue
            found = {one["role"]: one for one in said}
            if len(found) == 2 and found["standby"]["version"] == found["server"]["version"]:
                return found
            time.sleep(0.05)
        raise AssertionError("there are no two of them")

    def now(self, server: int) -> dict[str, dict[str, Any]]:
        """What those of both actors say that answer at once."""
        refs = [actor.look.remote() for actor in self.cluster.pairs()[server]]
        ready, _ = ray.wait(refs, num_returns=2, timeout=2.0)
        found: dict[str, dict[str, Any]] = {}
        for ref in ready:
            with contextlib.suppress(RayError):
                said = ray.get(ref)
                found[said["role"]] = said
        return found

    def close(self) -> None:
        self.cluster.close()


@pytest.mark.parametrize("mode", [{}, {"mode": "stale", "staleness": 2}, {"mode": "async"}])
def test_killed_at_every_point_in_every_mode(
    base: Cluster, tmp_path: Path, mode: dict[str, Any]
) -> None:
    steps = 3 * len(POINTS)
    names = [name for name in POINTS if name != "recovering"]
    planned = [(name, 1 + 3 * place, 1 + place) for place, name in enumerate(names)]
    # The standby of the other server dies of every record that it follows.
    following = [*planned[:3], ("following", steps - 3, 4)]
    pair = Pair(tmp_path, 2, {0: planned, 1: following}, snapshot_every=2, **mode)
    try:
        client = pair.client()
        client.declare([*SPECS, table_spec()], START)
        train(client, 0, steps - 4)
        standby = pair.roles(1)["standby"]["pid"]
        found = train(client, steps - 4, steps)
        client.dump("v")  # all of its pushes are applied, also in stale mode
        until = time.monotonic() + 60  # it reads the last records when it has the time to
        while pair.roles(1).get("standby", {"pid": standby})["pid"] == standby:
            assert time.monotonic() < until
            time.sleep(0.1)
        assert [said["incarnation"] for said in client.stats()] == [len(names) + 1, 4]
        assert [said["version"] for said in client.stats()] == [steps, steps]
        if mode.get("mode") != "stale":
            assert found == local_run(2, steps)
        else:  # what is read lags, and is the same in a run without deaths
            calm = Pair(tmp_path / "calm", 2, **mode)
            other = calm.client()
            other.declare([*SPECS, table_spec()], START)
            train(other, 0, steps - 4)
            assert found == train(other, steps - 4, steps)
            calm.close()
    finally:
        pair.close()


def test_both_die_and_standby_dies_in_promotion(base: Cluster, tmp_path: Path) -> None:
    planned = [("claimed", 0, 2), ("caught up", 0, 3), ("logged", 6, 4), ("claimed", 0, 5)]
    pair = Pair(tmp_path, 1, {0: planned}, snapshot_every=3)
    try:
        client = pair.client()
        client.declare([*SPECS, table_spec()], START)
        train(client, 0, 3)
        os.kill(pair.roles()["server"]["pid"], signal.SIGKILL)
        train(client, 3, 7)
        assert client.stats()[0]["incarnation"] == 6
        # The standby alone; nobody notices.
        retries = client.retries
        roles = pair.roles()
        os.kill(roles["standby"]["pid"], signal.SIGKILL)
        train(client, 7, 8)
        assert client.retries == retries
        # The standby first, then the server.
        roles = pair.roles()
        os.kill(roles["standby"]["pid"], signal.SIGKILL)
        os.kill(roles["server"]["pid"], signal.SIGKILL)
        train(client, 8, 10)
        # Both, in the other order.
        roles = pair.roles()
        os.kill(roles["server"]["pid"], signal.SIGKILL)
        os.kill(roles["standby"]["pid"], signal.SIGKILL)
        assert train(client, 10, 12) == local_run(1, 12)
        assert pair.roles()["server"]["incarnation"] == 8
    finally:
        pair.close()


def test_frozen_server_is_replaced_and_wakes_up_as_the_standby(
    base: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Delivery, "timing", Delivery.timing._replace(probe=0.5, frozen=3.0))
    monkeypatch.setattr(Delivery, "kill", lambda *_: False)  # as if on another host
    pair = Pair(tmp_path)
    try:
        client = pair.client()
        client.declare([*SPECS, table_spec()], START)
        train(client, 0, 4)
        frozen = pair.roles()["server"]["pid"]
        os.kill(frozen, signal.SIGSTOP)
        train(client, 4, 6)
        os.kill(frozen, signal.SIGCONT)
        roles = pair.roles()
        assert roles["server"]["incarnation"] == 2
        assert frozen not in [said["pid"] for said in roles.values()]
        # A worker that is started again finds the one that serves.
        successor = pair.client()
        assert successor.start == 6
        successor.declare([*SPECS, table_spec()], START)
        assert train(successor, 6, 8) == local_run(1, 8)
    finally:
        pair.close()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_several_workers_and_random_kills(base: Cluster, tmp_path: Path, mode: str) -> None:
    """Three workers that notice a death at different moments, and anything that is killed."""
    steps, rng = 40, np.random.default_rng(7)
    found: dict[str, list[bytes]] = {}
    for name, kills in (("calm", 0), ("killed", 8)):
        pair = Pair(tmp_path / name, 2, workers=3, mode=mode, snapshot_every=7)
        trained: dict[int, bytes] = {}
        done = [0] * 3

        def work(
            rank: int,
            pair: Pair = pair,
            trained: dict[int, bytes] = trained,
            done: list[int] = done,
        ) -> None:
            client = pair.client(rank)
            client.declare([*SPECS, table_spec()], START)
            for step in range(steps):
                time.sleep(0.05 * rank)
                trained[rank] = train(client, step, step + 1)
                done[rank] += 1

        threads = [threading.Thread(target=work, args=(rank,)) for rank in range(3)]
        try:
            for thread in threads:
                thread.start()
            for kill in range(kills):
                while min(done) < 4 * kill + 2:
                    assert any(thread.is_alive() for thread in threads)
                    time.sleep(0.05)
                for server in rng.permutation(2)[: rng.integers(1, 3)]:
                    roles = pair.now(int(server))
                    for role in rng.permutation(sorted(roles))[: rng.integers(1, 3)]:
                        os.kill(roles[role]["pid"], signal.SIGKILL)
            for thread in threads:
                thread.join(240)
            assert sorted(trained) == [0, 1, 2]
            stats = pair.clients[0].stats()
            assert [said["version"] for said in stats] == [
                steps * (3 if mode == "async" else 1)
            ] * 2
            if mode == "async":
                assert all(said["next"] == dict.fromkeys(range(3), steps) for said in stats)
            if kills:
                assert sum(said["incarnation"] for said in stats) > 4
            found[name] = [trained[rank] for rank in range(3)]
        finally:
            pair.close()
    if mode == "sync":
        assert found["calm"] == found["killed"]


def test_server_that_cannot_be_started_again_is_an_error(base: Cluster, tmp_path: Path) -> None:
    planned = [("claimed", 0, incarnation) for incarnation in range(2, 1000)]
    pair = Pair(tmp_path, 1, {0: planned})
    try:
        client = pair.client()
        client.declare([*SPECS, table_spec()], START)
        train(client, 0, 2)
        client.delivery.timeout = 15.0
        os.kill(pair.roles()["server"]["pid"], signal.SIGKILL)
        with pytest.raises(
            ParameterServerError, match="within 15 s .server 0: its process has die"
        ):
            train(client, 2, 3)
    finally:
        pair.close()


def test_folder_that_is_gone_is_an_error(base: Cluster, tmp_path: Path) -> None:
    pair = Pair(tmp_path)
    try:
        client = pair.client()
        client.declare([*SPECS, table_spec()], START)
        train(client, 0, 2)
        roles = pair.roles()
        for path in (tmp_path / "server-0").iterdir():
            path.unlink()
        for said in roles.values():
            os.kill(said["pid"], signal.SIGKILL)
        with pytest.raises(ParameterServerError, match="its log was lost or replaced"):
            train(client, 2, 3)
    finally:
        pair.close()


def test_node_is_removed_with_its_server(tmp_path: Path) -> None:
    """In a program of its own: a cluster of several nodes."""
    program = Path(__file__).with_name("node_removed.py")
    ended = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, timeout=240
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    assert "the same bits" in ended.stdout
