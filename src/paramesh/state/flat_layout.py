"""Where arrays are in a flat one: the layout of a pool."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh.array_types import Array


class FlatLayout:
    """Where arrays are in a flat one: in the order given, equal shapes next to each other.

    Args:
        shapes: the shape of each, equal ones adjacent.

    Attributes:
        starts: the first element of each.
        ranks: the index of each among those of equal shape.
        runs: the first element of the first of those.
        size: elements in all.
        most: the largest number of equal shapes.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self.shapes = tuple(shapes)
        self.sizes = tuple(int(np.prod(shape)) for shape in shapes)
        self.starts = (0, *itertools.accumulate(self.sizes))[:-1]
        self.size = sum(self.sizes)
        self.ranks: list[int] = []
        self.runs: list[int] = []
        for i, shape in enumerate(self.shapes):
            again = i > 0 and shape == self.shapes[i - 1]
            self.ranks.append(self.ranks[-1] + 1 if again else 0)
            self.runs.append(self.runs[-1] if again else self.starts[i])
        self.most = max(self.ranks) + 1

    def join(self, arrays: Sequence[Array]) -> Array:
        """The flat array of the entries' arrays; traceable."""
        return jnp.concatenate([jnp.ravel(array) for array in arrays])

    def member(self, flat: Array, i: int, ranks: Sequence[Array] | None = None) -> Array:
        """Member `i` of a flat array; traceable.

        Args:
            flat: the array of all.
            i: which entry.
            ranks: the numbers 0, 1, … as values that XLA cannot fold. With constant
                offsets XLA would compile one kernel for each entry, with these, one for each
                shape.
        """
        start: int | Array = self.starts[i]
        if ranks is not None:
            start = ranks[self.ranks[i]] * np.int32(self.sizes[i]) + np.int32(self.runs[i])
        return lax.dynamic_slice(flat, (start,), (self.sizes[i],)).reshape(self.shapes[i])
