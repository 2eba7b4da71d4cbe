"""Strategies of operators: what their rules allow gives the numbers of one device."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from cut_operator_cases import CALLS, LEFT_OUT, Call, strategies
from paramesh import Parameter, Tensor, context
from paramesh.errors import LayoutError
from paramesh.ops.table import CLASSES
from paramesh.parallel.operands import operands_of, replaced
from paramesh.parallel.operator_rules import rule_of_call, traced
from paramesh.parallel.strategy import Rule


def given(call: Call) -> tuple[Any, ...]:
    def tensor(value: Any) -> Any:
        if isinstance(value, tuple) and value and isinstance(value[0], np.ndarray):
            return tuple(map(tensor, value))
        return Tensor(value) if isinstance(value, np.ndarray | np.generic) else value

    args = tuple(map(tensor, call.args))
    return (Parameter(args[0], name="state"), *args[1:]) if call.written else args


def shapes_of(args: tuple[Any, ...]) -> list[tuple[int, ...]]:
    return [tuple(operand.value.shape) for operand in operands_of(args)]


def rule_for(call: Call, args: tuple[Any, ...], numbers: Any = None) -> Rule:
    operator = call.operator()
    shapes = shapes_of(args)
    found, _ = traced(args, operands_of(args), lambda a: operator(*a))
    numbers = numbers or [(1,) * len(shape) for shape in shapes]
    return rule_of_call(call.name, found, shapes, numbers, operator.settings)


Numbers = list[list[np.ndarray]]


def run(call: Call, chosen: list[Any]) -> Numbers:
    """For each strategy the outputs of a call, and the gradients by its float operands."""
    operators = [call.operator().shard(strategy) for strategy in chosen]
    args = given(call)
    if call.written:
        return [written(operator, given(call)) for operator in operators]
    operands = [o for o in operands_of(args) if o.value.shape]
    floats = [o for o in operands if "Float" in str(o.value.dtype)]
    others = [o for o in operands if o not in floats]

    def outputs(operator: Any, own: Any, rest: Any) -> list[Any]:
        new = {o.at: v for o, v in zip([*floats, *others], [*own, *rest], strict=True)}
        out = operator(*replaced(args, new))
        return list(out) if isinstance(out, tuple | list) else [out]

    def loss(operator: Any, rest: Any, *own: Any) -> Any:
        total: Any = 0.0
        for part in outputs(operator, own, rest):
            if "Float" in str(part.dtype):
                weights = np.linspace(0.5, 1.5, part.size, dtype=np.float32)
                total = total + (part * Tensor(weights.reshape(part.shape))).sum()
        return total

    @paramesh.jit
    def program(own: Any, rest: Any) -> Any:
        results: list[Any] = []
        for operator in operators:
            out = outputs(operator, own, rest)
            grads: Any = ()
            if floats and any("Float" in str(part.dtype) for part in out):
                of_this = functools.partial(loss, operator, rest)
                grads = paramesh.grad(of_this, tuple(range(len(floats))))(*own)
            results.append([out, grads])
        return results

    found = program([o.value for o in floats], [o.value for o in others])
    return [[leaf.asnumpy() for leaf in leaves(one)] for one in found]


def written(operator: Any, args: Any) -> list[np.ndarray]:
    program = paramesh.jit(lambda *rest: operator(args[0], *rest))
    return [program(*args[1:]).asnumpy(), args[0].asnumpy()]


def leaves(tree: Any) -> list[Any]:
    return jax.tree.leaves(tree, is_leaf=lambda value: isinstance(value, Tensor))


def check(call: Call, chosen: list[Any]) -> None:
    (expected,) = run(call, [None])
    context.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel", device_num=8, full_batch=True
    )
    for strategy, numbers in zip(chosen, run(call, chosen), strict=True):
        for got, want in zip(numbers, expected, strict=True):
            np.testing.assert_allclose(got, want, 2e-5, 2e-5, err_msg=f"{call.id} {strategy}")


def allowed(call: Call) -> list[Any]:
    args = given(call)
    return list(strategies(rule_for(call, args), shapes_of(args)))


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.id)
def test_every_strategy_gives_the_numbers_of_one_device(call: Call) -> None:
    check(call, allowed(call))
