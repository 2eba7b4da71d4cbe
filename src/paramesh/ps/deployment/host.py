"""The process that a server's actor is: what it waits by, what runs beside it, and its end.

An actor takes all of it from here, so that a simulation can have actors without processes.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TypeVar

from paramesh.files.ownership import open_own
from paramesh.ps.deployment.door import Door, Serve
from paramesh.ps.deployment.metrics import ServerWatch
from paramesh.ps.deployment.zmq_module import zmq_module
from paramesh.ps.processes import freed_memory
from paramesh.ps.processes.descriptors import patiently
from paramesh.ps.processes.lifeline import Beacon, host_identity

T = TypeVar("T")

#: What a thread does: given a function that says whether to stop, it returns the seconds until its
#: next turn.
Turns = Callable[[Callable[[], bool]], Iterator[float]]


#: Seconds until a server gives back what the largest of its steps have left: it takes some
#: hundredths of a second, of which the next step takes half.
GIVE_BACK = 5.0
#: Bytes of whole tables that come or go until what they have left is given back.
PASSED = 32 << 20


class Host:
    """This process."""

    _giving_back: asyncio.TimerHandle | None = None

    def __init__(self) -> None:
        self._spawned: set[asyncio.Task[None]] = set()
        self._passed = 0

    @property
    def pid(self) -> int:
        """Its number."""
        return os.getpid()

    def clock(self) -> float:
        """Seconds, from any beginning; never back."""
        return time.monotonic()

    def where(self) -> str:
        """Which it is, in messages."""
        return f"process {os.getpid()} on {socket.gethostname()}"

    def name(self) -> str:
        """Of the machine, for people."""
        return socket.gethostname()

    def speak_to(self, path: str) -> None:
        """Have all output of this process, of libraries too, end up in a file of its own.

        A file that several hosts write to at once loses lines on a network's file system. Where
        it cannot be opened, the output stays where it is: that is no reason not to serve.

        Args:
            path: of the file, without the name of the host and without suffix.
        """
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        try:
            file = open_own(Path(f"{path}.{self.name()}.log"), flags)
        except OSError as error:
            print(f"paramesh: the output of this server stays here: {error}", file=sys.stderr)
            return
        try:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(file, stream.fileno())
        finally:
            os.close(file)

    def identity(self) -> str:
        """See `host_identity`."""
        return host_identity()

    def beacon(self) -> tuple[str, int]:
        """The address of a beacon, for the lifelines of workers; it burns as long as this lives."""
        return patiently(Beacon).address

    def door(self, serve: Serve) -> Door | None:
        """Where workers are heard without Ray, on the loop that this is called on.

        None if ZeroMQ is not installed here.
        """
        if zmq_module() is None:
            return None
        return Door(str(importlib.import_module("ray").util.get_node_ip_address()), serve)

    def watch(self, folder: Path, job: str) -> ServerWatch:
        """What tells people of a server."""
        return ServerWatch(folder, job)

    def event(self) -> asyncio.Event:
        """What several wait for."""
        return asyncio.Event()

    def lock(self) -> asyncio.Lock:
        """What one has at a time."""
        return asyncio.Lock()

    def give_back(self) -> None:
        """Give memory that was freed back to the system (see `freed_memory`)."""
        freed_memory.give_back()

    def give_back_soon(self) -> None:
        """As `give_back`, `GIVE_BACK` seconds after this is asked for first; of steps.

        So a server that nobody asks anything keeps nothing of its last steps.
        """
        if self._giving_back is None:
            loop = asyncio.get_running_loop()
            self._giving_back = loop.call_later(GIVE_BACK, self._give_back_now)

    def _give_back_now(self) -> None:
        self._giving_back = None
        self.give_back()

    def give_back_after(self, size: int) -> None:
        """As `give_back`, once for every `PASSED` bytes of whole tables that come or go.

        Their blocks leave some megabytes behind between them, which nothing else would give back
        before the last one.

        Args:
            size: of a block, in bytes.
        """
        self._passed += size
        if self._passed >= PASSED:
            self._passed = 0
            self.give_back()

    async def pause(self, seconds: float) -> None:
        """Let others have a turn for a while."""
        await asyncio.sleep(seconds)

    def spawn(self, work: Coroutine[object, None, None]) -> None:
        """Have work done on the loop that this is called on, that no call waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._spawned.add(task)  # the loop itself does not keep it
        task.add_done_callback(self._spawned.discard)

    async def beside(self, work: Callable[..., T], *args: object) -> T:
        """Work in a thread, while messages are answered here."""
        return await asyncio.to_thread(work, *args)

    def repeat(self, name: str, turns: Turns) -> Callable[[], None]:
        """Begin a thread; a thread that fails ends the process.

        Returns:
            What stops it, and is back when it has.
        """
        stop = threading.Event()

        def run() -> None:
            try:
                for pause in turns(stop.is_set):
                    if stop.wait(pause):
                        break
            except BaseException:
                traceback.print_exc()
                self.end(1)

        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()

        def end() -> None:
            stop.set()
            thread.join()

        return end

    def end(self, code: int) -> None:
        """End this process, at once."""
        os._exit(code)

    def kill(self) -> None:
        """End it as a signal does, at once."""
        os.kill(os.getpid(), signal.SIGKILL)
