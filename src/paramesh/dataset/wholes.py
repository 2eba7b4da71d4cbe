"""Batches of small rows that are alike, made without making each row.

A row of a few numbers takes longer to be handed from one Python function to the next than to be
computed. Where a source has its rows in arrays, and all that is done to them treats them alike, a
batch is one gathering of rows, and each step is done once, for all of them. Anything else goes row
by row.

Glossary
    whole   one column of a batch: its rows in one array, and what is still to be done with them
    alike   rows of one shape and dtype, to which the same is done whatever their values are
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paramesh.dataset.arrays import Array, own
from paramesh.dataset.pixels import Pixels, lazy, waiting
from paramesh.dataset.streams import Task, Work

#: Rows of more bytes are written to their place in the batch at once: they would be copied twice.
SMALL = 1 << 14


@dataclass(frozen=True)
class Whole:
    """One column of a batch.

    Args:
        rows: (n, ...), of which nobody else has the memory.
        first: the first row, with what is still to be done with each; None: nothing is.
    """

    rows: Array
    first: Pixels | None = None

    def through(self, function: Callable[..., Any]) -> Whole | None:
        """What a transform that draws nothing gives; None: it has to see each row.

        Args:
            function: a transform of this package, with one column.
        """
        if self.first is None and getattr(function, "elementwise", False):
            return Whole(function(self.rows))
        method = waiting(function)
        pixels = lazy(self.rows[0]) if self.first is None else self.first
        if method is None or pixels is None:
            return None
        then = method(pixels)
        # Another source is another view of the pixels: a mirror image, for one.
        if not isinstance(then, Pixels) or then.source is not pixels.source:
            return None
        return Whole(self.rows, then)

    def batch(self) -> Array:
        """The column, in memory of the pipeline's own."""
        first, count = self.first, len(self.rows)
        if first is None:
            out = own(self.rows.shape, self.rows.dtype, batch=True)
            np.copyto(out, self.rows)
            return out
        out = own((count, *first.shape), first.dtype, batch=True)
        if first.steps:
            first.write_all(self.rows, out)
        else:
            np.copyto(out, self.rows.transpose(0, 3, 1, 2) if first.planar else self.rows)
        return out


def gathered(columns: Sequence[Any], indices: Sequence[int]) -> list[Whole] | None:
    """The rows of arrays at some indices; None: they are not small, or no arrays of
    numbers.

    Args:
        columns: arrays with an axis for the rows.
        indices: of the rows.
    """
    for column in columns:
        # A row of strings has the width of its own longest one.
        if type(column) is not np.ndarray or column.dtype.kind not in "biufc":
            return None
        if column.nbytes > SMALL * len(column):
            return None
    where = np.asarray(indices, np.intp)
    if where.ndim != 1:  # rows of indices, which nobody has checked
        return None
    return [Whole(column[where]) for column in columns]


def whole(work: Work, tasks: Sequence[Task]) -> list[Whole] | None:
    """The columns of a batch, if the work can make them without making each row.

    Args:
        work: makes a row of a task; its method `whole`, if it has one, makes those of many.
        tasks: of the rows.
    """
    method: Callable[[Sequence[Task]], list[Whole] | None] | None = getattr(work, "whole", None)
    return None if method is None else method(tasks)
