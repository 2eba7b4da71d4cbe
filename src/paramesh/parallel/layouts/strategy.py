"""Strategies: into how many shards an operator splits each axis of its inputs.

Glossary
    strategy    one input's numbers, such as (2, 1): axis 0 into 2 shards, axis 1 not sharded
    loop axis   an axis of the computation, such as m, k and n of a matrix product; each axis of an
                input is one of them, and two inputs may share one
    axis rule   the loop axes of an operator: those of each input, and their order in the device
                matrix

MindSpore arranges the devices of an operator by its loop axes: `MatMul().shard(((2, 1), (1, 4)))`
has m=2, k=1 and n=4, so the device matrix is (2, 1, 4), the last axis fastest. Devices that the
numbers leave over hold replicas, as one more axis. MindSpore puts it last for nearly all operators,
so that neighbours hold the same shard; it puts it first for the inputs of the data set, and for
tables of embeddings that are sharded.
"""

from __future__ import annotations

import math
import operator as operators
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
        inputs: for each input, the loop axis of each of its axes; "" for an axis of size 1 that no
            other input makes longer.
        order: the loop axes in the order of the device matrix, the last fastest.
        replicas: where devices that are left over stand in the device matrix.
        outputs: for each output, the loop axis of each of its axes; "" for one of size 1.
        sizes: of loop axes that stand for several axes; the number of shards divides it, or is lost
            on the way to the output.
        unsharded: loop axes that must not be sharded, with the primitive that needs them unsharded.
        kept: loop axes along which the operator gathers what comes in sharded, likewise.
    """

    inputs: tuple[tuple[str, ...], ...]
    order: tuple[str, ...]
    replicas: Replicas = "last"
    outputs: tuple[tuple[str, ...], ...] = ()
    sizes: Mapping[str, int] = field(default_factory=dict)
    unsharded: Mapping[str, str] = field(default_factory=dict)
    kept: Mapping[str, str] = field(default_factory=dict)


def layouts_of(
    in_strategy: object,
    shapes: Sequence[Sequence[int]],
    device_num: int,
    operator: str,
    rule: AxisRule,
    *,
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
        operator: class name; messages begin with it.
        rule: the operator's loop axes, as `axis_rules.rule_of_call` finds them.
        replicas: where devices that are left over stand; None for what the rule says.
        names: of the inputs that are Parameters; "" for others.

    Returns:
        A Layout for each input. Its axes have the loop axes' names, so `layouts[0]("m", "n")` is
        that of the output of a MatMul.

    Raises:
        TypeError: no tuple of tuples of ints, or ints and Layouts mixed.
        LayoutError: wrong lengths; numbers that do not divide an axis, differ in two inputs, shard
            an axis that the operator needs unsharded, multiply to more than `device_num` or to what
            does not divide it.
    """
    shapes = [tuple(shape) for shape in shapes]
    entries = entries_of(in_strategy, len(shapes), operator)
    names = [*names, *[""] * (len(shapes) - len(names))]
    if entries and all(isinstance(entry, Layout) for entry in entries):
        layouts = _check_layouts(entries, shapes, device_num, operator, names)
        shards = [layout.parts for layout in layouts]
        _check_axis_rule(entries, shards, shapes, operator, rule, names)
        return layouts
    for at, (entry, shape) in enumerate(zip(entries, shapes, strict=True)):
        _check_strategy(
            entry, shape, f"{operator}: {subject(names[at])}input {at} of shape {shape}"
        )
    shards = _check_axis_rule(entries, entries, shapes, operator, rule, names)
    said = {label for labels in rule.inputs for label in labels}
    base = _arrange(
        [(label, shards.get(label, 1)) for label in rule.order if label in said],
        device_num,
        f"{operator}: strategy {entries}",
        replicas or rule.replicas,
    )
    known = set(base.alias_name)
    return tuple(
        base(
            *(
                label if n > 1 and label in known else "None"
                for n, label in zip(shape, labels, strict=True)
            )
        )
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
        strategy: a tuple of ints, one for each axis; a `Layout`; or None, which shards axis 0 over
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
    labels = tuple(f"x{axis}" for axis in range(len(shape)))
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


def _check_axis_rule(
    entries: Sequence[Any],
    numbers: Sequence[Sequence[int]],
    shapes: Sequence[Shape],
    operator: str,
    rule: AxisRule,
    names: Sequence[str],
) -> dict[str, int]:
    """Into how many shards each loop axis is split, if inputs agree and the operator can do it."""
    if [len(labels) for labels in rule.inputs] != [len(shape) for shape in shapes]:
        raise LayoutError(
            f"{operator}: the axis rule's inputs {_listed(rule.inputs)} are not those of shapes "
            f"{_listed(shapes)}."
        )
    shards: dict[str, int] = {}
    for at, (entry, shape, labels) in enumerate(zip(entries, shapes, rule.inputs, strict=True)):
        where = f"{operator}: {subject(names[at])}input {at} of shape {shape}"
        for axis, (number, label) in enumerate(zip(numbers[at], labels, strict=True)):
            if shape[axis] == 1 or not label:
                continue
            if shards.setdefault(label, number) != number:
                raise LayoutError(
                    f"{where}: strategy {entry} splits axis {axis} into {number} shards, but "
                    f"another axis, which is sharded together with this one, into {shards[label]}: "
                    f"{_listed(entries)}."
                )
            if number > 1 and label in rule.unsharded:
                raise LayoutError(
                    f"{where}: strategy {entry} splits axis {axis} into {number} shards, but "
                    f"{operator} works along all of this axis (by {rule.unsharded[label]}), so "
                    "that each device would gather it first. Leave it unsharded, with 1."
                )
    return shards


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


def entries_of(in_strategy: object, count: int, operator: str) -> tuple[Any, ...]:
    """The entries of a strategy, one for each input.

    Raises:
        TypeError: no tuple, or ints and Layouts mixed.
        LayoutError: another number of entries.
    """
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


def _check_strategy(strategy: object, shape: Shape, where: str) -> None:
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
                f"{where}: strategy {strategy} splits axis {axis} into {number} shards; 1 leaves "
                "it unsharded."
            )
        if size % number:
            raise LayoutError(
                f"{where}: axis {axis} has size {size}, which strategy {strategy} cannot split "
                f"into {number} equal shards."
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
