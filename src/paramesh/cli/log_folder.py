"""The output of all processes of a run on several hosts, in one folder and on the terminal.

    worker-1.log            what the launcher has heard of worker 1, with time and host of each line
    server-0.node-b.log     what server 0 has written while it was on node-b, by itself

Servers are started by workers, not by the launcher: what they write is read from their files, and
what happens to them from their events (see `ps.processes.events`).
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import re
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

from paramesh.errors import ParameterServerError
from paramesh.files.ownership import open_own, own_folder
from paramesh.ps.durability.identity import servers_place
from paramesh.ps.processes.events import NAME

#: Seconds between two looks at the files of servers, and bytes that are read of one at a time.
LOOK, _AT_ONCE = 0.5, 1 << 20
#: Events that are not shown: they happen all the time.
_USUAL = ("snapshot",)
_SERVER = re.compile(r"server-(\d+)(-standby)?\.(.+)\.log")

#: Shows a line, given the label of who has written it.
Show = Callable[[str, bytes], None]


class LogFolder:
    """The folder with the output of a run.

    Args:
        wal_dir: of the run; the folder is in it.

    Raises:
        OSError: it cannot be made, or is not this user's alone.
    """

    def __init__(self, wal_dir: Path) -> None:
        self._wal_dir = wal_dir
        self.path = wal_dir / "logs"
        own_folder(self.path, make=True)
        self._writing = threading.Lock()
        self._read: dict[Path, int] = {}
        for path in (*self._outputs(), *self._events()):  # of earlier starts of the run
            with contextlib.suppress(OSError):
                self._read[path] = path.stat().st_size

    def write(self, worker: int, host: str, text: bytes) -> None:
        """Add a line of a worker; a full disk costs the line, not the run."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        line = f"{now} {host} ".encode() + text + b"\n"
        with self._writing, contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            file = open_own(self.path / f"worker-{worker}.log", flags)
            try:
                os.write(file, line)
            finally:
                os.close(file)

    @contextlib.contextmanager
    def followed(self, show: Show) -> Generator[None]:
        """Show what servers write, and events of all, until the end of the `with` block."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(LOOK):
                self.look(show)

        thread = threading.Thread(target=follow, name="logs", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.look(show)

    def look(self, show: Show) -> None:
        """Show what has come since the last look."""
        for path in self._outputs():
            found = _SERVER.fullmatch(path.name)
            if found is not None:
                for line in self._lines(path):
                    show(f"server {found[1]} on {found[3]}", line)
        for path in self._events():
            for line in self._lines(path):
                with contextlib.suppress(ValueError, KeyError, AttributeError):
                    said = json.loads(line)
                    label = f"{said.pop('who').replace('-', ' ')} on {said.pop('host')}"
                    event = said.pop("event")
                    said.pop("time")
                    if event not in _USUAL:
                        more = ", ".join(f"{name} {value}" for name, value in said.items())
                        show(label, (event + (f": {more}" if more else "")).encode())

    def _outputs(self) -> list[Path]:
        return sorted(self.path.glob("server-*.log"))

    def _events(self) -> list[Path]:
        place = self._wal_dir
        with contextlib.suppress(ParameterServerError, OSError):  # what is damaged has no news
            place = servers_place(self._wal_dir)
        return sorted([*place.glob(f"server-*/{NAME}"), *self._wal_dir.glob(f"worker-*.{NAME}")])

    def _lines(self, path: Path) -> Iterator[bytes]:
        """The complete lines that are new."""
        start = self._read.get(path, 0)
        try:
            file = open_own(path, os.O_RDONLY)
        except OSError:  # gone, or another user's
            return
        try:
            content = os.pread(file, _AT_ONCE, start)
        finally:
            os.close(file)
        end = content.rfind(b"\n") + 1
        if not end and len(content) == _AT_ONCE:  # a line without end
            end = _AT_ONCE
        self._read[path] = start + end
        yield from content[:end].splitlines()
