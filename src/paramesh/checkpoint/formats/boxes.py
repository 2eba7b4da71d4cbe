"""Boxes: the index ranges of the slices that sharded checkpoints consist of.

Glossary
    box         (start, stop) for each axis of an array; () is all of an array of shape ()
    grid        boxes that split every axis at the same places throughout, and so cover an array
                without gap or overlap
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

Box = tuple[tuple[int, int], ...]


def box_of(index: Sequence[slice], shape: Sequence[int]) -> Box:
    """The box of an index of slices without steps."""
    return tuple(part.indices(size)[:2] for part, size in zip(index, shape, strict=True))


def full_box(shape: Sequence[int]) -> Box:
    """The box of the full array."""
    return tuple((0, size) for size in shape)


def sizes(box: Box) -> tuple[int, ...]:
    """The shape of the elements in a box."""
    return tuple(stop - start for start, stop in box)


def common(one: Box, other: Box) -> Box | None:
    """The intersection of two boxes of one array; None if it is empty."""
    found = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))
    return found if all(start < stop for start, stop in found) else None


def within(box: Box, outer: Box) -> tuple[slice, ...]:
    """The index of a box in an array that has the elements of `outer`."""
    return tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(box, outer, strict=True))


def is_grid(boxes: Iterable[Box], shape: Sequence[int]) -> bool:
    """Whether boxes form a grid over an array of this shape."""
    found = list(boxes)
    places = set(found)
    if len(places) < len(found) or any(len(box) != len(shape) for box in found):
        return False
    cuts = [sorted({box[axis] for box in found}) for axis in range(len(shape))]
    for size, ranges in zip(shape, cuts, strict=True):
        stops = [0, *(stop for _, stop in ranges)]
        if stops[-1] != size or any(r[0] != at for r, at in zip(ranges, stops, strict=False)):
            return False
        if any(start > stop for start, stop in ranges):
            return False
    # Distinct boxes with ranges out of these are all of them if there are as many.
    return len(found) == math.prod(map(len, cuts))


def boxes_of_range(shape: Sequence[int], start: int, stop: int) -> Iterator[Box]:
    """The boxes, in order, of the elements `start` to `stop` in row-major order.

    There are at most two for each axis.
    """
    if start == stop:
        return
    if not shape:
        yield ()
        return
    row = math.prod(shape[1:])
    first, last = start // row, -(-stop // row)
    rows = (first + (start % row > 0), last - (stop % row > 0))
    if rows[0] > rows[1]:  # inside of one row
        for rest in boxes_of_range(shape[1:], start - first * row, stop - first * row):
            yield ((first, first + 1), *rest)
        return
    if first < rows[0]:
        for rest in boxes_of_range(shape[1:], start - first * row, row):
            yield ((first, first + 1), *rest)
    if rows[0] < rows[1]:
        yield (rows, *full_box(shape[1:]))
    if rows[1] < last:
        for rest in boxes_of_range(shape[1:], 0, stop - rows[1] * row):
            yield ((rows[1], last), *rest)
