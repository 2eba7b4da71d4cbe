"""Losses as functions, and the primitives that compute a loss with its gradient.

`reduction` is `mean`, `sum` or `none` (the loss of every element).
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp

from paramesh.dtype import to_dtype
from paramesh.ops.activations import cast_like
from paramesh.ops.table import Array, Floating, function, primitive, tuple_function
from paramesh.tensor import borders
from paramesh.tensor.argument_types import Reduction

# fmt: off
__all__ = [
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "l2_loss", "cosine_similarity",
    "L2Loss", "SmoothL1Loss", "binary_cross_entropy", "binary_cross_entropy_with_logits",
    "sigmoid_cross_entropy_with_logits", "kl_div", "BinaryCrossEntropy", "BCEWithLogitsLoss",
    "SigmoidCrossEntropyWithLogits", "KLDivLoss", "nll_loss", "cross_entropy",
    "nll_loss_with_weight", "NLLLoss", "softmax_cross_entropy_with_logits",
    "sparse_softmax_cross_entropy_with_logits", "SoftmaxCrossEntropyWithLogits",
    "SparseSoftmaxCrossEntropyWithLogits", "hinge_embedding_loss", "margin_ranking_loss",
    "gaussian_nll_loss",
]
# fmt: on


def reduced(loss: jax.Array, reduction: str) -> jax.Array:
    _check_reduction(reduction)
    if reduction == "none":
        return loss
    return jnp.mean(loss) if reduction == "mean" else jnp.sum(loss)


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}.")


def same_shape(**values: jax.Array) -> None:
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    if len(set(shapes.values())) > 1:
        named = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        raise ValueError(f"expected one shape, got {named}.")


def _reduction(reduction: str = "mean") -> dict[str, Any]:
    return {"reduction": reduction}


# Of numbers.


@function
def mse_loss(input: Floating, target: Floating, reduction: Reduction = "mean") -> Any:
    """Mean of (input - target)²; shapes broadcast."""
    return reduced(jnp.square(input - target), reduction)


@function
def l1_loss(input: Floating, target: Floating, reduction: Reduction = "mean") -> Any:
    """Mean of |input - target|; shapes broadcast."""
    return reduced(borders.absolute(input - target), reduction)


@function
def smooth_l1_loss(
    input: Floating, target: Floating, beta: float = 1.0, reduction: Reduction = "none"
) -> Any:
    """(input - target)² / (2 beta) for distances below beta, |input - target| - beta / 2 beyond.

    Args:
        input: (...).
        target: (...).
        beta: where the parabola ends, above 0.
        reduction: `none`, `mean` or `sum`.

    Raises:
        ValueError: the shapes differ, or beta is not positive.
    """
    same_shape(input=input, target=target)
    if beta <= 0:
        raise ValueError(f"beta must be positive, got {beta}.")
    distance = jnp.abs(input - target)
    loss = jnp.where(distance < beta, 0.5 * jnp.square(distance) / beta, distance - 0.5 * beta)
    return reduced(loss, reduction)


@function
def huber_loss(
    input: Floating, target: Floating, reduction: Reduction = "mean", delta: float = 1.0
) -> Any:
    """(input - target)² / 2 for distances up to delta, delta * (distance - delta / 2) beyond.

    Raises:
        ValueError: delta is not positive.
    """
    if delta <= 0:
        raise ValueError(f"delta must be positive, got {delta}.")
    distance = jnp.abs(input - target)
    near, far = 0.5 * jnp.square(distance), delta * (distance - 0.5 * delta)
    return reduced(jnp.where(distance <= delta, near, far), reduction)


@function
def l2_loss(input_x: Floating) -> Any:
    """Half the sum of squares: (...) -> ()."""
    return jnp.sum(jnp.square(input_x)) / 2


def cosine(x1: jax.Array, x2: jax.Array, dim: int, eps: float) -> jax.Array:
    norms = jnp.sum(jnp.square(x1), dim) * jnp.sum(jnp.square(x2), dim)
    return jnp.sum(x1 * x2, dim) * jax.lax.rsqrt(jnp.maximum(norms, eps * eps))


@function
def cosine_similarity(x1: Floating, x2: Floating, dim: int = 1, eps: float = 1e-8) -> Any:
    """Cosine of the angle between vectors along an axis; the norms are at least `eps`."""
    return cosine(x1, x2, dim, eps)


@function
def hinge_embedding_loss(
    inputs: Floating, targets: Floating, margin: float = 1.0, reduction: Reduction = "mean"
) -> Any:
    """The distance of pairs that are alike (target 1), max(0, margin - distance) of others (-1).

    Shapes broadcast.
    """
    apart = jnp.maximum(0, margin - inputs)
    return reduced(jnp.where(targets == 1, inputs, apart), reduction)


@function
def margin_ranking_loss(
    input1: Floating,
    input2: Floating,
    target: Floating,
    margin: float = 0.0,
    reduction: Reduction = "mean",
) -> Any:
    """max(0, -target * (input1 - input2) + margin), with targets 1 and -1; shapes broadcast."""
    return reduced(borders.clipped(-target * (input1 - input2) + margin, 0.0), reduction)


@function
def gaussian_nll_loss(
    x: Floating,
    target: Floating,
    var: Floating,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
) -> Any:
    """-log of the normal density: (log(var) + (x - target)² / var) / 2.

    Args:
        x: the means, (...).
        target: (...).
        var: the variances, (...), or without the last axis, or with it as 1.
        full: whether the constant log(2 pi) / 2 is added.
        eps: the least variance; it has no gradient.
        reduction: `mean`, `sum` or `none`.

    Raises:
        TypeError: full is not a bool. ValueError: eps is not positive.
    """
    if not isinstance(full, bool):
        raise TypeError(f"full must be a bool, got {full!r}.")
    if eps <= 0:
        raise ValueError(f"eps must be positive, got {eps}.")
    var = var[..., None] if var.ndim == x.ndim - 1 else var
    least = jax.lax.stop_gradient(jnp.maximum(var, eps))
    var = least + (var - jax.lax.stop_gradient(var))
    loss = (jnp.log(var) + jnp.square(x - target) / var) / 2
    return reduced(loss + math.log(2 * math.pi) / 2 if full else loss, reduction)


L2Loss = primitive("L2Loss", l2_loss)
SmoothL1Loss = primitive(
    "SmoothL1Loss",
    smooth_l1_loss,
    lambda beta=1.0, reduction="none": {"beta": beta, "reduction": reduction},
)

# Of probabilities.

_TINY = 1e-12  # keeps logarithms of 0 finite


@function
def binary_cross_entropy(
    logits: Floating, labels: Floating, weight: Floating = None, reduction: Reduction = "mean"
) -> Any:
    """-(t log(p) + (1 - t) log(1 - p)) of probabilities p and targets t.

    Args:
        logits: the probabilities, (...) in [0, 1].
        labels: the targets, (...) in [0, 1].
        weight: a factor for each element, or None.
        reduction: `mean`, `sum` or `none`.

    Raises:
        ValueError: the shapes differ.
    """
    same_shape(logits=logits, labels=labels)
    hit, miss = jnp.log(logits + _TINY), jnp.log(1 - logits + _TINY)
    loss = -(labels * hit + (1 - labels) * miss)
    return reduced(loss if weight is None else loss * weight, reduction)


@function
def binary_cross_entropy_with_logits(
    logits: Floating,
    label: Floating,
    weight: Floating = None,
    pos_weight: Floating = None,
    reduction: Reduction = "mean",
) -> Any:
    """The binary cross entropy of sigmoid(logits), without overflow.

    Args:
        logits: (...).
        label: the targets, (...) in [0, 1].
        weight: a factor that broadcasts, or None.
        pos_weight: a factor of the positive term that broadcasts, or None.
        reduction: `mean`, `sum` or `none`.

    Raises:
        ValueError: the shapes differ.
    """
    same_shape(logits=logits, label=label)
    hit, miss = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    positive = label * hit if pos_weight is None else pos_weight * label * hit
    loss = -(positive + (1 - label) * miss)
    return reduced(loss if weight is None else loss * weight, reduction)


@function
def sigmoid_cross_entropy_with_logits(logits: Floating, label: Floating) -> Any:
    """The binary cross entropy of sigmoid(logits), of every element: (...), (...) -> (...)."""
    same_shape(logits=logits, label=label)
    return -(label * jax.nn.log_sigmoid(logits) + (1 - label) * jax.nn.log_sigmoid(-logits))


@function
def kl_div(
    logits: Floating, labels: Floating, reduction: Reduction | Literal["batchmean"] = "mean"
) -> Any:
    """Kullback-Leibler divergence, labels * (log(labels) - logits), of log-probabilities.

    Args:
        logits: log-probabilities.
        labels: probabilities of the target.
        reduction: `mean`, `sum`, `none`, or `batchmean` (the sum divided by the first axis).

    Raises:
        ValueError: the shapes differ.
    """
    same_shape(logits=logits, labels=labels)
    # Labels below 0 count as 0, as in MindSpore.
    none = labels <= 0
    safe = jnp.where(none, jnp.ones_like(labels), labels)
    loss = jnp.where(none, jnp.zeros_like(labels), safe * (jnp.log(safe) - logits))
    if reduction == "batchmean":
        return jnp.sum(loss) / loss.shape[0]
    return reduced(loss, reduction)


BinaryCrossEntropy = primitive("BinaryCrossEntropy", binary_cross_entropy, _reduction)
BCEWithLogitsLoss = primitive("BCEWithLogitsLoss", binary_cross_entropy_with_logits, _reduction)
SigmoidCrossEntropyWithLogits = primitive(
    "SigmoidCrossEntropyWithLogits", sigmoid_cross_entropy_with_logits
)
KLDivLoss = primitive("KLDivLoss", kl_div, _reduction)

# Of classes.


def _of_class(log_p: jax.Array, target: jax.Array, axis: int) -> jax.Array:
    """Element `target` along the axis of classes; NaN for a class that there is not."""
    index = jnp.expand_dims(jnp.where(target < 0, log_p.shape[axis], target), axis)
    return jnp.squeeze(jnp.take_along_axis(log_p, index, axis, mode="fill"), axis)


def _class_nll(
    log_p: jax.Array,
    target: jax.Array,
    weight: jax.Array | None,
    ignore_index: int,
    reduction: Reduction,
    smoothing: float,
) -> tuple[jax.Array, jax.Array]:
    """The negative log-likelihood, and the sum of the weights of its elements."""
    _check_reduction(reduction)
    axis = 0 if log_p.ndim == 1 else 1
    classes = log_p.shape[axis]
    expected = (*log_p.shape[:axis], *log_p.shape[axis + 1 :])
    if tuple(target.shape) != expected:
        raise ValueError(f"target must be of shape {expected}, got {tuple(target.shape)}.")
    if weight is not None and tuple(weight.shape) != (classes,):
        raise ValueError(f"weight must be of shape ({classes},), got {tuple(weight.shape)}.")
    kept = target != ignore_index
    safe = jnp.where(kept, target, 0)
    each = jnp.ones(classes, log_p.dtype) if weight is None else cast_like(weight, log_p)
    zero = jnp.zeros((), log_p.dtype)
    weights = jnp.where(kept, jnp.take(each, safe, mode="fill"), zero)
    loss = jnp.where(kept, -_of_class(log_p, safe, axis), zero) * weights
    if smoothing:
        spread = each.reshape([-1 if i == axis else 1 for i in range(log_p.ndim)])
        uniform = jnp.where(kept, -jnp.sum(log_p * spread, axis), zero)
        loss = (1 - smoothing) * loss + smoothing / classes * uniform
    total = jnp.sum(weights)
    if reduction == "mean":
        return jnp.sum(loss) / total, total
    return reduced(loss, reduction), total


@function
def nll_loss(
    inputs: Floating,
    target: Array,
    weight: Floating = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Negative log-likelihood of classes: -inputs[i, target[i]].

    Args:
        inputs: log-probabilities (n, c), (n, c, ...) or (c,).
        target: classes (n,), (n, ...) or (), integers; a class that does not exist gives NaN.
        weight: (c,), a factor for each class, by which the mean is weighted; or None.
        ignore_index: a class that does not count.
        reduction: `mean`, `sum` or `none`.
        label_smoothing: share of the target that is spread over all classes, from 0 to 1.

    Raises:
        ValueError: shapes that do not fit.
    """
    return _class_nll(inputs, target, weight, ignore_index, reduction, label_smoothing)[0]


@function
def cross_entropy(
    input: Floating,
    target: Array,
    weight: Floating = None,
    ignore_index: int = -100,
    reduction: Reduction = "mean",
    label_smoothing: float = 0.0,
) -> Any:
    """Cross entropy of softmax(input) and classes or probabilities.

    Args:
        input: logits (n, c), (n, c, ...) or (c,).
        target: classes (n,), (n, ...) or (), integers; or probabilities of the input's shape.
        weight: (c,), a factor for each class, by which the mean is weighted; or None.
        ignore_index: a class that does not count.
        reduction: `mean`, `sum` or `none`.
        label_smoothing: share of the target that is spread over all classes, from 0 to 1.

    Raises:
        ValueError: shapes that do not fit, or `label_smoothing` out of range.
    """
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be from 0 to 1, got {label_smoothing}.")
    axis = 0 if input.ndim == 1 else 1
    log_p = jax.nn.log_softmax(input, axis)
    if to_dtype(target.dtype).is_integer():
        return _class_nll(log_p, target, weight, ignore_index, reduction, label_smoothing)[0]
    same_shape(input=input, target=target)
    _check_reduction(reduction)
    share = cast_like(target, log_p) * (1 - label_smoothing)
    share = share + label_smoothing / input.shape[axis]
    if weight is not None:
        share = share * weight.reshape([-1 if i == axis else 1 for i in range(input.ndim)])
    loss = -jnp.sum(share * log_p, axis)
    return reduced(loss, reduction)


@tuple_function
def nll_loss_with_weight(
    logits: Floating,
    labels: Array,
    weight: Floating,
    reduction: Reduction = "mean",
    ignore_index: int = -100,
) -> Any:
    """Negative log-likelihood of classes, and the sum of the weights: (n, c), (n,), (c,).

    Returns:
        (loss, total weight).

    Raises:
        ValueError: shapes that do not fit.
    """
    return _class_nll(logits, labels, weight, ignore_index, reduction, 0.0)


NLLLoss = primitive(
    "NLLLoss",
    nll_loss_with_weight,
    lambda reduction="mean", ignore_index=-100: {
        "reduction": reduction,
        "ignore_index": ignore_index,
    },
)


@tuple_function
def softmax_cross_entropy_with_logits(logits: Floating, labels: Floating) -> Any:
    """Cross entropy of softmax(logits) and probabilities, and its gradient: (n, c), (n, c).

    Returns:
        (loss (n,), its gradient with respect to the logits (n, c)).

    Raises:
        ValueError: the shapes differ.
    """
    same_shape(logits=logits, labels=labels)
    log_p = jax.nn.log_softmax(logits, -1)
    return -jnp.sum(labels * log_p, -1), jnp.exp(log_p) - labels


@function
def sparse_softmax_cross_entropy_with_logits(
    logits: Floating, labels: Array, is_grad: bool = False
) -> Any:
    """Mean cross entropy of softmax(logits) and classes: (n, c), (n,) -> ().

    Args:
        logits: (n, c).
        labels: (n,), integers; a class that does not exist gives NaN.
        is_grad: give the gradient with respect to the logits instead, (n, c).

    Raises:
        ValueError: shapes that do not fit.
    """
    if logits.ndim != 2 or tuple(labels.shape) != (logits.shape[0],):
        raise ValueError(
            f"expected logits (n, c) and labels (n,), got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}."
        )
    if is_grad:
        hit = jax.nn.one_hot(labels, logits.shape[1], dtype=logits.dtype)
        return (jax.nn.softmax(logits, -1) - hit) / logits.shape[0]
    return -jnp.mean(_of_class(jax.nn.log_softmax(logits, -1), labels, 1))


SoftmaxCrossEntropyWithLogits = primitive(
    "SoftmaxCrossEntropyWithLogits", softmax_cross_entropy_with_logits
)
SparseSoftmaxCrossEntropyWithLogits = primitive(
    "SparseSoftmaxCrossEntropyWithLogits",
    sparse_softmax_cross_entropy_with_logits,
    lambda is_grad=False: {"is_grad": is_grad},
)
