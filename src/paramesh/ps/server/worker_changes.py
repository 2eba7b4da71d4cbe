"""Another number of workers for a run that goes on: what the first server decides.

Glossary
    joiner      a worker that the run does not have before the border of a change

The first server alone decides. It does so when all joiners are here, and appends the verdict to its
log before anybody can be told of it; so a successor knows it, and one that was replaced cannot
decide. The border lies so far ahead that every worker learns of it, with an answer of this server,
before it needs to know (see `worker_sets.AHEAD`). The other servers see it by what workers say with
their pushes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from paramesh.ps.durability.worker_files import WITHDRAWN
from paramesh.ps.server.worker_registry import WorkerRegistry
from paramesh.ps.specification.protocol import RunConfig
from paramesh.ps.specification.worker_sets import (
    AHEAD,
    MOST_WORKERS,
    Change,
    Verdict,
    WorkerSets,
)

#: Why nothing changes any more.
ENDED = "it has come to its end"


class Place(NamedTuple):
    """What a worker can expect.

    Attributes:
        waits: there may be steps for it later.
        why: there are none; "": there is one now, or may be later.
    """

    waits: bool
    why: str = ""


class WorkerChanges:
    """The sets of workers that a server knows, and the change that it is asked for.

    Args:
        config: of the run, as it began.

    Attributes:
        sets: of workers.
        verdict: the latest.
        wanted: the change that is not decided; None: there is none.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config
        self.sets = WorkerSets(config.workers)
        self.verdict = Verdict()
        self.wanted: Change | None = None

    def want(self, change: Change) -> None:
        """Somebody wants a change; a verdict on it, or on a later one, stays."""
        if change.number > self.verdict.number:
            self.wanted = change

    def judge(self, version: int, registry: WorkerRegistry) -> Verdict | None:
        """The verdict that can be given now; it counts once it was replayed.

        Args:
            version: of the server.
            registry: of its workers.
        """
        change, (border, count) = self.wanted, self.sets.last
        if change is None:
            return None
        why = ""
        if change.stopped:
            why = WITHDRAWN
        elif not 1 <= change.workers <= MOST_WORKERS:
            why = f"a run has 1 to {MOST_WORKERS} workers, not {change.workers}"
        elif self._config.mode == "async":
            why = "in mode 'async' each worker makes steps of its own, which have no common border"
        elif self.is_over(version, registry):
            why = ENDED
        elif change.workers == count:
            why = f"the run has {count} worker{'s' * (count > 1)} already"
        if not why:
            # Who is behind a border has to know it before there is another one.
            if border and version < border + self._config.behind:
                return None
            rigid = [w for w in range(count) if not registry.divides.get(w, True)]
            if rigid:
                why = (
                    f"the script of worker {rigid[0]} does not divide its batches anew. Wrap them "
                    "in paramesh.train.divided(...), or ask paramesh.train.worker_share() before "
                    "each one"
                )
        if why:
            return Verdict(change.number, None, 0, why)
        known = all(worker in registry.divides for worker in range(count))
        if not known or not all(map(registry.is_here, range(count, change.workers))):
            return None
        return Verdict(change.number, change.workers, version + AHEAD + self._config.staleness)

    def is_over(self, version: int, registry: WorkerRegistry) -> bool:
        """Whether all workers of the step that comes next have finished."""
        return all(map(registry.has_left, range(self.sets.at(version))))

    def place_of(self, worker: int, version: int, registry: WorkerRegistry) -> Place:
        """What a worker can expect that asks for steps.

        Args:
            worker: which.
            version: of the server.
            registry: of its workers.
        """
        first = self.sets.first_step(worker, version)
        if first == version:
            return Place(False)
        if self.is_over(version, registry):
            return Place(False, ENDED)
        if first is not None or (self.wanted is not None and worker < self.wanted.workers):
            return Place(True)
        count = self.sets.last[1]
        return Place(False, self.verdict.why or f"it has {count} worker{'s' * (count > 1)}")

    # The log.

    @staticmethod
    def record(verdict: Verdict) -> dict[str, Any]:
        """What the log keeps of a verdict; of number 0: a set that this server has met."""
        return {"kind": "workers", **verdict._asdict()}

    def replay(self, meta: Mapping[str, Any], registry: WorkerRegistry) -> None:
        """A verdict, from its record.

        Raises:
            ParameterServerError: it contradicts what is known.
        """
        verdict = Verdict(*(meta[name] for name in Verdict._fields))
        if verdict.workers is not None:
            self.sets.add(verdict.border, verdict.workers)
        if not verdict.number:
            return
        self.verdict = verdict
        if self.wanted is not None and self.wanted.number <= verdict.number:
            if verdict.workers is None:
                # They are told, and go; nobody waits for those that are dead.
                for worker in range(self.sets.last[1], self.wanted.workers):
                    registry.leave(worker)
            self.wanted = None

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps."""
        return {"sets": list(map(list, self.sets.others)), "verdict": list(self.verdict)}

    def load(self, meta: Mapping[str, Any]) -> None:
        """Restore what `state` returned, from JSON; older snapshots have nothing of it."""
        self.sets = WorkerSets(meta["workers"], meta.get("sets", ()))
        self.verdict = Verdict(*meta.get("verdict", ()))
