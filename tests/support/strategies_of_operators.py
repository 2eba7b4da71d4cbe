"""Strategies of operators, checked without running anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from paramesh import Parameter, Tensor, ops
from paramesh.ops.table import Primitive
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.strategy import AxisRule, layouts_of
from paramesh.parallel.operators.axis_rules import rule_of_call, traced
from paramesh.parallel.operators.operands import operands_of
from paramesh.parallel.operators.operator_layouts import CallLayouts, layouts_of_call

#: How operators whose class needs more than nothing are made, and what follows their operands.
_MADE: dict[str, tuple[dict[str, Any], tuple[Any, ...]]] = {
    "Conv2D": ({"out_channel": 16, "kernel_size": 3}, ()),
    "Concat": ({"axis": 1}, ()),
    "CropAndResize": ({}, ((2, 2),)),
    "Gather": ({}, (0,)),
    "ROIAlign": ({"pooled_height": 2, "pooled_width": 2, "spatial_scale": 1.0}, ()),
}


def called(operator: Primitive, args: Sequence[Any]) -> Any:
    return operator(*args)


def arguments_of(name: str, shapes: Sequence[Sequence[int]], names: Sequence[str] = ()) -> Any:
    """An operator and arguments of these shapes, of zeros."""
    settings, rest = _MADE.get(name, ({}, ()))
    integers = {"CropAndResize": (2,), "Gather": (1,), "EmbeddingLookup": (1,)}.get(name, ())
    values: list[Any] = []
    for at, shape in enumerate(shapes):
        dtype = np.int32 if at in integers else np.float32
        value = Tensor(np.zeros(shape, dtype))
        named = names[at] if at < len(names) else ""
        values.append(Parameter(value, name=named) if named else value)
    if name == "EmbeddingLookup":
        rest = (0,)
    args = ((tuple(values),) if name == "Concat" else tuple(values)) + rest
    return getattr(ops, name), settings, args


def call_layouts(
    name: str,
    shapes: Sequence[Sequence[int]],
    strategy: Any,
    device_num: int = 8,
    names: Sequence[str] = (),
    **settings: Any,
) -> CallLayouts:
    """What a strategy says of a call of an operator with operands of these shapes."""
    cls, own, args = arguments_of(name, shapes, names)
    operator = cls(**own, **settings)
    return layouts_of_call(
        name, strategy, args, device_num, operator.settings, lambda a: called(operator, a)
    )


def layouts(*args: Any, **kwargs: Any) -> tuple[Layout, ...]:
    """The layouts of the operands (see `call_layouts`)."""
    return tuple(layout for _, layout in call_layouts(*args, **kwargs).inputs)


def with_replicas(
    name: str, shapes: Sequence[Sequence[int]], strategy: Any, replicas: Any
) -> tuple[Layout, ...]:
    """The layouts of the operands, with replicas in a given place of the device matrix."""
    return layouts_of(strategy, shapes, 8, name, rule(name, shapes, strategy), replicas=replicas)


def rule(
    name: str, shapes: Sequence[Sequence[int]], numbers: Any = None, **settings: Any
) -> AxisRule:
    """The rule of a call of an operator."""
    cls, own, args = arguments_of(name, shapes)
    operator = cls(**own, **settings)
    found, _ = traced(args, operands_of(args), lambda a: called(operator, a))
    numbers = numbers or [(1,) * len(shape) for shape in shapes]
    sizes = [tuple(shape) for shape in shapes]
    return rule_of_call(name, found, sizes, numbers, operator.settings)
