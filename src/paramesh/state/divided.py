"""A step of several programs, such as those of pipeline stages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from paramesh.array_types import Array


class Divided(Protocol):
    """A step of several programs; `purposes.ProgramPlacement.divided` gives it.

    Attributes:
        order: the order in which new values of states come, as places among those written.
        donated: the states, by place among those taken, that it may be given for good.
    """

    order: Sequence[int]
    donated: frozenset[int]

    def __call__(
        self, values: Sequence[Any], leaves: Sequence[Any], donate: bool
    ) -> Iterator[Array]:
        """New values of states in `order`, then the outputs.

        The iterator is one in C. What is donated is lost with its first step, and not before.

        Args:
            values: of the states.
            leaves: the raw inputs and a zero.
            donate: whether the states in `donated` are given for good.
        """
        ...

    def lower(self, values: Sequence[Any], leaves: Sequence[Any]) -> Any:
        """Its programs, lowered: what stands for a `jax.stages.Lowered`.

        Args:
            values: of the states, as shapes with shardings.
            leaves: the raw inputs, or their shapes, and a zero.
        """
        ...
