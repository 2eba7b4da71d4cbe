"""What servers and workers tell of themselves while they run: metrics through Ray, and events.

Ray gives its metrics to Prometheus on each node (`metrics_export_port`), under the names below with
`ray_` before them. They are brought up to date about once a second, by the calls that come in: who
is not asked has nothing new to tell.

    paramesh_ps_version, _incarnation       of a server
    paramesh_ps_rows, _bytes_held           what exists there
    paramesh_ps_pushes, _bytes_pushed       since it began
    paramesh_ps_bytes_pulled                values that it has sent, likewise
    paramesh_ps_bytes_logged                size of its log
    paramesh_ps_lag                         steps that its fastest worker is ahead of it
    paramesh_ps_snapshot_seconds, _snapshot_version   of the last one
    paramesh_ps_recovery_seconds            that it took to begin
    paramesh_ps_worker_step, _worker_retries, _worker_rows_pulled   of a worker
    paramesh_ps_worker_padding_ids, _worker_refused_ids   that it has looked up in tables

Tags: `job`, and `server` or `worker`.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from paramesh.ps.client.row_ids import all_counts
from paramesh.ps.durability.log import Fenced
from paramesh.ps.processes import events
from paramesh.ps.server.server import Server

#: Seconds between two updates of the metrics.
PERIOD = 1.0
PREFIX = "paramesh_ps_"

#: What the metrics of a server say of its stats (see `Server.stats`).
_OF_SERVER: dict[str, tuple[str, Callable[[Mapping[str, Any]], float | None]]] = {
    "version": ("Updates that the server has applied.", lambda s: s["version"]),
    "incarnation": ("How often the server has begun.", lambda s: s["incarnation"]),
    "rows": ("Rows of tables that exist on the server.", lambda s: s["rows"]),
    "bytes_held": ("Bytes of values and optimizer state.", lambda s: s["bytes"]),
    "pushes": ("Pushes that came in since the server began.", lambda s: s["pushes"]),
    "bytes_pushed": ("Bytes of these pushes.", lambda s: s["bytes_pushed"]),
    "bytes_pulled": ("Bytes of values sent since the server began.", lambda s: s["bytes_pulled"]),
    "bytes_logged": ("Bytes of the server's log.", lambda s: s["bytes_logged"]),
    "lag": ("Steps that the fastest worker is ahead of the server.", lambda s: lag(s)),
    "snapshot_seconds": ("Of the last snapshot.", lambda s: s["last_snapshot"].get("seconds")),
    "snapshot_version": ("Of the last snapshot.", lambda s: s["last_snapshot"].get("version")),
    "recovery_seconds": ("Until the server could begin.", lambda s: s["recovery_seconds"]),
}
_OF_WORKER: dict[str, str] = {
    "worker_step": "The step that the worker is at.",
    "worker_retries": "Calls that the worker had to repeat.",
    "worker_rows_pulled": "Rows of tables that the worker was sent.",
    "worker_padding_ids": "Ids of padding that the worker has looked up.",
    "worker_refused_ids": "Ids outside of tables that the worker has looked up.",
}


def lag(stats: Mapping[str, Any]) -> int:
    """Steps that the fastest worker is ahead of a server: those that wait for other workers."""
    return (
        max((int(step) + 1 for step in stats["staged"]), default=stats["version"])
        - (stats["version"])
    )


class _Gauges:
    """Ray's metrics by name; without a cluster, nothing."""

    def __init__(self, described: Mapping[str, str], tags: Mapping[str, str]) -> None:
        ray = importlib.import_module("ray")
        self._tags = dict(tags)
        self._gauges: dict[str, Any] = {}
        self._next = 0.0
        if ray.is_initialized():
            kind = importlib.import_module("ray.util.metrics").Gauge
            self._gauges = {
                name: kind(PREFIX + name, description=text, tag_keys=tuple(self._tags))
                for name, text in described.items()
            }

    def due(self) -> bool:
        """Whether a period has passed since the last time."""
        now = time.monotonic()
        if not self._gauges or now < self._next:
            return False
        self._next = now + PERIOD
        return True

    def set(self, numbers: Mapping[str, float | None]) -> None:
        """Tell numbers by name."""
        for name, number in numbers.items():
            if number is not None:
                self._gauges[name].set(float(number), tags=self._tags)


class ServerWatch:
    """Events and metrics of a server.

    Args:
        folder: the server's.
        job: of the run.
    """

    def __init__(self, folder: Path, job: str = "default") -> None:
        self._events = events.of_server(folder)
        described = {name: text for name, (text, _) in _OF_SERVER.items()}
        self._gauges = _Gauges(described, {"server": folder.name, "job": job})
        self._incarnation = 0
        self._snapshot: dict[str, float] = {}
        self.bytes_pulled = 0

    def look(self, server: Server) -> None:
        """See what is new; called with every answer."""
        if server.incarnation != self._incarnation:
            self._incarnation = server.incarnation
            self._snapshot = dict(server.last_snapshot)
            self._events.note(
                "recovered" if server.incarnation > 1 or server.version else "started",
                incarnation=server.incarnation,
                version=server.version,
                seconds=round(server.recovery_seconds, 3),
            )
        before, last = self._snapshot, server.last_snapshot
        if last != before:
            self._snapshot = last = dict(last)
            # The moments stay out: an event has a time of its own.
            facts = {k: v for k, v in last.items() if k not in ("time", "failed", "late")}
            for event, moment in (("snapshot", "time"), ("snapshot failed", "failed")):
                if last.get(moment) != before.get(moment):
                    self._events.note(event, **facts)
        if self._gauges.due():
            stats = server.stats() | {"bytes_pulled": self.bytes_pulled}
            self._gauges.set({name: read(stats) for name, (_, read) in _OF_SERVER.items()})

    def failed(self, error: Exception, worker: int, step: int) -> None:
        """A push ended in an error."""
        kind = "fenced" if isinstance(error, Fenced) else "refused"
        self._events.note(
            kind, worker=worker, step=step, error=type(error).__name__, reason=str(error)
        )

    def sent(self, values: Mapping[str, Any]) -> None:
        """Values went out."""
        self.bytes_pulled += sum(array.nbytes for array in values.values())


class WorkerWatch:
    """Events and metrics of a worker.

    Args:
        folder: of the servers' logs; None: no events.
        rank: of the worker.
        job: of the run.
    """

    def __init__(self, folder: str | None, rank: int, job: str) -> None:
        self.events = events.of_worker(folder, rank)
        self._gauges = _Gauges(_OF_WORKER, {"worker": str(rank), "job": job})

    def stepped(self, step: int, retries: int, rows: int) -> None:
        """A step was answered."""
        if self._gauges.due():
            ids = all_counts()
            numbers = {
                "worker_step": step,
                "worker_retries": retries,
                "worker_rows_pulled": rows,
                "worker_padding_ids": ids.padding_ids,
                "worker_refused_ids": ids.refused_ids,
            }
            self._gauges.set(numbers)
