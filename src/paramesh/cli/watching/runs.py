"""Which processes are one run, and which servers belong to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from paramesh.ps.deployment.registry import Run
from paramesh.telemetry.journal import Watched


class Servers(NamedTuple):
    """Where the servers of a run are.

    Attributes:
        address: of their Ray cluster.
        job: the name of the run there.
        token: of the cluster, as far as it is known here.
        folder: of their events; None: nobody knows it here.
        places: the name of the host of each worker; None: all are on this host.
    """

    address: str
    job: str
    token: str | None
    folder: str | None
    places: list[str] | None = None


class WatchedRun(NamedTuple):
    """Processes that train together, and their servers.

    Attributes:
        name: what a user calls it: the number of its first process.
        program: the words that started it.
        started: seconds since 1970.
        workers: by rank; none where nobody reports steps (yet).
        servers: None: without any, or in the process that trains.
    """

    name: str
    program: str
    started: float
    workers: list[Watched]
    servers: Servers | None


def watched_runs(processes: Sequence[Watched], with_servers: Sequence[Run]) -> list[WatchedRun]:
    """The runs of these processes and servers, the oldest first.

    Args:
        processes: those that report their steps.
        with_servers: the runs that have servers, whether they report steps or not.
    """
    known = {(run.address, run.job): run for run in with_servers}
    groups: dict[tuple[str, str] | str, list[Watched]] = {}
    for process in processes:
        groups.setdefault(_cluster(process) or process.facts.group, []).append(process)
    found: list[WatchedRun] = []
    for key, workers in groups.items():
        workers.sort(key=lambda worker: (worker.facts.rank, worker.facts.started))
        first = workers[0].facts
        servers = None if isinstance(key, str) else _servers(key, known.pop(key, None), workers)
        started = min(worker.facts.started for worker in workers)
        found.append(WatchedRun(str(first.pid), first.program, started, workers, servers))
    for key, run in known.items():
        found.append(WatchedRun(str(run.pid), run.program, run.started, [], _servers(key, run, [])))
    return sorted(found, key=lambda run: (run.started, run.name))


def chosen(runs: Sequence[WatchedRun], wanted: str | None) -> list[WatchedRun]:
    """The runs that a word means: the number of a process, or a part of the program; None: all."""
    if wanted is None:
        return list(runs)
    by_number = [
        run
        for run in runs
        if wanted in {run.name, *(str(worker.facts.pid) for worker in run.workers)}
    ]
    return by_number or [run for run in runs if wanted in run.program]


def _cluster(process: Watched) -> tuple[str, str] | None:
    said = process.sources.get("servers")
    if not isinstance(said, dict):
        return None
    address, job = said.get("address"), said.get("job")
    return (address, job) if isinstance(address, str) and isinstance(job, str) else None


def _servers(key: tuple[str, str], run: Run | None, workers: Sequence[Watched]) -> Servers:
    folder = None if run is None else run.wal_dir
    for worker in workers:
        said = worker.sources.get("servers")
        where = said.get("wal_dir") if isinstance(said, dict) else None
        folder = folder or (where if isinstance(where, str) else None)
    if run is None:
        return Servers(*key, None, folder)
    return Servers(*key, run.token, folder, run.places)
