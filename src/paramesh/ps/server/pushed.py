"""How the pushes of workers become updates of a server.

Glossary
    version     how many updates the server has applied
    step        of a worker: its push of step t becomes (part of) the update from version t to t+1
    staged      a push that waits for the pushes of the other workers

In "sync" mode (Li et al., OSDI 2014, sequential consistency) the update of a step is the sum of all
workers' pushes in the order of the workers, and is applied once all have arrived. In "stale" mode
pushes may arrive for up to `staleness` steps ahead; they are applied in the same order, and step t
reads exactly version t - staleness. In "async" mode every push is an update of its own, and pushes
are counted per worker.

Invalid pushes are rejected before anything happens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from paramesh.errors import ParameterServerError
from paramesh.ps.durability.record import updates_to_arrays
from paramesh.ps.server.store import Update
from paramesh.ps.server.sums import reduce_updates
from paramesh.ps.server.updated import Updated
from paramesh.ps.specification.protocol import PushesMissing
from paramesh.ps.specification.specs import owner_of
from paramesh.ps.specification.worker_sets import Verdict


class Pushed(Updated):
    """The part of a server that is about pushes.

    Attributes:
        pushes: how many came, and
        bytes_pushed: how large they were.
    """

    pushes: int
    bytes_pushed: int
    _leads: bool
    #: Pushes that wait: by step, by worker. And how many workers make up a step.
    _staged: dict[int, dict[int, tuple[Update, dict[str, float]]]]
    _expected: dict[int, int]

    def _snapshot_if_due(self) -> None:
        """Write a snapshot, if it is time for one."""
        raise NotImplementedError

    def push(
        self,
        worker: int,
        incarnation: int,
        step: int,
        updates: Update,
        hyper: Mapping[str, float],
        of: int | None = None,
        divides: bool = False,
    ) -> None:
        """Take one worker's gradients of one step; a second time changes nothing.

        Args:
            worker: who.
            incarnation: of the worker.
            step: which; in async mode the worker's own, counted as those of all are.
            updates: as for `Store.apply`.
            hyper: as for `Store.apply`; the same from all workers.
            of: how many workers make up the step, as far as the worker knows; None: it does not
                say.
            divides: its script divides its batches anew when that changes.

        Raises:
            Replaced: a later incarnation of the worker is known.
            PushesMissing: earlier steps of the worker are not here.
            ParameterServerError: a step too early, other gradients than this worker has pushed for
                this step before, other Parameters or hyperparameters than another worker, or a log
                that cannot be written: nothing is acknowledged.
            ParameterStateError, ParameterShapeError, ValueError: as `Store.check`.
        """
        self.workers.check(worker, incarnation)
        self.workers.divides[worker] = divides
        if self.config.mode == "async":
            self._push_async(worker, step, updates, hyper, of)
            return
        if step < self.version:
            return
        if step > self.version + self.config.staleness:
            raise ParameterServerError(
                f"worker {worker} pushed step {step}, and the server is at version "
                f"{self.version}: at most {self.config.staleness} steps ahead are allowed."
            )
        self.check_pushed(worker, step)
        self._check_set(worker, step, of)
        self._check_push(worker, updates, hyper)
        staged = self._staged.setdefault(step, {})
        mine = (updates, dict(hyper))
        if worker not in staged:
            for other, (pushed, theirs) in staged.items():
                _check_same_parameters(step, {other: pushed, worker: updates})
                if theirs != mine[1]:
                    raise ParameterServerError(
                        f"workers {other} and {worker} pushed step {step} with different "
                        f"hyperparameters: {theirs} and {mine[1]}. Check that all workers run "
                        f"the same script."
                    )
            staged[worker] = mine
            if of is not None:
                self._expected[step] = of
            self._count(updates)
            self.reach("staged")
        elif staged[worker][1] != mine[1] or not _same(staged[worker][0], updates):
            raise ParameterServerError(
                f"worker {worker} pushed step {step} twice, with different gradients: a restarted "
                "worker must compute the same bits. Its data and random numbers must depend on the "
                "seed, the step and the worker alone."
            )
        self._advance()

    def check_pushed(self, worker: int, step: int) -> None:
        """Raise PushesMissing unless all pushes of a worker before a step are here, or applied.

        In stale mode a reply does not say that a push was applied. A server that dies and is back
        before the worker's next push has lost what was staged, and the worker has seen no error.
        """
        if self.config.mode == "async":
            return
        for early in range(self.version, step):
            if worker not in self._staged.get(early, ()):
                raise PushesMissing(
                    f"worker {worker} is at step {step}, but its push of step {early} has not "
                    f"arrived."
                )

    def _check_set(self, worker: int, step: int, of: int | None) -> int:
        """How many workers make up a step, of which this is a push.

        Raises:
            ParameterServerError: the worker does not know it.
        """
        border, number = self.changes.sets.last
        if self._leads or step < border:
            number = self.changes.sets.at(step)
        elif of is not None:  # the first server has decided it, and this one meets it now
            number = self._expected.get(step, of)
        if of not in (None, number) or worker >= number:
            raise ParameterServerError(
                f"worker {worker} pushed step {step} as one of {of} workers, and that step has "
                f"{number} (the run has {self.changes.sets}). Check that all processes are those "
                "of one run, with one version of paramesh."
            )
        return number

    def _workers_of(self, step: int) -> int:
        """How many workers make up a step."""
        return self._expected.get(step) or self.changes.sets.at(step)

    def _check_push(self, worker: int, updates: Update, hyper: Mapping[str, float]) -> None:
        self.store.check(updates)
        for name, number in hyper.items():
            if not math.isfinite(number):
                raise ParameterServerError(
                    f"worker {worker} pushed {name}={number}, which must be finite. Check the "
                    f"schedule and the settings of the optimizer."
                )

    def _count(self, updates: Update) -> None:
        self.pushes += 1
        self.bytes_pushed += sum(a.nbytes for u in updates.values() for a in u.values())

    def _advance(self) -> None:
        while len(self._staged.get(self.version, ())) == self._workers_of(self.version):
            staged = self._staged[self.version]
            count = self._expected.get(self.version)
            if count not in (None, self.changes.sets.at(self.version)):
                self._set_workers(Verdict(0, count, self.version))
            updates = reduce_updates([staged[worker][0] for worker in sorted(staged)])
            self._update(updates, next(iter(staged.values()))[1], None)
            del self._staged[self.version - 1]
            self._expected.pop(self.version - 1, None)
            self._snapshot_if_due()

    def _push_async(
        self,
        worker: int,
        step: int,
        updates: Update,
        hyper: Mapping[str, float],
        of: int | None,
    ) -> None:
        if step < self.workers.next_push.get(worker, 0):
            return
        number = self._check_set(worker, step, of)
        # A worker pushes the steps one after the other: the first one of another number, of
        # whomever it is, is that at the border.
        begins = number != self.changes.sets.at(step)
        known = self.changes.sets.and_then(step, number) if begins else self.changes.sets
        following = known.first_step(worker, self.workers.next_push.get(worker, 0))
        if step != following:
            raise ParameterServerError(
                f"worker {worker} sent push {step}, but {following} is expected: a push was lost."
            )
        self._check_push(worker, updates, hyper)
        self._count(updates)
        self.reach("staged")
        if begins:
            self._set_workers(Verdict(0, number, step))
        self._update(reduce_updates([updates]), dict(hyper), (worker, step))
        self._snapshot_if_due()


def _check_same_parameters(step: int, pushed: Mapping[int, Update]) -> None:
    """Raise ParameterServerError unless two workers have gradients of the same dense Parameters.

    One that a worker leaves out would be trained by a part of its gradient. Of a table a worker may
    have no rows.
    """
    one, other = pushed
    mine, theirs = ({name for name, u in pushed[w].items() if "ids" not in u} for w in pushed)
    for worker, names, without in ((one, mine - theirs, other), (other, theirs - mine, one)):
        if names:
            parameters = sorted({owner_of({"name": name, "kind": "dense"}) for name in names})
            raise ParameterServerError(
                f"worker {worker} pushed gradients of {', '.join(map(repr, parameters))} in step "
                f"{step}, and worker {without} did not: their steps train other Parameters. Check "
                "that all workers run the same script with the same settings."
            )


def _same(a: Update, b: Update) -> bool:
    left, right = updates_to_arrays(a), updates_to_arrays(b)
    return left.keys() == right.keys() and all(
        left[key].dtype == right[key].dtype
        and left[key].shape == right[key].shape
        and left[key].tobytes() == right[key].tobytes()
        for key in left
    )
