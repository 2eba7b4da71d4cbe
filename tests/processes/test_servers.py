"""Servers in processes of their own, which are killed with SIGKILL, frozen, and left alone."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import pkgutil
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from rich.console import Console

import server_steps
from paramesh import ps
from paramesh.cli.servers import as_json, table_of
from paramesh.errors import ParameterServerError
from paramesh.initializer import initializer
from paramesh.ps.deployment.access import status_of
from paramesh.ps.deployment.cluster import Cluster, check_address
from paramesh.ps.deployment.connection import RayClient
from paramesh.ps.deployment.delivery import Delivery
from paramesh.ps.deployment.registry import runs
from paramesh.ps.deployment.status import find_servers, look, rates
from paramesh.ps.durability import identity, whose_folder
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.processes.descriptors import RESERVE
from paramesh.ps.specification.initial_values import initial_values_of
from paramesh.ps.specification.packing import pack_updates
from server_runs import MOMENTUM, NUMBERS, ids_of, table_spec
from server_steps import SPECS, START, local_run, train, update_of

# Ray leaves sockets and the processes of its services to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning", "ignore:subprocess .* is still running:ResourceWarning"
)

STEPS = 12


@pytest.fixture(autouse=True, params=["ray", pytest.param("zmq", marks=pytest.mark.slow)])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Of all clients of the test."""
    if request.param == "zmq":
        pytest.importorskip("zmq")
    monkeypatch.setattr("server_steps.TRANSPORT", request.param)
    return request.param


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Ray cluster; starting one takes most of the time."""
    cluster = Cluster(1, {"workers": 1}, job="base")
    yield cluster
    scratch = cluster._scratch
    pids = services()
    assert pids
    cluster.close()
    assert scratch is not None
    assert not scratch.exists()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def services() -> list[int]:
    """The processes of Ray that belong to this one."""
    worker: Any = importlib.import_module("ray._private.worker")
    node = worker._global_node
    return [info.process.pid for infos in node.all_processes.values() for info in infos]


def undisturbed() -> bytes:
    return local_run(2, STEPS)


def connected(folder: Path, kills: Any = None, timeout: float = 90.0, **config: Any) -> RayClient:
    workers = config.setdefault("workers", 1)
    cluster = Cluster(2, config, folder=str(folder), job=folder.name, kills=kills)
    staleness = config.get("staleness", 0)
    client = RayClient(
        cluster,
        workers=workers,
        timeout=timeout,
        staleness=staleness,
        transport=server_steps.TRANSPORT,
    )
    client.declare([*SPECS, table_spec()], START)
    return client


@pytest.mark.slow
def test_killed_at_every_point_ends_with_the_same_bits(base: Cluster, tmp_path: Path) -> None:
    planned = {
        0: [("staged", 1, 1), ("recovering", 0, 2), ("half", 3, 3), ("reply", 6, 4)],
        1: [("applied", 1, 1), ("logged", 3, 2), ("snapshot", 5, 3)],
    }
    client = connected(tmp_path, planned, snapshot_every=3)
    try:
        assert train(client, 0, STEPS) == undisturbed()
        assert [said["incarnation"] for said in client.stats()] == [5, 4]  # all seven happened
        assert [said["version"] for said in client.stats()] == [STEPS, STEPS]
    finally:
        client.close()


def test_a_reader_of_a_run_that_trains(base: Cluster, tmp_path: Path) -> None:
    """It follows, and no step and no server knows of it; also when a server dies meanwhile."""
    whose_folder.own(tmp_path, make=True)
    identity.write(tmp_path, Identity(2), "session")
    client = connected(tmp_path, {1: [("logged", 5, 1)]}, snapshot_every=2)
    everything = np.arange(50)
    try:
        with ps.connect(tmp_path) as run:
            for version in range(1, 8):
                train(client, version - 1, version)
                assert run.refresh() == version
                rows = client.pull_rows(version, "t", everything)
                np.testing.assert_array_equal(run.lookup("t", everything), rows)
                np.testing.assert_array_equal(run.value("v"), client.pull(version, ["v"])["v"])
                blocks = list(client.items("t", 7))
                assert all(len(ids) <= 7 for ids, _ in blocks)
                order = np.argsort(np.concatenate([ids for ids, _ in blocks]))
                theirs = next(run.items("t"))
                found = np.concatenate([rows for _, rows in blocks])[order]
                np.testing.assert_array_equal(found, theirs[1])
        # On a busy machine, a server may be taken for a frozen one in addition.
        assert client.stats()[1]["incarnation"] >= 2
        blocks = client.items("t", 2)
        next(blocks)
        train(client, 7, 8)
        with pytest.raises(ParameterServerError, match="at version 7, and server 0 is at"):
            next(blocks)
    finally:
        client.close()


def test_standby_takes_over_and_the_dead_one_stands_by(base: Cluster, tmp_path: Path) -> None:
    planned = [("half", 2, 1), ("applied", 5, 2)]
    cluster = Cluster(
        1,
        {"workers": 1, "snapshot_every": 3},
        folder=str(tmp_path),
        job=tmp_path.name,
        kills={0: planned},
        standby=True,
    )
    client = RayClient(cluster, timeout=90.0, transport=server_steps.TRANSPORT)
    try:
        client.declare([*SPECS, table_spec()], START)
        assert train(client, 0, 8) == local_run(1, 8)
        assert client.stats()[0]["incarnation"] == 3
    finally:
        client.close()


@pytest.mark.slow
def test_a_stale_step_returns_before_its_own_answer(base: Cluster, tmp_path: Path) -> None:
    config: dict[str, Any] = {"mode": "stale", "staleness": 1}
    client = connected(tmp_path / "frozen", **config)
    other = connected(
        tmp_path / "killed", {0: [("logged", 4, 1)], 1: [("applied", 3, 1)]}, **config
    )
    try:
        train(client, 0, 3)
        ids = ids_of(3, 0)
        rows = client.pull_rows(3, "t", ids)
        update = update_of(3, client.pull(3, ["v"])["v"], rows, ids)
        waited = client.waited
        tickets = client.delivery._tickets
        sent = [tickets[number] for number in client.worker.in_flight[2].sent]
        assert len(client.delivery.transport.wait(sent, 2, 60)) == 2
        pids = [said["pid"] for said in client.stats()]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            values = client.step(3, update, NUMBERS, ["v"])["v"]
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert client.waited == waited
        assert (values == client.pull(4, ["v"])["v"]).all()
        # Pushes that were under way when their server died are not lost.
        assert train(other, 0, STEPS) == train(client, 4, STEPS)
        assert [said["incarnation"] for said in other.stats()] == [2, 2]
    finally:
        client.close()
        other.close()


@pytest.mark.slow
def test_frozen_server_and_a_worker_killed_between_servers(
    base: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slow server is not a frozen one.
    monkeypatch.setattr(Delivery, "timing", Delivery.timing._replace(probe=0.5, frozen=3.0))
    client = connected(tmp_path)
    try:
        train(client, 0, 4)
        os.kill(client.stats()[1]["pid"], signal.SIGSTOP)
        train(client, 4, 6)
        assert client.stats()[1]["incarnation"] == 2
        # The worker dies when its push of step 6 has reached server 0 alone.
        ids = ids_of(6, 0)
        rows = client.pull_rows(6, "t", ids)
        update = update_of(6, client.pull(6, ["v"])["v"], rows, ids)
        mine = pack_updates(client.partition.split_updates(update)[0])
        push = ("push", (0, client.incarnation, 6, mine, NUMBERS, 1, False))
        client.delivery.call({0: push}, client.worker.earlier)
        assert [said["version"] for said in client.stats()] == [7, 6]
        successor = RayClient(client._cluster, timeout=60, transport=server_steps.TRANSPORT)
        assert successor.start == 6
        successor.declare([*SPECS, table_spec()], START)
        assert train(successor, 6, STEPS) == undisturbed()
        with pytest.raises(ParameterServerError, match="was replaced and must exit"):
            client.step(STEPS, update, NUMBERS, ["v"])
    finally:
        client.close()


def test_a_busy_server_says_that_it_is_alive(base: Cluster, tmp_path: Path) -> None:
    client = connected(tmp_path)
    recipe = initializer("normal", (2_000_000, 10), "float32").recipe
    assert recipe is not None
    large = {
        "name": "large",
        "kind": "dense",
        "shape": [2_000_000, 10],
        "dtype": "float32",
        "recipe": initial_values_of("large", recipe),
        "optimizer": MOMENTUM,
    }
    try:
        for server, pieces in enumerate(client.partition.split_spec(large)):
            busy = client.delivery.submit(server, ("declare", (pieces, {})))
            for _ in range(10):
                alive = client.delivery.submit(server, ("ping", ()))
                # The first that is answered, and the first of the list if both are.
                assert ray.wait([busy, alive], num_returns=1, timeout=60)[0] == [alive]
            ray.get(busy)
    finally:
        client.close()


@pytest.mark.slow
def test_worker_that_never_comes_is_an_error(base: Cluster, tmp_path: Path) -> None:
    client = connected(tmp_path, workers=2)
    try:
        client.delivery.timeout = 2.0
        with pytest.raises(ParameterServerError, match="another of the 2 workers has stopped"):
            train(client, 0, 1)
    finally:
        client.close()


@pytest.mark.slow
def test_server_whose_log_is_gone_is_an_error(base: Cluster, tmp_path: Path) -> None:
    client = connected(tmp_path, keep_log=False)
    try:
        train(client, 0, 3)
        os.kill(client.stats()[0]["pid"], signal.SIGKILL)
        with pytest.raises(ParameterServerError, match="from version 0 .* its log was lost"):
            train(client, 3, 4)
    finally:
        client.close()


def test_a_cluster_of_its_own_asks_for_a_token(base: Cluster) -> None:
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


@pytest.mark.xfail(reason="some of Ray's services listen on all interfaces, whatever its node is")
def test_a_cluster_of_its_own_listens_here_alone(base: Cluster) -> None:
    pids = [str(pid) for pid in services()]
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            inodes.add(os.readlink(link))
    listening = []
    tables = [Path("/proc/net") / name for name in ("tcp", "tcp6")]
    lines = [line for path in tables if path.exists() for line in path.read_text().splitlines()]
    for fields in map(str.split, lines):
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            listening.append(fields[1])
    assert listening
    # The kernel writes 127.x.y.z as zzyyxx7F.
    assert [address for address in listening if not address.partition(":")[0].endswith("7F")] == []


def test_addresses_on_a_network_need_token_and_encryption(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.delenv("RAY_USE_TLS", raising=False)
    check_address("127.0.0.1:6379")
    check_address("ray://localhost:10001")
    with pytest.raises(ParameterServerError, match="without a token .* and encryption"):
        check_address("ray://10.0.0.7:10001")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ParameterServerError, match=r"without encryption \(RAY_USE_TLS=1"):
        check_address("10.0.0.7:6379")
    monkeypatch.setenv("RAY_USE_TLS", "1")
    check_address("10.0.0.7:6379")


@pytest.mark.slow
def test_status_of_the_servers_of_a_run(base: Cluster, tmp_path: Path) -> None:
    client = connected(tmp_path, snapshot_every=2)
    try:
        address = ray.get_runtime_context().gcs_address
        with pytest.raises(ParameterServerError, match="no servers of the job 'nobody'"):
            find_servers(address, "nobody")
        servers = find_servers(address, tmp_path.name)
        assert [name for name, _ in servers] == ["server-0", "server-1"]
        before = look(servers)
        train(client, 0, 2)
        for _ in range(200):  # it is written beside the steps
            if "version" in client.stats()[0]["last_snapshot"]:
                break
            time.sleep(0.05)
        os.kill(before[1]["pid"], signal.SIGSTOP)
        try:
            now = look(servers)
        finally:
            os.kill(before[1]["pid"], signal.SIGCONT)
        assert rates(before[0], now[0])["updates"] > 0
        assert rates(before[1], now[1])["updates"] == 0
        console = Console(width=200, record=True, file=io.StringIO())
        console.print(table_of(before, now))
        shown = console.export_text()
        assert "at 2, " in shown
        assert "no answer" in shown
        told = json.loads(as_json(before, now))["servers"]
        assert [one["shards"] for one in told] == [128, 128]
        assert told[0]["updates_per_second"] > 0
        assert told[0]["lag"] == 0
        assert told[1]["silent"]
        lines = (tmp_path / "server-0" / "events.jsonl").read_text().splitlines()
        assert json.loads(lines[0])["event"] == "started"
    finally:
        client.close()


def listening(pid: int) -> list[tuple[str, int]]:
    """Where a process listens to TCP, as others on this host reach it."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(link))
    found = []
    for name in ("tcp", "tcp6"):
        for fields in map(str.split, Path("/proc/net", name).read_text().splitlines()):
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                host, _, port = fields[1].partition(":")
                everywhere = not host.strip("0")
                where = "127.0.0.1" if everywhere else socket.inet_ntoa(bytes.fromhex(host)[::-1])
                found.append((where, int(port, 16)))
    return found


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="Linux has it")
def test_idle_connections_to_a_server_do_not_end_a_run(base: Cluster, tmp_path: Path) -> None:
    config = {"workers": 1, "snapshot_every": 4}
    cluster = Cluster(2, config, folder=str(tmp_path), job=tmp_path.name, standby=True)
    client = RayClient(cluster, timeout=90.0, transport=server_steps.TRANSPORT)
    crowd: list[socket.socket] = []
    try:
        client.declare([*SPECS, table_spec()], START)
        train(client, 0, 4)
        pid = client.stats()[0]["pid"]
        soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        assert soft == hard - RESERVE
        # As if the system gave it as few as it gives a careless one, and fewer.
        used = len(os.listdir(f"/proc/{pid}/fd"))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 30, used + 30 + RESERVE))
        ports = listening(pid)
        # Of Ray, and the beacon.
        assert len(ports) == 2 + (server_steps.TRANSPORT == "zmq")
        for address in ports:
            for _ in range(120):
                crowd.append(socket.create_connection(address, timeout=20))
        assert train(client, 4, STEPS) == undisturbed()
        said = client.stats()
        assert [one["incarnation"] for one in said] == [1, 1]
        assert said[0]["pid"] == pid
        # Its own lifeline is held all the while.
        _, lifeline = client.delivery._lifelines[0]
        assert not lifeline.broken()
        # It lacks nothing when they are gone.
        for one in crowd:
            one.close()
        assert train(client, STEPS, STEPS + 8)
        assert client.stats()[0]["incarnation"] == 1
    finally:
        for one in crowd:
            one.close()
        client.close()


def methods() -> list[str]:
    """All calls that Ray's services know."""
    # Of these Python has no description.
    found = [f"/ray.rpc.ObjectManagerService/{name}" for name in ("Push", "Pull", "FreeObjects")]
    for module in pkgutil.iter_modules(importlib.import_module("ray.core.generated").__path__):
        if module.name.endswith("_pb2"):
            inside = importlib.import_module(f"ray.core.generated.{module.name}")
            for service in inside.DESCRIPTOR.services_by_name.values():
                found += [f"/{service.full_name}/{method.name}" for method in service.methods]
    return found


def test_a_cluster_of_its_own_refuses_whoever_has_no_token(base: Cluster) -> None:
    address = ray.get_runtime_context().gcs_address
    assert status_of(address, os.environ["RAY_AUTH_TOKEN"]) == 0
    assert status_of(address, None) == 16
    assert status_of(address, "b" * 64) == 16
    # Ports that are open to the network: each has one of Ray's services, which refuses (16), and
    # knows nothing of the others (12).
    calls = methods()
    assert len(calls) > 100
    refused: set[str] = set()
    for pid in (os.getpid(), *services()):
        for where, port in listening(pid):
            if where == "127.0.0.1":
                said = {call: status_of(f"{where}:{port}", None, call=call) for call in calls}
                assert set(said.values()) == {12, 16}
                refused |= {call for call in calls if said[call] == 16}
    assert {
        "/ray.rpc.CoreWorkerService/PushTask",
        "/ray.rpc.NodeManagerService/ShutdownRaylet",
    } <= (refused)
    assert len(refused) > 100


def test_the_run_is_listed_while_its_cluster_lives(base: Cluster) -> None:
    address = ray.get_runtime_context().gcs_address
    (run,) = [run for run in runs() if (run.address, run.job) == (address, "base")]
    assert run.pid == os.getpid()
    assert run.token == os.environ["RAY_AUTH_TOKEN"]
