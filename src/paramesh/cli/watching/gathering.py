"""From journals, servers and event files to pictures, again and again."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from paramesh.cli.errors import CommandError
from paramesh.cli.servers import as_facts
from paramesh.cli.watching.picture import (
    EVENTS,
    NO_LOOK,
    Look,
    ServerEvent,
    picture,
    summary,
)
from paramesh.cli.watching.runs import Servers, WatchedRun, chosen, watched_runs
from paramesh.errors import ParameterServerError
from paramesh.files.ownership import open_own
from paramesh.ps.deployment.registry import runs
from paramesh.ps.deployment.status_process import Looker
from paramesh.ps.durability.identity import servers_place
from paramesh.ps.processes.events import NAME
from paramesh.telemetry.journal import watched

#: Bytes at the end of an event file that are read.
_TAIL = 1 << 16


class Looks(Protocol):
    """Looks at the servers of a run, in the background."""

    def latest(self) -> Look:
        """The newest look; waits for nothing."""
        ...

    def close(self) -> None:
        """Look no longer."""
        ...


class BackgroundLooks:
    """Looks at the servers of a run every so many seconds, on a thread.

    Args:
        servers: where they are.
        every: seconds.
    """

    def __init__(self, servers: Servers, every: float) -> None:
        self._servers, self._every = servers, every
        self._latest = NO_LOOK
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="paramesh-watch", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        at = self._servers
        try:
            with Looker(at.address, at.job, at.token) as looker:
                before = looker.look()
                while not self._over.wait(self._every):
                    now = looker.look()
                    self._latest = Look(as_facts(before, now), None)
                    before = now
        except ParameterServerError as error:
            self._latest = Look([], str(error))

    def latest(self) -> Look:
        """As in `Looks`."""
        return self._latest

    def close(self) -> None:
        """As in `Looks`."""
        self._over.set()
        self._thread.join(5.0)


class Gatherer:
    """What there is to see, as often as somebody asks.

    Args:
        wanted: a number of a process or a part of a program; None: any run.
        every: seconds between two looks at servers.
        look: makes the looks at the servers of a run.
    """

    def __init__(
        self,
        wanted: str | None = None,
        every: float = 1.0,
        look: Callable[[Servers, float], Looks] = BackgroundLooks,
    ) -> None:
        self._wanted, self._every, self._look = wanted, every, look
        self._looks: dict[tuple[str, str], Looks] = {}
        self._last: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def runs(self) -> list[WatchedRun]:
        """The runs that are meant and live.

        Raises:
            CommandError: the folder of the runs is not of this user alone.
        """
        processes, troubles = watched()
        try:
            with_servers = runs()
        except ParameterServerError as error:
            raise CommandError(str(error)) from error
        if troubles and not processes and not with_servers:
            raise CommandError("; ".join(troubles))
        return chosen(watched_runs(processes, with_servers), self._wanted)

    def state(self, name: str | None = None) -> dict[str, Any]:
        """{"runs": all that are meant, "run": what is shown of one, or None}.

        A run that has ended is shown as it was when it was seen last.

        Args:
            name: of the run that is shown; None: the only one, or the newest.
        """
        with self._lock:
            now = time.time()
            found = {run.name: run for run in self.runs()}
            listed = [summary(run, now) for run in found.values()]
            if name is None:
                name = next(reversed(found), None) or next(reversed(self._last), None)
            shown = None
            if name is not None and name in found:
                run = found[name]
                shown = picture(run, self._servers(run), list(events_of(run)), now)
                self._last.pop(name, None)
                self._last[name] = shown
            elif name is not None and name in self._last:
                self._last[name]["ended"] = True
                shown = self._last[name]
            return {"time": now, "runs": listed, "run": shown}

    def _servers(self, run: WatchedRun) -> Look:
        if run.servers is None:
            return NO_LOOK
        key = (run.servers.address, run.servers.job)
        if key not in self._looks:
            self._looks[key] = self._look(run.servers, self._every)
        return self._looks[key].latest()

    def close(self) -> None:
        """Look at nothing any more."""
        for looks in self._looks.values():
            looks.close()
        self._looks.clear()


def events_of(run: WatchedRun) -> Iterator[ServerEvent]:
    """The newest events of the servers and workers of a run, in no order."""
    if run.servers is None or run.servers.folder is None:
        return
    folder = place = Path(run.servers.folder)
    with contextlib.suppress(ParameterServerError, OSError):  # what is damaged has no news
        place = servers_place(folder)
    for path in (*place.glob(f"server-*/{NAME}"), *folder.glob(f"worker-*.{NAME}")):
        for line in _last_lines(path)[-EVENTS:]:
            try:
                said = json.loads(line)
                when = datetime.datetime.fromisoformat(said.pop("time")).timestamp()
                who, event = str(said.pop("who")), str(said.pop("event"))
            except (ValueError, KeyError, AttributeError):  # the last line may be half written
                continue
            more = ", ".join(f"{name} {value}" for name, value in said.items())
            yield ServerEvent(when, who, event + (f": {more}" if more else ""))


def _last_lines(path: Path) -> list[bytes]:
    try:
        file = open_own(path, os.O_RDONLY)
    except OSError:  # gone, or another user's
        return []
    try:
        size = os.fstat(file).st_size
        first = max(0, size - _TAIL)
        lines = os.pread(file, _TAIL, first).split(b"\n")
    finally:
        os.close(file)
    return lines[1:] if first else lines
