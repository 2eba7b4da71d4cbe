"""What a worker says to which servers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from paramesh.errors import ParameterServerError
from paramesh.ps.client.caller import Caller
from paramesh.ps.client.worker import Worker
from paramesh.ps.server.server import Server
from paramesh.ps.specification.partition import Partition
from paramesh.ps.specification.protocol import RunConfig
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
