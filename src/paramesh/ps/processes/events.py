"""A log of what happened to servers and workers: one JSON line for each event.

    {"time": "2026-11-26T15:04:05.123+00:00", "who": "server-0", "host": "node-b",
     "event": "recovered", …}

Events are what somebody who looks for the reason of a pause or an error wants to know, and few: no
line for a step. A server writes to its own folder, a worker beside it (`worker-0.events.jsonl`); a
file is for its owner alone. A line that cannot be written is dropped: a full disk must not stop
more than it has to. So is one for a file that another user has put there.

Glossary
    started     a server has begun, without any state
    recovered   a server has begun from its snapshot and log
    snapshot, snapshot failed   what was written, or why not
    fenced      a server has found that another one took its place, and does nothing any more
    refused     a message that cannot be right; the worker that sent it has an error
    killed      a worker has ended a server that was frozen
    rows        a worker has compared ways to get rows: the one it chose, and times (see `ways`)
    lost        a worker got no answer: the server has died, was frozen or replaced; it asks again
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
from pathlib import Path

from paramesh.files.ownership import open_own

NAME = "events.jsonl"


class EventLog:
    """Where one process writes its events.

    Args:
        path: of the file; made with the first event. None: nothing is written.
        who: "server-0", "worker-1".
    """

    def __init__(self, path: Path | None, who: str) -> None:
        self.path, self.who = path, who

    def note(self, event: str, **facts: object) -> None:
        """Write a line. `facts` have to be what JSON knows."""
        if self.path is None:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        said = {"time": now, "who": self.who, "host": socket.gethostname(), "event": event}
        line = json.dumps(said | facts) + "\n"
        with contextlib.suppress(OSError):
            # One write to a file that is only appended to: lines of several processes do not mix.
            number = open_own(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            try:
                os.write(number, line.encode())
            finally:
                os.close(number)


def of_server(folder: Path) -> EventLog:
    """The log of the server with this folder."""
    return EventLog(folder / NAME, folder.name)


def of_worker(folder: str | None, rank: int) -> EventLog:
    """The log of a worker of the run whose servers are in this folder; None: it has none."""
    path = None if folder is None else Path(folder) / f"worker-{rank}.{NAME}"
    return EventLog(path, f"worker-{rank}")
