"""Derivatives of higher order along a direction, by forward differentiation.

`jet` follows a function along a curve of its inputs, `derivative` along the direction of ones.
Each order differentiates the one before it once more, so that the cost doubles with each.

Source: MindSpore's functions of these names; Griewank and Walther, "Evaluating Derivatives" (2008),
chapter 13, for what is computed.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from paramesh.array_types import Tree
from paramesh.ops.array import stack
from paramesh.tensor.base import Tensor
from paramesh.transforms.derivatives import jvp


def jet(fn: Callable[..., Any], primals: Tree, series: Tree) -> Any:
    """The outputs of a function, and their derivatives along a curve of the inputs.

    Args:
        fn: a Cell or function of Tensors that gives a Tensor or a tuple of Tensors.
        primals: a Tensor, or a tuple of Tensors, of a float type: where the curve is at 0.
        series: the curve's derivatives at 0, from the first on, along a new first axis: (k, ...)
            for a primal (...); a tuple of them for a tuple.

    Returns:
        (outputs, derivatives): these are (k, ...) for an output (...).

    Raises:
        TypeError: an input that is not a Tensor of a float type.
        ValueError: `series` does not fit `primals`, or has no order.
    """
    points, orders = _each(primals), _each(series)
    _check("jet", points, orders)

    def curve(at: Tensor) -> tuple[Any, ...]:
        found = []
        for point, derivatives in zip(points, orders, strict=True):
            value, power = point, at
            for k in range(derivatives.shape[0]):
                value = value + derivatives[k] * power / math.factorial(k + 1)
                power = power * at  # the derivatives of `**` are not finite at 0
            found.append(value)
        return tuple(found)

    outs, several = _along(lambda at: fn(*curve(at)), orders[0].shape[0], points[0].dtype)
    stacked = [stack([out[i] for out in outs[1:]]) for i in range(len(outs[0]))]
    if several:
        return tuple(outs[0]), tuple(stacked)
    return outs[0][0], stacked[0]


def derivative(fn: Callable[..., Any], primals: Tree, order: int) -> Any:
    """The outputs of a function, and their derivative of one order along the direction of ones.

    Args:
        fn: a Cell or function of Tensors that gives a Tensor or a tuple of Tensors.
        primals: a Tensor, or a tuple of Tensors, of a float type.
        order: which derivative, from 1 on.

    Returns:
        (outputs, derivatives), of the shapes of the outputs.

    Raises:
        TypeError: an input that is not a Tensor of a float type, or an order that is no int.
        ValueError: the order is not positive.
    """
    points = _each(primals)
    _check("derivative", points, None)
    order = operator.index(order)
    if order < 1:
        raise ValueError(f"derivative: order must be at least 1, got {order}.")
    outs, several = _along(lambda at: fn(*(p + at for p in points)), order, points[0].dtype)
    if several:
        return tuple(outs[0]), tuple(outs[-1])
    return outs[0][0], outs[-1][0]


def _along(path: Callable[[Any], Any], orders: int, dtype: Any) -> tuple[list[list[Any]], bool]:
    """([outputs, first derivatives, …] at 0, whether there are several outputs)."""
    several = [False]

    def level(at: Any) -> tuple[Any, ...]:
        out = path(at)
        several[0] = isinstance(out, tuple | list)
        return tuple(out) if isinstance(out, tuple | list) else (out,)

    zero, one = Tensor(0.0, dtype), Tensor(1.0, dtype)
    step: Callable[..., Any] = level
    found = [list(step(zero))]
    for _ in range(orders):
        step = _derived(step, one)
        found.append(list(step(zero)))
    return found, several[0]


def _derived(fn: Callable[..., Any], one: Tensor) -> Callable[..., Any]:
    return lambda at: jvp(fn, at, one)[1]


def _each(given: Tree) -> list[Any]:
    return list(given) if isinstance(given, tuple | list) else [given]


def _check(name: str, points: list[Any], orders: list[Any] | None) -> None:
    for i, point in enumerate(points):
        if not isinstance(point, Tensor) or not point.dtype.is_floating():
            kind = point.dtype if isinstance(point, Tensor) else type(point).__name__
            raise TypeError(f"{name}: primals[{i}] must be a Tensor of a float type, got {kind}.")
    if orders is None:
        return
    shapes: list[tuple[int, ...]] = [tuple(getattr(o, "shape", ())) for o in orders]
    fits = len(points) == len(orders) and all(
        s and s[0] == shapes[0][0] and s[1:] == tuple(p.shape)
        for s, p in zip(shapes, points, strict=True)
    )
    if not fits or not shapes[0][0]:
        raise ValueError(
            f"{name}: series must be (orders, ...) for each primal (...), got {shapes} for "
            f"{[tuple(p.shape) for p in points]}."
        )
