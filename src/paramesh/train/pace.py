"""Whether so many seconds have passed, asked after every step: all processes get the same answer.

Several processes save together, so all of them have to save after the same step, whatever their
clocks say. Process 0 broadcasts its answer. That takes a collective, so not after every
step: each answer says at which step the next one will be given, about a second later.
"""

from __future__ import annotations

import time

import jax
import numpy as np

from paramesh._compat.jax import broadcast_one_to_all
from paramesh.parallel.processes.synchronize import wait_for_programs

#: Seconds between two answers, and the largest number of steps between them.
_BETWEEN, _MOST_STEPS = 1.0, 10_000


class Pace:
    """Counts seconds since the last save.

    Args:
        seconds: between two saves; None or 0: never.
        together: all processes ask, and have to be answered alike.
    """

    def __init__(self, seconds: float | None, together: bool = True) -> None:
        self._seconds = seconds
        self._together = together
        self.begin(0)

    def begin(self, step: int) -> None:
        """Start counting, at a step that is the same in all processes."""
        self._since = self._answered_at = time.monotonic()
        self._answered_step = self._next = step

    def saved(self) -> None:
        """A save was made."""
        self._since = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether it is time to save after a step; the same in all processes.

        Args:
            step: its number; all processes ask after the same steps.
        """
        if not self._seconds:
            return False
        now = time.monotonic()
        due = now - self._since >= self._seconds
        if jax.process_count() == 1 or not self._together:
            return due
        if step < self._next:
            return False
        pace = (now - self._answered_at) / max(1, step - self._answered_step)
        wait = min(_BETWEEN, max(0.0, self._seconds - (now - self._since)))
        steps = max(1, min(_MOST_STEPS, int(wait / max(pace, 1e-6))))
        wait_for_programs()
        answer = broadcast_one_to_all(np.array([due, steps], np.int32))
        self._answered_at, self._answered_step, self._next = now, step, step + int(answer[1])
        return bool(answer[0])
