"""Of losses."""

from typing import Any

import jax
import jax.numpy as jnp

from paramesh.mindspore_gradients.classes import gradient
from paramesh.ops.table import Floating

__all__: list[str] = []


def _reduction(reduction: str = "mean") -> dict[str, Any]:
    if reduction not in ("none", "mean", "sum", "batchmean"):
        raise ValueError(f"reduction must be none, mean, sum or batchmean, got {reduction!r}.")
    return {"reduction": reduction}


def _kl_div(dy: Floating, x: Floating, y: Floating, reduction: str) -> Any:
    """KLDivLoss(reduction): takes (dy, x, y), y being the target."""
    change = jnp.where(y > 0, -y * dy, 0)
    if reduction == "mean":
        return change / x.size
    return change / x.shape[0] if reduction == "batchmean" else change


gradient(globals(), "KLDivLossGrad", _kl_div, _reduction)


def _binary_cross_entropy(
    x: Floating, y: Floating, dy: Floating, weight: Floating = None, *, reduction: str
) -> Any:
    """BinaryCrossEntropy(reduction): takes (x, y, dy, weight), y being the target."""
    change = (x - y) / jnp.maximum(x * (1 - x), 1e-12) * dy
    change = change if weight is None else change * weight
    return change / x.size if reduction == "mean" else change


gradient(globals(), "BinaryCrossEntropyGrad", _binary_cross_entropy, _reduction)


def _sigmoid_cross_entropy(logits: Floating, label: Floating, dout: Floating) -> Any:
    """SigmoidCrossEntropyWithLogits: takes (logits, label, dy)."""
    return (jax.nn.sigmoid(logits) - label) * dout


gradient(globals(), "SigmoidCrossEntropyWithLogitsGrad", _sigmoid_cross_entropy)
