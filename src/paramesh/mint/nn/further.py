"""Functions of `mint.nn.functional` that write into their input, and losses and unpooling.

A name that ends in `_` writes its result into `input`, which it also gives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh import ops
from paramesh.array_types import Array
from paramesh.mint.table import made
from paramesh.tensor.argument_types import Ints, Reduction, TensorLike
from paramesh.tensor.base import Tensor

__all__ = [
    "cosine_embedding_loss",
    "elu_",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh_",
    "max_unpool2d",
    "relu_",
    "sigmoid_",
    "soft_margin_loss",
    "threshold_",
]

hardshrink, hardsigmoid, hardswish = ops.hardshrink, ops.hardsigmoid, ops.hardswish


def _into(name: str, input: Tensor, compute: Callable[[Array], Array]) -> Tensor:
    """`compute` of an input of a float type, written into it."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}: input must be a Tensor, got {type(input).__name__}.")
    if not input.dtype.is_floating():
        raise TypeError(f"{name}: input must be of a float type, got {input.dtype}.")
    return input.assign_value(made(name, lambda input: compute(input), "")(input))


def relu_(input: Tensor) -> Tensor:
    """The larger one of 0 and each element."""
    return _into("relu_", input, jax.nn.relu)


def sigmoid_(input: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return _into("sigmoid_", input, jax.nn.sigmoid)


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    """Below 0 alpha * (exp(x) - 1)."""
    return _into("elu_", input, lambda x: jax.nn.elu(x, alpha))


def hardtanh_(input: Tensor, min_val: float = -1, max_val: float = 1) -> Tensor:
    """Each element, or the nearer bound."""
    return _into("hardtanh_", input, lambda x: jnp.clip(x, min_val, max_val))


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    """Elements above `threshold`, and `value` in place of the others."""
    return _into(
        "threshold_", input, lambda x: jnp.where(x > threshold, x, jnp.asarray(value, x.dtype))
    )


def _reduced(loss: Array, reduction: str) -> Any:
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"reduction must be 'none', 'mean' or 'sum', got {reduction!r}.")
    return {"none": lambda x: x, "mean": jnp.mean, "sum": jnp.sum}[reduction](loss)


def _soft_margin(input: Array, other: Array, reduction: str = "mean") -> Any:
    return _reduced(jax.nn.softplus(-other * input), reduction)


def _cosine_embedding(
    input: Array, other: Array, target: Array, margin: float = 0.0, reduction: str = "mean"
) -> Any:
    # torch's: an epsilon in the squares, so that the gradient at 0 is finite.
    eps = 1e-12
    dot = jnp.sum(input * other, -1)
    squares = (jnp.sum(input * input, -1) + eps) * (jnp.sum(other * other, -1) + eps)
    cosine = dot / jnp.sqrt(squares)
    alike = jnp.where(target == 1, 1 - cosine, 0)
    apart = jnp.where(target == -1, jnp.maximum(cosine - margin, 0), 0)
    return _reduced(alike + apart, reduction)


_soft = made("nn.functional.soft_margin_loss", _soft_margin, "", floating=True)
_cosine = made("nn.functional.cosine_embedding_loss", _cosine_embedding, "", floating=True)


def soft_margin_loss(input: TensorLike, target: TensorLike, reduction: Reduction = "mean") -> Any:
    """log(1 + exp(-target * input)); targets are 1 or -1, in the shape of `input`.

    Raises:
        ValueError: another `reduction`.
    """
    return _soft(input, target, reduction)


def cosine_embedding_loss(
    input1: TensorLike,
    input2: TensorLike,
    target: TensorLike,
    margin: float = 0.0,
    reduction: Reduction = "mean",
) -> Any:
    """Where the target is 1, 1 - the cosine; where it is -1, what the cosine exceeds `margin` by.

    (n, c), (n, c), (n,) or (c,), (c,), ().

    Raises:
        ValueError: another `reduction`.
    """
    return _cosine(input1, input2, target, margin, reduction)


def max_unpool2d(
    input: TensorLike,
    indices: TensorLike,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Any:
    """What `max_pool2d` took: each element at its place, and 0 elsewhere.

    (n, c, h, w) -> (n, c, h', w'); places count h * w. `output_size`: (h', w') or the whole shape.
    """
    return ops.max_unpool2d(input, indices, kernel_size, stride, padding, output_size)
