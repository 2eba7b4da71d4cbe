"""A step of several programs (`state/divided.py`), called as one program is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from paramesh.array_types import Array, ArrayLike
from paramesh.state.divided import Divided


class SeveralPrograms:
    """A `Divided` as (donated, kept, inputs) -> [new contents of the written states, outputs].

    Args:
        name: of the function.
        divided: the step.
        order: for each state that it takes, which of the two lists has it, "d" or "k", and where;
            None for one that it never reads.
        zero: an input that it takes besides the inputs of a call.
    """

    def __init__(
        self,
        name: str,
        divided: Divided,
        order: Sequence[tuple[str, int] | None],
        zero: ArrayLike,
    ) -> None:
        self.__name__ = name
        self._divided, self._order, self._zero = divided, order, zero

    def __call__(
        self, donated: list[Any], kept: list[Any], leaves: list[Any]
    ) -> Iterator[Array] | list[Array]:
        """An iterator in C, whose first step uses up what is donated; a list if that is nothing."""
        results = self._divided(self._values(donated, kept), [*leaves, self._zero], bool(donated))
        return results if donated else list(results)

    def lower(self, donated: list[Any], kept: list[Any], leaves: list[Any]) -> Any:
        """The programs, lowered, for shapes with shardings in the place of arrays."""
        return self._divided.lower(self._values(donated, kept), [*leaves, self._zero])

    def _values(self, donated: list[Any], kept: list[Any]) -> list[Any]:
        groups = {"d": donated, "k": kept}
        unread = np.float32(0)
        return [unread if o is None else groups[o[0]][o[1]] for o in self._order]
