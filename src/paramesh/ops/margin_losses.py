"""Losses that ask for a margin between what is right and what is not.

`reduction` is `mean`, `sum` or `none` everywhere. Targets are 1 and -1, or numbers of classes.

Source: MindSpore's operators of these names, which are torch's.
"""

from typing import Any

import jax
import jax.numpy as jnp

from paramesh.ops.losses import cosine, reduced, same_shape
from paramesh.ops.table import Array, Floating, function, primitive, tuple_function
from paramesh.tensor.argument_types import NumberLike, Reduction

# fmt: off
__all__ = [
    "cosine_embedding_loss", "multi_margin_loss", "multilabel_margin_loss",
    "multilabel_margin_parts", "multilabel_soft_margin_loss", "soft_margin_loss",
    "triplet_margin_loss", "MultiMarginLoss",
    "MultilabelMarginLoss", "SoftMarginLoss", "TripletMarginLoss",
]
# fmt: on


@function
def cosine_embedding_loss(
    input1: Floating,
    input2: Floating,
    target: Array,
    margin: float = 0.0,
    reduction: Reduction = "mean",
) -> Any:
    """1 - cos(input1, input2) where the target is 1, max(0, cos - margin) where it is -1.

    Args:
        input1: (n, d), or (d,).
        input2: as input1.
        target: 1 or -1: (n,), or ().
        margin: the cosine that is low enough, from -1 to 1.
        reduction: see above.

    Raises:
        ValueError: `margin` is out of range, or shapes that do not fit.
    """
    if not -1 <= margin <= 1:
        raise ValueError(f"margin must be from -1 to 1, got {margin}.")
    same_shape(input1=input1, input2=input2)
    if target.shape != input1.shape[:-1]:
        raise ValueError(
            f"target must be of shape {tuple(input1.shape[:-1])}, got {tuple(target.shape)}."
        )
    likeness = cosine(input1, input2, -1, 1e-8)
    near = jnp.where(target == 1, 1 - likeness, 0)
    far = jnp.where(target == -1, jnp.maximum(likeness - margin, 0), 0)
    return reduced(near + far, reduction)


@function
def soft_margin_loss(input: Floating, target: Floating, reduction: Reduction = "mean") -> Any:
    """log(1 + exp(-target * input)), with targets 1 and -1: (...) each.

    Raises:
        ValueError: different shapes.
    """
    same_shape(input=input, target=target)
    return reduced(jax.nn.softplus(-target * input), reduction)


@function
def multi_margin_loss(
    input: Floating,
    target: Array,
    p: int = 1,
    margin: NumberLike = 1,
    weight: Floating = None,
    reduction: Reduction = "mean",
) -> Any:
    """Mean over the other classes of max(0, margin - input[target] + input[class]) ** p.

    Args:
        input: (n, c).
        target: the right classes (n,), whole numbers below c.
        p: 1 or 2.
        margin: by how much the right class has to lead.
        weight: of the right classes, (c,), or None.
        reduction: see above.

    Raises:
        ValueError: another p, or shapes that do not fit.
    """
    if p not in (1, 2):
        raise ValueError(f"p must be 1 or 2, got {p}.")
    if input.ndim != 2 or target.shape != input.shape[:1]:
        raise ValueError(
            f"expected input (n, c) and target (n,), got {tuple(input.shape)} and "
            f"{tuple(target.shape)}."
        )
    right = jnp.take_along_axis(input, target[:, None], 1)
    apart = jnp.maximum(0, margin - right + input) ** p
    if weight is not None:
        if weight.shape != input.shape[1:]:
            raise ValueError(
                f"weight must be of shape {tuple(input.shape[1:])}, got {tuple(weight.shape)}."
            )
        apart = apart * weight[target][:, None]
    others = jnp.arange(input.shape[1]) != target[:, None]
    return reduced(jnp.where(others, apart, 0).sum(1) / input.shape[1], reduction)


def _label_margins(input: jax.Array, target: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(Losses (n,), Bool (n, c): which classes are right), of targets that end with a -1."""
    if input.ndim not in (1, 2) or input.shape != target.shape:
        raise ValueError(
            f"expected input and target of one shape, (c,) or (n, c), got {tuple(input.shape)} and "
            f"{tuple(target.shape)}."
        )
    count = input.shape[-1]
    given = jnp.cumprod(target >= 0, -1).astype(bool)  # those before the first -1
    hot = jax.nn.one_hot(jnp.where(given, target, count), count, dtype=input.dtype)
    right = hot.sum(-2) > 0
    at = jnp.take_along_axis(input, jnp.where(given, target, 0), -1)
    apart = jnp.maximum(0, 1 - (at[..., :, None] - input[..., None, :]))
    counted = given[..., :, None] & ~right[..., None, :]
    return jnp.where(counted, apart, 0).sum((-1, -2)) / count, right


@function
def multilabel_margin_loss(input: Floating, target: Array, reduction: Reduction = "mean") -> Any:
    """Mean of max(0, 1 - (input[right] - input[wrong])) over right and wrong classes.

    Args:
        input: (n, c) or (c,).
        target: numbers of the right classes, a -1 behind the last: as input.
        reduction: see above.

    Raises:
        ValueError: different shapes, or other numbers of axes.
    """
    return reduced(_label_margins(input, target)[0], reduction)


@tuple_function
def multilabel_margin_parts(input: Floating, target: Array, reduction: Reduction = "mean") -> Any:
    """(`multilabel_margin_loss`, Int32: 1 where a class is right, as input)."""
    losses, right = _label_margins(input, target)
    return reduced(losses, reduction), right.astype(jnp.int32)


@function
def multilabel_soft_margin_loss(
    input: Floating, target: Floating, weight: Floating = None, reduction: Reduction = "mean"
) -> Any:
    """Mean over the classes of the cross entropy of each with its logistic function.

    Args:
        input: (..., c).
        target: 0 or 1, (..., c).
        weight: of the classes, (c,), or None.
        reduction: see above.

    Raises:
        ValueError: different shapes.
    """
    same_shape(input=input, target=target)
    losses = -(target * jax.nn.log_sigmoid(input) + (1 - target) * jax.nn.log_sigmoid(-input))
    return reduced((losses if weight is None else losses * weight).mean(-1), reduction)


def distance(a: jax.Array, b: jax.Array, p: float, eps: float) -> jax.Array:
    return jnp.sum(jnp.abs(a - b + eps) ** p, -1) ** (1 / p)


@function
def triplet_margin_loss(
    anchor: Floating,
    positive: Floating,
    negative: Floating,
    margin: NumberLike = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
) -> Any:
    """max(0, |anchor - positive| - |anchor - negative| + margin).

    Args:
        anchor: (n, d).
        positive: of the anchor's kind, (n, d).
        negative: of another kind, (n, d).
        margin: how much nearer the like sample has to be.
        p: of the p-norm that is the distance.
        eps: added to differences, so that gradients are finite.
        swap: whether |positive - negative| counts, where it is less.
        reduction: see above.

    Raises:
        ValueError: `p` is not positive.
    """
    if p <= 0:
        raise ValueError(f"p must be positive, got {p}.")
    far = distance(anchor, negative, p, eps)
    if swap:
        far = jnp.minimum(far, distance(positive, negative, p, eps))
    near = distance(anchor, positive, p, eps)
    lead: Any = near - far + margin
    return reduced(jnp.maximum(lead, 0), reduction)


def _by_margin(p: int = 1, margin: float = 1.0, reduction: Reduction = "mean") -> dict[str, Any]:
    return {"p": p, "margin": margin, "reduction": reduction}


def _by_distance(
    p: float = 2, swap: bool = False, eps: float = 1e-6, reduction: Reduction = "mean"
) -> dict[str, Any]:
    return {"p": p, "swap": swap, "eps": eps, "reduction": reduction}


def _by_reduction(reduction: Reduction = "mean") -> dict[str, Any]:
    return {"reduction": reduction}


MultiMarginLoss = primitive("MultiMarginLoss", multi_margin_loss, _by_margin)
MultilabelMarginLoss = primitive("MultilabelMarginLoss", multilabel_margin_parts, _by_reduction)
SoftMarginLoss = primitive("SoftMarginLoss", soft_margin_loss, _by_reduction)
TripletMarginLoss = primitive("TripletMarginLoss", triplet_margin_loss, _by_distance)
