"""Two actors of one server in this process, without Ray: which of them serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from paramesh.ps.deployment.actors import ServerActor
from paramesh.ps.deployment.host import Host, Turns
from paramesh.ps.durability.log import start_incarnation
from paramesh.ps.specification.protocol import NotServing


class StillHost(Host):
    """A process whose threads are run by hand, and which nobody is tied to."""

    def __init__(self) -> None:
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
