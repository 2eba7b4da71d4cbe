"""What is shown of a run, as JSON has it; computed from what its processes and servers say.

Glossary
    window      the last seconds, over which rates and shares of time are means
    idle        seconds since a process made its last sample: it is stopped, or in a long step
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from paramesh.cli.watching.runs import WatchedRun
from paramesh.telemetry.journal import Json, Watched
from paramesh.telemetry.phases import PHASES
from paramesh.telemetry.recorder import Sample

#: Seconds of a window; points of a curve; events that are shown.
WINDOW, POINTS, EVENTS = 10.0, 300, 60


class ServerEvent(NamedTuple):
    """Something that happened to a server or a worker.

    Attributes:
        time: seconds since 1970.
        who: "server-0", "worker-1".
        text: what, for people.
    """

    time: float
    who: str
    text: str


class Look(NamedTuple):
    """What the servers of a run say of themselves.

    Attributes:
        servers: a row for each; see `paramesh ps status --json`.
        error: why there are none.
    """

    servers: list[dict[str, Any]]
    error: str | None


NO_LOOK = Look([], None)


def summary(run: WatchedRun, now: float) -> dict[str, Json]:
    """A run in a list of runs."""
    newest = max((worker.written for worker in run.workers), default=None)
    steps = max((worker.samples[-1].step for worker in run.workers), default=None)
    return {
        "name": run.name,
        "program": run.program,
        "started": run.started,
        "workers": len(run.workers),
        "servers": run.servers is not None,
        "step": steps,
        "idle": None if newest is None else round(max(0.0, now - newest), 1),
    }


def picture(
    run: WatchedRun, look: Look, events: Sequence[ServerEvent], now: float
) -> dict[str, Any]:
    """Everything that is shown of a run.

    Args:
        run: which.
        look: at its servers.
        events: of servers and workers.
        now: seconds since 1970.
    """
    workers = [_worker(worker, now) for worker in run.workers]
    first = workers[0] if workers else {}
    happened = [
        {"time": event.time, "who": _who(run, worker), "text": event.text}
        for worker in run.workers
        for event in worker.events
    ]
    happened += [event._asdict() for event in events]
    happened.sort(key=lambda event: event["time"], reverse=True)
    return {
        **summary(run, now),
        "time": now,
        "ended": False,
        "address": None if run.servers is None else run.servers.address,
        "wal_dir": None if run.servers is None else run.servers.folder,
        "places": None if run.servers is None else run.servers.places,
        "steps_per_second": first.get("steps_per_second"),
        "examples_per_second": sum(w["examples_per_second"] or 0 for w in workers) or None,
        "examples": sum(w["examples"] for w in workers),
        "loss": first.get("loss"),
        "numbers": first.get("numbers", {}),
        "memory": sum(w["numbers"].get("memory", 0) for w in workers) or None,
        "phases": _mean([w["phases"] for w in workers]),
        "per_worker": workers,
        "curves": _curves(run.workers[0].samples) if run.workers else {},
        "per_server": look.servers,
        "servers_error": look.error,
        "events": happened[:EVENTS],
    }


def _who(run: WatchedRun, worker: Watched) -> str:
    return f"worker-{worker.facts.rank}" if len(run.workers) > 1 else "training"


def _worker(worker: Watched, now: float) -> dict[str, Any]:
    last = worker.samples[-1]
    window = _window(worker.samples)
    seconds = sum(sample.seconds for sample in window)
    before = worker.samples[-len(window) - 1] if len(worker.samples) > len(window) else None
    steps = last.step - (0 if before is None else before.step)
    examples = last.examples - (0 if before is None else before.examples)
    told: Any = worker.sources.get("servers") or {}
    caches: Mapping[str, Any] = told.get("caches", {})
    looked_up = sum(cache["looked_up"] for cache in caches.values())
    hits = sum(cache["hits"] for cache in caches.values())
    return {
        "rank": worker.facts.rank,
        "pid": worker.facts.pid,
        "host": worker.facts.host,
        "devices": worker.facts.devices,
        "step": last.step,
        "examples": last.examples,
        "steps_per_second": steps / seconds if seconds else None,
        "examples_per_second": examples / seconds if seconds and examples else None,
        "loss": last.loss,
        "numbers": last.numbers,
        "idle": round(max(0.0, now - worker.written), 1),
        "phases": _shares(window, seconds),
        "cache_hits": hits / looked_up if looked_up else None,
        "rows": (told.get("rows") or {}).get("way"),
        "version": told.get("version"),
    }


def _window(samples: Sequence[Sample]) -> Sequence[Sample]:
    """The last samples, of `WINDOW` seconds together; the first steps compile, and do not count."""
    seconds, count = 0.0, 0
    for sample in reversed(samples[1:] or samples):
        seconds, count = seconds + sample.seconds, count + 1
        if seconds >= WINDOW:
            break
    return samples[-count:]


def _shares(window: Sequence[Sample], seconds: float) -> dict[str, float]:
    """Shares of the time by phase; `compute` is what is left."""
    if not seconds:
        return {}
    found: dict[str, float] = {}
    for name in PHASES:
        share = sum(sample.phases.get(name, 0.0) for sample in window) / seconds
        if share > 0:
            found[name] = round(min(1.0, share), 4)
    return {"compute": round(max(0.0, 1 - sum(found.values())), 4), **found}


def _mean(shares: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = ("compute", *PHASES)
    count = len([one for one in shares if one])
    return {
        name: sum(one.get(name, 0.0) for one in shares) / count
        for name in names
        if count and any(name in one for one in shares)
    }


def _curves(samples: Sequence[Sample]) -> dict[str, list[float | None]]:
    """Loss and rates along the run, in at most `POINTS` points."""
    every = max(1, -(-len(samples) // POINTS))
    found: dict[str, list[float | None]] = {"time": [], "step": [], "loss": [], "rate": []}
    before, start = 0, 0
    for end in range(len(samples) - 1, -1, -every):
        start = max(0, end - every + 1)
        last = samples[end]
        before = samples[start - 1].step if start else 0
        seconds = sum(sample.seconds for sample in samples[start : end + 1])
        found["time"].append(last.time)
        found["step"].append(last.step)
        found["loss"].append(last.loss if isinstance(last.loss, float) else None)
        found["rate"].append((last.step - before) / seconds if seconds else None)
    return {name: values[::-1] for name, values in found.items()}
