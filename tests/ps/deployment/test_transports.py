"""Every transport: the same steps with the same bits, also where connections are lost."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.client.exchange import Died
from paramesh.ps.deployment import frames
from paramesh.ps.deployment.frame_pipe import FramePipe
from paramesh.ps.deployment.transports import transport_for
from paramesh.ps.deployment.zmq_module import configure, zmq_module
from paramesh.ps.deployment.zmq_transport import ZmqTransport
from paramesh.ps.specification.protocol import VersionGone
from relay import far_away
from server_loops import LoopClient, LoopServer, LoopTransport
from server_runs import MOMENTUM, NUMBERS, table_spec
from server_steps import SPECS, START, local_run, train

zmq = pytest.importorskip("zmq")

TRANSPORTS = ("ray", "zmq")
STEPS = 8

Starting = Callable[..., LoopClient]


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[list[LoopServer]]:
    found = [LoopServer(tmp_path / f"server-{number}") for number in range(2)]
    yield found
    for server in found:
        server.close()


@pytest.fixture
def client_of(servers: list[LoopServer]) -> Iterator[Starting]:
    made: list[LoopClient] = []

    def start(transport: str = "zmq") -> LoopClient:
        client = LoopClient(servers, transport)
        made.append(client)
        client.declare([*SPECS, table_spec()], START)
        for server in servers:
            server.calls.clear()
        return client

    yield start
    for client in made:
        client.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_steps_give_the_same_bits(
    transport: str, servers: list[LoopServer], client_of: Starting
) -> None:
    client = client_of(transport)
    assert train(client, 0, STEPS) == local_run(2, STEPS)
    by_ray = {"step", "pull", "pull_tables"} if transport == "ray" else set()
    assert {call for server in servers for call in server.calls} == by_ray


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_rows_ahead_are_those_that_a_step_reads(
    transport: str, servers: list[LoopServer], client_of: Starting
) -> None:
    client = client_of(transport)
    assert train(client, 0, STEPS, ahead=True) == local_run(2, STEPS)
    if transport == "ray":  # the first step, each step for the next one, and the look at the end
        assert servers[0].calls.count("pull_tables") == 1 + STEPS + 1
    train(client, STEPS, STEPS + 2)
    servers[0].close_door()
    assert train(client, STEPS + 2, STEPS + 4, ahead=True) == local_run(2, STEPS + 4)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_errors_of_the_server_are_those_of_the_call(transport: str, client_of: Starting) -> None:
    client = client_of(transport)
    train(client, 0, 4)
    with pytest.raises(VersionGone, match="step 0 reads version 0"):
        client.pull(0, ["v"])
    train(client, 4, 5)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_other_threads_ask_while_one_trains(transport: str, client_of: Starting) -> None:
    client = client_of(transport)
    over, failures, asked = threading.Event(), list[str](), list[str]()

    def asks(name: str, ask: Callable[[], object]) -> None:
        try:
            while not over.is_set():
                ask()
                asked.append(name)
        except Exception as error:
            failures.append(f"{name}: {error!r}")

    asking: dict[str, Callable[[], object]] = {
        "known": lambda: client.known([SPECS[0] | {"optimizer": None}]),
        "stats": client.stats,
        "dump": lambda: client.dump("t"),
    }
    threads = [threading.Thread(target=asks, args=one) for one in asking.items()]
    for thread in threads:
        thread.start()
    try:
        found = train(client, 0, STEPS)
        while not failures and not asking.keys() <= set(asked):
            time.sleep(0.001)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert found == local_run(2, STEPS)


def test_a_signal_handler_does_not_ask_in_the_middle_of_an_answer(
    client_of: Starting, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = client_of()
    call = client.delivery.call

    def interrupted(*arguments: Any) -> Any:
        with pytest.raises(ParameterServerError, match="a signal handler has asked the servers"):
            client.stats()
        return call(*arguments)

    monkeypatch.setattr(client.delivery, "call", interrupted)
    assert train(client, 0, 2) == local_run(2, 2)
    client.ask_ahead(3, {"t": np.arange(3)})


def test_a_connection_that_is_lost_goes_on_through_ray_and_comes_back(
    servers: list[LoopServer], client_of: Starting
) -> None:
    client = client_of()
    train(client, 0, 3)
    servers[1].close_door()
    train(client, 3, 4)
    assert servers[1].calls
    assert servers[0].calls == []
    time.sleep(0.6)  # it asks once more
    found = b""
    for step in range(4, STEPS):
        found = train(client, step, step + 1)
        time.sleep(0.05)
    assert found == local_run(2, STEPS)
    assert client.delivery.transport.describe() == dict.fromkeys(
        ("server-0", "server-1"), client.delivery.transport.describe()["server-0"]
    )
    assert "zmq" in client.delivery.transport.describe()["server-1"]


def test_what_was_sent_on_a_connection_that_is_lost_is_reported_as_lost(
    servers: list[LoopServer], client_of: Starting
) -> None:
    transport = client_of().delivery.transport
    waiting = transport.submit(0, ("pull", (5, ["v"])), 0)
    assert transport.wait([waiting], 1, 0.1) == []
    servers[0].close_door()
    assert transport.wait([waiting], 1, 20.0) == [waiting]
    assert transport.event(7, waiting) == Died(7)


def test_values_that_are_too_long_for_frames_go_through_ray(
    servers: list[LoopServer], client_of: Starting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramesh.ps.deployment.zmq_transport.arena_if_any", lambda: None)
    size = 5 << 20
    large: dict[str, Any] = {"name": "large", "kind": "dense", "shape": [2, size]}
    large |= {"dtype": "float32", "recipe": None, "optimizer": MOMENTUM}
    client = client_of()
    client.declare([large], {"large": np.ones((2, size), np.float32)})
    assert (client.pull(0, ["large"])["large"] == 1).all()
    grad = np.full((2, size), 0.5, np.float32)
    found = client.step(0, {"large": {"grad": grad}}, NUMBERS, ["large"])["large"]
    assert np.allclose(found, 0.95)
    assert {"pull", "step"} <= {call for server in servers for call in server.calls}
    for server in servers:
        server.calls.clear()
    client.pull(1, ["large"])
    assert [server.calls for server in servers] == [["pull"]] * 2  # at once: what it knows by now
    client.pull(1, ["v"])  # of which it learns that it is short
    for server in servers:
        server.calls.clear()
    client.pull(1, ["v"])
    client.pull_tables(1, {"t": np.arange(50)})
    assert [call for server in servers for call in server.calls] == []


def test_large_values_go_through_shared_memory_and_are_those_of_their_version(
    servers: list[LoopServer], client_of: Starting
) -> None:
    size = 5 << 20
    large: dict[str, Any] = {"name": "large", "kind": "dense", "shape": [2, size]}
    large |= {"dtype": "float32", "recipe": None, "optimizer": MOMENTUM}
    client = client_of()
    client.declare([large], {"large": np.ones((2, size), np.float32)})
    for server in servers:
        server.calls.clear()
    grad = np.full((2, size), 0.5, np.float32)
    kept = [client.pull(0, ["large"])["large"]]
    for step in range(3):
        kept.append(client.step(step, {"large": {"grad": grad}}, NUMBERS, ["large"])["large"])
    moment, expected = np.float32(0), [1.0]
    for _ in range(3):
        moment = np.float32(0.9) * moment + np.float32(0.5)
        expected.append(float(np.float32(expected[-1]) - np.float32(0.1) * moment))
    for values, one in zip(kept, expected, strict=True):
        np.testing.assert_allclose(values, one, rtol=1e-6)
    assert {call for server in servers for call in server.calls} == set()


def test_without_shared_memory_small_messages_are_in_the_frames(
    servers: list[LoopServer], client_of: Starting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramesh.ps.deployment.zmq_transport.arena_if_any", lambda: None)
    client = client_of()
    assert set(client.delivery.transport.describe().values()) == {"zmq"}
    assert train(client, 0, STEPS) == local_run(2, STEPS)
    # 140,000 of these bytes are on each server: less than a frame has room for.
    assert {call for server in servers for call in server.calls} == set()


def test_without_shared_memory_large_messages_are_in_parts(
    servers: list[LoopServer], client_of: Starting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("paramesh.ps.deployment.zmq_transport.arena_if_any", lambda: None)
    size = 1 << 20  # 2 MiB on each server
    large: dict[str, Any] = {"name": "large", "kind": "dense", "shape": [size]}
    large |= {"dtype": "float32", "recipe": None, "optimizer": MOMENTUM}
    client = client_of()
    client.declare([large], {"large": np.ones(size, np.float32)})
    for server in servers:
        server.calls.clear()
    grad = np.arange(size, dtype=np.float32)
    found = client.step(0, {"large": {"grad": grad}}, NUMBERS, ["large"])["large"]
    assert found.tobytes() == (1 - grad * np.float32(0.1)).tobytes()
    assert client.pull(1, ["large"])["large"].tobytes() == found.tobytes()
    assert {call for server in servers for call in server.calls} == set()


def test_short_frames_go_by_pipe_and_the_others_by_the_socket(
    servers: list[LoopServer], client_of: Starting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of them overtake others, the bits are the same."""
    rng = np.random.default_rng(4)
    ways: list[bool] = []
    share = 0.5
    send = FramePipe.send

    def some(pipe: FramePipe, frame: bytes) -> bool:
        ways.append(rng.random() < share and send(pipe, frame))
        return ways[-1]

    monkeypatch.setattr(FramePipe, "send", some)
    client = client_of()
    assert train(client, 0, STEPS, ahead=True) == local_run(2, STEPS)
    assert set(ways) == {False, True}
    share = 1.0
    ways.clear()
    assert train(client, STEPS, STEPS + 2) == local_run(2, STEPS + 2)
    assert ways
    assert all(ways)
    assert {call for server in servers for call in server.calls} == set()


def test_a_server_that_has_let_go_of_its_pipe_is_heard_by_the_socket(
    servers: list[LoopServer], client_of: Starting
) -> None:
    client = client_of()
    train(client, 0, 2)
    door = servers[0].actor._door
    assert door is not None
    for guest in door._guests.values():
        assert guest.arena is not None
        assert guest.arena.pipe is not None
        guest.arena.pipe.close()
    assert train(client, 2, STEPS) == local_run(2, STEPS)
    assert set(client.delivery.transport.describe().values()) == {"zmq, shared memory"}
    assert {call for server in servers for call in server.calls} == set()


def test_steps_over_a_network_with_a_delay(servers: list[LoopServer], client_of: Starting) -> None:
    with far_away(0.005, 1e8) as relays:
        client = client_of()
        assert set(client.delivery.transport.describe().values()) == {"zmq"}
        assert len(relays) == 2
        assert train(client, 0, STEPS, ahead=True) == local_run(2, STEPS)
        assert {call for server in servers for call in server.calls} == set()
        relays[0].close()
        assert train(client, STEPS, STEPS + 1) == local_run(2, STEPS + 1)


# Who is let in.


def dealer(context: Any, address: str, server_key: bytes, keys: tuple[bytes, bytes]) -> Any:
    found = context.socket(zmq.DEALER)
    configure(zmq, found, address)
    found.curve_serverkey = server_key
    found.curve_publickey, found.curve_secretkey = keys
    found.connect(address)
    return found


def frame() -> bytes:
    return frames.encoded(frames.draft(frames.CALL, 1, ["pull", 0, ["v"]]), sequence=1)


def test_who_has_no_key_or_another_one_gets_nothing(
    servers: list[LoopServer], client_of: Starting
) -> None:
    client = client_of()
    train(client, 0, 1)
    door = servers[0].actor._door
    assert door is not None
    address, key = door.address, door.key
    context = zmq.Context()
    plain = context.socket(zmq.DEALER)
    plain.linger = 0
    plain.connect(address)
    crowd = [
        plain,
        dealer(context, address, key, zmq.curve_keypair()),  # a key that is not known
        dealer(context, address, zmq.curve_keypair()[0], zmq.curve_keypair()),  # of another server
    ]
    # As one that knows the public key of a worker, and not the secret one.
    known = next(iter(door._guests))
    crowd.append(dealer(context, address, key, (known, zmq.curve_keypair()[1])))
    try:
        for one in crowd:
            one.send(frame())
        answered = [one for one in crowd if one.poll(300)]
        assert answered == []
        assert door.heard == [0]
        assert train(client, 1, 3)
    finally:
        context.destroy(linger=0)


def test_a_worker_that_has_left_shares_nothing_any_more(
    servers: list[LoopServer], client_of: Starting
) -> None:
    client = client_of()
    train(client, 0, 1)
    client._run(client.worker.leave)
    door = servers[0].actor._door
    assert door is not None
    assert (door._guests, door._connections) == ({}, {})


def test_a_worker_that_comes_again_replaces_the_one_before(
    servers: list[LoopServer], client_of: Starting
) -> None:
    door = None
    for _ in range(3):
        client = client_of()
        train(client, client.start, client.start + 1)
        door = servers[0].actor._door
        assert door is not None
        assert (len(door._guests), len(door._connections), door.heard) == (1, 1, [0])


def test_a_worker_that_was_replaced_is_told_so(
    servers: list[LoopServer], client_of: Starting
) -> None:
    former = client_of()
    train(former, 0, 2)
    transport = former.delivery.transport
    waiting = transport.submit(0, ("pull", (5, ["v"])), 0)
    successor = client_of()
    train(successor, 2, 3)
    # Neither what waited nor what comes now is left without an answer: it goes through Ray.
    assert transport.wait([waiting], 1, 0.5) == []
    assert servers[0].calls == ["pull"]
    with pytest.raises(ParameterServerError, match="was replaced and must exit"):
        train(former, 2, 3)
    assert set(transport.describe().values()) == {"ray"}
    assert train(successor, 3, STEPS) == local_run(2, STEPS)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"x" * 100,
        frame()[:-1],
        frames.encoded(frames.draft(frames.CALL, 1, ["declare", [], {}]), sequence=9),
        frames.encoded(frames.draft(frames.ANSWER, 1, []), sequence=9),
        frame(),  # of a sequence that was there before
        frames.encoded(
            frames.draft(frames.CALL, 1, ["pull", 0, []]), sequence=99, shared_at=1 << 40
        )
        + b"y",
    ],
    ids=["empty", "no mark", "cut off", "other method", "an answer", "again", "no such memory"],
)
def test_a_bad_frame_ends_the_connection_and_nothing_else(
    raw: bytes, servers: list[LoopServer], client_of: Starting
) -> None:
    client = client_of()
    train(client, 0, 2)
    transport = client.delivery.transport
    assert isinstance(transport, ZmqTransport)
    channel = transport._channels[0, 0]
    channel.socket.send(raw)
    for server in servers:
        server.calls.clear()
    assert train(client, 2, STEPS) == local_run(2, STEPS)
    assert transport.describe()["server-0"] == "ray"
    assert transport.describe()["server-1"].startswith("zmq")
    door = servers[0].actor._door
    assert door is not None
    assert door.heard == []
    assert servers[1].calls == []
    # It may come again, with another key.
    successor = client_of()
    assert successor.start == STEPS
    train(successor, STEPS, STEPS + 2)
    assert door.heard == [0]


def test_a_message_of_several_frames_or_too_many_bytes_is_a_bad_one(
    servers: list[LoopServer], client_of: Starting
) -> None:
    client = client_of()
    transport = client.delivery.transport
    assert isinstance(transport, ZmqTransport)
    transport._channels[0, 0].socket.send_multipart([frame(), frame()])
    transport._channels[1, 0].socket.send(bytes(frames.MOST_FRAME + 1))  # ZeroMQ ends this one
    assert train(client, 0, STEPS) == local_run(2, STEPS)
    assert servers[0].actor._door is not None
    assert servers[0].actor._door.heard == []


@pytest.mark.slow
def test_idle_connections_do_not_end_a_run(servers: list[LoopServer], client_of: Starting) -> None:
    client = client_of()
    door = servers[0].actor._door
    assert door is not None
    host, _, port = door.address.removeprefix("tcp://").rpartition(":")
    crowd: list[socket.socket] = []
    try:
        for _ in range(2000):
            crowd.append(socket.create_connection((host, int(port)), timeout=20))
        before = len(os.listdir("/proc/self/fd"))
        assert before > 2000
        assert train(client, 0, STEPS) == local_run(2, STEPS)
        assert client.retries == 0
        successor = client_of()
        train(successor, STEPS, STEPS + 1)
    finally:
        for one in crowd:
            one.close()


# The setting.


def test_which_transport_a_worker_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    assert not isinstance(transport_for("ray", ray, [[None]], 0), ZmqTransport)
    for name in ("zmq", "auto"):
        found = transport_for(name, ray, [[None]], 0)
        assert isinstance(found, ZmqTransport)
        assert found.describe() == {"server-0": "ray"}  # as long as nobody has let it in
        found.close()
    monkeypatch.setattr("paramesh.ps.deployment.transports.zmq_module", lambda: None)
    assert not isinstance(transport_for("auto", ray, [[None]], 0), ZmqTransport)
    with pytest.raises(ParameterServerError, match="transport='zmq' needs pyzmq"):
        transport_for("zmq", ray, [[None]], 0)


def test_a_server_without_zmq_or_with_other_frames_is_not_connected(
    servers: list[LoopServer],
) -> None:
    by_ray = LoopTransport(servers)
    other = ("door", (0, zmq.curve_keypair()[0], frames.VERSION + 1, None))
    assert by_ray.submit(0, other, 0).result(20) is None
    servers[0].actor._host.door = lambda serve: None  # type: ignore[method-assign]
    transport = ZmqTransport(zmq_module(), by_ray, 0)
    try:
        assert transport.open_all(20.0) == {0: False, 1: True}
    finally:
        transport.close()
