"""What the strategy of an operator says of one of its calls: a layout for each input and output.

A strategy speaks of the operands in their order; a number that stands where a Tensor could has no
entry, or the entry (). The entry of a list of Tensors may be a tuple with one for each of them.
Outputs follow from the inputs by the rule of what the operator traces to (`axis_rules.py`): a
matrix product sharded along m and n gives an output sharded along m and n. Where shards get lost on
the way, the compiler decides.

The first entry of some operators speaks of the output, as in MindSpore: that of `OneHot` has the
new axis too, and that of `Tile` shards the copies where there are several. The only entry of
`DropoutDoMask` is that of its mask too, which has no strategy in MindSpore. An operator that takes
no Tensor with axes, such as `UniformReal` and `LinSpace`, has the entries of its outputs. `Gamma`
may have an entry more: the first, which speaks of the axes that its shape gives the output.

With MindSpore's attribute `enable_nd_tp` a product may have its left operand sharded along the
inner axis otherwise than the right one, as products over two or three axes of devices are: the
compiler gathers what is missing, adds the partial sums, and decides on the output.

A look-up "by fields" (MindSpore's attributes `manual_split` and `manual_split_with_offset`) has the
rows of its table sharded like the last axis of its indices: each column of them looks up its own
rows. Here the shards of the table are equal, whatever sizes the attribute gives; there must be as
many as it has fields, which together have the rows of the table.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from paramesh.errors import LayoutError
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.strategy import AxisRule, Shape, entries_of, layout_of, layouts_of
from paramesh.parallel.operators.axis_rules import rule_of_call, traced
from paramesh.parallel.operators.operands import Operand, name_of, operands_of
from paramesh.parameter import Parameter

#: Operators whose first entry speaks of the output, if it has as many axes.
_OF_OUTPUT = ("OneHot", "Tile")

#: Operators whose only entry speaks of all operands with axes.
_OF_ALL = ("DropoutDoMask",)

#: Operators whose first argument, a shape, may have an entry.
_OF_SHAPE = ("Gamma", "RandomGamma")

#: Products of matrices.
_PRODUCTS = ("MatMul", "BatchMatMul")

#: MindSpore's attributes of a look-up whose columns of indices have tables of their own.
_BY_FIELDS = ("manual_split", "manual_split_with_offset")

#: Operators that look up the rows of a table.
_LOOK_UPS = ("Gather", "GatherV2", "EmbeddingLookup")

#: Primitives whose result has the axes of their operand, of which some are shorter or longer.
_SAME_AXES = ("conv_general_dilated", "pad", "reduce_window", "slice")


class CallLayouts(NamedTuple):
    """A call of an operator under its strategy.

    Attributes:
        inputs: the operands with their layouts.
        outputs: the layout of each output; None where the compiler is to decide.
        written: Parameters among the operands that the operator writes.
    """

    inputs: list[tuple[Operand, Layout]]
    outputs: list[Layout | None]
    written: Collection[Parameter] = ()


def layouts_of_call(
    operator: str,
    in_strategy: object,
    args: Sequence[Any],
    device_num: int,
    settings: Mapping[str, Any],
    compute: Callable[[tuple[Any, ...]], Any],
    attrs: Mapping[str, object] | None = None,
) -> CallLayouts:
    """The layouts that the strategy gives to the operands of a call, and what follows for outputs.

    Args:
        operator: class name.
        in_strategy: of the call.
        args: of the call.
        device_num: how many devices there are.
        settings: the operator's settings.
        compute: the operator, of the arguments.
        attrs: MindSpore's attributes of the operator, of which those of a look-up by fields and
            `enable_nd_tp` of a product count (see above).

    Raises:
        TypeError, LayoutError: as `strategy.layouts_of`.
    """
    operands = operands_of(args)
    entries = _flat(in_strategy, args)
    of_outputs = bool(entries) and not any(np.shape(operand.value) for operand in operands)
    if of_outputs and (not operands or all(map(_numbers, entries))):
        _, results = traced(args, operands, compute)
        return CallLayouts(
            [], output_layouts(operator, (), entries, results, device_num, "the strategy")
        )
    if operator in _OF_SHAPE and isinstance(entries, tuple) and len(entries) == len(operands) + 1:
        rest = layouts_of_call(operator, entries[1:], args, device_num, settings, compute)
        _, results = traced(args, operands, compute)
        drawn = (*_numbers(entries[0]), *_numbers(entries[1]))
        outputs = output_layouts(operator, (), (drawn,), results, device_num, "the strategy")
        return rest._replace(outputs=outputs)
    if operator in _OF_ALL and isinstance(entries, tuple) and len(entries) == 1:
        entries = tuple(entries[0] if np.shape(operand.value) else () for operand in operands)
    entries = entries_of(entries, len(operands), operator)
    shapes = [tuple(np.shape(operand.value)) for operand in operands]
    names = [name_of(operand.value) for operand in operands]
    found, results = traced(args, operands, compute)
    numbers = [_numbers(entry) for entry in entries]
    rule = rule_of_call(operator, found, shapes, numbers, settings)
    attrs = attrs or {}
    fields = next((attrs[name] for name in _BY_FIELDS if name in attrs), None)
    if fields is not None and operator in _LOOK_UPS:
        rule = _by_fields(rule)
        _check_fields(operator, fields, shapes[0], numbers)
    if operator == "MatMul" and _is_grid(numbers, shapes, settings, device_num):
        rule = _GRID
    if operator in _PRODUCTS and attrs.get("enable_nd_tp"):
        rule = _over_several_axes(rule)
        layouts = layouts_of(entries, shapes, device_num, operator, rule, names=names)
        return CallLayouts(list(zip(operands, layouts, strict=True)), [None], found.written)
    of_output = operator in _OF_OUTPUT and len(numbers[0]) == len(results[0])
    said, said_shapes = rule, shapes
    if of_output:
        said = dataclasses.replace(rule, inputs=(rule.outputs[0], *rule.inputs[1:]))
        said_shapes = [results[0], *shapes[1:]]
    layouts = layouts_of(entries, said_shapes, device_num, operator, said, names=names)
    device_axes = _device_axes(operator, said, layouts)
    if of_output:
        own = rule.inputs[0]
        _check_sizes(operator, entries[0], results[0], rule)
        first = layouts[0]
        base = Layout(first.device_matrix, first.alias_name, first.rank_list)
        mine = base(*[device_axes.get(label) or "None" for label in own])
        layouts = (mine, *layouts[1:])
    outputs = [
        _followed(rule, rule.outputs[number], shape, layouts, device_axes)
        for number, shape in enumerate(results)
    ]
    return CallLayouts(list(zip(operands, layouts, strict=True)), outputs, found.written)


def _by_fields(rule: AxisRule) -> AxisRule:
    """The rule of a look-up whose table has its rows sharded like the last axis of the indices."""
    table, index = rule.inputs[:2]
    rows, columns = table[0], index[-1]
    if not rows or not columns:
        return rule
    return dataclasses.replace(
        rule,
        inputs=((columns, *table[1:]), index, *rule.inputs[2:]),
        order=tuple(label for label in rule.order if label != rows),
    )


def _over_several_axes(rule: AxisRule) -> AxisRule:
    """The rule of a product whose left operand is sharded along the inner axis as it likes."""
    left, right = rule.inputs[:2]
    inner = next(label for label in left if label in right and label not in rule.outputs[0])
    mine = tuple("inner of the left" if label == inner else label for label in left)
    return dataclasses.replace(
        rule, inputs=(mine, *rule.inputs[1:]), order=(*rule.order, "inner of the left")
    )


def _check_fields(operator: str, fields: object, table: Shape, numbers: Sequence[Shape]) -> None:
    if not isinstance(fields, tuple | list) or not table:
        return
    sizes = [field[0] if isinstance(field, tuple | list) else field for field in fields]
    if sum(sizes) != table[0]:
        raise LayoutError(
            f"{operator}: the fields {fields!r} of manual_split have {sum(sizes)} rows, but the "
            f"table of shape {table} has {table[0]}."
        )
    shards = max([*numbers[0][:1], *numbers[1][-1:]], default=1)
    if shards > 1 and len(sizes) != shards:
        raise LayoutError(
            f"{operator}: manual_split has {len(sizes)} fields, {fields!r}, but the strategy gives "
            f"the table {shards} shards. Shard it into one part for each field."
        )


#: A product whose operands and result are all laid out on one grid of devices.
_GRID = AxisRule((("rows", "columns"),) * 2, ("rows", "columns"), outputs=(("rows", "columns"),))


def _is_grid(
    numbers: Sequence[Shape], shapes: Sequence[Shape], settings: Mapping[str, Any], device_num: int
) -> bool:
    """Whether a product is sharded as MindSpore shards one with two equal entries over all devices.

    Each device holds a block of both operands and of the result. To compute its block it gathers
    the left one along its row of devices, and the right one along its column.
    """
    turned = settings.get("transpose_a") or settings.get("transpose_b")
    equal = numbers[0] == numbers[1] and math.prod(numbers[0]) == device_num > 1
    return bool(equal and not turned and all(len(shape) == 2 for shape in shapes))


def _flat(in_strategy: object, args: Sequence[Any]) -> Any:
    """The entries without nesting, and without those of numbers."""
    if not isinstance(in_strategy, tuple):
        return in_strategy
    entries: list[Any] = []
    for entry in in_strategy:
        nested = isinstance(entry, tuple | list) and any(
            isinstance(item, tuple | list | Layout) for item in entry
        )
        entries += entry if nested else [entry]
    operands = operands_of(args)
    if len(entries) > len(operands):
        # A number among the operands may have the entry (), as in MindSpore.
        numbers = sum(isinstance(arg, int | float) for arg in args)
        without = [entry for entry in entries if entry != ()]
        scalars = sum(not np.shape(operand.value) for operand in operands)
        if len(entries) - len(without) <= numbers + scalars:
            wanted = iter(without)
            entries = [
                () if not np.shape(operand.value) else next(wanted, None) for operand in operands
            ]
            entries += wanted
    elif len(entries) < len(operands):
        # A number that is an input of the program is an operand, and may have no entry either.
        axes = [bool(np.shape(operand.value)) for operand in operands]
        if len(entries) == sum(axes):
            given = iter(entries)
            entries = [next(given) if has_axes else () for has_axes in axes]
    return tuple(entries)


def _numbers(entry: object) -> Shape:
    if isinstance(entry, Layout):
        return entry.parts
    return entry if isinstance(entry, tuple) else ()


def _device_axes(
    operator: str, rule: AxisRule, layouts: Sequence[Layout]
) -> dict[str, tuple[str, ...]]:
    """The axes of the devices that shard each loop axis.

    Raises:
        LayoutError: operands name other axes of the same devices for one loop axis.
    """
    device_axes: dict[str, tuple[str, ...]] = {}
    said_by: dict[str, Layout] = {}
    for number, (layout, own) in enumerate(zip(layouts, rule.inputs, strict=True)):
        for at, (label, axes) in enumerate(zip(own, layout.cuts, strict=True)):
            if not axes or not label:
                continue
            names = tuple(layout.alias_name[axis] for axis in axes)
            other = said_by.setdefault(label, layout)
            before = device_axes.setdefault(label, names)
            if before != names and _same_devices(layout, other):
                raise LayoutError(
                    f"{operator}: input {number}: {layout!r} shards axis {at} over "
                    f"{', '.join(names)}, but another axis that belongs to it is sharded over "
                    f"{', '.join(before)}. Shard both over the same axes of devices."
                )
    return device_axes


def _same_devices(one: Layout, other: Layout) -> bool:
    return (one.device_matrix, one.alias_name, one.rank_list) == (
        other.device_matrix,
        other.alias_name,
        other.rank_list,
    )


def _check_sizes(operator: str, entry: object, shape: Shape, rule: AxisRule) -> None:
    for axis, (number, label) in enumerate(zip(_numbers(entry), rule.outputs[0], strict=True)):
        size = rule.sizes.get(label, shape[axis])
        if size % number:
            raise LayoutError(
                f"{operator}: input 0: strategy {entry} shards axis {axis} of the output, of shape "
                f"{shape}, into {number} shards, but it comes in {size} blocks, which do not "
                "divide into as many."
            )


def _followed(
    rule: AxisRule,
    labels: tuple[str, ...],
    shape: Shape,
    layouts: Sequence[Layout],
    device_axes: Mapping[str, tuple[str, ...]],
) -> Layout | None:
    """The layout of an output, put together from those of the inputs."""
    known = {label for own in rule.inputs for label in own}
    if not layouts or (labels and known.isdisjoint(labels) and not set(labels) & set(device_axes)):
        return None  # made of no input: a mask, say
    first = layouts[0]
    same = (first.device_matrix, first.alias_name, first.rank_list)
    if any((other.device_matrix, other.alias_name, other.rank_list) != same for other in layouts):
        return None
    sizes = dict(zip(first.alias_name, first.device_matrix, strict=True))
    device_axes = dict(device_axes)
    own = rule.inputs[0]
    for label, mine in zip(labels, own, strict=True) if len(own) == len(labels) else ():
        # Space of a convolution: gathered inside, and sharded again as it came in.
        if (
            rule.kept.get(label, "").startswith(_SAME_AXES)
            and mine in rule.kept
            and mine in device_axes
        ):
            device_axes.setdefault(label, device_axes.pop(mine))
    for label, names in device_axes.items():
        lost = label in rule.kept and label not in labels
        if lost or rule.sizes.get(label, 0) % math.prod(sizes[name] for name in names):
            return None
    entries = [device_axes.get(label, ()) for label in labels]
    used = [name for names in entries for name in names]
    if len(set(used)) < len(used):
        return None
    for n, names in zip(shape, entries, strict=True):
        if n % math.prod(sizes[name] for name in names):
            return None
    base = Layout(first.device_matrix, first.alias_name, first.rank_list)
    return base(*[names or "None" for names in entries])


def output_layouts(
    operator: str,
    natural: Sequence[Layout | None],
    out_strategy: Any,
    shapes: Sequence[Shape],
    device_num: int,
    said: str = "out_strategy",
) -> list[Layout | None]:
    """The layout of each output; None where the compiler is to decide.

    Args:
        operator: class name.
        natural: what follows from the inputs; [] without a strategy for inputs.
        out_strategy: for each output a tuple of ints or a Layout; None: what follows.
        shapes: of the outputs.
        device_num: how many devices there are.
        said: what `out_strategy` is called in messages.

    Raises:
        TypeError, LayoutError: as `strategy.layout_of`; another number of entries than outputs.
    """
    natural = natural or [None] * len(shapes)
    if out_strategy is None:
        return list(natural)
    if len(out_strategy) != len(shapes):
        raise LayoutError(
            f"{operator}: {said} {out_strategy} has {len(out_strategy)} entries, but there "
            f"are {len(shapes)} outputs of shapes {list(shapes)}; it needs one entry for each."
        )
    wanted: list[Layout | None] = []
    for i, (entry, shape) in enumerate(zip(out_strategy, shapes, strict=True)):
        try:
            layout = layout_of(entry, shape, device_num)
        except (LayoutError, TypeError) as error:
            raise type(error)(f"{operator}: {said} of output {i}: {error}") from None
        usual = natural[i]
        # Numbers do not say which devices: those of the inputs, if that is possible.
        same = usual is not None and not isinstance(entry, Layout) and usual.parts == layout.parts
        wanted.append(usual if same else layout)
    return wanted
