"""What can be sharded of an operator: the axis rules of the primitives that it is made of, joined.

An operator is traced on the shapes of its operands. Each equation of that program has an axis rule
(those of the search, `search/rules.py`), which says which axes of its operands and results are
sharded together. Axes that any equation joins are one loop axis of the operator.

Glossary
    loop axis   as in `strategy.py`
    unsharded   a loop axis that some primitive works along as one, with the primitive's name.
                Sharding it would have each device gather it first
    kept        the unsharded ones of windows, moves and look-ups. There a strategy still says how
                operands come in, as MindSpore's scripts have it; the rest are refused
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.core
from jax.errors import ConcretizationTypeError

from paramesh._compat.jax import shape_of
from paramesh.dtype import x64
from paramesh.parallel.layouts.strategy import AxisRule, Shape
from paramesh.parallel.operators.loop_axes import arranged
from paramesh.parallel.operators.operands import Operand, replaced
from paramesh.parallel.search.graph import Graph, graph_of
from paramesh.parameter import Parameter
from paramesh.state import tracing
from paramesh.tensor.base import raw, wrap

#: A loop axis while it has no name: the number of a factor.
Axis = int

#: Primitives that are right for sharded operands, and gather them where they must (see the
#: glossary).
_KEPT = (
    "argmax",
    "argmin",
    "conv_general_dilated",
    "dynamic_slice",
    "dynamic_update_slice",
    "gather",
    "pad",
    "reduce_window",
    "reshape",
    "scatter",
    "select_and",
    "slice",
    "transpose",
)


class Traced:
    """The axes of an operator's operands and results, and which belong together.

    Attributes:
        inputs: for each operand, the loop axis of each of its axes; None for one of size 1.
        outputs: for each result, likewise.
        sizes: of the loop axes; the number of shards must divide it.
        unsharded: the unsharded ones among them (see the glossary).
        written: Parameters among the operands that the operator writes.
        graph: the operator's primitives; its factors are the loop axes.
    """

    def __init__(self, graph: Graph, written: Mapping[Parameter, tuple[int, int]]) -> None:
        self.written, self.graph = frozenset(written), graph
        factors, tensors = graph.factors, graph.tensors
        at: dict[tuple[int, int], Axis] = {}
        unsharded: dict[tuple[int, int], str] = {}

        def axis_of(tensor: int, dim: int) -> Axis:
            if (tensor, dim) not in at:
                at[tensor, dim] = factors.new(tensors[tensor].shape[dim])
            return at[tensor, dim]

        for operator in graph.operators:
            for tensor, own in (*operator.inputs, *operator.outputs):
                for dim, factor in enumerate(own):
                    if tensors[tensor].shape[dim] == 1:
                        continue
                    axis = axis_of(tensor, dim)
                    if factor is None:
                        # One that refuses says more than one that gathers.
                        if (
                            is_kept(unsharded.get((tensor, dim), ""))
                            or (tensor, dim) not in unsharded
                        ):
                            unsharded[tensor, dim] = operator.name
                    else:
                        factors.join(axis, factor)

        # A write does not move a Parameter.
        for before, after in written.values():
            tensor = graph.outputs[after]
            if tensor is not None:
                for dim, size in enumerate(tensors[tensor].shape):
                    if size > 1:
                        factors.join(axis_of(graph.inputs[before], dim), axis_of(tensor, dim))

        def axes(tensor: int | None, shape: Shape) -> tuple[Axis | None, ...]:
            if tensor is None:  # a constant
                return (None,) * len(shape)
            return tuple(
                None if size == 1 else factors.root(axis_of(tensor, dim))
                for dim, size in enumerate(shape)
            )

        self.inputs = [axes(tensor, tensors[tensor].shape) for tensor in graph.inputs]
        self.outputs = [
            axes(tensor, () if tensor is None else tensors[tensor].shape)
            for tensor in graph.outputs
        ]
        found = {axis for own in (*self.inputs, *self.outputs) for axis in own if axis is not None}
        self.sizes = {axis: factors.size(axis) for axis in found}
        self.unsharded: dict[Axis, str] = {}
        for (tensor, dim), name in unsharded.items():
            root = factors.root(axis_of(tensor, dim))
            if root not in self.unsharded or is_kept(self.unsharded[root]):
                self.unsharded[root] = name


def is_kept(primitive: str) -> bool:
    """Whether operands may come in sharded along an axis that this primitive needs unsharded."""
    return primitive.startswith(_KEPT)


def traced(
    args: Sequence[Any],
    operands: Sequence[Operand],
    compute: Callable[[tuple[Any, ...]], Any],
) -> tuple[Traced, list[Shape]]:
    """The loop axes of one call of an operator, and the shapes of its results.

    Nothing is computed, and Parameters that the operator writes stay as they are.

    Args:
        args: of the call.
        operands: the Tensors among them.
        compute: the operator.
    """
    seen = [not _is_number(operand.value) for operand in operands]
    try:
        closed, written = _program(args, operands, compute, seen)
    except ConcretizationTypeError:
        # Some operators look at their operands: shapes and axes that are Tensors.
        seen = [_is_tracer(operand.value) for operand in operands]
        closed, written = _program(args, operands, compute, seen)
    graph = graph_of(closed, [""] * sum(seen))
    found = Traced(graph, written)
    own = iter(found.inputs)
    found.inputs = [
        next(own) if is_seen else (None,) * len(operand.value.shape)
        for is_seen, operand in zip(seen, operands, strict=True)
    ]
    results = closed.jaxpr.outvars[: len(closed.jaxpr.outvars) - len(written)]
    found.outputs = found.outputs[: len(results)]
    shapes = [shape_of(var) for var in results]
    found.outputs = [
        axes if len(axes) == len(shape) else (None,) * len(shape)
        for axes, shape in zip(found.outputs, shapes, strict=True)
    ]
    return found, shapes


def _program(
    args: Sequence[Any],
    operands: Sequence[Operand],
    compute: Callable[[tuple[Any, ...]], Any],
    seen: Sequence[bool],
) -> tuple[Any, dict[Parameter, tuple[int, int]]]:
    """The traced operator, and the Parameters that it writes: (input, output) of the program."""
    written: dict[Parameter, tuple[int, int]] = {}
    chosen = [operand for operand, is_seen in zip(operands, seen, strict=True) if is_seen]

    def body(*values: Any) -> list[Any]:
        given: dict[Any, Any] = {}
        states: dict[Parameter, Any] = {}
        for operand, value in zip(chosen, values, strict=True):
            if isinstance(operand.value, Parameter):
                states[operand.value] = value
            else:
                given[operand.at] = wrap(value)
        with tracing.overlay(states) as frame:
            out = compute(replaced(args, given))
        results = [
            raw(item) for item in jax.tree.leaves(out, is_leaf=_has_shape) if _has_shape(item)
        ]
        for number, operand in enumerate(chosen):
            if (
                isinstance(operand.value, Parameter)
                and operand.value in frame.written
                and operand.value not in written
            ):
                written[operand.value] = number, len(results)
                results.append(frame.values[operand.value])
        return results

    # As they are read here: `to_float` has Parameters read in another element type.
    like = [
        jax.ShapeDtypeStruct(tuple(value.shape), value.dtype)
        for value in (raw(operand.value) for operand in chosen)
    ]
    with x64(*like):
        return jax.make_jaxpr(body)(*like), written


def rule_of_call(
    operator: str,
    found: Traced,
    shapes: Sequence[Shape],
    numbers: Sequence[Shape],
    settings: Mapping[str, Any],
) -> AxisRule:
    """The axis rule of one call of an operator.

    Args:
        operator: class name, which chooses the names and the order of the loop axes.
        found: as `traced` gave it.
        shapes: of the operands.
        numbers: into how many shards the strategy splits the operands.
        settings: the operator's settings.
    """
    gathered = [axis for axis, primitive in found.unsharded.items() if is_kept(primitive)]
    names = arranged(operator, found.inputs, found.outputs, shapes, numbers, settings, gathered)
    name_of = names.of_axis
    unsharded = {name_of[axis]: name for axis, name in found.unsharded.items() if axis in name_of}
    outputs_named = [
        tuple("" if axis is None else name_of[axis] for axis in axes) for axes in found.outputs
    ]
    first = names.inputs[0] if names.inputs else ()
    refused = {axis for axis, name in unsharded.items() if not is_kept(name) and axis not in first}
    return AxisRule(
        inputs=names.inputs,
        order=tuple(axis for axis in names.order if axis not in refused),
        replicas=names.replicas,
        outputs=tuple(outputs_named),
        sizes={name_of[axis]: size for axis, size in found.sizes.items()},
        unsharded={axis: name for axis, name in unsharded.items() if not is_kept(name)},
        kept={axis: name for axis, name in unsharded.items() if is_kept(name)},
    )


def _is_number(value: Any) -> bool:
    return not len(value.shape) and not _is_tracer(value) and not isinstance(value, Parameter)


def _is_tracer(value: object) -> bool:
    return isinstance(value, Parameter) or isinstance(raw(value), jax.core.Tracer)


def _has_shape(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")
