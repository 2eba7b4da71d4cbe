"""Losses as Cells.

Formulas are those of `paramesh.ops.losses`; names, arguments and defaults are MindSpore's, where
`reduction` is `mean`, `sum` or `none` (the loss of every element).
"""

from __future__ import annotations

from typing import Any, ClassVar

from paramesh.nn import arguments
from paramesh.nn.cell import Cell
from paramesh.nn.inner import Inner, sharded
from paramesh.ops import losses as ops
from paramesh.ops import selecting
from paramesh.ops.activations import relu, softplus
from paramesh.ops.creation import Cast
from paramesh.ops.math import Mul, mul, neg, sqrt, sub
from paramesh.ops.reduce import ReduceMean, ReduceSum
from paramesh.tensor.argument_types import NumberLike, Reduction, TensorLike
from paramesh.tensor.base import Tensor


class LossBase(Cell):
    """Base of losses: write `construct`, which ends in `return self.get_loss(x)`.

    Args:
        reduction: `mean`, `sum` or `none`; None is `none`.

    Raises:
        ValueError: an unknown `reduction`.
    """

    reductions: ClassVar[tuple[str, ...]] = ("mean", "sum", "none")

    def __init__(self, reduction: str | None = "mean") -> None:
        super().__init__()
        given = "none" if reduction is None else reduction
        #: `KLDivLoss` has one more than `Reduction`.
        self.reduction: Any = arguments.choice(
            type(self).__name__, "reduction", given, type(self).reductions
        )

    def get_loss(self, x: TensorLike, weights: NumberLike = 1.0) -> Tensor:
        """The losses `x` of all elements, times `weights`, reduced.

        Args:
            x: (...).
            weights: a number, or a Tensor that broadcasts with `x`.

        Returns:
            () for `mean` and `sum`, otherwise (...), of the element type of `x`.
        """
        x = arguments.tensor(type(self).__name__, x)
        out = x if isinstance(weights, float) and weights == 1.0 else mul(x, weights)
        if self.reduction == "mean":
            out = self.reduce_mean(out) if sharded(self, "reduce_mean") else out.mean()
        elif self.reduction == "sum":
            out = self.reduce_sum(out) if sharded(self, "reduce_sum") else out.sum()
        return out.astype(x.dtype)

    def extend_repr(self) -> str:
        """The reduction."""
        return f"reduction={self.reduction}"

    reduce_mean = Inner(lambda layer: ReduceMean())
    reduce_sum = Inner(lambda layer: ReduceSum())
    mul = Inner(lambda layer: Mul())
    cast = Inner(lambda layer: Cast())
    average = Inner(lambda layer: layer.reduction == "mean")
    reduce = Inner(lambda layer: layer.reduction != "none")

    def get_axis(self, x: TensorLike) -> tuple[int, ...]:
        """All axes of `x`."""
        return tuple(range(arguments.tensor(type(self).__name__, x).ndim))


class MSELoss(LossBase):
    """Mean of (logits - labels)², or their sum, or each one."""

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(...), (...) -> (), or (...) for `none`; shapes broadcast."""
        return ops.mse_loss(logits, labels, self.reduction)


class L1Loss(LossBase):
    """Mean of |logits - labels|, or their sum, or each one."""

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(...), (...) -> (), or (...) for `none`; shapes broadcast."""
        return ops.l1_loss(logits, labels, self.reduction)


class MAELoss(L1Loss):
    """Mean absolute error: the same as `L1Loss`."""


class RMSELoss(LossBase):
    """Square root of the mean of (logits - label)²."""

    def __init__(self) -> None:
        super().__init__("mean")

    def construct(self, logits: TensorLike, label: TensorLike) -> Tensor:
        """(...), (...) -> (); shapes broadcast."""
        return sqrt(ops.mse_loss(logits, label))


class SmoothL1Loss(LossBase):
    """(logits - labels)² / (2 beta) for distances below beta, |logits - labels| - beta / 2 beyond.

    Args:
        beta: where the parabola ends, above 0.
        reduction: `none` (the default here), `mean` or `sum`.

    Raises:
        TypeError: `beta` is not a number; ValueError: it is not positive, or an unknown
            `reduction`.
    """

    def __init__(self, beta: float = 1.0, reduction: Reduction = "none") -> None:
        super().__init__(reduction)
        self.beta = arguments.positive("SmoothL1Loss", "beta", beta)

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(...), (...) -> (...), or () for `mean` and `sum`."""
        return ops.smooth_l1_loss(logits, labels, self.beta, self.reduction)


class HuberLoss(LossBase):
    """(logits - labels)² / 2 for distances up to delta, delta * (distance - delta / 2) beyond.

    Args:
        reduction: `mean`, `sum` or `none`.
        delta: where the parabola ends, above 0.

    Raises:
        TypeError: `delta` is not a number; ValueError: it is not positive, or an unknown
            `reduction`.
    """

    def __init__(self, reduction: Reduction = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = arguments.positive("HuberLoss", "delta", delta)

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(...), (...) -> (), or (...) for `none`; shapes broadcast."""
        return ops.huber_loss(logits, labels, self.reduction, self.delta)


class SoftmaxCrossEntropyWithLogits(LossBase):
    """Cross entropy of softmax(logits) and labels, for each row.

    Args:
        sparse: labels are classes; otherwise probabilities.
        reduction: `none` (the default here), `mean` or `sum`.

    Raises:
        TypeError: `sparse` is not a bool; ValueError: an unknown `reduction`.
    """

    def __init__(self, sparse: bool = False, reduction: Reduction = "none") -> None:
        super().__init__(reduction)
        self.sparse = arguments.flag("SoftmaxCrossEntropyWithLogits", "sparse", sparse)

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(n, c) and (n,) integers or (n, c) -> (n,), or () for `mean` and `sum`."""
        if sharded(self, "softmax_cross_entropy", "sparse_softmax_cross_entropy", "one_hot"):
            return self._by_operators(logits, labels)
        if self.sparse:
            return ops.cross_entropy(logits, labels, reduction=self.reduction)
        return self.get_loss(ops.softmax_cross_entropy_with_logits(logits, labels)[0])

    def _by_operators(self, logits: TensorLike, labels: TensorLike) -> Any:
        if self.sparse and self.reduction == "mean":
            return self.sparse_softmax_cross_entropy(logits, labels)
        if self.sparse:
            one, zero = (Tensor(n, logits.dtype) for n in (1, 0))
            labels = self.one_hot(labels, logits.shape[-1], one, zero)
        return self.get_loss(self.softmax_cross_entropy(logits, labels)[0])

    softmax_cross_entropy = Inner(lambda layer: ops.SoftmaxCrossEntropyWithLogits())
    sparse_softmax_cross_entropy = Inner(lambda layer: ops.SparseSoftmaxCrossEntropyWithLogits())
    one_hot = Inner(lambda layer: selecting.OneHot())


class CrossEntropyLoss(LossBase):
    """Cross entropy of softmax(logits) and classes or probabilities.

    Args:
        weight: (c,), a factor for each class, by which the mean is weighted; or None.
        ignore_index: a class that does not count.
        reduction: `mean`, `sum` or `none`.
        label_smoothing: share of the target that is spread over all classes, from 0 to 1.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an unknown `reduction`, or `label_smoothing` out of range.
    """

    def __init__(
        self,
        weight: Tensor | None = None,
        ignore_index: int = -100,
        reduction: Reduction = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        owner = "CrossEntropyLoss"
        self.weight = weight
        self.ignore_index = arguments.integer(owner, "ignore_index", ignore_index, -(2**31))
        self.label_smoothing = arguments.number(owner, "label_smoothing", label_smoothing, 0, 1)

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(n, c, ...), and (n, ...) integers or (n, c, ...) -> (), or (n, ...) for `none`."""
        return ops.cross_entropy(
            logits, labels, self.weight, self.ignore_index, self.reduction, self.label_smoothing
        )


class NLLLoss(LossBase):
    """Negative log-likelihood of classes, of log-probabilities.

    Args:
        weight: (c,), a factor for each class, by which the mean is weighted; or None.
        ignore_index: a class that does not count.
        reduction: `mean`, `sum` or `none`.

    Raises:
        TypeError: `ignore_index` is not an int; ValueError: an unknown `reduction`.
    """

    def __init__(
        self, weight: Tensor | None = None, ignore_index: int = -100, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(reduction)
        self.weight = weight
        self.ignore_index = arguments.integer("NLLLoss", "ignore_index", ignore_index, -(2**31))

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(n, c, ...) and (n, ...) integers -> (), or (n, ...) for `none`."""
        return ops.nll_loss(logits, labels, self.weight, self.ignore_index, self.reduction)


class BCELoss(LossBase):
    """Binary cross entropy of probabilities.

    Args:
        weight: a factor for each element, or None.
        reduction: `mean`, `sum` or `none`.

    Raises:
        ValueError: an unknown `reduction`.
    """

    def __init__(self, weight: Tensor | None = None, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self.weight = weight

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(...) in [0, 1], (...) in [0, 1] -> (), or (...) for `none`."""
        return ops.binary_cross_entropy(logits, labels, self.weight, self.reduction)


class BCEWithLogitsLoss(LossBase):
    """Binary cross entropy of sigmoid(logits), without overflow.

    Args:
        reduction: `mean`, `sum` or `none`.
        weight: a factor that broadcasts, or None.
        pos_weight: a factor of the positive term that broadcasts, or None.

    Raises:
        ValueError: an unknown `reduction`.
    """

    def __init__(
        self,
        reduction: Reduction = "mean",
        weight: Tensor | None = None,
        pos_weight: Tensor | None = None,
    ) -> None:
        super().__init__(reduction)
        self.weight, self.pos_weight = weight, pos_weight

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(...), (...) in [0, 1] -> (), or (...) for `none`."""
        return ops.binary_cross_entropy_with_logits(
            logits, labels, self.weight, self.pos_weight, self.reduction
        )


class KLDivLoss(LossBase):
    """Kullback-Leibler divergence, labels * (log(labels) - logits), of log-probabilities.

    Args:
        reduction: `mean` (over all elements), `batchmean` (the sum divided by the first axis),
            `sum` or `none`.

    Raises:
        ValueError: an unknown `reduction`.
    """

    reductions: ClassVar[tuple[str, ...]] = ("mean", "batchmean", "sum", "none")

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(...) log-probabilities, (...) probabilities -> (), or (...) for `none`."""
        return ops.kl_div(logits, labels, self.reduction)


class SoftMarginLoss(LossBase):
    """Mean of log(1 + exp(-labels * logits)), labels being 1 or -1."""

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(...), (...) -> (), or (...) for `none`."""
        # softplus would give its argument back from 20 on; this one is exact everywhere.
        return self.get_loss(softplus(neg(mul(labels, logits)), threshold=float("inf")))


class HingeEmbeddingLoss(LossBase):
    """Mean of x where the label is 1, and of max(0, margin - x) where it is -1.

    Args:
        margin: the distance that is enough.
        reduction: `mean`, `sum` or `none`.

    Raises:
        TypeError: `margin` is not a number; ValueError: an unknown `reduction`.
    """

    def __init__(self, margin: float = 1.0, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self.margin = arguments.number("HingeEmbeddingLoss", "margin", margin)

    def construct(self, logits: TensorLike, labels: TensorLike) -> Tensor:
        """(...), (...) of 1 and -1 -> (), or (...) for `none`."""
        logits = arguments.tensor("HingeEmbeddingLoss", logits)
        labels = arguments.tensor("HingeEmbeddingLoss", labels)
        near = logits.masked_fill(labels == -1, 0)
        far = relu(sub(self.margin, logits)).masked_fill(labels == 1, 0)
        return self.get_loss(near + far)


class CosineEmbeddingLoss(LossBase):
    """Mean of 1 - cos(x1, x2) where the label is 1, and of max(0, cos - margin) where it is -1.

    Args:
        margin: the cosine that is low enough, from -1 to 1.
        reduction: `mean`, `sum` or `none`.

    Raises:
        TypeError: `margin` is not a number; ValueError: out of range, or an unknown `reduction`.
    """

    def __init__(self, margin: float = 0.0, reduction: Reduction = "mean") -> None:
        super().__init__(reduction)
        self.margin = arguments.number("CosineEmbeddingLoss", "margin", margin, -1, 1)

    def construct(self, logits_x1: TensorLike, logits_x2: TensorLike, labels: TensorLike) -> Tensor:
        """(n, d), (n, d), (n,) of 1 and -1 -> (), or (n,) for `none`."""
        labels = arguments.tensor("CosineEmbeddingLoss", labels)
        cosine = ops.cosine_similarity(logits_x1, logits_x2)
        near = (1.0 - cosine).masked_fill(labels != 1, 0)
        far = relu(cosine - self.margin).masked_fill(labels != -1, 0)
        return self.get_loss(near + far)
