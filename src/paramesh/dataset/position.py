"""Where the iterators of a dataset are: seed, epoch and row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from paramesh.dataset import config


@dataclass
class Position:
    """The place of one iterator.

    Args:
        seed: of all its random numbers.
        epoch: the one that comes, or goes on; from 0.
        row: rows of it that were given.
        begun: whether the epoch has begun.
    """

    seed: int
    epoch: int
    row: int = 0
    begun: bool = False

    def ended(self) -> None:
        """The epoch is over."""
        self.epoch, self.row, self.begun = self.epoch + 1, 0, False


class Place:
    """The positions of a dataset's iterators, which follow each other.

    The epochs of a dataset are counted over its iterators, so that each pass is shuffled anew,
    whether a script makes one iterator for all epochs or one for each. Setting a seed begins anew.
    """

    def __init__(self) -> None:
        self._last: Position | None = None
        self._next: Position | None = None
        self._version = config.seed_version()

    def coming(self) -> Position:
        """Where an iterator would begin."""
        if self._next is not None:
            return self._next
        seed, epoch = self._seed(), 0
        if self._last is not None and self._version == config.seed_version():
            epoch = self._last.epoch + (1 if self._last.begun else 0)
        self._next = Position(seed, epoch)
        self._version = config.seed_version()
        return self._next

    def start(self) -> Position:
        """An iterator begins."""
        if self._next is not None and self._version != config.seed_version():
            self._next = None
        found = self._last = self.coming()
        self._next = None
        return found

    def begin_with(self, epoch: int) -> None:
        """The next iterator begins with this epoch, or within it, if a state of it was loaded."""
        if self._next is None or self._next.epoch != epoch:
            self._next = Position(self._seed(), epoch)
        self._version = config.seed_version()

    def pass_over(self, rows: int) -> None:
        """The next iterator begins behind so many rows of its epoch."""
        self.coming().row = rows

    def forget(self) -> None:
        """The next iterator begins an epoch."""
        self._next = None
        if self._last is not None and self._last.begun:
            self._last = Position(self._last.seed, self._last.epoch + 1)

    def saved(self) -> dict[str, Any]:
        """The position of the last iterator as JSON; before the first one, where that begins."""
        here = self._last
        if here is None or self._next is not None:
            here = self.coming()
        return {"seed": here.seed, "epoch": here.epoch, "row": here.row}

    def load(self, state: dict[str, Any]) -> None:
        """Take a position over.

        Raises:
            TypeError: it is not one.
        """
        numbers = [state[key] for key in ("seed", "epoch", "row")]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise TypeError(f"load_state: must be what save_state gave, got {state!r}.")
        self._next = Position(*numbers)
        self._version = config.seed_version()

    def _seed(self) -> int:
        if self._next is not None:
            return self._next.seed
        if self._last is None or self._version != config.seed_version():
            return config.new_seed()
        return self._last.seed
