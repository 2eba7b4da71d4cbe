"""From steps to samples: what is known of a training, about once a second.

Glossary
    sample      the counts of steps and examples at a moment, and what happened since the last one
    pending     a loss that was given and may still be being computed; it is never waited for

The number of samples is bounded: when there are `MOST`, every second one is dropped, and from then
on samples are made half as often.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

#: Samples that are kept at most, and events.
MOST, MOST_EVENTS = 1_000, 200


class Number(Protocol):
    """A loss: a number, or something that becomes one."""

    def __float__(self) -> float: ...


class Sample(NamedTuple):
    """What was known at a moment.

    Attributes:
        time: seconds since 1970.
        step: steps since the training began.
        examples: examples since the training began; 0 where nobody says how many a step has.
        seconds: since the sample before.
        loss: the newest one that was known; None if there is none, NaN and infinities as text.
        numbers: others by name: learning rate, metrics, epoch, …
        phases: seconds by phase, since the sample before.
    """

    time: float
    step: int
    examples: int
    seconds: float
    loss: float | str | None
    numbers: dict[str, float | str]
    phases: dict[str, float]


class Event(NamedTuple):
    """Something that happened.

    Attributes:
        time: seconds since 1970.
        text: what, for people.
    """

    time: float
    text: str


class Recorder:
    """Collects the steps of one training.

    Args:
        flush: called after every new sample or event.
        phases: the seconds by phase since its last call.
        clock: seconds that only grow.
        wall: seconds since 1970.
        every: seconds between two samples.
    """

    def __init__(
        self,
        flush: Callable[[Recorder], None],
        phases: Callable[[], dict[str, float]],
        clock: Callable[[], float],
        wall: Callable[[], float],
        every: float = 1.0,
    ) -> None:
        self._flush, self._phases, self._clock, self._wall = flush, phases, clock, wall
        self.every = every
        self.steps = self.examples = 0
        self.samples: list[Sample] = []
        self.events: list[Event] = []
        self._last = clock()
        self._loss: float | str | None = None
        self._pending: Number | None = None
        self._numbers: dict[str, Number] = {}
        #: Further numbers, asked for when a sample is made.
        self.ask: Callable[[], Mapping[str, Number]] | None = None

    def step(
        self,
        loss: Number | None = None,
        examples: int = 0,
        numbers: Mapping[str, Number] | None = None,
    ) -> None:
        """Count a step; makes a sample if it is time for one.

        Args:
            loss: of the step.
            examples: how many it had.
            numbers: others that are known of it; the last of each name counts.
        """
        self.steps += 1
        self.examples += examples
        if self._pending is None:
            self._pending = loss
        if numbers:
            self._numbers.update(numbers)
        if self._clock() - self._last >= self.every:
            self.sample()

    def sample(self) -> None:
        """Make a sample now."""
        now = self._clock()
        pending = self._pending
        if pending is not None and is_ready(pending):
            self._loss, self._pending = number(pending), None
        if self.ask is not None:
            self._numbers.update(self.ask())
        ready = {name: number(value) for name, value in self._numbers.items() if is_ready(value)}
        phases = {name: round(s, 6) for name, s in self._phases().items() if s > 0}
        self.samples.append(
            Sample(
                round(self._wall(), 3),
                self.steps,
                self.examples,
                round(now - self._last, 6),
                self._loss,
                ready,
                phases,
            )
        )
        self._last = now
        if len(self.samples) > MOST:
            self.samples = thinned(self.samples)
            self.every *= 2
        self._flush(self)

    def event(self, text: str) -> None:
        """Note what happened."""
        self.events.append(Event(round(self._wall(), 3), text))
        del self.events[:-MOST_EVENTS]
        self._flush(self)


def thinned(samples: list[Sample]) -> list[Sample]:
    """Half of the samples: each of two neighbours becomes one. The last one stays as it is."""
    found: list[Sample] = []
    for first, second in zip(samples[:-1:2], samples[1:-1:2], strict=False):
        phases = {
            name: first.phases.get(name, 0.0) + second.phases.get(name, 0.0)
            for name in first.phases | second.phases
        }
        found.append(second._replace(seconds=first.seconds + second.seconds, phases=phases))
    if len(samples) % 2 == 0:
        found.append(samples[-2])
    return [*found, samples[-1]]


def is_ready(value: object) -> bool:
    """Whether reading a number, or an array, waits for nothing."""
    ready = getattr(value, "is_ready", None)
    return ready is None or bool(ready())


def number(value: Number) -> float | str:
    """A number as JSON has it: NaN and infinities as text."""
    found = float(value)
    return found if math.isfinite(found) else str(found)
