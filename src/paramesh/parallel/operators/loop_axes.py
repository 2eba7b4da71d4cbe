"""The names of an operator's loop axes, and their order in MindSpore's device matrix.

Which axes belong together comes from what an operator traces to (`axis_rules.py`). Their names
stand in tables and messages; their order decides which devices hold which shard, so that files of
slices are MindSpore's.

Most operators have the axes of their longest operand, first to last, as `x0`, `x1`, …; further
ones follow as operands bring them, but before those that come after them in the result. Products,
convolutions and look-ups have names, and some an order, of their own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from paramesh.parallel.layouts.strategy import Replicas, Shape

#: A loop axis without a name, and those of an operand; None for an axis of size 1.
Axis = int
Axes = Sequence[Axis | None]
Names = tuple[str, ...]


class Arrangement(NamedTuple):
    """The loop axes with names.

    Attributes:
        inputs: for each operand, the name of each axis; "" for one of size 1 that has none.
        order: all names in the order of the device matrix, the last fastest.
        replicas: where devices that are left over stand in it.
        of_axis: the name of each loop axis.
    """

    inputs: tuple[Names, ...]
    order: Names
    replicas: Replicas
    of_axis: dict[Axis, str]


class _Hints(NamedTuple):
    """Names for the axes of the operands.

    Attributes:
        inputs: the names.
        order: one of its own, or None.
        replicas: where they stand.
        shares: axes of one name that the operator gathers anyway are one loop axis.
        alike: all axes of one name are one loop axis.
    """

    inputs: tuple[Names, ...]
    order: Names | None = None
    replicas: Replicas = "last"
    shares: bool = False
    alike: bool = False


_Shapes = Sequence[Shape]
_Settings = Mapping[str, Any]
_Hint = Callable[[_Shapes, _Shapes, _Settings], _Hints]


def _numbered(prefix: str, ndim: int, longest: int) -> Names:
    """Names of `ndim` axes that are aligned to the right of `longest` axes."""
    return tuple(f"{prefix}{axis}" for axis in range(longest - ndim, longest))


def _aligned(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    longest = max((len(shape) for shape in shapes), default=0)
    return _Hints(tuple(_numbered("x", len(shape), longest) for shape in shapes))


def _product(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    a, b = shapes[:2]
    batch = max(len(a), len(b)) - 2
    left = ("k", "m") if settings.get("transpose_a") else ("m", "k")
    right = ("n", "k") if settings.get("transpose_b") else ("k", "n")
    return _Hints(
        (
            (*_numbered("b", len(a) - 2, batch), *left),
            (*_numbered("b", len(b) - 2, batch), *right),
        ),
        (*_numbered("b", batch, batch), *left, "n"),
    )


def _first_seen(*inputs: Names) -> _Hints:
    return _Hints(inputs, tuple(dict.fromkeys(label for labels in inputs for label in labels)))


def _dense(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    batch = _numbered("b", len(shapes[0]) - 1, len(shapes[0]) - 1)
    return _first_seen((*batch, "k"), ("n", "k"), *[("n",)] * (len(shapes) - 2))


def _convolution(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    space = _numbered("s", len(shapes[0]) - 2, len(shapes[0]) - 2)
    kernel = _numbered("kernel", len(space), len(space))
    return _first_seen(("n", "i", *space), ("o", "i", *kernel), *[("o",)] * (len(shapes) - 2))


def _transposed_convolution(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    space = _numbered("s", len(shapes[0]) - 2, len(shapes[0]) - 2)
    kernel = _numbered("kernel", len(space), len(space))
    return _first_seen(("n", "i", *space), ("i", "o", *kernel), *[("o",)] * (len(shapes) - 2))


def _look_up(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    table = _numbered("table", len(shapes[0]), len(shapes[0]))
    index = _numbered("index", len(shapes[1]), len(shapes[1]))
    both = numbers[0][:1] > (1,) and math.prod(numbers[1]) > 1
    order = (*index, *table) if both else (*table, *index)
    return _Hints((table, index), order, "first" if math.prod(numbers[0]) > 1 else "last")


def _segments(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    rows = _numbered("x", len(shapes[0]), len(shapes[0]))
    return _Hints((rows, rows[: len(shapes[1])], *[()] * (len(shapes) - 2)), shares=True)


def _alike(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    return _aligned(shapes, numbers, settings)._replace(alike=True)


def _rotary(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    """Query and key are sharded alike; tables and positions have axes of their own."""
    kinds = ("x", "x", "table", "table", "ids")
    names = zip(kinds, shapes, strict=False)
    return _Hints(
        tuple(_numbered(kind, len(shape), len(shape)) for kind, shape in names), alike=True
    )


def _overlaps(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    return _first_seen(("anchors", "edges"), ("boxes", "sides"))


def _parts_of_features(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    inputs = ("n", "c", "h", "w"), ("boxes", "sides")
    return _Hints(inputs, ("n", "c", "boxes", "h", "w", "sides"))


def _parts_of_images(shapes: _Shapes, numbers: _Shapes, settings: _Settings) -> _Hints:
    inputs = ("n", "h", "w", "c"), ("boxes", "sides"), *[("boxes",)] * (len(shapes) - 2)
    return _Hints(inputs, ("n", "c", "boxes", "h", "w", "sides"))


#: Operators with names or an order of their own, and how many operands that takes.
_HINTS: dict[str, tuple[_Hint, int]] = {
    "MatMul": (_product, 2),
    "ApplyRotaryPosEmb": (_rotary, 5),
    "BatchMatMul": (_product, 2),
    "Dense": (_dense, 2),
    "Conv2D": (_convolution, 2),
    "Conv3D": (_convolution, 2),
    "Conv2DTranspose": (_transposed_convolution, 2),
    "Conv2DBackpropInput": (_transposed_convolution, 2),
    "Conv3DTranspose": (_transposed_convolution, 2),
    "Gather": (_look_up, 2),
    "GatherV2": (_look_up, 2),
    "SparseGatherV2": (_look_up, 2),
    "EmbeddingLookup": (_look_up, 2),
    "IOU": (_overlaps, 2),
    "ROIAlign": (_parts_of_features, 2),
    "CropAndResize": (_parts_of_images, 2),
    "SquareSumAll": (_alike, 2),
    "UnsortedSegmentMax": (_segments, 2),
    "UnsortedSegmentMin": (_segments, 2),
    "UnsortedSegmentProd": (_segments, 2),
    "UnsortedSegmentSum": (_segments, 2),
}


def arranged(
    operator: str,
    inputs: Sequence[Axes],
    outputs: Sequence[Axes],
    shapes: Sequence[Shape],
    numbers: Sequence[Shape],
    settings: _Settings,
    gathered: Collection[Axis] = (),
) -> Arrangement:
    """Names and order of the loop axes of an operator.

    Args:
        operator: class name.
        inputs: the loop axes of each operand.
        outputs: those of each result.
        shapes: of the operands.
        numbers: into how many shards the strategy splits each operand, () where it does not say;
            the order of a look-up depends on them.
        settings: the operator's settings, of which products have `transpose_a` and `transpose_b`.
        gathered: loop axes along which the operator gathers what comes in sharded.
    """
    hint, count = _HINTS.get(operator, (_aligned, 0))
    fits = len(shapes) >= count and all(
        len(s) >= 2 or hint in (_look_up, _segments) for s in shapes[:count]
    )
    hints = (hint if fits else _aligned)(shapes, numbers, settings)
    sharing: Collection[Axis] = gathered if hints.shares else ()
    if hints.alike:
        sharing = {axis for axes in inputs for axis in axes if axis is not None}
    of_axis = _named(inputs, outputs, hints, sharing)
    named: list[Names] = []
    longest = max((len(axes) for axes in inputs), default=0)
    claimed = set(of_axis.values())
    for axes, wanted in zip(inputs, hints.inputs, strict=True):
        # An axis of size 1 that no other operand makes longer stands in the device matrix too.
        own = len(axes) == longest or hints.order is not None
        named.append(
            tuple(
                of_axis[axis] if axis is not None else name if own and name not in claimed else ""
                for axis, name in zip(axes, wanted, strict=True)
            )
        )
    if hints.order is not None:
        present = {name for names in named for name in names if name}
        order = [name for name in hints.order if name in present]
        order += [name for names in named for name in names if name and name not in order]
        order = list(dict.fromkeys(order))
    else:
        results = [tuple(of_axis[a] for a in axes if a is not None) for axes in outputs]
        order = _merged(named, results)
    order += [name for name in of_axis.values() if name not in order]
    return Arrangement(tuple(named), tuple(order), hints.replicas, of_axis)


def _named(
    inputs: Sequence[Axes], outputs: Sequence[Axes], hints: _Hints, sharing: Collection[Axis]
) -> dict[Axis, str]:
    """A name for each loop axis: the one that is wished for first, as long as it is free."""
    found: dict[Axis, str] = {}

    def name(axis: Axis | None, wanted: str) -> None:
        if axis is None or axis in found:
            return
        while any(
            name == wanted and not (other in sharing and axis in sharing)
            for other, name in found.items()
        ):
            wanted += "'"
        found[axis] = wanted

    by_length = sorted(range(len(inputs)), key=lambda i: -len(inputs[i]))
    for number in range(len(inputs)) if hints.order is not None else by_length:
        for axis, wanted in zip(inputs[number], hints.inputs[number], strict=True):
            name(axis, wanted)
    for axes in outputs:
        for place, axis in enumerate(axes):
            name(axis, f"y{place}")
    return found


def _merged(inputs: Sequence[Names], outputs: Sequence[Names]) -> list[str]:
    order: list[str] = []
    result = outputs[0] if outputs else ()
    for names in inputs:
        for place, name in enumerate(names):
            if not name or name in order:
                continue
            later = set(result[result.index(name) + 1 :] if name in result else ())
            later -= set(names[:place])  # a transposition
            places = [order.index(other) for other in later if other in order]
            order.insert(min(places, default=len(order)), name)
    return order
