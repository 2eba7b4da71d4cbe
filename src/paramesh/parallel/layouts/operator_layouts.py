"""What the strategy of an operator says of one of its calls: a layout for each input and output.

Glossary
    operand     a Tensor among the arguments of a call, also one in a tuple or list of them
    rule        the loop axes of an operator (see `strategy.py`)

A strategy speaks of the operands in their order; a number that stands where a Tensor could has no
entry, or the entry (). Outputs follow from the inputs where the rule says so: a matrix product cut
along m and n gives an output cut along m and n. Where it does not, the compiler decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from paramesh.errors import LayoutError
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.strategy import AxisRule, axis_rule_of, layout_of, layouts_of
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor

Shape = tuple[int, ...]

#: Operators of one input whose output has its axes in other places.
_MOVED = ("Transpose", "Reshape", "Flatten", "ExpandDims", "Squeeze")


class Operand(NamedTuple):
    """A Tensor among the arguments of a call.

    Attributes:
        at: (position of the argument, position in it or None).
        value: the Tensor.
    """

    at: tuple[int, int | None]
    value: Any


def operands_of(args: Sequence[Any]) -> list[Operand]:
    """The Tensors among the arguments, those in tuples and lists too."""
    found: list[Operand] = []
    for i, arg in enumerate(args):
        if _is_array(arg):
            found.append(Operand((i, None), arg))
        elif isinstance(arg, tuple | list):
            found += [Operand((i, j), part) for j, part in enumerate(arg) if _is_array(part)]
    return found


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or (hasattr(value, "dtype") and hasattr(value, "shape"))


def name_of(value: Any) -> str:
    """The name of an operand that is a Parameter, "" for others."""
    return value.name if isinstance(value, Parameter) else ""


def replaced(args: Sequence[Any], values: Mapping[tuple[int, int | None], Any]) -> tuple[Any, ...]:
    """The arguments with other values for some operands."""
    new = list(args)
    for (i, j), value in values.items():
        if j is None:
            new[i] = value
        else:
            parts = list(new[i])
            parts[j] = value
            new[i] = type(new[i])(parts)
    return tuple(new)


def input_layouts(
    operator: str,
    in_strategy: Any,
    args: Sequence[Any],
    device_num: int,
    settings: Mapping[str, Any],
) -> list[tuple[Operand, Layout]]:
    """The operands of a call with the layouts that the strategy gives them.

    Raises:
        TypeError, LayoutError: as `strategy.layouts_of`.
    """
    operands = operands_of(args)
    entries = in_strategy
    if isinstance(entries, tuple) and len(entries) > len(operands):
        # A number among the operands may have the entry (), as in MindSpore.
        numbers = sum(isinstance(arg, int | float) for arg in args)
        without = tuple(entry for entry in entries if entry != ())
        if len(entries) - len(without) <= numbers and len(without) == len(operands):
            entries = without
    shapes = [tuple(np.shape(o.value)) for o in operands]
    names = [name_of(o.value) for o in operands]
    layouts = layouts_of(entries, shapes, device_num, operator, settings=settings, names=names)
    return list(zip(operands, layouts, strict=True))


def output_layouts(
    operator: str,
    in_strategy: Any,
    inputs: Sequence[tuple[Operand, Layout]],
    out_strategy: Any,
    shapes: Sequence[Shape],
    device_num: int,
    settings: Mapping[str, Any],
) -> list[Layout | None]:
    """The layout of each output; None where the compiler is to decide.

    Args:
        operator: class name.
        in_strategy: of the call.
        inputs: as `input_layouts` gave them; [] without a strategy for inputs.
        out_strategy: for each output a tuple of ints or a Layout; None: what the rule says.
        shapes: of the outputs.
        device_num: how many devices there are.
        settings: the operator's settings that change the rule.

    Raises:
        TypeError, LayoutError: as `strategy.layout_of`; another number of entries than outputs.
    """
    natural: list[Layout | None] = [None] * len(shapes)
    if inputs and shapes:
        natural[0] = _natural(operator, in_strategy, inputs, shapes[0], settings)
    if out_strategy is None:
        return natural
    if len(out_strategy) != len(shapes):
        raise LayoutError(
            f"{operator}: out_strategy {out_strategy} has {len(out_strategy)} entries, but there "
            f"are {len(shapes)} outputs of shapes {list(shapes)}; it needs one entry for each."
        )
    wanted: list[Layout | None] = []
    for i, (entry, shape) in enumerate(zip(out_strategy, shapes, strict=True)):
        try:
            layout = layout_of(entry, shape, device_num)
        except (LayoutError, TypeError) as error:
            raise type(error)(f"{operator}: out_strategy of output {i}: {error}") from None
        usual = natural[i]
        # Numbers do not say which devices: those of the inputs, if that is possible.
        same = usual is not None and not isinstance(entry, Layout) and usual.parts == layout.parts
        wanted.append(usual if same else layout)
    return wanted


def _natural(
    operator: str,
    in_strategy: Any,
    inputs: Sequence[tuple[Operand, Layout]],
    shape: Shape,
    settings: Mapping[str, Any],
) -> Layout | None:
    """The layout of the first output, put together from those of the inputs."""
    if operator in _MOVED:
        return None
    shapes = [tuple(np.shape(operand.value)) for operand, _ in inputs]
    layouts = [layout for _, layout in inputs]
    rule = axis_rule_of(operator, shapes, [layout.parts for layout in layouts], settings)
    labels = _output_labels(operator, rule, shapes, shape)
    first = layouts[0]
    same = (first.device_matrix, first.alias_name, first.rank_list)
    if labels is None or any(
        (layout.device_matrix, layout.alias_name, layout.rank_list) != same for layout in layouts
    ):
        return None
    cuts: dict[str, tuple[str, ...]] = {}
    for layout, own in zip(layouts, rule.inputs, strict=True):
        for label, axes in zip(own, layout.cuts, strict=True):
            if axes:
                cuts.setdefault(label, tuple(layout.alias_name[axis] for axis in axes))
    entries = [cuts.get(label, ()) for label in labels]
    used = [name for names in entries for name in names]
    if len(set(used)) < len(used):
        return None
    sizes = dict(zip(first.alias_name, first.device_matrix, strict=True))
    for n, names in zip(shape, entries, strict=True):
        if n % math.prod(sizes[name] for name in names):
            return None
    base = Layout(first.device_matrix, first.alias_name, first.rank_list)
    return base(*[names or "None" for names in entries])


def _output_labels(
    operator: str, rule: AxisRule, shapes: Sequence[Shape], shape: Shape
) -> tuple[str, ...] | None:
    inputs = rule.inputs
    labels: tuple[str, ...] | None
    if operator in ("MatMul", "BatchMatMul"):
        batch = tuple(label for label in rule.order if label not in ("m", "k", "n"))
        labels = (*batch, "m", "n")
    elif operator == "Dense":
        labels = (*inputs[0][:-1], *inputs[1][:-1])
    elif operator == "BiasAdd":
        labels = inputs[0]
    elif operator in ("Conv2D", "Conv3D"):
        labels = ("n", "o", *inputs[0][2:])
    elif operator in ("Gather", "GatherV2", "EmbeddingLookup"):
        along_first = shape == (*shapes[1], *shapes[0][1:])
        labels = (*inputs[1], *inputs[0][1:]) if along_first else None
    else:
        labels = max(inputs, key=len) if _broadcast(shapes) == shape else None
    return labels if labels is not None and len(labels) == len(shape) else None


def _broadcast(shapes: Sequence[Shape]) -> Shape | None:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:  # Concat and the like
        return None
