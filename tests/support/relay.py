"""A network between two programs of one host: a relay with a delay and a rate, in user space.

    python tests/support/relay.py 127.0.0.1:5000 --delay 0.01 --rate 1e8

prints the address at which it listens. What is sent to it arrives at the other one `--delay`
seconds later, and so does the way back: a round trip takes twice as long. With `--rate`, so many
bytes a second pass in each direction of all connections together; more has to wait. Nothing is
lost or reordered, as TCP has it, and when one end has sent all, the other one hears of it, later by
the delay.

`far_away` puts one between a worker and the servers that it speaks to over ZeroMQ.

Glossary
    link        one direction, of all connections together
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

#: Bytes that are read at once; with a rate, the steps in which they pass.
CHUNK = 1 << 16
#: Bytes on their way in one direction of a connection, beyond which the sender has to wait.
WINDOW = 1 << 25


class Link:
    """One direction.

    Args:
        delay: seconds.
        rate: bytes a second; 0: any number.
    """

    def __init__(self, delay: float, rate: float) -> None:
        self._delay, self._rate = delay, rate
        self._free = 0.0

    def due(self, now: float, size: int) -> float:
        """When bytes that are sent now arrive."""
        if self._rate:
            self._free = max(now, self._free) + size / self._rate
            return self._free + self._delay
        return now + self._delay


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, link: Link) -> None:
    loop = asyncio.get_running_loop()
    queue: deque[tuple[float, bytes]] = deque()
    more, room = asyncio.Event(), asyncio.Event()
    held = 0

    async def arrive() -> None:
        nonlocal held
        while True:
            while not queue:
                more.clear()
                await more.wait()
            due, data = queue.popleft()
            if (left := due - loop.time()) > 0:
                await asyncio.sleep(left)
            if not data:
                break
            held -= len(data)
            room.set()
            target.write(data)
            await target.drain()

    arriving = loop.create_task(arrive())
    try:
        while data := await source.read(CHUNK):
            queue.append((link.due(loop.time(), len(data)), data))
            more.set()
            held += len(data)
            while held > WINDOW and not arriving.done():
                room.clear()
                await room.wait()
    except OSError:
        pass
    queue.append((link.due(loop.time(), 0), b""))
    more.set()
    with contextlib.suppress(OSError):
        await arriving
        target.write_eof()


async def serve(target: tuple[str, int], delay: float, rate: float) -> asyncio.Server:
    """A relay to an address, on a port of the loopback that is free."""
    there, back = Link(delay, rate), Link(delay, rate)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*target)
        except OSError:
            writer.close()
            return
        for one in (writer, far_writer):
            one.get_extra_info("socket").setsockopt(6, 1, 1)  # TCP_NODELAY
        await asyncio.gather(
            _pass_on(reader, far_writer, there), _pass_on(far_reader, writer, back)
        )
        for one in (writer, far_writer):
            one.close()

    return await asyncio.start_server(connected, "127.0.0.1", 0, limit=CHUNK)


class Relay:
    """A relay in a process of its own.

    Args:
        target: "host:port".
        delay: seconds in each direction.
        rate: bytes a second in each direction; 0: any number.
    """

    def __init__(self, target: str, delay: float, rate: float = 0.0) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, target, "--delay", repr(delay), "--rate", repr(rate)],
            stdout=subprocess.PIPE,
            text=True,
            env=dict(os.environ),
        )
        assert self._process.stdout is not None
        #: "host:port".
        self.address = self._process.stdout.readline().strip()

    def close(self) -> None:
        """End it; all connections are closed."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextlib.contextmanager
def far_away(delay: float, rate: float = 0.0) -> Iterator[list[Relay]]:
    """Servers that are connected to in this block are on another host, as far as ZeroMQ sees.

    No memory is shared with them. Calls through Ray are not delayed: those that a run begins and
    ends with, and what is too long for frames.
    """
    from paramesh.ps.deployment import zmq_transport
    from paramesh.ps.deployment.zmq_channel import Channel

    relays: list[Relay] = []
    before, arenas = Channel.connect, zmq_transport.arena_if_any

    def through_relay(self: Any, zmq: Any, context: Any, poller: Any, admission: Any) -> None:
        relay = Relay(admission.address.removeprefix("tcp://"), delay, rate)
        relays.append(relay)
        far = admission._replace(address=f"tcp://{relay.address}", arena=None, window=False)
        before(self, zmq, context, poller, far)

    Channel.connect = through_relay  # type: ignore[method-assign]
    zmq_transport.arena_if_any = lambda: None
    try:
        yield relays
    finally:
        Channel.connect = before  # type: ignore[method-assign]
        zmq_transport.arena_if_any = arenas
        for relay in relays:
            relay.close()


async def _main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", help="host:port")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds in each direction")
    parser.add_argument("--rate", type=float, default=0.0, help="bytes a second in each direction")
    given = parser.parse_args()
    host, _, port = given.target.rpartition(":")
    server = await serve((host.strip("[]"), int(port)), given.delay, given.rate)
    print("{}:{}".format(*server.sockets[0].getsockname()[:2]), flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # nobody is left to end it
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(_main())
