"""Strategies: into how many parts an operator cuts each axis of its inputs.

Glossary
    strategy    one input's numbers, such as (2, 1): axis 0 into 2 parts, axis 1 whole
    loop axis   an axis of the computation, such as m, k and n of a matrix product; each axis of an
                input is one of them, and two inputs may share one
    rule        the loop axes of an operator: those of each input, and their order in the device
                matrix

MindSpore arranges the devices of an operator by its loop axes: `MatMul().shard(((2, 1), (1, 4)))`
has m=2, k=1 and n=4, so the device matrix is (2, 1, 4), the last axis fastest. Devices that the
numbers leave over hold replicas, as one more axis. MindSpore puts it last for nearly all operators,
so that neighbours hold the same part; it puts it first for the inputs of the data set, and for
tables of embeddings that are cut.
"""

from __future__ import annotations

import math
import operator as operators
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from paramesh.errors import LayoutError
from paramesh.parallel.layouts.layout import Layout, subject

Shape = tuple[int, ...]
Replicas = Literal["first", "last"]

REPLICA = "replica"


@dataclass(frozen=True)
class AxisRule:
    """The loop axes of an operator.

    Attributes:
        inputs: for each input, the loop axis of each of its axes.
        order: the loop axes in the order of the device matrix, the last fastest.
        replicas: where devices that are left over stand in the device matrix.
    """

    inputs: tuple[tuple[str, ...], ...]
    order: tuple[str, ...]
    replicas: Replicas = "last"


#: What a rule may look at: shapes and strategies of the inputs, settings of the operator.
_Shapes = Sequence[Shape]
_Numbers = Sequence[Shape]
_Settings = Mapping[str, Any]


def _first_seen(*inputs: tuple[str, ...]) -> AxisRule:
    return AxisRule(inputs, tuple(dict.fromkeys(label for labels in inputs for label in labels)))


def _labels(prefix: str, ndim: int, longest: int) -> tuple[str, ...]:
    """Names of `ndim` axes that are aligned to the right of `longest` axes."""
    return tuple(f"{prefix}{axis}" for axis in range(longest - ndim, longest))


def _aligned(shapes: _Shapes, numbers: _Numbers, settings: _Settings) -> AxisRule:
    longest = max((len(shape) for shape in shapes), default=0)
    inputs = tuple(_labels("x", len(shape), longest) for shape in shapes)
    return AxisRule(inputs, _labels("x", longest, longest))


def _matmul(shapes: _Shapes, numbers: _Numbers, settings: _Settings) -> AxisRule:
    a, b = shapes
    batch = max(len(a), len(b)) - 2
    left = ("k", "m") if settings.get("transpose_a") else ("m", "k")
    right = ("n", "k") if settings.get("transpose_b") else ("k", "n")
    every = _labels("b", batch, batch)
    inputs = (
        (*_labels("b", len(a) - 2, batch), *left),
        (*_labels("b", len(b) - 2, batch), *right),
    )
    return AxisRule(inputs, (*every, *left, "n"))


def _bias_add(shapes: _Shapes, numbers: _Numbers, settings: _Settings) -> AxisRule:
    labels = _labels("x", len(shapes[0]), len(shapes[0]))
    return _first_seen(labels, labels[1:2])


def _convolution(shapes: _Shapes, numbers: _Numbers, settings: _Settings) -> AxisRule:
    space = _labels("s", len(shapes[0]) - 2, len(shapes[0]) - 2)
    kernel = _labels("kernel", len(space), len(space))
    return _first_seen(("n", "i", *space), ("o", "i", *kernel))


def _dense(shapes: _Shapes, numbers: _Numbers, settings: _Settings) -> AxisRule:
    batch = _labels("b", len(shapes[0]) - 1, len(shapes[0]) - 1)
    return _first_seen((*batch, "k"), ("n", "k"), *[("n",)] * (len(shapes) - 2))


def _gather(shapes: _Shapes, numbers: _Numbers, settings: _Settings) -> AxisRule:
    table = _labels("table", len(shapes[0]), len(shapes[0]))
    index = _labels("index", len(shapes[1]), len(shapes[1]))
    both = numbers[0][:1] > (1,) and math.prod(numbers[1]) > 1
    order = (*index, *table) if both else (*table, *index)
    return AxisRule((table, index), order, "first" if math.prod(numbers[0]) > 1 else "last")


_Rule = Callable[[_Shapes, _Numbers, _Settings], AxisRule]

#: Operators whose inputs are not simply aligned: the rule, the least and the greatest number of
#: inputs, and the least number of axes of each input.
_RULES: dict[str, tuple[_AxisRule, int, int, tuple[int, ...]]] = {
    "MatMul": (_matmul, 2, 2, (2, 2)),
    "BatchMatMul": (_matmul, 2, 2, (2, 2)),
    "BiasAdd": (_bias_add, 2, 2, (2, 1)),
    "Conv2D": (_convolution, 2, 2, (4, 4)),
    "Conv3D": (_convolution, 2, 2, (5, 5)),
    "Dense": (_dense, 2, 3, (1, 2, 1)),
    "Gather": (_gather, 2, 2, (1, 0)),
    "GatherV2": (_gather, 2, 2, (1, 0)),
    "EmbeddingLookup": (_gather, 2, 2, (1, 0)),
}


def axis_rule_of(
    operator: str,
    shapes: Sequence[Sequence[int]],
    strategy: Sequence[Sequence[int]],
    settings: Mapping[str, Any] | None = None,
) -> AxisRule:
    """The loop axes of an operator by its class name, in MindSpore's order.

    Operators without a rule of their own are taken to align their inputs to the right, as
    elementwise operators with broadcasting, normalisations and `Concat` do.

    Args:
        operator: such as "MatMul".
        shapes: of its inputs.
        strategy: their numbers; the order of a `Gather` depends on them.
        settings: the operator's settings that change the rule: `transpose_a`, `transpose_b`.

    Raises:
        LayoutError: another number of inputs, or inputs with too few axes.
    """
    shapes = [tuple(shape) for shape in shapes]
    rule, least, most, axes = _RULES.get(operator, (_aligned, 0, len(shapes), ()))
    if not least <= len(shapes) <= most:
        count = least if least == most else f"{least} or {most}"
        raise LayoutError(
            f"{operator}: cuts {count} inputs, but there are {len(shapes)}: {_listed(shapes)}."
        )
    for at, (shape, ndim) in enumerate(zip(shapes, axes, strict=False)):
        if len(shape) < ndim:
            raise LayoutError(
                f"{operator}: input {at} needs at least {ndim} axes, but its shape is {shape}."
            )
    return rule(shapes, [tuple(numbers) for numbers in strategy], settings or {})


def layouts_of(
    in_strategy: Any,
    shapes: Sequence[Sequence[int]],
    device_num: int,
    operator: str,
    *,
    settings: Mapping[str, Any] | None = None,
    rule: AxisRule | None = None,
    replicas: Replicas | None = None,
    names: Sequence[str] = (),
) -> tuple[Layout, ...]:
    """The layouts of an operator's inputs under a strategy; all have one device matrix.

    A loop axis that two inputs share must have the same number in both, unless one of them has
    size 1 there and is broadcast.

    Args:
        in_strategy: a tuple of ints for each input, such as ((2, 1), (1, 4)), or a `Layout` for
            each input.
        shapes: of the inputs.
        device_num: how many devices there are; the numbers of the loop axes must divide it.
        operator: class name; chooses the rule, and messages begin with it.
        settings: the operator's settings (see `axis_rule_of`).
        rule: the operator's loop axes, if `axis_rule_of` does not know them.
        replicas: where devices that are left over stand; None for what the rule says.
        names: of the inputs that are Parameters; "" for others.

    Returns:
        A Layout for each input. Its axes have the loop axes' names, so `layouts[0]("m", "n")` is
        that of the output of a MatMul.

    Raises:
        TypeError: no tuple of tuples of ints, or ints and Layouts mixed.
        LayoutError: wrong lengths; numbers that do not divide an axis, differ in two inputs,
            multiply to more than `device_num` or to what does not divide it.
    """
    shapes = [tuple(shape) for shape in shapes]
    entries = _entries(in_strategy, len(shapes), operator)
    names = [*names, *[""] * (len(shapes) - len(names))]
    if entries and all(isinstance(entry, Layout) for entry in entries):
        return _check_layouts(entries, shapes, device_num, operator, names)
    for at, (entry, shape) in enumerate(zip(entries, shapes, strict=True)):
        _check_strategy(
            entry, shape, f"{operator}: {subject(names[at])}input {at} of shape {shape}"
        )
    rule = rule or axis_rule_of(operator, shapes, entries, settings)
    if [len(labels) for labels in rule.inputs] != [len(shape) for shape in shapes]:
        raise LayoutError(
            f"{operator}: the rule's inputs {_listed(rule.inputs)} are not those of shapes "
            f"{_listed(shapes)}."
        )
    parts: dict[str, int] = {}
    for at, (entry, shape, labels) in enumerate(zip(entries, shapes, rule.inputs, strict=True)):
        where = f"{operator}: {subject(names[at])}input {at} of shape {shape}"
        for axis, (number, label) in enumerate(zip(entry, labels, strict=True)):
            if shape[axis] == 1:
                continue
            if parts.setdefault(label, number) != number:
                raise LayoutError(
                    f"{where}: strategy {entry} cuts axis {axis} into {number} parts, but another "
                    f"input, which shares this axis, into {parts[label]}: {_listed(entries)}."
                )
    base = _arrange(
        [(label, parts.get(label, 1)) for label in rule.order],
        device_num,
        f"{operator}: strategy {entries}",
        replicas or rule.replicas,
    )
    return tuple(
        base(*("None" if n == 1 else label for n, label in zip(shape, labels, strict=True)))
        for shape, labels in zip(shapes, rule.inputs, strict=True)
    )


def layout_of(
    strategy: Any,
    shape: Sequence[int],
    device_num: int,
    name: str = "",
    replicas: Replicas = "last",
) -> Layout:
    """The layout of one array by itself: a Parameter of a plan, an input of a Cell.

    Args:
        strategy: a tuple of ints, one for each axis; a `Layout`; or None, which cuts axis 0 over
            all devices (data parallel, as in MindSpore's `shard`).
        shape: of the array.
        device_num: how many devices there are.
        name: of the Parameter, for messages.
        replicas: where devices that are left over stand in the device matrix; MindSpore puts them
            first for the inputs of the data set.

    Raises:
        TypeError, LayoutError: as `layouts_of`.
    """
    shape = tuple(shape)
    where = f"{subject(name)}shape {shape}"
    if isinstance(strategy, Layout):
        strategy.slice_shape(shape, name)
        _check_count(strategy, device_num, where)
        return strategy
    if strategy is None:
        strategy = (device_num, *[1] * (len(shape) - 1)) if shape else ()
    _check_strategy(strategy, shape, where)
    labels = _labels("x", len(shape), len(shape))
    found = _arrange(
        list(zip(labels, strategy, strict=True)),
        device_num,
        f"{where}: strategy {strategy}",
        replicas,
    )
    return found(*labels)


def plan_of(
    parameter_plan: Mapping[str, Any] | None,
    shapes: Mapping[str, Sequence[int]],
    device_num: int,
) -> dict[str, Layout]:
    """The layouts that a `parameter_plan` of `Cell.shard` gives to Parameters.

    Args:
        parameter_plan: full name -> tuple of ints or Layout.
        shapes: full name -> shape, of all Parameters of the Cell.
        device_num: how many devices there are.

    Raises:
        TypeError: no mapping of names; TypeError, LayoutError: as `layout_of`.
        LayoutError: names that are no Parameter; all of them are listed.
    """
    if parameter_plan is None:
        return {}
    if not isinstance(parameter_plan, Mapping):
        raise TypeError(
            "parameter_plan must be {name: strategy}, such as {'fc.weight': (1, 4)}, got "
            f"{type(parameter_plan).__name__}."
        )
    unknown = [str(name) for name in parameter_plan if name not in shapes]
    if unknown:
        raise LayoutError(
            f"parameter_plan names {', '.join(unknown)}, but the Parameters here are "
            f"{', '.join(shapes) or 'none'}."
        )
    return {
        name: layout_of(strategy, shapes[name], device_num, name)
        for name, strategy in parameter_plan.items()
    }


def _arrange(
    axes: Sequence[tuple[str, int]], device_num: int, where: str, replicas: Replicas
) -> Layout:
    used = math.prod(number for _, number in axes)
    numbers = " x ".join(f"{label}={number}" for label, number in axes if number > 1)
    if used > device_num:
        raise LayoutError(f"{where} needs {used} devices ({numbers}), but there are {device_num}.")
    if device_num % used:
        raise LayoutError(
            f"{where} is for {used} devices ({numbers}), which does not divide the {device_num} "
            "that there are: the rest could not hold replicas."
        )
    if replicas not in ("first", "last"):
        raise ValueError(f"replicas must be 'first' or 'last', got {replicas!r}.")
    axes = list(axes)
    if used < device_num or not axes:
        axes.insert(0 if replicas == "first" else len(axes), (REPLICA, device_num // used))
    return Layout(tuple(number for _, number in axes), tuple(label for label, _ in axes))


def _entries(in_strategy: Any, count: int, operator: str) -> tuple[Any, ...]:
    if not isinstance(in_strategy, tuple):
        raise TypeError(
            f"{operator}: a strategy must be a tuple with one entry for each input, such as "
            f"((2, 1), (1, 4)), got {type(in_strategy).__name__} ({in_strategy!r})."
        )
    if any(isinstance(e, Layout) for e in in_strategy) and not all(
        isinstance(e, Layout) for e in in_strategy
    ):
        raise TypeError(
            f"{operator}: a strategy holds tuples of ints or Layouts, not both: {in_strategy!r}."
        )
    if len(in_strategy) != count:
        raise LayoutError(
            f"{operator}: strategy {in_strategy} has {len(in_strategy)} entries, but there are "
            f"{count} inputs; it needs one entry for each."
        )
    return in_strategy


def _check_strategy(strategy: Any, shape: Shape, where: str) -> None:
    if not isinstance(strategy, tuple) or any(
        isinstance(n, bool) or not hasattr(n, "__index__") for n in strategy
    ):
        raise TypeError(f"{where}: a strategy must be a tuple of ints, got {strategy!r}.")
    if len(strategy) != len(shape):
        raise LayoutError(
            f"{where}: strategy {strategy} has {len(strategy)} entries; it needs one for each of "
            f"the {len(shape)} axes."
        )
    for axis, (size, number) in enumerate(zip(shape, strategy, strict=True)):
        if operators.index(number) < 1:
            raise LayoutError(
                f"{where}: strategy {strategy} cuts axis {axis} into {number} parts; 1 leaves it "
                "whole."
            )
        if size % number:
            raise LayoutError(
                f"{where}: axis {axis} has size {size}, which strategy {strategy} cannot cut into "
                f"{number} equal parts."
            )


def _check_layouts(
    layouts: Sequence[Layout],
    shapes: Sequence[Shape],
    device_num: int,
    operator: str,
    names: Sequence[str],
) -> tuple[Layout, ...]:
    for at, (layout, shape) in enumerate(zip(layouts, shapes, strict=True)):
        where = f"{operator}: {subject(names[at])}input {at} of shape {shape}"
        _check_count(layout, device_num, where)
        layout.slice_shape(shape, names[at] or f"input {at} of {operator}")
        if layout.rank_list != layouts[0].rank_list:
            raise LayoutError(
                f"{where}: {layout!r} and {layouts[0]!r} of input 0 put the ranks in different "
                "orders; all inputs of an operator need one."
            )
    return tuple(layouts)


def _check_count(layout: Layout, device_num: int, where: str) -> None:
    if layout.device_num != device_num:
        raise LayoutError(
            f"{where}: {layout!r} is for {layout.device_num} devices, but there are {device_num}."
        )


def _listed(entries: Sequence[Any]) -> str:
    return ", ".join(str(entry) for entry in entries)
