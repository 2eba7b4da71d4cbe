"""Losses of margins, distributions, overlaps and sequences."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from paramesh.dtype import x64
from paramesh.nn import arguments
from paramesh.nn.activation import get_activation
from paramesh.nn.cell import Cell
from paramesh.nn.losses import LossBase
from paramesh.ops import ctc, margin_losses
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.promotion import broadcasting


class _OfValues(LossBase):
    """A loss computed on raw values by `_losses`, which `get_loss` reduces."""

    def _reduced(self, *inputs: object) -> Any:
        """() for `mean` and `sum`, otherwise the losses."""
        values = [raw(arguments.tensor(type(self).__name__, x)) for x in inputs]
        with x64(*values), broadcasting():
            losses = wrap(self._losses(*values))
        return self.get_loss(losses)

    def _losses(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


class MarginRankingLoss(_OfValues):
    """max(0, -target * (input1 - input2) + margin).

    Args:
        margin: see above.
        reduction: `mean`, `sum` or `none`.
    """

    def __init__(self, margin: float = 0.0, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.margin = margin

    def construct(self, input1: TensorLike, input2: TensorLike, target: TensorLike) -> Any:
        """(...), (...), and 1 or -1 (...)."""
        return self._reduced(input1, input2, target)

    def _losses(self, input1: jax.Array, input2: jax.Array, target: jax.Array) -> Any:
        return jnp.maximum(0, -target * (input1 - input2) + self.margin)


class TripletMarginLoss(LossBase):
    """How much nearer an anchor is to a like sample than to an unlike one, and a margin.

    Args:
        p: of the p-norm that is the distance.
        swap: whether the distance of both samples counts, if it is less.
        eps: added to differences.
        reduction: `mean`, `sum` or `none`.
        margin: see above.
    """

    def __init__(
        self,
        p: float = 2,
        swap: bool = False,
        eps: float = 1e-6,
        reduction: str = "mean",
        margin: float = 1.0,
    ) -> None:
        super().__init__(reduction)
        self.p, self.swap, self.eps, self.margin = p, swap, eps, margin

    def construct(
        self,
        x: TensorLike,
        positive: TensorLike,
        negative: TensorLike,
        margin: TensorLike | None = None,
    ) -> Any:
        """(n, d) each; `margin` instead of that of the class."""
        chosen = self.margin if margin is None else margin
        settings: dict[str, Any] = {
            "margin": chosen,
            "p": self.p,
            "eps": self.eps,
            "swap": self.swap,
        }
        losses = margin_losses.triplet_margin_loss(
            x, positive, negative, reduction="none", **settings
        )
        return self.get_loss(losses)


class TripletMarginWithDistanceLoss(_OfValues):
    """`TripletMarginLoss` by a distance of one's own.

    Args:
        distance_function: of two Tensors; None: the euclidean distance.
        swap: whether the distance of both samples counts, if it is less.
        reduction: `mean`, `sum` or `none`.
        margin: the margin.
    """

    def __init__(
        self,
        distance_function: Callable[[Any, Any], Any] | None = None,
        swap: bool = False,
        reduction: str = "mean",
        margin: float = 1.0,
    ) -> None:
        super().__init__(reduction)
        self.distance_function = distance_function
        self.swap, self.margin = swap, margin

    def construct(self, x: TensorLike, positive: TensorLike, negative: TensorLike) -> Any:
        """(n, d) each."""
        return self._reduced(x, positive, negative)

    def _losses(self, x: jax.Array, positive: jax.Array, negative: jax.Array) -> Any:
        given = self.distance_function

        def distance(a: jax.Array, b: jax.Array) -> Any:
            return (
                margin_losses.distance(a, b, 2, 1e-6)
                if given is None
                else raw(given(wrap(a), wrap(b)))
            )

        far = distance(x, negative)
        if self.swap:
            far = jnp.minimum(far, distance(positive, negative))
        return jnp.maximum(distance(x, positive) - far + self.margin, 0)


class GaussianNLLLoss(_OfValues):
    """-log of the normal density with this variance.

    Args:
        full: whether the constant counts.
        eps: the least variance.
        reduction: `mean`, `sum` or `none`.
    """

    def __init__(self, *, full: bool = False, eps: float = 1e-6, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.full, self.eps = full, arguments.positive("GaussianNLLLoss", "eps", eps)

    def construct(self, logits: TensorLike, labels: TensorLike, var: TensorLike) -> Any:
        """(...) each; `var` may be (...) without its last axis."""
        return self._reduced(logits, labels, var)

    def _losses(self, logits: jax.Array, labels: jax.Array, var: jax.Array) -> Any:
        var = var[..., None] if var.ndim == logits.ndim - 1 else var
        # The least variance has no gradient.
        least = jax.lax.stop_gradient(jnp.maximum(var, self.eps))
        var = least + (var - jax.lax.stop_gradient(var))
        losses = 0.5 * (jnp.log(var) + jnp.square(logits - labels) / var)
        return losses + 0.5 * math.log(2 * math.pi) if self.full else losses


class PoissonNLLLoss(_OfValues):
    """-log of the Poisson probability.

    Args:
        log_input: whether the input is the logarithm of the mean.
        full: whether Stirling's approximation of log(target!) counts.
        eps: added to the mean before its logarithm.
        reduction: `mean`, `sum` or `none`.
    """

    def __init__(
        self,
        log_input: bool = True,
        full: bool = False,
        eps: float = 1e-8,
        reduction: str = "mean",
    ) -> None:
        super().__init__(reduction)
        self.log_input, self.full, self.eps = log_input, full, eps

    def construct(self, input: TensorLike, target: TensorLike) -> Any:
        """(...) each."""
        return self._reduced(input, target)

    def _losses(self, x: jax.Array, target: jax.Array) -> Any:
        losses = jnp.exp(x) - target * x if self.log_input else x - target * jnp.log(x + self.eps)
        if self.full:
            safe = jnp.where(target > 1, target, 1)
            more = safe * jnp.log(safe) - safe + 0.5 * jnp.log(2 * math.pi * safe)
            losses = losses + jnp.where(target > 1, more, 0)
        return losses


class MultiMarginLoss(LossBase):
    """Mean over the other classes of max(0, margin - x[target] + x[class]) ** p.

    Args:
        p: 1 or 2.
        margin: see above.
        reduction: `mean`, `sum` or `none`.
        weight: not here: it is given to the call.
    """

    def __init__(
        self,
        p: int = 1,
        margin: float = 1.0,
        reduction: str = "mean",
        weight: TensorLike | None = None,
    ) -> None:
        super().__init__(reduction)
        if p not in (1, 2):
            raise ValueError(f"MultiMarginLoss(p): expected 1 or 2, got {p!r}.")
        self.p, self.margin, self.weight = p, margin, weight

    def construct(self, x: TensorLike, target: TensorLike, weight: TensorLike | None = None) -> Any:
        """(n, c), classes (n,), and weights of the classes (c,) or None."""
        weight = self.weight if weight is None else weight
        losses = margin_losses.multi_margin_loss(x, target, self.p, self.margin, weight, "none")
        return self.get_loss(losses)


class MultiLabelSoftMarginLoss(LossBase):
    """Mean over the classes of the cross entropy of each with its logistic function.

    Args:
        weight: of the classes (c,), or None.
        reduction: `mean`, `sum` or `none`.
    """

    def __init__(self, weight: TensorLike | None = None, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = weight

    def construct(self, x: TensorLike, target: TensorLike) -> Any:
        """(n, c), and 0 or 1 (n, c)."""
        losses = margin_losses.multilabel_soft_margin_loss(x, target, self.weight, "none")
        return self.get_loss(losses)


class DiceLoss(LossBase):
    """1 - the overlap of two masks, twice it divided by both (Milletari et al. 2016).

    Args:
        smooth: added above and below.
    """

    def __init__(self, smooth: float = 1e-5) -> None:
        super().__init__()
        self.smooth = arguments.positive("DiceLoss", "smooth", smooth)

    def construct(self, logits: TensorLike, label: TensorLike) -> Any:
        """(n, ...), and 0 or 1 (n, ...) -> ()."""
        a, b = (raw(arguments.tensor("DiceLoss", x)) for x in (logits, label))
        if a.shape != b.shape:
            raise ValueError(f"DiceLoss: logits {a.shape} and label {b.shape} must have one shape.")
        with x64(a, b):
            both = jnp.sum(a * b)
            total = jnp.sum(a * a) + jnp.sum(b * b)
            return wrap(1 - (2 * both + self.smooth) / (total + self.smooth))


class MultiClassDiceLoss(LossBase):
    """The mean over the classes of `DiceLoss`.

    Args:
        weights: of the classes, (c, …) of two axes, or None.
        ignore_indiex: a class that does not count, though the mean is still over all of them, as in
            MindSpore; or None. The spelling is MindSpore's.
        activation: of the logits first: "softmax", "logsoftmax", "relu", "relu6", "tanh",
            "sigmoid", a Cell, or None.

    Raises:
        TypeError: an argument of another type. ValueError: another name of an activation, or
            weights without two axes; in the call, shapes that do not fit together.
    """

    def __init__(
        self,
        weights: Tensor | None = None,
        ignore_indiex: int | None = None,
        activation: str | Cell | None = "softmax",
    ) -> None:
        super().__init__()
        owner = "MultiClassDiceLoss"
        if weights is not None and arguments.tensor(owner, weights).ndim != 2:
            raise ValueError(f"{owner}(weights): expected two axes, got shape {weights.shape}.")
        if ignore_indiex is not None:
            arguments.integer(owner, "ignore_indiex", ignore_indiex, low=0)
        if isinstance(activation, str):
            known = ("softmax", "logsoftmax", "relu", "relu6", "tanh", "sigmoid")
            activation = get_activation(arguments.choice(owner, "activation", activation, known))
        if activation is not None and not isinstance(activation, Cell):
            raise TypeError(f"{owner}(activation): expected a name or a Cell, got {activation!r}.")
        self.weights, self.ignore_indiex = weights, ignore_indiex
        self.activation = activation
        self.binarydiceloss = DiceLoss(smooth=1e-5)

    def construct(self, logits: TensorLike, label: TensorLike) -> Any:
        """(n, c, ...), and 0 or 1 (n, c, ...) -> ()."""
        owner = "MultiClassDiceLoss"
        for given in (logits, label):
            arguments.tensor(owner, given)
        if logits.shape != label.shape or label.ndim < 2:
            raise ValueError(
                f"{owner}: logits {logits.shape} and label {label.shape} must have one shape, of "
                "at least two axes."
            )
        classes = label.shape[1]
        if self.weights is not None and self.weights.shape[0] != classes:
            raise ValueError(
                f"{owner}: the weights {self.weights.shape} are of {self.weights.shape[0]} "
                f"classes, the labels of {classes}."
            )
        if self.activation is not None:
            logits = self.activation(logits)
        losses = []
        for i in range(classes):
            if i != self.ignore_indiex:
                loss = self.binarydiceloss(logits[:, i], label[:, i])
                losses.append(loss if self.weights is None else loss * self.weights[i])
        return sum(losses, Tensor(0.0)) / classes


class FocalLoss(LossBase):
    """Cross entropy in which what is classified right counts less (Lin et al. 2017).

    Args:
        weight: of the classes (c,), or None.
        gamma: how much less.
        reduction: `mean`, `sum` or `none`.
    """

    def __init__(
        self, weight: TensorLike | None = None, gamma: float = 2.0, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.weight, self.gamma = weight, gamma

    def construct(self, logits: TensorLike, labels: TensorLike) -> Any:
        """(n, c, ...), and classes (n, 1, ...) or one-hot as the logits."""
        x, label = (raw(arguments.tensor("FocalLoss", t)) for t in (logits, labels))
        if x.ndim < 2 or label.ndim != x.ndim or label.shape[1] not in (1, x.shape[1]):
            raise ValueError(
                f"FocalLoss: expected logits (n, c, ...) and labels (n, 1, ...) or (n, c, ...), "
                f"got {x.shape} and {label.shape}."
            )
        with x64(x):
            x = x.reshape(*x.shape[:2], -1)
            label = label.reshape(*label.shape[:2], -1)
            log_p = jax.nn.log_softmax(x, 1)
            weight = None if self.weight is None else raw(self.weight)[None, :, None]
            if label.shape[1] == 1 and x.shape[1] != 1:
                log_p = jnp.take_along_axis(log_p, label, 1)
                if weight is not None:
                    weight = jnp.take_along_axis(jnp.broadcast_to(weight, x.shape), label, 1)
            else:
                log_p = log_p * label
            losses = -((1 - jnp.exp(log_p)) ** self.gamma) * log_p
            losses = losses if weight is None else losses * weight
            return self.get_loss(wrap(losses.mean(-1)))


class CTCLoss(LossBase):
    """How unlikely the labels of sequences are (Graves et al. 2006); see `ops.ctc_loss`.

    Args:
        blank: the class that is no label.
        reduction: `mean`, `sum` or `none`.
        zero_infinity: 0 in place of infinity.
    """

    reductions: ClassVar[tuple[str, ...]] = ("mean", "sum", "none")

    def __init__(
        self, blank: int = 0, reduction: str = "mean", zero_infinity: bool = False
    ) -> None:
        super().__init__(reduction)
        self.blank, self.zero_infinity = blank, zero_infinity

    def construct(
        self,
        log_probs: TensorLike,
        targets: TensorLike,
        input_lengths: TensorLike,
        target_lengths: TensorLike,
    ) -> Any:
        """(t, n, c), labels (n, s), and the lengths (n,) of both."""
        return ctc.ctc_loss(
            log_probs,
            targets,
            input_lengths,
            target_lengths,
            self.blank,
            self.reduction,
            self.zero_infinity,
        )[0]
