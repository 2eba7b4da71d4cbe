"""Arithmetic, comparisons, logic, activations."""

import math

import numpy as np

from operator_cases import Case, b, each, f, i, p


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


x, y, q = f(2, 3), f(2, 3, seed=1), p(2, 3)
over = q + 1
m, n = i(1, 9, 2, 3), i(1, 5, 2, 3, seed=1)
t, u = b(2, 3), b(2, 3, seed=1)

CASES = [
    Case("abs", [x], np.abs),
    Case("abs", [-m], np.abs),
    Case("neg", [x], np.negative),
    Case("neg", [m], np.negative),
    Case("square", [x], np.square),
    Case("square", [m], np.square),
    Case("sign", [x], np.sign),
    Case("floor", [x], np.floor),
    Case("ceil", [x], np.ceil),
    Case("round", [np.array([0.5, 1.5, -2.5, 1.2], np.float32)], np.round),
    Case("trunc", [x], np.trunc),
    Case("sqrt", [q], np.sqrt),
    Case("sqrt", [m], lambda v: np.sqrt(v, dtype=np.float32)),
    Case("rsqrt", [q], lambda v: 1 / np.sqrt(v)),
    Case("reciprocal", [x], np.reciprocal),
    Case("inv", [x], np.reciprocal),
    Case("reciprocal", [m], lambda v: (1 / v).astype(np.float32)),
    Case("exp", [x], np.exp),
    Case("expm1", [x], np.expm1),
    Case("log", [q], np.log),
    Case("log1p", [q], np.log1p),
    Case("log2", [q], np.log2),
    Case("sin", [x], np.sin),
    Case("cos", [x], np.cos),
    Case("tan", [q], np.tan),
    Case("asin", [q], np.arcsin),
    Case("acos", [q], np.arccos),
    Case("atan", [x], np.arctan),
    Case("sinh", [x], np.sinh),
    Case("cosh", [x], np.cosh),
    Case("asinh", [x], np.arcsinh),
    Case("acosh", [over], np.arccosh),
    Case("atanh", [q], np.arctanh),
    Case("erf", [x], each(math.erf)),
    Case("erfc", [x], each(math.erfc)),
    Case("isnan", [np.array([1, np.nan, np.inf], np.float32)], np.isnan),
    Case("isinf", [np.array([1, np.nan, -np.inf], np.float32)], np.isinf),
    Case("isfinite", [np.array([1, np.nan, np.inf], np.float32)], np.isfinite),
    Case("logical_not", [t], np.logical_not),
    Case("bitwise_not", [m], np.invert),
    Case("add", [x, y], np.add),
    Case("add", [x, y[0]], np.add),
    Case("add", [x, m], lambda a, c: a + c.astype(a.dtype)),
    Case("add", [m, 2], np.add),
    Case("sub", [x, y], np.subtract),
    Case("sub", [1.5, x], np.subtract),
    Case("sub", [t, u], np.logical_xor),
    Case("mul", [x, y], np.multiply),
    Case("mul", [m, n], np.multiply),
    Case("div", [x, y], np.divide, grad=True),
    Case("div", [m, n], lambda a, c: (a / c).astype(np.float32)),
    Case("div", [-m, n], lambda a, c, rounding_mode: a // c, {"rounding_mode": "floor"}),
    Case("div", [x, y], lambda a, c, rounding_mode: np.trunc(a / c), {"rounding_mode": "trunc"}),
    Case("div_no_nan", [x, x * t], lambda a, c: np.where(c == 0, 0, a / np.where(c == 0, 1, c))),
    Case("floor_div", [x, y], np.floor_divide),
    Case("floor_div", [-m, n], np.floor_divide),
    Case("floor_mod", [x, y], np.mod),
    Case("floor_mod", [-m, n], np.mod),
    Case("fmod", [x, y], np.fmod),
    Case("pow", [q, y], np.power),
    Case("pow", [x, 2], np.power),
    Case("pow", [m, 2], np.power),
    Case("maximum", [x, y], np.maximum),
    Case("minimum", [x, y], np.minimum),
    Case("atan2", [x, y], np.arctan2),
    Case("xlogy", [x * t, q], lambda a, c: a * np.log(c)),
    Case("squared_difference", [x, y], lambda a, c: (a - c) ** 2),
    Case("equal", [m, n], np.equal),
    Case("not_equal", [m, n], np.not_equal),
    Case("greater", [x, y], np.greater),
    Case("greater_equal", [m, n], np.greater_equal),
    Case("less", [x, 0.5], np.less),
    Case("less_equal", [m, n], np.less_equal),
    Case("logical_and", [t, u], np.logical_and),
    Case("logical_or", [t, u], np.logical_or),
    Case("logical_xor", [t, u], np.logical_xor),
    Case("bitwise_and", [m, n], np.bitwise_and),
    Case("bitwise_or", [m, n], np.bitwise_or),
    Case("bitwise_xor", [m, n], np.bitwise_xor),
    Case("clamp", [x, -1.0, 0.5], np.clip),
    Case("clamp", [x], lambda v, max: np.minimum(v, max), {"max": q}),
    Case("clamp", [m, 2, 5], np.clip),
    Case("lerp", [x, y, q], lambda a, c, w: a + w * (c - a)),
    Case("lerp", [x, y, 0.25], lambda a, c, w: a + w * (c - a)),
    Case("addcmul", [x, y, q, 2], lambda a, c, d, v: a + v * c * d),
    Case("addcdiv", [x, y, q, 2], lambda a, c, d, v: a + v * c / d),
    Case("isclose", [x, x + np.float32(1e-7)], np.isclose, {}, {"IsClose": {"equal_nan": False}}),
    Case("nan_to_num", [np.array([1, np.nan, np.inf], np.float32)], np.nan_to_num, wide=False),
    Case("addn", [(x, y, q)], lambda parts: parts[0] + parts[1] + parts[2]),
    # Activations.
    Case("relu", [x], lambda v: np.maximum(v, 0)),
    Case("relu", [m - 4], lambda v: np.maximum(v, 0)),
    Case("relu6", [x * 5], lambda v: np.clip(v, 0, 6)),
    Case("sigmoid", [x], sigmoid, grad=True),
    Case("tanh", [x], np.tanh),
    Case(
        "selu",
        [x],
        lambda v: (
            1.0507009873554805 * np.where(v > 0, v, 1.6732632423543772 * np.expm1(v))
        ).astype(v.dtype),
    ),
    Case("hardswish", [x * 2], lambda v: v * np.clip(v + 3, 0, 6) / 6),
    Case("hardsigmoid", [x * 2], lambda v: np.clip(v + 3, 0, 6) / 6),
    Case("mish", [x], lambda v: v * np.tanh(softplus(v))),
    Case("silu", [x], lambda v: v * sigmoid(v)),
    Case("softsign", [x], lambda v: v / (1 + np.abs(v))),
    Case("fast_gelu", [x], lambda v: v * sigmoid(1.702 * v)),
    Case("logsigmoid", [x], lambda v: -softplus(-v)),
    Case(
        "gelu",
        [x],
        each(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2)))),
        settings={"GeLU": None, "Gelu": None},
        grad=True,
    ),
    Case(
        "gelu",
        [x],
        lambda v, approximate: (
            0.5 * v * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))
        ),
        {"approximate": "tanh"},
    ),
    Case(
        "elu",
        [x, 0.5],
        lambda v, a: np.where(v > 0, v, a * np.expm1(v)),
        settings={"Elu": {"alpha": 0.5}},
        grad=True,
    ),
    Case(
        "celu",
        [x, 0.5],
        lambda v, a: np.where(v > 0, v, a * np.expm1(v / a)),
        settings={"CeLU": {"alpha": 0.5}},
    ),
    Case("leaky_relu", [x, 0.1], lambda v, a: np.where(v > 0, v, a * v)),
    Case(
        "prelu",
        [f(2, 3, 2), q[0]],
        lambda v, w: np.where(v > 0, v, w[:, None] * v),
        grad=True,
    ),
    Case("softplus", [x], softplus, grad=True),
    Case(
        "softplus",
        [x, 2.0, 1.0],
        lambda v, k, h: np.where(v * k > h, v, softplus(v * k) / k).astype(v.dtype),
    ),
    Case("hardtanh", [x], lambda v: np.clip(v, -1, 1)),
    Case("hardshrink", [x], lambda v: np.where(np.abs(v) > 0.5, v, 0)),
    Case("softshrink", [x], lambda v: np.sign(v) * np.maximum(np.abs(v) - 0.5, 0)),
    Case("threshold", [x, 0.1, 20.0], lambda v, h, c: np.where(v > h, v, c)),
    Case("glu", [f(2, 4)], lambda v: v[:, :2] * sigmoid(v[:, 2:])),
    Case("softmax", [x], lambda v: np.exp(v) / np.exp(v).sum(-1, keepdims=True), grad=True),
    Case(
        "softmax",
        [x, 0],
        lambda v, a: np.exp(v) / np.exp(v).sum(a, keepdims=True),
        settings={"Softmax": {"axis": 0}},
    ),
    Case(
        "softmax",
        [x, (0, 1)],
        lambda v, a: np.exp(v) / np.exp(v).sum(a, keepdims=True),
        settings={"Softmax": {"axis": (0, 1)}},
    ),
    Case("log_softmax", [x], lambda v: v - np.log(np.exp(v).sum(-1, keepdims=True))),
]
