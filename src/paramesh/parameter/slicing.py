"""MindSpore's layout tuples: which slice of a Parameter a rank holds.

A layout is (device matrix, tensor map, slice shape, …). The device matrix counts devices along
each of its axes, the last one fastest; entry i of the tensor map says which of these axes, counted
from the last, splits axis i of the Parameter, -1 for none.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

from paramesh.errors import LayoutError

#: A layout tuple: at least (device matrix, tensor map, slice shape); see the module.
LayoutTuple = tuple[Any, ...]
_AT_LEAST = 3
_SHARD_GROUP = 5


class LayoutLike(Protocol):
    """What a Parameter needs to know of a `parallel.Layout`."""

    def slice_shape(self, shape: tuple[int, ...], name: str = ...) -> tuple[int, ...]:
        """The shape of one shard of an array of `shape`; raises LayoutError if it does not fit."""
        ...


def check_layout(layout: object, name: str) -> None:
    """Reject what is not a layout tuple.

    Raises:
        TypeError: not a tuple.
        ValueError: fewer than 3 entries.
    """
    if not isinstance(layout, tuple):
        raise TypeError(
            f"Parameter '{name}': layout must be a tuple, got {type(layout).__name__} ({layout!r})."
        )
    if len(layout) < _AT_LEAST:
        raise ValueError(
            f"Parameter '{name}': layout needs at least (device matrix, tensor map, slice shape), "
            f"got {layout!r}."
        )


def check_strategy(
    strategy: LayoutLike | tuple[int, ...], shape: tuple[int, ...], name: str
) -> None:
    """Reject what does not say how to shard a Parameter of `shape`: a tuple of ints, or a Layout.

    Raises:
        TypeError: of another kind.
        LayoutError: another number of axes, or a number of shards that does not divide an axis.
    """
    if not isinstance(strategy, tuple) and hasattr(strategy, "slice_shape"):
        strategy.slice_shape(shape, name)
        return
    if not isinstance(strategy, tuple) or not all(type(n) is int for n in strategy):
        raise TypeError(
            f"Parameter '{name}': layout must be a tuple of ints, such as (1, 4), or a Layout, "
            f"got {type(strategy).__name__} ({strategy!r})."
        )
    what = (
        "a layout has the number of equal shards along each axis, 1 for an axis that is not sharded"
    )
    where = f"Parameter '{name}' of shape {shape}: layout {strategy}"
    if len(strategy) != len(shape):
        raise LayoutError(f"{where} has {len(strategy)} numbers for {len(shape)} axes; {what}.")
    for axis, (n, size) in enumerate(zip(strategy, shape, strict=True)):
        if n < 1:
            raise LayoutError(f"{where} splits axis {axis} into {n} shards; {what}.")
        if size % n:
            raise LayoutError(
                f"{where} splits axis {axis} into {n} shards, but {size} is not divisible by {n}; "
                f"{what}."
            )


def rank_slice(
    layout: LayoutTuple, shape: tuple[int, ...], rank: int, name: str
) -> tuple[slice, ...]:
    """The slice of a Parameter of `shape` that `rank` holds.

    Raises:
        ValueError: the layout does not fit the shape or contradicts itself.
    """
    matrix, tensor_map, slice_shape = (tuple(part) for part in layout[:_AT_LEAST])
    where = f"Parameter '{name}' of shape {shape}: layout {layout!r}"
    if len(tensor_map) != len(shape) or len(slice_shape) != len(shape):
        raise ValueError(f"{where} needs one entry of tensor map and slice shape for each axis.")
    if len(layout) > _SHARD_GROUP and layout[_SHARD_GROUP]:
        raise ValueError(f"{where} names an optimizer shard group, which is not supported.")
    if not 0 <= rank < math.prod(matrix):
        raise ValueError(f"{where} is for {math.prod(matrix)} devices, but this is rank {rank}.")
    place = {}
    for axis in reversed(range(len(matrix))):
        rank, place[axis] = divmod(rank, matrix[axis])
    found = []
    for axis, (size, mapped, part) in enumerate(zip(shape, tensor_map, slice_shape, strict=True)):
        if not -1 <= mapped < len(matrix):
            raise ValueError(
                f"{where}: tensor map entry {mapped} is not an axis of the device matrix "
                f"{list(matrix)}."
            )
        pieces = 1 if mapped < 0 else matrix[len(matrix) - 1 - mapped]
        if part * pieces != size:
            raise ValueError(
                f"{where}: axis {axis} of size {size} is not {pieces} times the slice's {part}."
            )
        start = 0 if mapped < 0 else place[len(matrix) - 1 - mapped] * part
        found.append(slice(start, start + part))
    return tuple(found)
