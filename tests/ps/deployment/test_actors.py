"""Two actors of one server in this process, without Ray: which of them serves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paramesh.checkpoint.sharded.ticket import Order, Ticket
from paramesh.ps.deployment import checkpoint_calls
from paramesh.ps.deployment.actors import ServerActor
from paramesh.ps.deployment.host import Host, Turns
from paramesh.ps.durability.log import start_incarnation
from paramesh.ps.resizing.sources import SavesUnfinished, Source, check_saves
from paramesh.ps.server import saves
from paramesh.ps.specification.protocol import NotServing, RunConfig
from saved_stores import orders_of
from server_loops import LoopHost
from server_runs import table_spec


class StillHost(Host):
    """A process whose threads are run by hand, and which nobody is tied to."""

    def __init__(self) -> None:
        super().__init__()
        self.turns: dict[str, Any] = {}

    def beacon(self) -> tuple[str, int]:
        return "nowhere", 1

    def watch(self, folder: Path, job: str) -> Any:
        return None

    def repeat(self, name: str, turns: Turns) -> Callable[[], None]:
        self.turns[name] = turns(lambda: False)
        return lambda: None


def pair(folder: Path) -> list[ServerActor]:
    return [ServerActor(str(folder), {"workers": 1}, pair=True, host=StillHost()) for _ in range(2)]


def test_the_one_that_is_asked_serves_and_says_so_again(tmp_path: Path) -> None:
    async def run() -> None:
        first, second = pair(tmp_path)
        said = await first.promote(0)
        assert (said["serves"], said["incarnation"], said["version"]) == (True, 1, 0)
        assert await first.promote(0) == said
        assert await second.promote(0) == {"serves": False, "incarnation": 1}
        with pytest.raises(NotServing, match="this is the standby") as found:
            await second.hello(0, 1)
        assert found.value.latest == 1

    asyncio.run(run())


def test_one_that_was_replaced_while_it_was_frozen_does_not_say_that_it_serves(
    tmp_path: Path,
) -> None:
    async def run() -> None:
        first, second = pair(tmp_path)
        assert (await first.promote(0))["serves"]
        assert (await second.promote(1))["incarnation"] == 2
        assert await first.promote(1) == {"serves": False, "incarnation": 2}

    asyncio.run(run())


def test_one_that_was_replaced_ends(tmp_path: Path) -> None:
    class Ended(Exception):
        pass

    class Ending(StillHost):
        def end(self, code: int) -> None:
            raise Ended

    async def run() -> None:
        host = Ending()
        actor = ServerActor(str(tmp_path), {"workers": 1}, pair=True, host=host)
        await actor.promote(0)
        for _ in range(3):
            next(host.turns["fence"])
        start_incarnation(tmp_path, 1)
        with pytest.raises(Ended):
            next(host.turns["fence"])

    asyncio.run(run())


@pytest.mark.parametrize("restarted", [False, True])
def test_the_log_says_that_a_part_is_written_although_its_worker_is_dead(
    restarted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody asks for the part: without a snapshot, which ends saves too, the run cannot move."""
    monkeypatch.setattr(checkpoint_calls, "_END", 0.01)
    folder, config = tmp_path / "server-0", RunConfig()
    target = tmp_path / "x.sharded"
    target.mkdir()
    written = threading.Event()
    monkeypatch.setattr(saves, "write_part", lambda *_: written.wait())

    def unfinished() -> bool:
        try:
            check_saves([Source(folder, config)])
        except SavesUnfinished:
            return True
        return False

    async def ends() -> None:
        while unfinished():
            await asyncio.sleep(0.01)

    def actor() -> ServerActor:
        return ServerActor(str(folder), {"workers": 1}, host=LoopHost())

    async def asked() -> None:
        """The worker dies, and then the server, before the part is written."""
        server = actor()
        await server.hello(0, 1, 1)
        await server.declare([table_spec()], {})
        ticket = Ticket(target, "00000001", Order(0, 1, 0))
        ticket.take()
        (order,) = orders_of([server._state().store], target, ticket, 0)
        await server.save(0, 1, order.plain())
        assert unfinished()
        if not restarted:
            written.set()
            await asyncio.wait_for(ends(), 30)

    async def started_again() -> None:
        server = actor()
        await server.hello(0, None, 2)
        assert unfinished()
        written.set()
        await asyncio.wait_for(ends(), 30)

    asyncio.run(asked())
    if restarted:
        asyncio.run(started_again())
