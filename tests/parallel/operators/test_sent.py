"""What sharded operators send: the sums that their axis rules say, and nothing else.

Along axes that an operator gathers (`Traced.unsharded`) its rule says no more than that.
"""

from __future__ import annotations

import math
from typing import Any

import pytest

import paramesh
from compiled_collectives import collectives
from paramesh import context
from paramesh.parallel.operators.axis_rules import Traced, traced
from paramesh.parallel.operators.operands import operands_of, replaced
from sharded_operator_cases import CALLS, Call, allowed, given

#: In each run of the tests: products, sums along several axes, statistics, loops, updates of
#: Parameters, what sends nothing.
SAMPLE = (
    "Adam",
    "DynamicGRUV2",
    "Gcd",
    "IOU",
    "LayerNorm",
    "MatMul",
    "ReduceSum",
    "ResizeBilinear",
)


def axes_of(found: Traced, strategy: Any) -> dict[int, int]:
    """Into how many shards a strategy splits each loop axis."""
    axes: dict[int, int] = {}
    for own, numbers in zip(found.inputs, strategy, strict=True):
        for axis, number in zip(own, numbers, strict=True):
            if axis is not None and number > 1:
                axes[axis] = number
    return axes


def gathers(found: Traced, axes: dict[int, int]) -> bool:
    """Whether the operator gathers along one of the axes."""
    return any(axis in found.unsharded or found.sizes[axis] % axes[axis] for axis in axes)


def said(found: Traced, axes: dict[int, int]) -> tuple[float, float]:
    """The bytes that a device sends for the sums of an operator, at least and at most.

    XLA adds up along several axes at once or along one after another.
    """
    factors, tensors = found.graph.factors, found.graph.tensors
    at_once = one_by_one = 0.0
    for primitive in found.graph.operators:
        summed = {factors.root(factor) for factor in primitive.summed} & axes.keys()
        for tensor, own in primitive.outputs:
            shards = math.prod(axes.get(factors.root(f), 1) for f in own if f is not None)
            nbytes = 2 * primitive.times * tensors[tensor].nbytes / shards
            at_once += nbytes * (1 - 1 / math.prod(axes[axis] for axis in summed))
            one_by_one += sum(nbytes * (1 - 1 / axes[axis]) for axis in summed)
    return at_once, one_by_one


def sent(call: Call, strategy: Any) -> dict[str, float]:
    """What the compiled program of a call sends."""
    args, operator = given(call), call.operator().shard(strategy)
    operands = [o for o in operands_of(args) if o.at[0] >= call.written]

    @paramesh.jit
    def program(values: Any) -> Any:
        new = {o.at: value for o, value in zip(operands, values, strict=True)}
        return operator(*replaced(args, new))

    return collectives(program.lower([o.value for o in operands]).compile().as_text())


def largest(call: Call) -> list[Any]:
    """Of the strategies that shard the same axes, the one with the most shards."""
    found: dict[Any, Any] = {}
    for strategy in allowed(call):
        which = tuple(number > 1 for numbers in strategy for number in numbers)
        count = math.prod(number for numbers in strategy for number in numbers)
        if which not in found or count > found[which][0]:
            found[which] = count, strategy
    return [strategy for _, strategy in found.values()]


@pytest.mark.parametrize(
    "call",
    [c if c.name in SAMPLE else pytest.param(c, marks=pytest.mark.slow) for c in CALLS],
    ids=lambda call: call.id,
)
def test_each_operator_sends_the_sums_of_its_rule(call: Call) -> None:
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    args, operator = given(call), call.operator()
    found, _ = traced(args, operands_of(args), lambda a: operator(*a))
    for strategy in largest(call):
        axes = axes_of(found, strategy)
        if gathers(found, axes):
            continue
        at_once, one_by_one = said(found, axes)
        bytes_sent = sent(call, strategy)
        total = sum(bytes_sent.values())
        assert at_once - 0.5 <= total <= one_by_one + 0.5, (strategy, bytes_sent)
        assert set(bytes_sent) <= {"all-reduce", "reduce-scatter"}, (strategy, bytes_sent)
