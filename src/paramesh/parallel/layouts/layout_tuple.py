"""MindSpore's layout tuples: (device matrix, tensor map, slice shape, …) <-> Layout.

`Parameter.init_data(layout=…)` takes such tuples, and MindSpore's strategy files hold the same
three lists. They say less than a `Layout`: the ranks are always 0, 1, 2, …, and each axis of the
array is sharded by one axis of devices at most. `merged` turns a Layout into one that they can say.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from paramesh.errors import LayoutError
from paramesh.parallel.layouts.layout import Layout, subject

LayoutTuple = tuple[list[int], list[int], list[int], int, bool, str]

_AT_LEAST = 3
_SHARD_GROUP = 5


def from_tuple(
    layout: tuple[Any, ...], shape: Sequence[int] | None = None, name: str = ""
) -> Layout:
    """The layout of a tuple (device matrix, tensor map, slice shape, …); its axes are d0, d1, …

    Args:
        layout: at least the three lists; what follows is not looked at, but for entry 5.
        shape: of the full array; None for what the slice shape makes it.
        name: the Parameter that a message speaks of.

    Raises:
        LayoutError: fewer than 3 entries; a slice shape that the device matrix and the tensor map
            do not make of `shape`; an optimizer shard group (entry 5), whose ranks only
            MindSpore's communication library knows.
        TypeError: entries that are no ints.
    """
    if len(layout) < _AT_LEAST:
        raise LayoutError(
            f"{subject(name)}a layout tuple is (device matrix, tensor map, slice shape, …), "
            f"got {layout!r}."
        )
    if len(layout) > _SHARD_GROUP and layout[_SHARD_GROUP]:
        raise LayoutError(
            f"{subject(name)}layout {layout!r} names an optimizer shard group, which is not known "
            "here."
        )
    made = Layout.from_tensor_map(layout[0], layout[1], name=name)
    slice_shape = tuple(layout[2])
    if shape is None and len(slice_shape) == len(made.parts):
        shape = tuple(n * count for n, count in zip(slice_shape, made.parts, strict=True))
    expected = made.slice_shape(slice_shape if shape is None else shape, name)
    if expected != slice_shape:
        raise LayoutError(
            f"{subject(name)}layout {layout!r} says that the slice's shape is {slice_shape}, but "
            f"its device matrix and tensor map split {tuple(shape or ())} into slices of "
            f"{expected}."
        )
    return made


def to_tuple(layout: Layout, shape: Sequence[int], name: str = "") -> LayoutTuple:
    """MindSpore's tuple ([device matrix], [tensor map], [slice shape], 0, True, "").

    Axes of one device are left out of the matrix, as MindSpore does.

    Args:
        layout: of an array of `shape`.
        shape: of the full array.
        name: the Parameter that a message speaks of.

    Raises:
        LayoutError: the layout does not fit `shape`, or cannot be merged (see `merged`).
    """
    plain = merged(layout, name)
    slice_shape = list(layout.slice_shape(shape, name))
    matrix = plain.device_matrix
    kept = [axis for axis, size in enumerate(matrix) if size > 1]
    places = {len(matrix) - 1 - axis: len(kept) - 1 - at for at, axis in enumerate(kept)}
    tensor_map = [places.get(axis, -1) for axis in plain_map(plain)]
    return ([matrix[axis] for axis in kept] or [1], tensor_map, slice_shape, 0, True, "")


def to_nested_tuple(layout: Layout, shape: Sequence[int], name: str = "") -> tuple[Any, ...]:
    """The tuple of `to_tuple`; where that cannot say a layout, the tensor map has tuples in it.

    `from_tuple` reads both.

    Raises:
        LayoutError: the layout does not fit `shape`, or has a rank list of its own.
    """
    try:
        return to_tuple(layout, shape, name)
    except LayoutError:
        if not layout.in_order:
            raise
    slice_shape = list(layout.slice_shape(shape, name))
    return (list(layout.device_matrix), list(layout.tensor_map), slice_shape, 0, True, "")


def plain_map(layout: Layout) -> list[int]:
    """The tensor map of a merged layout, in ints alone."""
    last = len(layout.device_matrix) - 1
    return [last - axes[0] if axes else -1 for axes in layout.cuts]


def merged(layout: Layout, name: str = "") -> Layout:
    """The same placement with at most one axis of devices for each axis of the array.

    Neighbouring axes of the device matrix that shard one axis of the array become one.

    Raises:
        LayoutError: they are no neighbours, or the ranks are not 0, 1, 2, …; `name` is the
            Parameter that the message speaks of.
    """
    if not layout.in_order:
        raise LayoutError(
            f"{subject(name)}{layout!r} has a rank list of its own, which a device matrix with a "
            "tensor map cannot say."
        )
    sizes = layout.device_matrix
    groups = {axes[0]: axes for axes in layout.cuts if axes}
    for axes in groups.values():
        if any(b < a or math.prod(sizes[a + 1 : b]) > 1 for a, b in itertools.pairwise(axes)):
            names = ", ".join(layout.alias_name[a] for a in axes)
            raise LayoutError(
                f"{subject(name)}{layout!r}: the axes {names} shard one axis of the array, but are "
                "no neighbours in this order, which a plain tensor map cannot say."
            )
    inner = {axis for axes in groups.values() for axis in axes[1:]}
    kept = [axis for axis in range(len(sizes)) if axis not in inner]
    matrix = [math.prod(sizes[a] for a in groups.get(axis, (axis,))) for axis in kept]
    alias = ["_".join(layout.alias_name[a] for a in groups.get(axis, (axis,))) for axis in kept]
    if len(set(alias)) < len(alias):
        alias = [f"d{axis}" for axis in range(len(kept))]
    tensor_map = [len(kept) - 1 - kept.index(axes[0]) if axes else -1 for axes in layout.cuts]
    return Layout.from_tensor_map(matrix, tensor_map, alias_name=alias, name=name)


def with_optimizer_shards(layout: Layout, step: int, size: int, name: str = "") -> Layout:
    """The layout of a Parameter that MindSpore's parallel optimizer shards further.

    Each shard has replicas; groups of `size` of them, whose ranks lie `step` apart, shard axis 0
    of it further. That is what `opt_weight_shard_step` and `opt_weight_shard_size`
    of a strategy file say.

    Args:
        layout: merged, without these shardings.
        step: from one rank of a group to the next; 0 for no such sharding.
        size: ranks of a group; 0 or less for no such sharding.
        name: the Parameter that a message speaks of.

    Raises:
        LayoutError: the ranks of such a group do not hold one and the same shard.
    """
    if step <= 0 or size <= 1:
        return layout
    matrix: list[int] = []
    origin: list[int] = []  # the axis of `layout` that each new axis is a factor of
    low = layout.device_num
    for axis, n in enumerate(layout.device_matrix):
        low //= n
        inside = [b for b in (step * size, step) if low < b < low * n]
        if any(b % low for b in inside) or (low * n) % max([*inside, 1]):
            raise _no_group(layout, step, size, name)
        edges = [low * n, *inside, low]
        matrix += [a // b for a, b in itertools.pairwise(edges)]
        origin += [axis] * (len(edges) - 1)
    after = [math.prod(matrix[at + 1 :]) for at in range(len(matrix))]
    group = [at for at in range(len(matrix)) if step <= after[at] < step * size]
    used = {axis for axes in layout.cuts for axis in axes}
    if (
        not layout.tensor_map
        or math.prod(matrix[at] for at in group) != size
        or any(origin[at] in used for at in group if matrix[at] > 1)
    ):
        raise _no_group(layout, step, size, name)
    last = len(matrix) - 1
    factors = [
        [last - at for at in range(len(matrix)) if origin[at] in axes] for axes in layout.cuts
    ]
    factors[0] += [last - at for at in group]
    tensor_map = [tuple(p) if len(p) > 1 else p[0] if p else -1 for p in factors]
    return Layout.from_tensor_map(matrix, tensor_map, name=name)


def _no_group(layout: Layout, step: int, size: int, name: str) -> LayoutError:
    return LayoutError(
        f"{subject(name)}{layout!r} has no groups of {size} replicas whose ranks lie {step} apart, "
        "among which a parallel optimizer could shard axis 0."
    )
