"""Steps of optimizers as operators: their formulas, and rows alone where indices name them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh.ops as ops
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from type_checks import untyped

RNG = np.random.default_rng(5)
V, A, B, C = (RNG.uniform(0.2, 0.9, (4, 2)).astype(np.float32) for _ in range(4))
G = RNG.normal(size=(4, 2)).astype(np.float32)


def prox(moved: Any, rate: Any, l1: float, l2: float) -> Any:
    return np.sign(moved) * np.maximum(np.abs(moved) - rate * l1, 0) / (1 + rate * l2)


def ftrl(v: Any, a: Any, b: Any, g: Any) -> tuple[Any, ...]:
    total = a + g * g
    slope = b + g - (np.sqrt(total) - np.sqrt(a)) / 0.1 * v
    new = (0.3 * np.sign(slope) - slope) / (np.sqrt(total) / 0.1 + 0.4)
    return np.where(np.abs(slope) > 0.3, new, 0), total, slope


def adam(v: Any, a: Any, b: Any, g: Any) -> tuple[Any, ...]:
    mean, square = 0.9 * a + 0.1 * g, 0.99 * b + 0.01 * g * g
    rate = 0.1 * np.sqrt(1 - 0.98) / (1 - 0.81)
    return v - rate * mean / (np.sqrt(square) + 1e-3), mean, square


def adagrad(v: Any, a: Any, g: Any) -> tuple[Any, ...]:
    return v - 0.1 * g / (np.sqrt(a + g * g) + 1e-3), a + g * g


def adagrad_with_penalties(v: Any, a: Any, g: Any) -> tuple[Any, ...]:
    rate = 0.1 / np.sqrt(a + g * g)
    return prox(v - rate * g, rate, 0.3, 0.2), a + g * g


def sign_step(factor: Any) -> tuple[Any, Any]:
    mean = 0.9 * A + 0.1 * G
    return V - 0.1 * factor(np.sign(G) * np.sign(mean)) * G, mean


_ADA_MAX = (0.9 * A + 0.1 * G, np.maximum(0.99 * B, np.abs(G)))
_DELTA = 0.9 * A + 0.1 * G * G
_CHANGE = G * np.sqrt(B + 1e-3) / np.sqrt(_DELTA + 1e-3)
_AMS = adam(V, A, B, G)
_CENTRED = (0.9 * A + 0.1 * G, 0.9 * B + 0.1 * G * G)
_MOVE = 0.5 * C + 0.1 * G / np.sqrt(_CENTRED[1] - _CENTRED[0] ** 2 + 1.0)
T = Tensor(G)

#: What is called, its states, what follows them, and what they become.
DENSE = {
    "ada_max": (
        ops.ApplyAdaMax(),
        (V, A, B),
        (0.81, 0.1, 0.9, 0.99, 1e-3, T),
        (V - 0.1 / 0.19 * _ADA_MAX[0] / (_ADA_MAX[1] + 1e-3), *_ADA_MAX),
    ),
    "adadelta": (
        ops.ApplyAdadelta(),
        (V, A, B),
        (0.1, 0.9, 1e-3, T),
        (V - 0.1 * _CHANGE, _DELTA, 0.9 * B + 0.1 * _CHANGE**2),
    ),
    "adagrad_v2": (ops.ApplyAdagradV2(1e-3), (V, A), (0.1, T), adagrad(V, A, G)),
    "amsgrad": (
        ops.ApplyAdamWithAmsgrad(0.9, 0.99, 1e-3),
        (V, A, B, C),
        (0.81, 0.98, 0.1, T),
        (
            V - 0.1 * np.sqrt(0.02) / 0.19 * _AMS[1] / (np.sqrt(np.maximum(C, _AMS[2])) + 1e-3),
            *_AMS[1:],
            np.maximum(C, _AMS[2]),
        ),
    ),
    "ftrl": (ops.ApplyFtrl(), (V, A, B), (T, 0.1, 0.3, 0.2, -0.5), ftrl(V, A, B, G)),
    "power_sign": (
        ops.ApplyPowerSign(),
        (V, A),
        (0.1, 1.5, 0.7, 0.9, T),
        sign_step(lambda agree: np.exp(1.5 * 0.7 * agree)),
    ),
    "add_sign": (
        ops.ApplyAddSign(),
        (V, A),
        (0.1, 1.5, 0.7, 0.9, T),
        sign_step(lambda agree: 1.5 + 0.7 * agree),
    ),
    "proximal_adagrad": (
        ops.ApplyProximalAdagrad(),
        (V, A),
        (0.1, 0.3, 0.2, T),
        adagrad_with_penalties(V, A, G),
    ),
    "proximal_descent": (
        ops.ApplyProximalGradientDescent(),
        (V,),
        (0.1, 0.3, 0.2, T),
        (prox(V - 0.1 * G, 0.1, 0.3, 0.2),),
    ),
    "centered_rms_prop": (
        ops.ApplyCenteredRMSProp(),
        (V, A, B, C),
        (T, 0.1, 0.9, 0.5, 1.0),
        (V - _MOVE, *_CENTRED, _MOVE),
    ),
}


@pytest.mark.parametrize("name", DENSE)
def test_steps(name: str) -> None:
    form, states, rest, expected = DENSE[name]
    params = [Parameter(Tensor(each), name=f"s{i}") for i, each in enumerate(states)]
    out = form(*params, *rest)
    for param, value in zip(params, expected, strict=True):
        np.testing.assert_allclose(param.asnumpy(), value, rtol=2e-5, atol=1e-6)
    first = out[0] if isinstance(out, tuple) else out
    np.testing.assert_allclose(first.asnumpy(), expected[0], rtol=2e-5, atol=1e-6)


_ADAM = (0.81, 0.98, 0.1, 0.9, 0.99, 1e-3)
#: Of rows: what is called, how many states, what stands between, and the rule.
SPARSE = {
    "adagrad": (ops.SparseApplyAdagradV2(0.1, 1e-3), 2, (), adagrad),
    "ftrl": (ops.SparseApplyFtrl(0.1, 0.3, 0.2, -0.5), 3, (), ftrl),
    "fused_ftrl": (ops.FusedSparseFtrl(0.1, 0.3, 0.2, -0.5), 3, (), ftrl),
    "proximal": (ops.FusedSparseProximalAdagrad(), 2, (0.1, 0.3, 0.2), adagrad_with_penalties),
    "lazy_adam": (ops.FusedSparseLazyAdam(), 3, _ADAM, adam),
    "adam": (ops.FusedSparseAdam(), 3, _ADAM, adam),
}


@pytest.mark.parametrize("name", SPARSE)
def test_steps_of_rows(name: str) -> None:
    form, count, between, rule = SPARSE[name]
    states = (V, A, B)[:count]
    params = [Parameter(Tensor(each), name=f"s{i}") for i, each in enumerate(states)]
    rows = np.array([2, 0, 2, 7], np.int32)  # 2 twice, and one that is not there
    form(*params, *between, T, Tensor(rows))
    whole = np.zeros_like(V)
    np.add.at(whole, rows[:3], G[:3])
    after = untyped(rule)(*states, whole)
    for param, before, new in zip(params, states, after, strict=True):
        named = np.isin(np.arange(4), rows)[:, None] | (name == "adam")
        wanted = np.where(named, new, before)
        np.testing.assert_allclose(param.asnumpy(), wanted, rtol=2e-5, atol=1e-6)


def test_what_is_refused() -> None:
    params = [Parameter(Tensor(each), name=f"s{i}") for i, each in enumerate((V, A))]
    with pytest.raises(ValueError, match=r"grad must have a row for each index, \(2, 2\)"):
        ops.SparseApplyAdagrad(0.1)(*params, T, Tensor(np.array([0, 1], np.int32)))
    small = Parameter(Tensor(A[:2]), name="small")
    with pytest.raises(ValueError, match=r"must have one shape, got \[\(4, 2\), \(2, 2\)\]"):
        ops.SparseApplyAdagrad(0.1)(params[0], small, T, Tensor(np.array([0], np.int32)))
    with pytest.raises(ValueError, match="lr must be above 0"):
        ops.FusedSparseFtrl(0.0, 0.3, 0.2, -0.5)
    with pytest.raises(TypeError, match="ApplyAdagradV2: var must be a Parameter"):
        ops.ApplyAdagradV2(1e-3)(Tensor(V), params[1], 0.1, T)


def test_rms_prop_of_some_rows_keeps_the_mean_where_the_gradient_is_zero() -> None:
    """As MindSpore's operator; its values for other gradients are recorded."""
    ones = np.ones((3, 2), np.float32)
    var, ms, mom = (Parameter(Tensor(ones.copy()), name) for name in ("var", "ms", "mom"))
    grad = np.array([[0.0, 2.0]], np.float32)
    ops.SparseApplyRMSProp(0.5, 0.0, 1e-6)(var, ms, mom, 0.1, Tensor(grad), Tensor([1]))
    np.testing.assert_allclose(ms.asnumpy(), [[1, 1], [1, 2.5], [1, 1]])
    np.testing.assert_allclose(var.asnumpy()[1], [1, 1 - 0.2 / np.sqrt(2.5)], rtol=1e-6)
