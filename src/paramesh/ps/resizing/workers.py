"""Give a run that is at rest another number of workers.

No worker is at a step, so the border is the first one that no server has made; what was decided
before about later steps is void. As with a live run
the record of the verdict in the log of the first server counts (see `server.worker_changes`): what
is killed before it leaves the run as it was, and what is killed after it is completed by the next
start. Nothing but the heads of records is read.

Servers of a run that was killed may be at different versions. Then the steps before the border are
made once more for some of them, with the former number of workers: those who leave come back for
these steps, and those who join wait for the border.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from paramesh.errors import ParameterServerError
from paramesh.ps.durability import identity, worker_files
from paramesh.ps.durability.log import Log, start_incarnation
from paramesh.ps.durability.run_lock import changer_lock
from paramesh.ps.durability.run_settings import Identity
from paramesh.ps.resizing.at_rest import at_rest
from paramesh.ps.resizing.build import sources_of
from paramesh.ps.resizing.sources import Source, common_cut
from paramesh.ps.server.worker_changes import WorkerChanges
from paramesh.ps.specification.worker_sets import MOST_WORKERS, Verdict, WorkerSets


class Changed(NamedTuple):
    """What was done.

    Attributes:
        before, after: how many workers there were, and are.
        border: the first step with the new number; None: nothing was changed.
        start: how many workers are to be started next: more than `after` if some are needed for
            steps before the border.
    """

    before: int
    after: int
    border: int | None
    start: int


def change_at_rest(
    folder: Path, workers: int, *, point: Callable[[str], None] = lambda name: None
) -> Changed:
    """Give a run that is at rest another number of workers.

    Args:
        folder: of the run; its own path.
        workers: how many workers it gets.
        point: called with the name of every point that is reached.

    Raises:
        ValueError: a number of workers that there cannot be.
        RunTaken: somebody has the run.
        ParameterServerError: it is not the folder of a run, or its files are damaged; it has made
            no step, or was killed before all servers knew of the last change.
        OSError: from the file system. The run is as it was.
    """
    if not 1 <= workers <= MOST_WORKERS:
        raise ValueError(f"a run has 1 to {MOST_WORKERS} workers, not {workers}.")
    changer = changer_lock(folder)
    changer.take()
    try:
        with at_rest(folder, "workers"):
            point("locked")
            identity.settle(folder)
            worker_files.settle(folder, identity.server_folder(folder, 0))
            mine = identity.read(folder)
            identity.check(folder, mine)
            return _change(folder, mine, workers, point)
    finally:
        changer.release()


def _change(folder: Path, mine: Identity, workers: int, point: Callable[[str], None]) -> Changed:
    sources, config = sources_of(folder, mine)
    common_cut(sources, config)  # they are what a run has left
    first, others = sources[0], sources[1:]
    before = first.changes.sets.last[1]
    if workers == before:
        return Changed(before, workers, None, workers)
    border = max(first.changes.front(source.version, source.workers) for source in sources)
    if not border:
        raise ParameterServerError(
            f"the run in '{folder}' has made no step: there is nothing to go on with. Start it "
            f"with {before} workers, or remove the folder, and start with {workers}."
        )
    sets = WorkerSets(first.changes.sets.first, first.changes.sets.others)
    sets.decide(border, workers)
    known = [entry for entry in sets.others if entry[0] < border]
    if config.mode == "async" and any(
        entry not in source.changes.sets.others for source in others for entry in known
    ):
        raise ParameterServerError(
            f"the run in '{folder}' has {before} workers from step {known[-1][0]} on, and was "
            "killed before all its servers knew it. Start it with "
            f"worker_num={mine.worker_num}; when it has made a few steps, its number of workers "
            "can be changed again, live or at rest."
        )
    start = max(workers, _pending(sources, sets, border))
    number = worker_files.want(folder, start, workers, "")
    assert number is not None  # there was none open, and nobody else is here
    point("wanted")
    for source in others:
        if source.changes.sets.last[0] >= border:  # it has met a set, and made no step of it
            _append(source, Verdict(0, source.changes.sets.at(border - 1), border))
    point("forgotten")
    verdict = Verdict(number, workers, border)
    _append(first, verdict)
    point("decided")
    worker_files.tell(folder, verdict)
    return Changed(before, workers, border, start)


def _pending(sources: Sequence[Source], sets: WorkerSets, border: int) -> int:
    """How many workers have to be there for the steps before the border that servers lack."""
    if not sources[0].changes.is_async:
        rear = min(source.version for source in sources)
        return max((sets.at(step) for step in range(rear, border)), default=0)
    counts = [0]
    for source in sources:
        for worker in range(sets.most):
            step = sets.first_step(worker, source.workers.next_push.get(worker, 0))
            if step is not None and step < border:
                counts.append(worker + 1)
    return max(counts)


def _append(source: Source, verdict: Verdict) -> None:
    # From now on a server of the session before, if one lives still, can decide nothing.
    log = Log(source.folder, start_incarnation(source.folder), source.records, fsync=True)
    try:
        log.append(WorkerChanges.record(verdict, at_rest=True), {})
    finally:
        log.close()
