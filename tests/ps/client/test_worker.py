"""What a worker says to which servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.client.caller import Caller
from paramesh.ps.client.fan_out import FanOut
from paramesh.ps.client.worker import Worker
from paramesh.ps.server.server import Server
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.protocol import Replaced, RunConfig, VersionGone
from server_runs import table_spec

SGD = {"learning_rate": 0.1, "momentum": 0.0}


def test_a_step_waits_for_servers_of_which_it_wants_nothing(tmp_path: Path) -> None:
    """After a move nothing is in flight. A server that is behind would refuse the next push."""
    config = RunConfig(2, "stale", 1)
    servers = [Server(tmp_path / f"server-{at}", config) for at in range(2)]
    update = {"t": {"ids": np.arange(3), "grad": np.ones((3, 2), np.float32)}}
    for at, server in enumerate(servers):
        server.declare([table_spec()], {})
        for rank in range(2):
            server.hello(rank, 1)
        for step in range(2):
            server.push(0, 1, step, update, SGD)
        if at == 0:
            server.push(1, 1, 0, update, SGD)
    assert [server.version >= config.version_read(2) for server in servers] == [True, False]
    with pytest.raises(ParameterServerError, match="at most 1 steps ahead"):
        servers[1].push(0, 1, 2, update, SGD)
    for server in servers:
        server.close()

    def caller() -> Caller:
        return Caller([1, 1], rank=0, workers=2, timeout=60.0, clock=lambda: 0.0)

    worker = Worker(caller(), 1, staleness=1)
    worker.change_servers(caller(), Partition(2))
    turn = next(worker.step(1, {}, SGD, []))
    assert turn.calls == {at: ("pull", (2, [])) for at in range(2)}


def test_a_worker_goes_on_from_where_servers_are_once_all_of_them_listen_to_it(
    tmp_path: Path,
) -> None:
    """The process before it is alive, and pushes to the server that has not met this one yet."""
    config = RunConfig(2)
    servers = [Server(tmp_path / f"server-{at}", config) for at in range(2)]
    update = {"t": {"ids": np.arange(3), "grad": np.ones((3, 2), np.float32)}}
    for server in servers:
        server.declare([table_spec()], {})
        server.hello(0, 1, 1)
        server.hello(1, 1, 3)
        server.push(0, 1, 0, update, SGD)

    def answered(turn: FanOut, at: int) -> dict[str, Any]:
        method, arguments = turn.calls[at]
        assert method == "hello"
        return servers[at].hello(*arguments)

    worker = Worker(Caller([1, 1], rank=0, workers=2, timeout=60.0, clock=lambda: 0.0), 2)
    greeting = worker.greet()
    turn = next(greeting)
    turn = greeting.send({at: answered(turn, at) for at in range(2)})
    early = answered(turn, 0)
    # Step 0 is complete now, and the process before makes step 1: the first server refuses it.
    for server in servers:
        server.push(1, 1, 0, update, SGD)
    with pytest.raises(Replaced):
        servers[0].push(0, 1, 1, update, SGD)
    servers[1].push(0, 1, 1, update, SGD)
    servers[1].push(1, 1, 1, update, SGD)
    late = answered(turn, 1)
    assert (early["next"], late["next"]) == (0, 2)
    with pytest.raises(VersionGone):
        servers[1].read(early["next"], "t", np.arange(3))
    turn = greeting.send({0: early, 1: late})
    with pytest.raises(StopIteration):
        greeting.send({at: answered(turn, at) for at in range(2)})
    assert worker.start == 1
    for server in servers:
        server.read(worker.start, "t", np.arange(3))
        server.close()
