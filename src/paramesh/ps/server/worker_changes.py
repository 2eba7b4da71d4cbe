"""Another number of workers for a run that goes on: what the first server decides.

Glossary
    joiner      a worker that the run does not have before the border of a change
    front       the first step that no worker can have begun: in async mode after the step of the
                worker that is ahead of all
    rear        the first step that some worker has not pushed

The first server alone decides. It does so when all joiners are here, and appends the verdict to its
log before anybody can be told of it; so a successor knows it, and one that was replaced cannot
decide. The border lies so far ahead that every worker learns of it, with an answer of this server,
before it needs to know (see `worker_sets.AHEAD`). The other servers see it by what workers say with
their pushes.

In async mode the workers are at steps of their own, and the border is counted from the one that is
ahead of all. So who joins begins at once, while slower workers make the steps before the border
with the former number, and those that leave do so when they have made theirs. Every batch is
divided by one number, and each part of it is pushed once, as if the workers had kept together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    @property
    def is_async(self) -> bool:
        """Whether every worker is at a step of its own."""
        return self._config.mode == "async"

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
        elif self.is_over(version, registry):
            why = ENDED
        elif (finished := self._finished(registry)) is not None:
            why = f"it is coming to its end: worker {finished} has finished"
        elif change.workers == count:
            why = f"the run has {count} worker{'s' * (count > 1)} already"
        if not why:
            # Who is behind a border has to know it before there is another one, and all servers.
            if border and not self._is_past(border, version, registry):
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
        first = self.front(version, registry) + AHEAD + self._config.staleness
        return Verdict(change.number, change.workers, first)

    def next_step(self, worker: int, registry: WorkerRegistry) -> int | None:
        """In async mode the step that is expected of a worker; None: it has none."""
        return self.sets.first_step(worker, registry.next_push.get(worker, 0))

    def front(self, version: int, registry: WorkerRegistry) -> int:
        """The first step that no worker can have begun when this server was last heard."""
        if not self.is_async:
            return version
        return max(self._next_steps(range(self.sets.last[1]), registry))

    def rear(self, version: int, registry: WorkerRegistry) -> int:
        """The first step that some worker has not pushed; what all know has its border there."""
        if not self.is_async:
            return version - self._config.behind
        border, count = self.sets.last
        # Those that leave make the steps before the border still.
        ranks = range(max(count, self.sets.at(border - 1)) if border else count)
        return min(self._next_steps(ranks, registry))

    def _next_steps(self, ranks: Iterable[int], registry: WorkerRegistry) -> list[int]:
        border = self.sets.last[0]
        found = (self.next_step(worker, registry) for worker in ranks)
        return [border if step is None else step for step in found]

    def _is_past(self, border: int, version: int, registry: WorkerRegistry) -> bool:
        if not self.is_async:
            return version >= border + self._config.behind
        # A worker has pushed the step at the border to all servers when it pushes the next one.
        stay = self._next_steps(range(self.sets.last[1]), registry)
        return self.rear(version, registry) >= border and min(stay) >= border + AHEAD

    def is_over(self, version: int, registry: WorkerRegistry) -> bool:
        """Whether the run has come to its end.

        That is when all workers of the step that comes next have finished, in async mode of the
        last set.
        """
        count = self.sets.last[1] if self.is_async else self.sets.at(version)
        return all(map(registry.has_left, range(count)))

    def _finished(self, registry: WorkerRegistry) -> int | None:
        """In async mode a worker that has made all its steps; a border would be behind them."""
        border, count = self.sets.last
        # The process before a joiner may have left when its steps had come to an end.
        stayed = range(min(count, self.sets.at(max(0, border - 1))))
        if not self.is_async:
            return None
        return next(filter(registry.has_left, stayed), None)

    def place_of(self, worker: int, version: int, registry: WorkerRegistry) -> Place:
        """What a worker can expect that asks for steps.

        Args:
            worker: which.
            version: of the server.
            registry: of its workers.
        """
        if self.is_async:
            first = self.next_step(worker, registry)
            begins = first is not None
        else:
            first = self.sets.first_step(worker, version)
            begins = first == version
        if begins:
            return Place(False)
        if self.is_over(version, registry):
            return Place(False, ENDED)
        if first is not None or (self.wanted is not None and worker < self.wanted.workers):
            return Place(True)
        count = self.sets.last[1]
        return Place(False, self.verdict.why or f"it has {count} worker{'s' * (count > 1)}")

    # The log.

    @staticmethod
    def record(verdict: Verdict, *, at_rest: bool = False) -> dict[str, Any]:
        """What the log keeps of a verdict; of number 0: a set that this server has met.

        Args:
            verdict: which.
            at_rest: sets that were decided before, and whose steps nobody has made, are void.
        """
        return {"kind": "workers", **verdict._asdict()} | ({"at_rest": True} if at_rest else {})

    def replay(self, meta: Mapping[str, Any], registry: WorkerRegistry) -> None:
        """A verdict, from its record.

        Raises:
            ParameterServerError: it contradicts what is known.
        """
        verdict = Verdict(*(meta[name] for name in Verdict._fields))
        if meta.get("at_rest"):
            assert verdict.workers is not None
            self.sets.decide(verdict.border, verdict.workers)
        elif verdict.workers is not None:
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
