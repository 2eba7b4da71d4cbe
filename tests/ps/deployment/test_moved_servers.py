"""A client goes on with the servers that its run was moved to: real actors, without processes."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from paramesh.ps.deployment import connection
from paramesh.ps.deployment.actors import ServerActor
from paramesh.ps.deployment.zmq_module import zmq_module
from paramesh.ps.deployment.zmq_transport import ZmqTransport
from paramesh.ps.durability import identity
from paramesh.ps.durability.run_folder import RunFolder
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.resizing.live import resize_live
from server_loops import RAY, LoopClient, LoopHost, LoopServer, LoopTransport
from server_runs import table_spec
from server_steps import SPECS, START, local_run, train

pytest.importorskip("zmq")


class ServerOfRun(LoopServer):
    """A server in the folder of a run."""

    def __init__(self, run: RunFolder, number: int) -> None:
        self._run, self._name, self._number = run, run.name, number
        super().__init__(identity.server_folder(run.path, number))

    async def _make(self, folder: Path, config: dict[str, Any]) -> ServerActor:
        assert self._name is not None
        return ServerActor(
            str(folder),
            config,
            run=(self._name, self._number),
            home=str(self._run.path),
            host=LoopHost(),
        )


class Fleets:
    """In the place of `Cluster`."""

    def __init__(self, folder: Path) -> None:
        self._run = RunFolder(str(folder), Identity(2), None)
        self._run.enter("session")
        self.servers: list[ServerOfRun] = []
        self.begin()

    @property
    def generation(self) -> int:
        return self._run.generation

    def begin(self) -> None:
        self.servers = [ServerOfRun(self._run, number) for number in range(self._run.servers)]

    def pairs(self) -> list[list[LoopServer]]:
        return [[server] for server in self.servers]

    def move_on(self, generation: int) -> bool:
        if self._run.look():
            self.begin()
        return self._run.generation > generation

    def close(self) -> None:
        self._run.leave()
        for server in self.servers:
            server.close()


class MovingClient(LoopClient):
    """A client that follows its run."""

    def __init__(self, fleets: Fleets, transport: str) -> None:
        self._cluster: Any = fleets
        self._carried_by = transport
        super().__init__(fleets.servers, transport)

    def _moved_on(self, generation: int, error: Exception) -> bool:
        return super(LoopClient, self)._moved_on(generation, error)


@pytest.mark.parametrize("transport", ["ray", "zmq"])
@pytest.mark.parametrize("after", [1, 3])
def test_steps_go_on_with_the_same_bits(
    transport: str, after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def carrier(name: str, ray: Any, actors: Sequence[Sequence[LoopServer]], rank: int) -> Any:
        made = LoopTransport([mine[0] for mine in actors])
        return ZmqTransport(zmq_module(), made, rank) if name == "zmq" else made

    monkeypatch.setattr(connection, "transport_for", carrier)
    monkeypatch.setattr(connection, "ray_module", lambda: RAY)
    fleets = Fleets(tmp_path / "run")
    client = MovingClient(fleets, transport)
    former = fleets.servers
    with contextlib.ExitStack() as stack:
        stack.callback(fleets.close)
        stack.callback(client.close)
        client.declare([*SPECS, table_spec()], START)
        train(client, 0, 3)
        # The processes find out, end, and are started again.
        actors = [server.actor for server in former]

        def point(name: str) -> None:
            if name == "begun" and former[0].actor is actors[0]:
                for number, server in enumerate(former):
                    server.close_door()
                    server.actor = server.on_loop(
                        server._make, identity.server_folder(tmp_path / "run", number), CONFIG
                    )
                    stack.callback(server.close)
                    with pytest.raises(Exception, match="is being moved to other servers"):
                        server.actor._state()

        resize_live(tmp_path / "run", after, point=point)
        for server in former:
            with contextlib.suppress(StopIteration):
                next(server.actor._stay(lambda: True))
        assert train(client, 3, 6) == local_run(2, 6)
        assert len(client.stats()) == client.partition.servers == after
        assert fleets.servers is not former


CONFIG = {"workers": 1}
