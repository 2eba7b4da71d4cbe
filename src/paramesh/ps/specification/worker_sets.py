"""Which workers a run has at which step.

Glossary
    set         the workers of a step: those from 0 to one below its number
    border      the first step of a set
    change      a wish for another number of workers, by its number
    verdict     what has become of a change: a border, or why there is none
    tail        the sets whose borders are behind a step

Workers keep their ranks: who joins gets the next ones, and the last ones leave. So a set is a
number, and the sets of a run are a list of borders with numbers. In async mode a worker's step is
its own push of that number, so that workers come to a border at different times; it is the same
step, and the same batch, for all of them. The first server decides the sets, and
logs them (see `Server.change_workers`). A worker learns them from its answers, and says with every
push how many make up its step.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from paramesh.errors import ParameterServerError

#: So many steps behind the one that comes next when it is decided a border is at least, besides the
#: staleness: then every worker knows it before it takes the batch of the step before the border.
AHEAD = 2
#: The most workers that a run can have.
MOST_WORKERS = 4096

Entries = tuple[tuple[int, int], ...]


class Change(NamedTuple):
    """A wish.

    Attributes:
        number: of the change; later ones have higher numbers.
        workers: how many there are to be.
        stopped: whoever wanted it does not any more.
    """

    number: int
    workers: int
    stopped: bool = False


class Verdict(NamedTuple):
    """What has become of a change.

    Attributes:
        number: of the change; 0: there was none.
        workers: how many there are from the border on; None: the run has not changed.
        border: the first step with that number.
        why: the run has not changed.
    """

    number: int = 0
    workers: int | None = None
    border: int = 0
    why: str = ""


class WorkerSets:
    """The sets of a run, in the order of their borders.

    Args:
        first: how many workers there are at step 0.
        others: later borders, with the numbers from there on.
    """

    def __init__(self, first: int, others: Iterable[Sequence[int]] = ()) -> None:
        self._entries: list[tuple[int, int]] = [(0, first)]
        for border, count in others:
            self.add(border, count)

    @property
    def first(self) -> int:
        """How many workers there are at step 0."""
        return self._entries[0][1]

    @property
    def others(self) -> Entries:
        """All but the first one: (border, number)."""
        return tuple(self._entries[1:])

    @property
    def last(self) -> tuple[int, int]:
        """The border and the number of the last set."""
        return self._entries[-1]

    @property
    def most(self) -> int:
        """The largest number."""
        return max(count for _, count in self._entries)

    def at(self, step: int) -> int:
        """How many workers a step has."""
        return next(count for border, count in reversed(self._entries) if border <= step)

    def first_step(self, worker: int, step: int) -> int | None:
        """The first step of a worker from a step on; None: it has none as far as is known."""
        if worker < self.at(step):
            return step
        later = (border for border, count in self._entries if border > step and worker < count)
        return next(later, None)

    def tail(self, step: int) -> Entries:
        """The sets whose borders are behind a step."""
        return tuple(entry for entry in self._entries if entry[0] > step)

    def steps_of(self, worker: int, before: int) -> int:
        """How many of the steps before one a worker has."""
        borders = [border for border, _ in self._entries[1:]]
        return sum(
            max(0, min(end, before) - begin)
            for (begin, count), end in zip(self._entries, [*borders, before], strict=True)
            if worker < count
        )

    def add(self, border: int, count: int) -> None:
        """Another set; one that is known changes nothing.

        Raises:
            ParameterServerError: it contradicts what is known.
        """
        if (border, count) in self._entries:
            return
        if border <= self.last[0] or not 1 <= count <= MOST_WORKERS:
            raise ParameterServerError(
                f"{count} workers from step {border} on contradict what is known of the run: "
                f"{self}. Its logs were mixed with those of another one: restore the complete "
                "wal_dir from a backup."
            )
        self._entries.append((border, count))

    def and_then(self, border: int, count: int) -> WorkerSets:
        """These, and another one; as `add`."""
        found = WorkerSets(self.first, self.others)
        found.add(border, count)
        return found

    def decide(self, border: int, count: int) -> None:
        """From a border on there is one set, whatever was known: no step behind it was made."""
        self._entries = [entry for entry in self._entries if entry[0] < border]
        if count != self.last[1]:
            self.add(border, count)

    def take(self, entries: Iterable[Sequence[int]]) -> None:
        """Learn sets that somebody knows; as `add`."""
        for border, count in entries:
            self.add(border, count)

    def __repr__(self) -> str:
        first, *others = self._entries
        said = [f"{first[1]} workers", *(f"{count} from step {step}" for step, count in others)]
        return ", ".join(said)
