"""`mint`'s elementwise functions, products, and what gives one value for each element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jax.scipy.special as special

from paramesh.array_types import Array
from paramesh.mint.table import fill
from paramesh.tensor.argument_types import NumberLike, RawNumber
from paramesh.tensor.base import raw as _raw
from paramesh.tensor.borders import absolute, clipped
from paramesh.tensor.division import floor_divide, truncate_divide
from paramesh.tensor.method_table import axis_of_3
from paramesh.tensor.promotion import floating


def _div(input: Array, other: Array | RawNumber, *, rounding_mode: str | None = None) -> Any:
    if rounding_mode not in (None, "floor", "trunc"):
        raise ValueError(f"rounding_mode must be None, 'floor' or 'trunc', got {rounding_mode!r}.")
    if rounding_mode == "floor":
        return floor_divide(input, other)
    if rounding_mode == "trunc":
        return truncate_divide(input, other)
    return floating(jnp.asarray(input)) / floating(jnp.asarray(other))


def _clamp(input: Array, min: NumberLike | None = None, max: NumberLike | None = None) -> Any:
    if min is None and max is None:
        raise ValueError("give min, max or both.")
    low, high = (None if v is None else jnp.asarray(v, input.dtype) for v in (min, max))
    return clipped(input, low, high)


def _round(input: Array, *, decimals: int = 0) -> Any:
    return jnp.round(input, decimals)


def _nan_to_num(
    input: Array,
    nan: RawNumber | None = None,
    posinf: RawNumber | None = None,
    neginf: RawNumber | None = None,
) -> Any:
    return jnp.nan_to_num(input, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


def _matmul(input: Array, other: Array | RawNumber) -> Any:
    return jnp.matmul(input, other)


def _xlogy(input: Array, other: Array | RawNumber) -> Any:
    safe = jnp.where(input == 0, 1, other)
    return jnp.where(input == 0, jnp.zeros_like(other), input * jnp.log(safe))


_FRACTIONS = {
    "acos": jnp.arccos, "acosh": jnp.arccosh, "asin": jnp.arcsin, "asinh": jnp.arcsinh,
    "atan": jnp.arctan, "atanh": jnp.arctanh, "cos": jnp.cos, "cosh": jnp.cosh, "erf": special.erf,
    "erfc": special.erfc, "erfinv": special.erfinv, "exp": jnp.exp, "exp2": jnp.exp2,
    "expm1": jnp.expm1, "log": jnp.log, "log10": jnp.log10, "log1p": jnp.log1p, "log2": jnp.log2,
    "reciprocal": jnp.reciprocal, "rsqrt": jax.lax.rsqrt, "sigmoid": jax.nn.sigmoid, "sin": jnp.sin,
    "sinc": jnp.sinc, "sinh": jnp.sinh, "sqrt": jnp.sqrt, "tan": jnp.tan, "tanh": jnp.tanh,
}  # fmt: skip
_LIKE_INPUT = {
    "abs": absolute, "ceil": jnp.ceil, "floor": jnp.floor, "frac": lambda x: x - jnp.trunc(x),
    "isfinite": jnp.isfinite, "isinf": jnp.isinf, "isnan": jnp.isnan, "isneginf": jnp.isneginf,
    "logical_not": jnp.logical_not, "bitwise_not": jnp.bitwise_not, "neg": jnp.negative,
    "sign": jnp.sign, "square": jnp.square, "trunc": jnp.trunc, "real": jnp.real, "imag": jnp.imag,
    "clone": jnp.array, "ravel": jnp.ravel,
}  # fmt: skip
_OF_TWO = {
    "atan2": jnp.arctan2, "bitwise_and": jnp.bitwise_and, "bitwise_or": jnp.bitwise_or,
    "bitwise_xor": jnp.bitwise_xor, "eq": jnp.equal, "floor_divide": floor_divide,
    "fmod": jnp.fmod, "gcd": jnp.gcd, "ge": jnp.greater_equal, "gt": jnp.greater,
    "le": jnp.less_equal, "logaddexp": jnp.logaddexp, "logaddexp2": jnp.logaddexp2,
    "logical_and": jnp.logical_and, "logical_or": jnp.logical_or, "logical_xor": jnp.logical_xor,
    "lt": jnp.less, "maximum": jnp.maximum, "minimum": jnp.minimum, "mul": jnp.multiply,
    "ne": jnp.not_equal, "remainder": jnp.remainder,
}  # fmt: skip


def _one(fn: Callable[..., Any]) -> Any:
    return lambda input: fn(input)


def _two(fn: Callable[..., Any]) -> Any:
    return lambda input, other: fn(input, other)


def _doc(name: str) -> str:
    return f"Elementwise, as torch's `{name}`; shapes broadcast, element types meet by promotion."


__all__: list[str] = []
__all__ += fill({n: (_one(fn), _doc(n)) for n, fn in _FRACTIONS.items()}, floating=True)
__all__ += fill({n: (_one(fn), _doc(n)) for n, fn in _LIKE_INPUT.items()})
__all__ += fill({n: (_two(fn), _doc(n)) for n, fn in _OF_TWO.items()})
__all__ += fill(
    {
        "add": (
            lambda input, other, *, alpha=1: input + (other if alpha == 1 else alpha * other),
            "input + alpha * other.",
        ),
        "sub": (
            lambda input, other, *, alpha=1: input - (other if alpha == 1 else alpha * other),
            "input - alpha * other.",
        ),
        "div": (_div, "input / other; `rounding_mode`: None, 'floor' or 'trunc'."),
        "pow": (
            lambda input, exponent: jnp.power(input, exponent),
            "input to the power of exponent.",
        ),
        "lerp": (
            lambda input, end, weight: input + _raw(weight) * (end - input),
            "input + weight * (end - input).",
        ),
        "addcdiv": (
            lambda input, tensor1, tensor2, *, value=1: input + value * tensor1 / tensor2,
            "input + value * tensor1 / tensor2.",
        ),
        "clamp": (_clamp, "Elements cut to [min, max]; None is open."),
        "round": (_round, "Rounded to so many decimals, halves to the even digit."),
        "nan_to_num": (_nan_to_num, "Finite numbers in place of NaN and infinities."),
        "xlogy": (_xlogy, "input * log(other), and 0 where input is 0."),
        "isclose": (
            lambda input, other, rtol=1e-5, atol=1e-8, equal_nan=False: jnp.isclose(
                input, other, rtol, atol, equal_nan
            ),
            "Bool: |input - other| <= atol + rtol * |other|.",
        ),
        "allclose": (
            lambda input, other, rtol=1e-5, atol=1e-8, equal_nan=False: bool(
                jnp.allclose(input, other, rtol, atol, equal_nan)
            ),
            "bool: whether all are close; outside of programs only.",
        ),
        "equal": (
            lambda input, other: bool(input.shape == other.shape and (input == other).all()),
            "bool: equal shapes and elements; outside of programs only.",
        ),
        "matmul": (_matmul, "Matrix product (..., n, k) x (..., k, m); vectors as in numpy."),
        "mm": (lambda input, mat2: jnp.matmul(input, mat2), "Matrix product (n, k) x (k, m)."),
        "bmm": (
            lambda input, mat2: jnp.matmul(input, mat2),
            "Matrix products (b, n, k) x (b, k, m).",
        ),
        "mv": (lambda input, vec: jnp.matmul(input, vec), "Matrix by vector (n, m) x (m,)."),
        "dot": (lambda input, other: jnp.dot(input, other), "Product of two vectors."),
        "vdot": (lambda input, other: jnp.vdot(input, other), "Product of two vectors."),
        "outer": (lambda input, vec2: jnp.outer(input, vec2), "Outer product (n,) x (m,)."),
        "polar": (
            lambda input, angle: jax.lax.complex(
                input * jnp.cos(_raw(angle)), input * jnp.sin(_raw(angle))
            ),
            "Complex numbers of these sizes and angles.",
        ),
        "addmm": (
            lambda input, mat1, mat2, *, beta=1, alpha=1: (
                beta * input + alpha * jnp.matmul(mat1, mat2)
            ),
            "beta * input + alpha * (mat1 @ mat2).",
        ),
        "addmv": (
            lambda input, mat, vec, *, beta=1, alpha=1: beta * input + alpha * jnp.matmul(mat, vec),
            "beta * input + alpha * (mat @ vec).",
        ),
        "addbmm": (
            lambda input, batch1, batch2, *, beta=1, alpha=1: (
                beta * input + alpha * jnp.einsum("bnk,bkm->nm", batch1, batch2)
            ),
            "beta * input + alpha * the sum of the products of a batch.",
        ),
        "baddbmm": (
            lambda input, batch1, batch2, *, beta=1, alpha=1: (
                beta * input + alpha * jnp.matmul(batch1, batch2)
            ),
            "beta * input + alpha * the products of a batch.",
        ),
        "cross": (
            lambda input, other, dim=None: jnp.cross(
                input,
                other,
                axis=axis_of_3(input) if dim is None else dim,
            ),
            "Vector product along an axis of size 3.",
        ),
    }
)
_ALIASES = {
    "absolute": "abs", "arccos": "acos", "arccosh": "acosh", "arcsin": "asin", "arcsinh": "asinh",
    "arctan": "atan", "arctan2": "atan2", "arctanh": "atanh", "clip": "clamp", "divide": "div",
    "greater": "gt", "greater_equal": "ge", "less": "lt", "less_equal": "le", "negative": "neg",
    "not_equal": "ne", "subtract": "sub", "multiply": "mul",
}  # fmt: skip
for _new, _old in _ALIASES.items():
    globals()[_new] = globals()[_old]
__all__ += list(_ALIASES)
