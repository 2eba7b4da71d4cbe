"""Which workers a server listens to, and how many make up a step.

Who they are is in the log, each before anybody is told of it: a successor listens to the same ones.
"""

from __future__ import annotations

from typing import Any

from paramesh.ps.server.declared import Declared
from paramesh.ps.server.worker_changes import WorkerChanges
from paramesh.ps.specification.worker_sets import Change, Entries, Verdict


class Attended(Declared):
    """The part of a server that is about its workers.

    Attributes:
        incarnation: of the server.
        changes: of the number of workers.
    """

    incarnation: int
    changes: WorkerChanges
    _elastic: bool

    def hello(self, worker: int, incarnation: int | None, life: int = 0) -> dict[str, Any]:
        """A worker (re)starts; messages of earlier incarnations are rejected from then on.

        A message that is late or comes twice must not do that to the one that has started since. So
        a question (`incarnation` None) changes nothing, and what a process answers to it names a
        number that is too low by then, or that belongs to another life.

        Args:
            worker: which.
            incarnation: of the worker; None: it asks which would be next.
            life: drawn by the process that the worker is; 0: any.

        Returns:
            `version`, `next` (the step that this server would take from the worker), `incarnation`
            (of the server), `worker` (the worker's), `workers` (how many there were at first) and
            `sets` (those since, see `worker_sets`).

        Raises:
            ParameterServerError: no such worker.
            Replaced: a later incarnation of it is known, or another life of this one.
        """
        if not self._elastic:
            self.workers.check_exists(worker)
        known = self.workers.incarnations.get(worker, 0)
        if incarnation is None:
            incarnation = known + 1
        else:
            if incarnation > known:
                said = {"worker": worker, "incarnation": incarnation, "life": life}
                self._append({"kind": "worker", **said}, {})
                self.workers.introduce(said)
            self.workers.check(worker, incarnation)
            self.workers.check_life(worker, incarnation, life)
        next_push = (
            self.workers.next_push.get(worker, 0) if self.config.mode == "async" else self.version
        )
        return {
            "version": self.version,
            "next": next_push,
            "incarnation": self.incarnation,
            "worker": incarnation,
            "workers": self.changes.sets.first,
            "sets": self.changes.sets.others,
        }

    def leave(self, worker: int, incarnation: int) -> int:
        """A worker has finished; how many have not.

        Raises:
            Replaced: a later incarnation of it is known.
        """
        self.workers.check(worker, incarnation)
        if not self.workers.has_left(worker):
            self._append({"kind": "leave", "worker": worker}, {})
            self.workers.leave(worker)
        return self.workers.remaining(self.changes.sets.last[1])

    def change_workers(self, change: Change) -> Verdict | None:
        """Another number of workers is wanted. Only the first server is asked.

        To be called again and again: what keeps a change from its verdict passes with steps, and
        when workers start.

        Returns:
            The verdict on it; None: there is none yet, or there was one on a later change.

        Raises:
            Fenced, OSError: the log cannot be written; nothing was decided.
        """
        self.changes.want(change)
        verdict = self.changes.judge(self.version, self.workers)
        if verdict is not None:
            self._set_workers(verdict)
        known = self.changes.verdict
        return known if known.number == change.number else None

    def sets_to_tell(self) -> Entries:
        """The sets that some worker may not know of yet."""
        return self.changes.sets.tail(self.changes.rear(self.version, self.workers))

    def workers_now(self) -> int:
        """How many workers make up the step that comes next, in async mode the furthest one."""
        return self.changes.sets.at(self.changes.front(self.version, self.workers))

    def _set_workers(self, verdict: Verdict) -> None:
        record = self.changes.record(verdict)
        self._append(record, {})
        self.changes.replay(record, self.workers)
