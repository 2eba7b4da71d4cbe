"""Gradients where a function has a kink are MindSpore 2.10's, as it gives them on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paramesh as ms
import paramesh.mindspore_gradients as gradients
from paramesh import Tensor, nn, ops

POINTS = (-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0, 20.0)
ROWS = [[1.0, 1.0, 0.0], [2.0, 2.0, 2.0], [0.0, 3.0, 3.0]]
FIRST = [[1, 0, 0], [1, 0, 0], [0, 1, 0]]

#: What is differentiated, where, and MindSpore's gradient.
CASES: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "relu": (ops.relu, POINTS, (0, 0, 0, 0, 1, 1, 1, 1)),
    "relu6": (ops.relu6, POINTS, (0, 0, 0, 0, 1, 1, 1, 0)),
    "ReLU6": (nn.ReLU6(), POINTS, (0, 0, 0, 0, 1, 1, 1, 0)),
    "hardswish": (ops.hardswish, POINTS, (0, -0.5, 1 / 6, 0.5, 5 / 6, 1.5, 1, 1)),
    "hardsigmoid": (ops.hardsigmoid, POINTS, (0, 0, 1 / 6, 1 / 6, 1 / 6, 0, 0, 0)),
    "leaky_relu": (ops.leaky_relu, POINTS, (0.2, 0.2, 0.2, 0.6, 1, 1, 1, 1)),
    "softplus": (ops.softplus, (20.0, 21.0), (1, 1)),
    "abs": (ops.abs, (-1.0, 0.0, 1.0), (-1, 0, 1)),
    "Tensor.abs": (lambda x: x.abs(), (-1.0, 0.0, 1.0), (-1, 0, 1)),
    "l1_loss": (lambda x: ops.l1_loss(x, ops.zeros_like(x), "sum"), (0.0, 2.0), (0, 1)),
    "clamp": (lambda x: ops.clamp(x, -1, 1), (-3.0, -1.0, 0.0, 1.0, 3.0), (0, 1, 1, 1, 0)),
    "Tensor.clip": (lambda x: x.clip(-1, 1), (-3.0, -1.0, 0.0, 1.0, 3.0), (0, 1, 1, 1, 0)),
    "clip_by_value": (
        lambda x: ops.clip_by_value(x, -1, 1),
        (-3.0, -1.0, 0.0, 1.0, 3.0),
        (0, 0.5, 1, 0.5, 0),
    ),
    "maximum": (lambda x: ops.maximum(x, 0.0), (-1.0, 0.0, 1.0), (0, 0.5, 1)),
    "fmax": (lambda x: ops.fmax(x, ops.zeros_like(x)), (-1.0, 0.0, 1.0), (0, 1, 1)),
    "fmin": (lambda x: ops.fmin(x, ops.zeros_like(x)), (-1.0, 0.0, 1.0), (1, 1, 0)),
    "margin_ranking_loss": (
        lambda x: ops.margin_ranking_loss(x, ops.zeros_like(x), ops.ones_like(x), 0.0, "sum"),
        (-1.0, 0.0, 1.0),
        (-1, -1, 0),
    ),
    "amax": (lambda x: ops.amax(x, 1), ROWS, [[0.5, 0.5, 0], [1 / 3] * 3, [0, 0.5, 0.5]]),
    "max": (lambda x: ops.max(x, 1)[0], ROWS, FIRST),
    "min": (lambda x: ops.min(-x, 1)[0], ROWS, -np.array(FIRST)),
    "Tensor.max": (lambda x: x.max(1), ROWS, FIRST),
    "ArgMaxWithValue": (lambda x: ops.ArgMaxWithValue(1)(x)[1], ROWS, FIRST),
    "adaptive_max_pool2d": (
        lambda x: ops.adaptive_max_pool2d(x, 1),
        np.zeros((1, 2, 2)),
        [[[1, 0], [0, 0]]],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_gradient_at_a_kink_is_mindspores(name: str) -> None:
    fn, at, expected = CASES[name]
    gradient = ms.grad(lambda x: fn(x).sum())(Tensor(np.array(at, np.float32)))
    np.testing.assert_allclose(gradient.asnumpy(), np.array(expected, np.float32), rtol=1e-6)


@pytest.mark.parametrize("name", ["relu6", "hardswish", "leaky_relu", "abs"])
def test_what_is_not_a_number_stays_one(name: str) -> None:
    values = getattr(ops, name)(Tensor(np.array([np.nan, np.inf, 1.0], np.float32))).asnumpy()
    assert np.isnan(values[0])
    assert values[1] == (6 if name == "relu6" else np.inf)


def test_the_largest_has_its_value_beside_what_is_infinite() -> None:
    values, index = ops.max(Tensor(np.array([[-np.inf, 1.0], [np.inf, np.nan]], np.float32)), 1)
    np.testing.assert_array_equal(values.asnumpy(), [1, np.nan])
    np.testing.assert_array_equal(index.asnumpy(), [1, 1])


@pytest.mark.parametrize(
    ("name", "order", "at", "slope"),
    [
        ("AbsGrad", "x, dy", 0.0, 0),
        ("ReLU6Grad", "dy, x", 6.0, 1),
        ("HSwishGrad", "dy, x", 3.0, 1.5),
    ],
)
def test_operators_of_gradients_have_the_same_slopes(
    name: str, order: str, at: float, slope: float
) -> None:
    values = {"x": Tensor([at], ms.float32), "dy": Tensor([1.0], ms.float32)}
    found = getattr(gradients, name)()(*(values[each] for each in order.split(", ")))
    assert found.asnumpy().tolist() == [slope]


def test_bounds_that_are_tensors_have_gradients() -> None:
    x, low = Tensor([0.0, 2.0], ms.float32), Tensor([1.0, 1.0], ms.float32)
    gradients = ms.grad(lambda x, low: ops.clamp(x, low).sum(), (0, 1))(x, low)
    assert [each.asnumpy().tolist() for each in gradients] == [[0, 1], [1, 0]]


def test_xlogy_where_the_first_is_zero() -> None:
    x, y = (Tensor(np.array(v, np.float32)) for v in ([0, 0, 2], [0, 3, 5]))
    assert np.array_equal(ops.xlogy(x, y).asnumpy()[:2], [0, 0])
    by_x, by_y = ms.grad(lambda a, b: ops.xlogy(a, b).sum(), (0, 1))(x, y)
    np.testing.assert_allclose(by_x.asnumpy(), [0, np.log(3), np.log(5)], rtol=1e-6)
    np.testing.assert_allclose(by_y.asnumpy(), [0, 0, 0.4], rtol=1e-6)
