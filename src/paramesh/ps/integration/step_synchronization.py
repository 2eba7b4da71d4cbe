"""Which steps of a worker are pending: the batch to continue from, and its random numbers.

Glossary
    pending     a step that the servers expect from this worker: in sync and stale mode the first
                one that a server has not applied, in async mode the worker's own next push
    position    the state of the default generator at the start of a step: a function of the seed,
                the worker and the step alone

A restarted worker runs the script from the beginning. Steps that its predecessor has pushed are
skipped, and the first pending one must have the same bits: the same batch, the same random
numbers, the same step in learning-rate schedules.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh import context, random
from paramesh.errors import ParameterStateError
from paramesh.ps.integration import session as sessions
from paramesh.ps.integration.session import Session
from paramesh.tensor.base import Tensor

#: Bits of the generator's counter for the keys of one step, and for the steps of one worker.
_KEYS, _STEPS = 20, 32


class StepSynchronizer:
    """How far the script of this process is, counted in steps from its top.

    Args:
        session: of this worker.

    Attributes:
        step: the step that comes next; those before it were made, or passed over.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._first = session.at
        self.step = 0
        words = [int(word) for word in random.default_generator().get_state().asnumpy()]
        self._seed, self._begin = words[:2], (words[2] << 32) + words[3]

    def share(self, ahead: int = 0) -> tuple[int, int]:
        """Which of how many parts of a batch this worker takes: its rank, and their number.

        Args:
            ahead: 0 for the step that comes next, 1 for the one after it.
        """
        session = self._session
        return session.client.rank, session.client.workers_at(session.at + ahead)

    def divide(self) -> None:
        """The batches of this script are divided by `share`: others may join, and leave."""
        self._session.client.divide()

    @property
    def has_left(self) -> bool:
        """Whether the run goes on without this worker."""
        rank, workers = self.share()
        return rank >= workers

    @property
    def passed(self) -> int:
        """How many of the next steps are not pending any more."""
        return max(0, self._first - self.step)

    def pass_over(self, count: int) -> None:
        """Leave out steps."""
        self.step += count

    def begin(self) -> None:
        """Put the default generator where the step that comes next begins."""
        counter = self._begin + (self._session.client.rank << (_KEYS + _STEPS))
        counter = (counter + (self.step << _KEYS)) % 2**64
        words = [*self._seed, counter >> 32, counter & 0xFFFFFFFF]
        random.default_generator().set_state(np.array(words, np.uint32))

    def end(self) -> None:
        """The step was made.

        Raises:
            ParameterStateError: it was not a single push.
        """
        self.step += 1
        session = self._session
        if session.specs and session.at != self.step:
            raise ParameterStateError(
                f"after {self.step} steps this worker has pushed {session.at} times; each batch "
                f"must be one push, or a restarted worker could not find the step to continue "
                f"from. Call one optimizer once per batch."
            )


def step_synchronizer() -> StepSynchronizer | None:
    """Which step this worker is at; None where no worker is restarted.

    That is without servers in processes of their own, and for processes that JAX has joined, which
    end together. Connects to the servers.

    Raises:
        ParameterServerError: they cannot be reached.
    """
    if not context.get_ps_context("enable_ps"):
        return None
    settings = sessions.settings_now()
    if sessions.alone(settings) or "rank" in settings:
        return None
    session = sessions.session_for(settings)
    if session.step_synchronizer is None:
        session.step_synchronizer = StepSynchronizer(session)
    return session.step_synchronizer


def skipped_counts(session: Session, optimizer: Any) -> dict[Any, Any]:
    """{Parameter: value} of what an optimizer counts, if it does not know the steps passed over.

    Args:
        session: of this worker.
        optimizer: whose counts are at the values that the script gave them.
    """
    first = session.client.start
    if not first or optimizer.global_step in session.caught_up:
        return {}
    return optimizer.later(first)


def catch_up(session: Session, optimizer: Any) -> None:
    """Have an optimizer count the steps that were passed over: once, whatever interrupts it."""
    count = optimizer.global_step
    if not session.client.start or count in session.caught_up:
        return
    # Computed once: when this is interrupted and called again, some have their new values.
    values = session.catching_up.setdefault(count, skipped_counts(session, optimizer))
    for param, value in values.items():
        param.assign(Tensor(value))
    session.caught_up.add(count)
