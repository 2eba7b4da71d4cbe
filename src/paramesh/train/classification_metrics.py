"""Metrics of classifications, of text and of overlaps: Precision, Recall, F1, ROC, BleuScore, ….

Source: MindSpore's metrics of these names.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from paramesh.array_types import ArrayLike, HostArray
from paramesh.train.metrics import Metric, classes_of, rearrange_inputs

_EPS = sys.float_info.min
_TYPES = ("classification", "multilabel")


def _check_type(metric: Metric, name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(
            f"{type(metric).__name__}: {name} must be a {kind.__name__}, got {value!r}."
        )


def _arrays(metric: Metric, inputs: Sequence[Any], count: int, what: str) -> list[Any]:
    if len(inputs) != count:
        raise ValueError(
            f"{type(metric).__name__} takes {what}, {count} inputs, got {len(inputs)}."
        )
    return [np.asarray(x) for x in inputs]


class _Counts(Metric):
    """True positives, and how often each class was said and was right."""

    def __init__(self, eval_type: str = "classification") -> None:
        super().__init__()
        if eval_type not in _TYPES:
            raise ValueError(
                f"{type(self).__name__}: eval_type must be one of {_TYPES}, got {eval_type!r}."
            )
        self._type = eval_type
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self._hits: Any = 0
        self._said: Any = 0
        self._right: Any = 0
        self._batches = 0
        self._classes: int | None = None

    @rearrange_inputs
    def update(self, *inputs: object) -> None:
        """Count one batch of (outputs, label).

        Raises:
            ValueError: not two inputs, or shapes that do not fit together.
        """
        outputs, label = _arrays(self, inputs, 2, "(outputs, label)")
        if self._type == "multilabel":
            if outputs.shape != label.shape:
                raise ValueError(
                    f"{type(self).__name__}: outputs {outputs.shape} and label {label.shape} must "
                    "have one shape."
                )
            classes = self._check_classes(outputs)
            said = np.moveaxis(outputs, 1, 0).reshape(classes, -1)
            right = np.moveaxis(label, 1, 0).reshape(classes, -1)
        else:
            classes = self._check_classes(outputs)
            if label.ndim == outputs.ndim:
                label = classes_of(self, label)
            if label.shape != outputs.shape[:1] + outputs.shape[2:] or label.max() >= classes:
                raise ValueError(
                    f"{type(self).__name__}: outputs {outputs.shape} need one class below "
                    f"{classes} for each sample, or one-hot labels; got {label.shape}."
                )
            said = np.eye(classes)[outputs.argmax(1).reshape(-1)].T
            right = np.eye(classes)[label.reshape(-1).astype(int)].T
        hits = said * right > 0
        if self._type == "multilabel":  # by sample there
            hits, said, right = (x.sum(0) for x in (hits, said, right))
            self._hits = np.append(self._hits if self._batches else [], hits)
            self._said = np.append(self._said if self._batches else [], said)
            self._right = np.append(self._right if self._batches else [], right)
        else:
            self._hits = self._hits + hits.sum(1)
            self._said = self._said + said.sum(1)
            self._right = self._right + right.sum(1)
        self._batches += 1

    def _check_classes(self, outputs: HostArray) -> int:
        if outputs.ndim < 2:
            raise ValueError(
                f"{type(self).__name__}: outputs must be (N, C, …), got shape {outputs.shape}."
            )
        classes = outputs.shape[1]
        if self._classes not in (None, classes):
            raise ValueError(
                f"{type(self).__name__}: the batches before had {self._classes} classes, this one "
                f"has outputs {outputs.shape}."
            )
        self._classes = classes
        return classes

    def _result(self, below: HostArray, average: bool) -> Any:
        if not self._batches:
            raise RuntimeError(f"{type(self).__name__}: eval() before any update(): no batch yet.")
        found = self._hits / (below + _EPS)
        return found.mean() if average else found


class Precision(_Counts):
    """Of what was said to be a class, the part that is.

    Args:
        eval_type: "classification": outputs (N, C, …), labels (N, …) or one-hot; "multilabel":
            both (N, C, …) of 0 and 1.

    Raises:
        ValueError: another type.
    """

    def eval(self, average: bool = False) -> Any:
        """For each class (C,), or sample of "multilabel"; their mean with `average`."""
        return self._result(self._said, average)


class Recall(_Counts):
    """Of what is of a class, the part that was said to be.

    Args:
        eval_type: as that of `Precision`.

    Raises:
        ValueError: another type.
    """

    def eval(self, average: bool = False) -> Any:
        """For each class (C,), or sample of "multilabel"; their mean with `average`."""
        return self._result(self._right, average)


class Fbeta(_Counts):
    """The mean of precision and recall in which recall counts beta times as much.

    Args:
        beta: see above.

    Raises:
        ValueError: `beta` is not above 0.
    """

    def __init__(self, beta: float) -> None:
        if not beta > 0:
            raise ValueError(f"{type(self).__name__}: beta must be above 0, got {beta!r}.")
        self.beta = beta
        super().__init__()

    def eval(self, average: bool = False) -> Any:
        """For each class, an array (C,); their mean with `average`."""
        square = self.beta**2
        found = self._result(square * self._right + self._said, False) * (1 + square)
        return found.mean() if average else found


class F1(Fbeta):
    """`Fbeta(1.0)`."""

    def __init__(self) -> None:
        super().__init__(1.0)


class ConfusionMatrix(Metric):
    """How often each class was taken for each.

    Args:
        num_classes: how many classes.
        normalize: "no_norm", or what rows and columns are divided by: "target", "prediction",
            "all".
        threshold: above which an output of a binary classification is class 1.

    Raises:
        TypeError: `num_classes` is not an int, or `threshold` not a float.
        ValueError: another `normalize`.
    """

    def __init__(
        self, num_classes: int, normalize: str = "no_norm", threshold: float = 0.5
    ) -> None:
        super().__init__()
        _check_type(self, "num_classes", num_classes, int)
        _check_type(self, "threshold", threshold, float)
        ways = ("target", "prediction", "all", "no_norm")
        if normalize not in ways:
            raise ValueError(f"ConfusionMatrix: normalize must be one of {ways}: {normalize!r}.")
        self.num_classes, self.normalize, self.threshold = num_classes, normalize, threshold
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self._matrix = np.zeros((self.num_classes, self.num_classes))
        self._batches = 0

    @rearrange_inputs
    def update(self, *inputs: object) -> None:
        """Count one batch of (outputs, label).

        Raises:
            ValueError: not two inputs, or shapes that do not fit together.
        """
        outputs, label = _arrays(self, inputs, 2, "(outputs, label)")
        if outputs.ndim == label.ndim + 1:
            outputs = outputs.argmax(1)
        elif outputs.shape != label.shape:
            raise ValueError(
                f"ConfusionMatrix: outputs {outputs.shape} and label {label.shape} do not fit."
            )
        elif outputs.dtype.kind == "f":
            outputs = (outputs >= self.threshold).astype(int)
        at = label.reshape(-1).astype(int) * self.num_classes + outputs.reshape(-1).astype(int)
        counts = np.bincount(at, minlength=self.num_classes**2)
        self._matrix += counts.reshape(self.num_classes, self.num_classes)
        self._batches += 1

    def eval(self) -> Any:
        """(C, C): rows are the labels.

        Raises:
            RuntimeError: no batch yet.
        """
        if not self._batches:
            raise RuntimeError("ConfusionMatrix: eval() before any update(): no batch yet.")
        matrix = self._matrix.astype(float)
        below = {
            "target": matrix.sum(1, keepdims=True),
            "prediction": matrix.sum(0, keepdims=True),
            "all": matrix.sum(),
            "no_norm": np.ones(1),
        }[self.normalize]
        found = matrix / np.where(below == 0, np.nan, below)
        return np.nan_to_num(found)


class Perplexity(Metric):
    """e to the power of the mean cross entropy of what was predicted.

    Args:
        ignore_label: a label that does not count, or None.

    Raises:
        TypeError: no int.
    """

    def __init__(self, ignore_label: int | None = None) -> None:
        super().__init__()
        if ignore_label is not None and not isinstance(ignore_label, int):
            raise TypeError(f"Perplexity: ignore_label must be an int, got {ignore_label!r}.")
        self.ignore_label = ignore_label
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self._sum, self._count = 0.0, 0

    @rearrange_inputs
    def update(self, *inputs: object) -> None:
        """Count one batch of (probabilities (N, C), labels (N,)), or of lists of both.

        Raises:
            ValueError: not two inputs. RuntimeError: shapes that do not fit together.
        """
        if len(inputs) != 2:
            raise ValueError(f"Perplexity takes (probabilities, labels), got {len(inputs)} inputs.")
        pairs = zip(*((x if isinstance(x, list) else [x]) for x in inputs), strict=True)
        for given, labels in pairs:
            p, classes = np.asarray(given), np.asarray(labels).reshape(-1).astype(int)
            p = p.reshape(-1, p.shape[-1])
            if len(p) != len(classes):
                raise RuntimeError(
                    f"Perplexity: {len(p)} rows of probabilities and {len(classes)} labels."
                )
            chosen = p[np.arange(len(p)), classes]
            if self.ignore_label is not None:
                ignored = classes == self.ignore_label
                chosen = np.where(ignored, 1.0, chosen)
                self._count -= int(ignored.sum())
            self._sum -= float(np.log(np.maximum(1e-10, chosen)).sum())
            self._count += len(p)

    def eval(self) -> float:
        """The perplexity.

        Raises:
            RuntimeError: no label counted yet.
        """
        if not self._count:
            raise RuntimeError("Perplexity: eval() before any update(): no label yet.")
        return math.exp(self._sum / self._count)


class BleuScore(Metric):
    """How many n-grams of texts are in their references (Papineni et al. 2002).

    Args:
        n_gram: the longest n-gram, 1 to 4.
        smooth: whether counts are smoothed (Lin and Och 2004).

    Raises:
        TypeError: `n_gram` is not an int, or `smooth` not a bool. ValueError: another length.
    """

    def __init__(self, n_gram: int = 4, smooth: bool = False) -> None:
        super().__init__()
        _check_type(self, "n_gram", n_gram, int)
        _check_type(self, "smooth", smooth, bool)
        if n_gram not in (1, 2, 3, 4):
            raise ValueError(f"BleuScore: n_gram must be 1 to 4, got {n_gram!r}.")
        self.n_gram, self.smooth = n_gram, smooth
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self._hits, self._all = np.zeros(self.n_gram), np.zeros(self.n_gram)
        self._lengths = [0, 0]

    def _grams(self, words: Sequence[Any]) -> Counter[tuple[Any, ...]]:
        return Counter(
            tuple(words[i : i + n])
            for n in range(1, self.n_gram + 1)
            for i in range(len(words) - n + 1)
        )

    @rearrange_inputs
    def update(self, *inputs: Any) -> None:
        """Count one batch of (texts, lists of references), each text a list of words.

        Raises:
            ValueError: not two inputs, or of different lengths.
        """
        if len(inputs) != 2 or len(inputs[0]) != len(inputs[1]):
            raise ValueError("BleuScore takes (texts, references), as many of one as of the other.")
        for text, references in zip(*inputs, strict=True):
            lengths = [len(reference) for reference in references]
            have = len(text)
            nearest = min(lengths, key=lambda n, have=have: abs(have - n))
            self._lengths[0] += len(text)
            self._lengths[1] += nearest
            mine = self._grams(text)
            theirs: Counter[tuple[Any, ...]] = Counter()
            for reference in references:
                theirs |= self._grams(reference)
            for gram, count in (mine & theirs).items():
                self._hits[len(gram) - 1] += count
            for gram, count in mine.items():
                self._all[len(gram) - 1] += count

    def eval(self) -> Any:
        """The score, 0 to 1.

        Raises:
            RuntimeError: no batch yet.
        """
        if not self._lengths[0]:
            raise RuntimeError("BleuScore: eval() before any update(): no text yet.")
        if self._hits.min() == 0:
            return np.array(0.0)
        if self.smooth:
            precision = (self._hits + 1) / (self._all + 1)
        else:
            precision = self._hits / self._all
        mean = np.exp(np.log(precision).sum() / self.n_gram)
        text, reference = self._lengths
        return mean if text > reference else np.exp(1 - reference / text) * mean


class Dice(Metric):
    """The overlap of masks: twice what they share, divided by both.

    Args:
        smooth: added above and below.
    """

    def __init__(self, smooth: float = 1e-5) -> None:
        super().__init__()
        self.smooth = smooth
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self._sum, self._count = 0.0, 0

    @rearrange_inputs
    def update(self, *inputs: object) -> None:
        """Count one batch of (outputs, label), of one shape.

        Raises:
            ValueError: not two inputs, or of different shapes.
        """
        a, b = _arrays(self, inputs, 2, "(outputs, label)")
        if a.shape != b.shape:
            raise ValueError(f"Dice: outputs {a.shape} and label {b.shape} must have one shape.")
        both = float((a * b).sum())
        total = float((a * a).sum() + (b * b).sum())
        self._sum += 2 * both / (total + self.smooth)
        self._count += len(a)

    def eval(self) -> float:
        """The overlaps of the batches, divided by the number of samples, as in MindSpore.

        Raises:
            RuntimeError: no batch yet.
        """
        if not self._count:
            raise RuntimeError("Dice: eval() before any update(): no batch yet.")
        return self._sum / self._count


class CosineSimilarity(Metric):
    """The cosines, or products, of each two rows.

    Args:
        similarity: "cosine", or "dot".
        reduction: "none", or "sum" or "mean" over the columns.
        zero_diagonal: whether a row with itself is 0.

    Raises:
        TypeError: an argument of another type. ValueError: another similarity or reduction.
    """

    def __init__(
        self, similarity: str = "cosine", reduction: str = "none", zero_diagonal: bool = True
    ) -> None:
        super().__init__()
        _check_type(self, "similarity", similarity, str)
        _check_type(self, "reduction", reduction, str)
        _check_type(self, "zero_diagonal", zero_diagonal, bool)
        if similarity not in ("cosine", "dot") or reduction not in ("none", "sum", "mean"):
            raise ValueError(
                "CosineSimilarity: expected a similarity of 'cosine' and 'dot', a reduction of "
                f"'none', 'sum' and 'mean', got {similarity!r} and {reduction!r}."
            )
        self.similarity, self.reduction = similarity, reduction
        self.zero_diagonal = zero_diagonal
        self.clear()

    def clear(self) -> None:
        """Forget the rows."""
        self._rows: Any = None

    @rearrange_inputs
    def update(self, *inputs: object) -> None:
        """Take rows (n, d), instead of those before."""
        (self._rows,) = _arrays(self, inputs, 1, "rows")

    def eval(self) -> Any:
        """(n, n), or (n,) reduced.

        Raises:
            RuntimeError: no rows yet.
        """
        if self._rows is None:
            raise RuntimeError("CosineSimilarity: eval() before any update(): no rows yet.")
        rows = self._rows
        if self.similarity == "cosine":
            rows = rows / np.linalg.norm(rows, ord=2, axis=1, keepdims=True)
        found = rows @ rows.T
        if self.zero_diagonal:
            np.fill_diagonal(found, 0)
        if self.reduction == "none":
            return found
        return found.mean(-1) if self.reduction == "mean" else found.sum(-1)


class ROC(Metric):
    """The curve of true against false positives, over all thresholds.

    Args:
        class_num: how many classes, each against the rest; None: binary.
        pos_label: the class that counts as positive, of a binary classification; None: 1.

    Raises:
        TypeError: one of them is not an int.
    """

    def __init__(self, class_num: int | None = None, pos_label: int | None = None) -> None:
        super().__init__()
        for name, value in (("class_num", class_num), ("pos_label", pos_label)):
            if value is not None:
                _check_type(self, name, value, int)
        self.class_num = 1 if class_num is None else class_num
        self.pos_label = 1 if pos_label is None and self.class_num == 1 else pos_label
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self._scores: list[Any] = []
        self._labels: list[Any] = []

    @rearrange_inputs
    def update(self, *inputs: object) -> None:
        """Count one batch of (scores, labels), of one shape; or (N, C, …) and (N, …) of classes.

        Raises:
            ValueError: not two inputs, shapes that do not fit together, or scores of another number
                of classes than `class_num`.
        """
        scores, labels = _arrays(self, inputs, 2, "(scores, labels)")
        if scores.ndim == labels.ndim + 1:
            if scores.shape[1] == 2 and self.class_num == 1:
                scores = scores[:, 1]
            elif scores.shape[1] == 1 == self.class_num:
                scores = scores[:, 0]
            elif scores.shape[1] != self.class_num:
                raise ValueError(
                    f"ROC: scores {scores.shape} are of {scores.shape[1]} classes, and class_num "
                    f"is {self.class_num}."
                )
            else:
                scores = np.moveaxis(scores, 1, -1).reshape(-1, self.class_num)
        elif self.class_num != 1:
            raise ValueError(
                f"ROC: with class_num={self.class_num} scores are (N, {self.class_num}, …), got "
                f"shape {scores.shape} with labels {labels.shape}."
            )
        if scores.size != labels.size * self.class_num:
            raise ValueError(f"ROC: scores {scores.shape} and labels {labels.shape} do not fit.")
        self._scores.append(scores if self.class_num > 1 else scores.reshape(-1))
        self._labels.append(labels.reshape(-1))

    def _curve(self, scores: HostArray, positive: HostArray) -> tuple[Any, Any, Any]:
        order = np.argsort(-scores, kind="stable")
        scores, positive = scores[order], positive[order]
        ends = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
        hits = np.cumsum(positive)[ends].astype(float)
        misses = 1.0 + ends - hits
        hits, misses = np.append(0, hits), np.append(0, misses)
        thresholds = np.append(scores[ends][0] + 1, scores[ends])
        if misses[-1] <= 0 or hits[-1] <= 0:
            what = "negative" if misses[-1] <= 0 else "positive"
            raise ValueError(f"ROC: there is no {what} sample.")
        return misses / misses[-1], hits / hits[-1], thresholds

    def eval(self) -> tuple[Any, Any, Any]:
        """(false positive rates, true positive rates, thresholds); lists of them for classes.

        Raises:
            RuntimeError: no batch yet. ValueError: all samples are of one kind.
        """
        if not self._scores:
            raise RuntimeError("ROC: eval() before any update(): no batch yet.")
        scores, labels = np.concatenate(self._scores), np.concatenate(self._labels)
        if self.class_num == 1:
            return self._curve(scores, labels == self.pos_label)
        curves = [self._curve(scores[:, c], labels == c) for c in range(self.class_num)]
        return tuple(list(part) for part in zip(*curves, strict=True))  # type: ignore[return-value]


def auc(x: ArrayLike, y: ArrayLike, reorder: bool = False) -> float:
    """The area under a curve, by trapezia.

    Args:
        x: of its points, growing or falling, (n,).
        y: of its points, (n,).
        reorder: whether the points are sorted by x first.

    Raises:
        ValueError: fewer than two points, lengths that differ, or x goes up and down.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(f"auc takes two arrays (n,) of at least 2, got {x.shape} and {y.shape}.")
    if reorder:
        order = np.lexsort((y, x))
        x, y = x[order], y[order]
    steps = np.diff(x)
    sign = 1
    if np.any(steps < 0):
        if not np.all(steps <= 0):
            raise ValueError("auc: x goes up and down; pass reorder=True.")
        sign = -1
    return np.float64(sign * np.trapezoid(y, x))
