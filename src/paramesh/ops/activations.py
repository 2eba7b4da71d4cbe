"""Activations and softmax."""

from typing import Any

import jax
import jax.numpy as jnp

from paramesh.ops.table import Array, Dtype, Floating, Kind, alias, function, primitive, unary
from paramesh.tensor import borders
from paramesh.tensor.promotion import cast

# fmt: off
__all__ = [
    "relu", "ReLU", "relu6", "ReLU6", "sigmoid", "Sigmoid", "tanh", "Tanh", "selu", "SeLU",
    "hardswish", "HSwish", "hardsigmoid", "HSigmoid", "mish", "Mish", "silu", "SiLU", "softsign",
    "Softsign", "fast_gelu", "FastGeLU", "logsigmoid", "LogSigmoid", "gelu", "GeLU", "Gelu",
    "FastGelu", "elu", "celu", "leaky_relu", "prelu", "softplus", "hardtanh", "hardshrink",
    "softshrink", "soft_shrink", "threshold", "glu", "Elu", "CeLU", "PReLU", "Softplus",
    "HShrink", "SoftShrink",
    "softmax", "log_softmax", "Softmax", "LogSoftmax", "swish",
]
# fmt: on


def _fast_gelu(x: jax.Array) -> jax.Array:
    return x * jax.nn.sigmoid(1.702 * x)


def _mish(x: jax.Array) -> jax.Array:
    # In half precision three roundings would add up to more than MindSpore's one.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jax.nn.mish(wide).astype(x.dtype)


# Outside of programs JAX takes long to call a function with a gradient of its own that is not
# compiled. In a program it is the same.
relu, ReLU = unary("relu", "ReLU", jax.jit(jax.nn.relu, inline=True), "max(x, 0).", Kind.ARRAY)
_relu6 = jax.jit(borders.relu6, inline=True)
relu6, ReLU6 = unary("relu6", "ReLU6", _relu6, "x clipped to the interval [0, 6].")
sigmoid, Sigmoid = unary("sigmoid", "Sigmoid", jax.nn.sigmoid, "1 / (1 + exp(-x)).")
tanh, Tanh = unary("tanh", "Tanh", jnp.tanh, "Hyperbolic tangent.")
selu, SeLU = unary(
    "selu", "SeLU", jax.nn.selu, "Scaled exponential linear unit (Klambauer et al. 2017)."
)
hardswish, HSwish = unary("hardswish", "HSwish", borders.hard_swish, "x * relu6(x + 3) / 6.")
hardsigmoid, HSigmoid = unary("hardsigmoid", "HSigmoid", jax.nn.hard_sigmoid, "relu6(x + 3) / 6.")
mish, Mish = unary("mish", "Mish", _mish, "x * tanh(softplus(x)) (Misra 2019).")
silu, SiLU = unary("silu", "SiLU", jax.nn.silu, "x * sigmoid(x).")
softsign, Softsign = unary("softsign", "Softsign", jax.nn.soft_sign, "x / (1 + |x|).")
fast_gelu, FastGeLU = unary(
    "fast_gelu",
    "FastGeLU",
    _fast_gelu,
    "x * sigmoid(1.702 x), near to GELU.",
)
logsigmoid, LogSigmoid = unary("logsigmoid", "LogSigmoid", jax.nn.log_sigmoid, "log(sigmoid(x)).")


@function
def gelu(input: Floating, approximate: str = "none") -> Any:
    """Gaussian error linear unit (Hendrycks and Gimpel 2016): x * Φ(x), Φ the normal distribution.

    Args:
        input: (...).
        approximate: `"none"`: exactly, by erf; `"tanh"`: by a tanh, as the class `GeLU` does.

    Raises:
        ValueError: an unknown `approximate`.
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}.")
    return jax.nn.gelu(input, approximate=approximate == "tanh")


GeLU = primitive("GeLU", gelu, lambda: {"approximate": "tanh"})
Gelu = alias("Gelu", GeLU)
FastGelu = alias("FastGelu", FastGeLU)


@function
def elu(input_x: Floating, alpha: float = 1.0) -> Any:
    """Exponential linear unit: x above 0, alpha * (exp(x) - 1) below (Clevert et al. 2015)."""
    return jax.nn.elu(input_x, alpha)


@function
def celu(x: Floating, alpha: float = 1.0) -> Any:
    """Continuous ELU: x above 0, alpha * (exp(x / alpha) - 1) below (Barron 2017)."""
    return jax.nn.celu(x, alpha)


@function
def leaky_relu(input: Floating, alpha: float = 0.2) -> Any:
    """Leaky ReLU: x above 0, alpha * x below."""
    return borders.leaky(input, alpha)


@function
def prelu(input: Floating, weight: Floating) -> Any:
    """Parametric ReLU, x above 0, weight * x below: (n, c, ...) and (c,) or (1,) -> (n, c, ...).

    Raises:
        ValueError: `weight` has neither one entry nor one for each channel (axis 1).
    """
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.ndim > 1 or weight.size not in (1, channels):
        raise ValueError(f"weight must be of shape (1,) or ({channels},), got {weight.shape}.")
    weight = weight.reshape(-1, *[1] * (input.ndim - 2)) if weight.size > 1 else weight.reshape(())
    return jnp.where(input > 0, input, cast_like(weight, input) * input)


def cast_like(value: jax.Array, like: jax.Array) -> jax.Array:
    """A raw value in the element type of another."""
    return value if value.dtype == like.dtype else value.astype(like.dtype)


@function
def softplus(input: Floating, beta: float = 1, threshold: float = 20) -> Any:
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x is above `threshold`."""
    scaled = input * beta
    below = jax.nn.softplus(borders.clipped(scaled, high=threshold)) / beta
    return jnp.where(scaled > threshold, input, below)


@function
def hardtanh(input: Array, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    """Linear inside the interval, constant outside: x clipped to [min_val, max_val]."""
    return jnp.clip(input, min_val, max_val)


@function
def hardshrink(input: Floating, lambd: float = 0.5) -> Any:
    """Hard shrinkage: x where |x| > lambd, 0 elsewhere."""
    return jnp.where(jnp.abs(input) > lambd, input, jnp.zeros_like(input))


@function
def softshrink(input: Floating, lambd: float = 0.5) -> Any:
    """Soft shrinkage: x moved towards 0 by lambd, but not beyond."""
    return jnp.where(jnp.abs(input) > lambd, input - jnp.sign(input) * lambd, jnp.zeros_like(input))


@function
def threshold(input: Array, thr: float, value: float) -> Any:
    """Threshold: x where x > thr, `value` elsewhere."""
    return jnp.where(input > thr, input, jnp.asarray(value, input.dtype))


@function
def glu(x: Floating, axis: int = -1) -> Any:
    """Gated linear unit: (..., 2n) -> (..., n), a * sigmoid(b) of the halves a, b along an axis."""
    return jax.nn.glu(x, axis)


def _alpha(alpha: float = 1.0) -> dict[str, Any]:
    return {"alpha": alpha}


Elu = primitive("Elu", elu, _alpha)
CeLU = primitive("CeLU", celu, _alpha)
PReLU = primitive("PReLU", prelu)
Softplus = primitive("Softplus", softplus)
HShrink = primitive("HShrink", hardshrink, lambda lambd=0.5: {"lambd": lambd})
soft_shrink = alias("soft_shrink", softshrink)
SoftShrink = primitive("SoftShrink", softshrink, lambda lambd=0.5: {"lambd": lambd})


@function
def softmax(input: Floating, axis: int | tuple[int, ...] = -1, *, dtype: Dtype = None) -> Any:
    """exp(x) / sum(exp(x)) along an axis: (...) -> (...).

    Args:
        input: (...).
        axis: the axis or axes that add up to 1.
        dtype: element type to compute in.
    """
    return jax.nn.softmax(input if dtype is None else cast(input, dtype), axis)


@function
def log_softmax(logits: Floating, axis: int = -1) -> Any:
    """Logarithm of softmax along an axis, without underflow: (...) -> (...)."""
    return jax.nn.log_softmax(logits, axis)


Softmax = primitive("Softmax", softmax, lambda axis=-1: {"axis": axis})
LogSoftmax = primitive("LogSoftmax", log_softmax, lambda axis=-1: {"axis": axis})
swish = alias("swish", silu)
