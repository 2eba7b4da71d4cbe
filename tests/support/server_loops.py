"""Actors of servers in this process, each on a loop of its own, and clients over every transport.

Glossary
    calls       the methods of steps that came another way than over ZeroMQ
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from paramesh.ps.client.exchange import Call, Event, Replied
from paramesh.ps.client.worker import Worker
from paramesh.ps.deployment.actors import ServerActor
from paramesh.ps.deployment.connection import RayClient
from paramesh.ps.deployment.delivery import Delivery
from paramesh.ps.deployment.door import Door, Serve
from paramesh.ps.deployment.host import Host, Turns
from paramesh.ps.deployment.messages import CARRIED
from paramesh.ps.deployment.transport import RayTransport, Transport, event_of
from paramesh.ps.deployment.zmq_module import zmq_module
from paramesh.ps.deployment.zmq_transport import ZmqTransport
from paramesh.ps.processes.events import EventLog

RAY: Any = SimpleNamespace(exceptions=SimpleNamespace(RayError=ConnectionError))


class Nobody:
    """Nobody is told of a server."""

    bytes_pulled = 0

    def __init__(self) -> None:
        self.events = EventLog(None, "nobody")

    def look(self, server: Any) -> None:
        pass

    def failed(self, error: Exception, worker: int, step: int) -> None:
        pass

    def sent(self, values: Any) -> None:
        pass

    def stepped(self, step: int, retries: int, rows: int) -> None:
        pass


class LoopHost(Host):
    """This process; the door is on the loopback."""

    def beacon(self) -> tuple[str, int]:
        return "nowhere", 1

    def watch(self, folder: Path, job: str) -> Any:
        return Nobody()

    def repeat(self, name: str, turns: Turns) -> Callable[[], None]:
        return lambda: None

    def door(self, serve: Serve) -> Door:
        return Door("127.0.0.1", serve)


class LoopServer:
    """An actor, whose methods run on a thread of its own."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self.calls: list[str] = []
        self.actor: ServerActor = self.on_loop(self._make, folder, {"workers": 1} | config)

    async def _make(self, folder: Path, config: dict[str, Any]) -> ServerActor:
        return ServerActor(str(folder), config, host=LoopHost())

    def on_loop(self, work: Callable[..., Any], *args: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work(*args), self.loop).result(30)

    def close_door(self) -> None:
        """As the death of the process looks to those that are connected."""

        async def close() -> None:
            if self.actor._door is not None:
                self.actor._door.close()
                self.actor._door = None

        self.on_loop(close)

    def close(self) -> None:
        self.close_door()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class LoopTransport(RayTransport):
    """In the place of Ray: calls of actors in this process."""

    def __init__(self, servers: Sequence[LoopServer]) -> None:
        self.servers = servers
        self.actors = [[server] for server in servers]
        self.errors = (OSError,)

    def submit(self, server: int, call: Call, at: int) -> Any:
        method, arguments = call
        if method == "step":
            arguments = (arguments,)
        here = self.servers[server]
        if method in CARRIED:
            here.calls.append(method)
        work = getattr(here.actor, method)(*arguments)
        return asyncio.run_coroutine_threadsafe(work, here.loop)

    def wait(self, tickets: Sequence[Any], count: int, seconds: float) -> list[Any]:
        until = time.monotonic() + seconds
        while True:
            there = [ticket for ticket in tickets if ticket.done()]
            if len(there) >= min(count, len(tickets)) or time.monotonic() >= until:
                return there
            time.sleep(0.001)

    def event(self, request: int, ticket: Any) -> Event:
        try:
            return Replied(request, ticket.result())
        except Exception as error:
            return event_of(request, error)

    def answer(self, ticket: Any, seconds: float) -> Any:
        return ticket.result(seconds)

    def abandon(self, ticket: concurrent.futures.Future[Any]) -> None:
        pass


class LoopClient(RayClient):
    """A worker's client of such servers."""

    def __init__(
        self,
        servers: Sequence[LoopServer],
        transport: str,
        rank: int = 0,
        *,
        eager: bool = False,
        staleness: int = 0,
    ) -> None:
        self.rank, self.workers, self.waited, self._failed = rank, 1, 0, False
        self._turn = threading.RLock()
        self._watcher: Any = Nobody()
        self._retries = self._generation = 0
        carrier: Transport = LoopTransport(servers)
        if transport == "zmq":
            carrier = ZmqTransport(zmq_module(), carrier, rank)
        self.delivery = Delivery(
            RAY,
            [1] * len(servers),
            carrier,
            rank=rank,
            workers=1,
            timeout=30.0,
            note=lambda *_, **__: None,
        )
        self.worker = Worker(self.delivery.caller, life=1, eager=eager, staleness=staleness)
        self._greet()
        self.start = self.worker.start
        if isinstance(carrier, ZmqTransport):
            assert carrier.open_all(20.0) == dict.fromkeys(range(len(servers)), True)

    def _moved_on(self, generation: int, error: Exception) -> bool:
        return False  # these servers have no run that could be moved

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.delivery.close()
