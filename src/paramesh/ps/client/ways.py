"""Which of several ways to get the rows of a step is the fastest, found out while a run goes on.

Glossary
    way         whether rows are cached on the device, and whether those of an announced batch are
                requested ahead. Every way has the same results
    block       steps that are made one way, one after another; the first ones do not count
    trial       blocks of every way by turns; it ends with a choice
    choice      the way of the steps after a trial

There is no clock here: the machine is told how long each step took. It keeps the way that it has
unless another one is faster, by a margin and by more than chance explains, and looks again later,
at longer and longer intervals: a network or a machine may have changed. What trials cost is bounded
by the shares of their steps.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from paramesh.array_types import Json


class Way(NamedTuple):
    """One way; see the glossary."""

    cached: bool
    ahead: bool

    def __str__(self) -> str:
        if self.cached:
            return "cache and rows ahead" if self.ahead else "cache"
        return "rows ahead" if self.ahead else "rows on demand"


class Schedule(NamedTuple):
    """The lengths of trials, in steps.

    Attributes:
        warm: steps until the first trial: programs are compiled and rows created in them.
        settle: steps of a block that do not count.
        counted: those that do.
        rounds: blocks of each way, at least, and at most where the times do not tell.
        pause: steps from a trial to the next, at first and at most. It doubles as long as the
            choice stays.
        longest: see `pause`.
        margin: the part by which another way has to be faster.
        hopeless: how many times as long as the best a way takes that is not tried any longer.
    """

    warm: int = 16
    settle: int = 3
    counted: int = 5
    rounds: tuple[int, int] = (2, 12)
    pause: int = 512
    longest: int = 1 << 15
    margin: float = 0.03
    hopeless: float = 1.5


class Ways:
    """The ways of one worker's steps.

    Args:
        schedule: of trials.

    Attributes:
        way: that of the next step.
        changes: how often a trial has chosen another way than the one before it.
    """

    def __init__(self, schedule: Schedule | None = None) -> None:
        self._schedule = schedule or Schedule()
        self._offered: tuple[Way, ...] = (Way(False, False),)
        self.way = self._choice = self._offered[0]
        self.changes = 0
        self._left_in_trial: list[Way] = []
        #: Seconds of a step by way, as the last trial found them.
        self.found: dict[Way, float] = {}
        self._begin(self._schedule.warm)

    @property
    def choice(self) -> Way:
        """The way that the last trial has chosen."""
        return self._choice

    @property
    def trying(self) -> bool:
        """Whether a trial is going on."""
        return self._left == 0

    def offer(self, ways: Sequence[Way]) -> None:
        """The ways that there are now; the first is that of the first steps.

        What is known of others is forgotten, and they are compared anew.
        """
        if tuple(ways) == self._offered:
            return
        self._offered = tuple(ways)
        self.way = self._choice = self._offered[0]
        self.found = {}
        self._begin(self._schedule.warm)

    def _begin(self, steps: int) -> None:
        """Go on as chosen for some steps; a trial follows."""
        self._left = max(1, steps)
        self._pause = self._schedule.pause
        self._times: dict[Way, list[float]] = {}
        self._blocks: list[Way] = []
        self._rounds = self._in_block = 0

    def took(self, seconds: float) -> bool:
        """A step was made in `way`, and took so long.

        Returns:
            Whether a trial has ended with it.
        """
        if len(self._offered) < 2:
            return False
        if self._left:
            self._left -= 1
            if not self._left:
                self._start_trial()
            return False
        self._in_block += 1
        times = self._times.setdefault(self.way, [])
        if self._in_block > self._schedule.settle:
            times.append(seconds)
        if self._in_block < self._schedule.settle + self._schedule.counted:
            return False
        return self._end_block()

    def _start_trial(self) -> None:
        self._times = {}
        self._in_block = 0
        others = [way for way in self._offered if way != self._choice]
        self._left_in_trial = [self._choice, *others]
        self._start_round()

    def _start_round(self) -> None:
        # There and back: what changes slowly meets all alike, and ways change less often.
        self._blocks = self._left_in_trial[:: -1 if self._rounds % 2 else 1]
        self._rounds += 1
        self.way = self._blocks.pop(0)

    def _end_block(self) -> bool:
        self._in_block = 0
        if self._blocks:
            self.way = self._blocks.pop(0)
            return False
        medians = {way: statistics.median(times) for way, times in self._times.items()}
        best = min(medians.values())
        self._left_in_trial = [
            way for way in self._left_in_trial if medians[way] <= self._schedule.hopeless * best
        ]
        least, most = self._schedule.rounds
        fastest = min(medians, key=medians.__getitem__)
        told = fastest == self._choice or self._differ(fastest, self._choice)
        wanted = least if told else most
        if len(self._left_in_trial) > 1 and self._rounds < wanted:
            self._start_round()
            return False
        self._choose(medians, fastest if told else self._choice)
        return True

    def _differ(self, one: Way, other: Way) -> bool:
        """Whether the medians of two ways differ by more than chance explains."""
        errors = 0.0
        for way in (one, other):
            times = self._times[way]
            middle = statistics.median(times)
            spread = 1.4826 * statistics.median([abs(time - middle) for time in times])
            errors += (1.2533 * spread) ** 2 / len(times)
        medians = [statistics.median(self._times[way]) for way in (one, other)]
        return abs(medians[0] - medians[1]) > 3 * errors**0.5

    def _choose(self, medians: dict[Way, float], fastest: Way) -> None:
        pause = min(2 * self._pause, self._schedule.longest)
        if medians[fastest] < (1 - self._schedule.margin) * medians[self._choice]:
            self._choice = fastest
            self.changes += 1
            pause = self._schedule.pause
        self.way = self._choice
        self.found = medians
        self._begin(pause)
        self._pause = pause

    def facts(self) -> dict[str, Json]:
        """What is said of it: the way, and the milliseconds of a step by way; {} of one alone."""
        if len(self._offered) < 2:
            return {}
        times: dict[str, Json] = {
            str(way): round(found * 1e3, 3) for way, found in self.found.items()
        }
        return {"way": str(self._choice), "ms": times}
