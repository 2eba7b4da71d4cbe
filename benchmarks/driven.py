"""Contestants that are programs of their own, and make turns of steps when they are asked to.

They connect to an address that is their first argument (`servers/driving.py`). All of them are
there at once, so that turns alternate and whatever else the machine does meets all alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import processor_time


class Driven:
    """A contestant that was started, and what it has said.

    Args:
        name: of it.
        command: makes the command line from the address that it connects to.
        log: a file for what it writes.
        workers: how many processes of it connect.
        variables: of its environment, besides those of this process.

    Attributes:
        times: seconds of each step that counted, as the first worker has seen it.
        losses: likewise.
        all: processor time of a step, by turn, of all processes together.
        said: what the first worker has said of the last turn.
    """

    def __init__(
        self,
        name: str,
        command: Callable[[str], list[str]],
        log: Path,
        *,
        workers: int = 1,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.times: list[float] = []
        self.losses: list[float] = []
        self.all: list[float] = []
        self.said: dict[str, Any] = {}
        self._log = log
        self._lines: list[Any] = []
        with socket.create_server(("127.0.0.1", 0)) as listening:
            words = command(f"127.0.0.1:{listening.getsockname()[1]}")
            # In a session of its own: Linux shares a busy processor among sessions, and Ray begins
            # some for what it starts.
            with log.open("wb") as file:
                self.process = subprocess.Popen(
                    words,
                    stdout=file,
                    stderr=file,
                    env=os.environ | dict(variables or {}),
                    start_new_session=True,
                )
            listening.settimeout(1)
            until = time.monotonic() + 300
            while len(self._lines) < workers:
                if self.process.poll() is not None or time.monotonic() > until:
                    self.process.kill()
                    raise RuntimeError(log.read_text()[-3000:])
                with contextlib.suppress(TimeoutError):
                    self._lines.append(listening.accept()[0].makefile("rw"))

    def turn(self, steps: int, *, counts: bool) -> None:
        """Make some steps; `counts`: they are ones that count."""
        before = processor_time.of_tree(self.process.pid)
        for line in self._lines:
            line.write(f"{steps}\n")
            line.flush()
        said = [json.loads(line.readline() or "null") for line in self._lines]
        if None in said:
            status = self.process.wait(60)
            raise RuntimeError(
                f"'{self.name}' ended with {status}: {self._log.read_text()[-3000:]}"
            )
        used = processor_time.of_tree(self.process.pid) - before
        self.said = said[0]
        if counts:
            self.losses += said[0]["losses"]
            self.times += said[0]["times"]
            self.all.append(used / steps)

    def close(self) -> None:
        """End it."""
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.write("0\n")
                line.flush()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
