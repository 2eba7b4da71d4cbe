"""`ConfusionMatrixMetric`: sensitivity, precision, informedness and the like of masks or classes.

Source: MindSpore's metric of this name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paramesh.train.metrics import HostArray, Metric, rearrange_inputs

#: Each result as a fraction (above, below), from the numbers of true positives, false positives,
#: true negatives and false negatives.
_Fraction = Callable[[Any, Any, Any, Any], tuple[Any, Any]]


def _rates(tp: HostArray, fp: HostArray, tn: HostArray, fn: HostArray) -> tuple[Any, Any]:
    """(true positive rate, true negative rate); NaN where there is nothing to find."""
    return _divide(tp, tp + fn), _divide(tn, tn + fp)


def _prevalence_threshold(
    tp: HostArray, fp: HostArray, tn: HostArray, fn: HostArray
) -> tuple[Any, Any]:
    found, left = _rates(tp, fp, tn, fn)
    return np.sqrt(found * (1 - left)) + left - 1, found + left - 1


def _matthews(tp: HostArray, fp: HostArray, tn: HostArray, fn: HostArray) -> tuple[Any, Any]:
    return tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))


def _markedness(tp: HostArray, fp: HostArray, tn: HostArray, fn: HostArray) -> tuple[Any, Any]:
    above = _divide(tp, tp + fp) + _divide(tn, tn + fn) - 1
    return above, np.ones_like(above)


def _informedness(tp: HostArray, fp: HostArray, tn: HostArray, fn: HostArray) -> tuple[Any, Any]:
    above = sum(_rates(tp, fp, tn, fn)) - 1
    return above, np.ones_like(above)


def _fowlkes_mallows(tp: HostArray, fp: HostArray, tn: HostArray, fn: HostArray) -> tuple[Any, Any]:
    above = np.sqrt(_divide(tp, tp + fp) * _divide(tp, tp + fn))
    return above, np.ones_like(above)


def _balanced(tp: HostArray, fp: HostArray, tn: HostArray, fn: HostArray) -> tuple[Any, Any]:
    above = sum(_rates(tp, fp, tn, fn))
    return above, np.full_like(above, 2)


#: {names: its fraction}; spaces and capitals in names do not count.
_FRACTIONS: dict[str, _Fraction] = {
    "sensitivity recall hit_rate true_positive_rate tpr": lambda tp, fp, tn, fn: (tp, tp + fn),
    "specificity selectivity true_negative_rate tnr": lambda tp, fp, tn, fn: (tn, tn + fp),
    "precision positive_predictive_value ppv": lambda tp, fp, tn, fn: (tp, tp + fp),
    "negative_predictive_value npv": lambda tp, fp, tn, fn: (tn, tn + fn),
    "miss_rate false_negative_rate fnr": lambda tp, fp, tn, fn: (fn, tp + fn),
    "fall_out false_positive_rate fpr": lambda tp, fp, tn, fn: (fp, tn + fp),
    "false_discovery_rate fdr": lambda tp, fp, tn, fn: (fp, tp + fp),
    "false_omission_rate for": lambda tp, fp, tn, fn: (fn, tn + fn),
    "prevalence_threshold pt": _prevalence_threshold,
    "threat_score critical_success_index ts csi": lambda tp, fp, tn, fn: (tp, tp + fp + fn),
    "accuracy acc": lambda tp, fp, tn, fn: (tp + tn, tp + fp + tn + fn),
    "balanced_accuracy ba": _balanced,
    "f1_score f1": lambda tp, fp, tn, fn: (2 * tp, 2 * tp + fp + fn),
    "matthews_correlation_coefficient mcc": _matthews,
    "fowlkes_mallows_index fm": _fowlkes_mallows,
    "informedness bookmaker_informedness bm": _informedness,
    "markedness deltap mk": _markedness,
}
_BY_NAME = {name: way for names, way in _FRACTIONS.items() for name in names.split()}
_REDUCTIONS = ("none", "mean", "sum", "mean_batch", "sum_batch", "mean_channel", "sum_channel")


def _divide(above: HostArray, below: HostArray) -> Any:
    above, below = np.broadcast_arrays(np.asarray(above, float), np.asarray(below, float))
    return np.divide(above, below, out=np.full(above.shape, np.nan), where=below != 0)


class ConfusionMatrixMetric(Metric):
    """A rate of right or wrong answers: the sensitivity, for instance.

    Args:
        skip_channel: False leaves the first class out, True counts it, as in MindSpore 2.10, whose
            documentation has it the other way round.
        metric_name: "sensitivity", "specificity", "precision", "negative predictive value",
            "miss rate", "fall out", "false discovery rate", "false omission rate", "prevalence
            threshold", "threat score", "accuracy", "balanced accuracy", "f1 score", "matthews
            correlation coefficient", "fowlkes mallows index", "informedness" or "markedness".
        calculation_method: whether the rate of each sample and class is computed, and they are
            reduced; False: the rate of all counts. Classes without positions always count
            together.
        decrease: how a batch's rates are reduced: "none", "mean", "sum", "mean_batch", "sum_batch",
            "mean_channel", "sum_channel". `eval` needs one number for a batch: "mean" or "sum".

    Raises:
        TypeError: an argument of another type. ValueError: another `decrease`.
        NotImplementedError: in `eval`, another `metric_name`.
    """

    def __init__(
        self,
        skip_channel: bool = True,
        metric_name: str = "sensitivity",
        calculation_method: bool = False,
        decrease: str = "mean",
    ) -> None:
        super().__init__()
        for name, value, kind in (
            ("skip_channel", skip_channel, bool),
            ("metric_name", metric_name, str),
            ("calculation_method", calculation_method, bool),
            ("decrease", decrease, str),
        ):
            if not isinstance(value, kind):
                raise TypeError(
                    f"ConfusionMatrixMetric: {name} must be a {kind.__name__}, got {value!r}."
                )
        if decrease not in _REDUCTIONS:
            raise ValueError(
                f"ConfusionMatrixMetric: decrease must be one of {_REDUCTIONS}, got {decrease!r}."
            )
        self.skip_channel, self.metric_name = skip_channel, metric_name
        self.calculation_method, self.decrease = calculation_method, decrease
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self._counts = np.zeros(4)
        self._sum, self._weight = 0.0, 0
        self._batches = 0

    @rearrange_inputs
    def update(self, *inputs: object) -> None:
        """Count one batch of (predictions, label), both one-hot of one shape (N, C, …).

        Raises:
            ValueError: not two inputs, labels that are not 0 and 1, fewer than two axes, different
                shapes, or rates that `decrease` does not make one number.
        """
        if len(inputs) != 2:
            raise ValueError(
                f"ConfusionMatrixMetric takes (predictions, label), got {len(inputs)} inputs."
            )
        outputs, label = (np.asarray(x) for x in inputs)
        if outputs.shape != label.shape or outputs.ndim < 2:
            raise ValueError(
                f"ConfusionMatrixMetric: predictions {outputs.shape} and label {label.shape} must "
                "have one shape, (N, C, …)."
            )
        if not np.isin(label, (0, 1)).all():
            raise ValueError("ConfusionMatrixMetric: the label must be one-hot, of 0 and 1.")
        counts = _counted(outputs, label, self.skip_channel)
        positions = outputs.ndim > 3 or (outputs.ndim == 3 and outputs.shape[-1] != 1)
        if self.calculation_method and positions:
            rates, weight = _reduced(self._rate(counts), self.decrease)
            if rates.size != 1:
                raise ValueError(
                    f"ConfusionMatrixMetric: decrease={self.decrease!r} gives rates of shape "
                    f"{rates.shape}; eval() needs one number for a batch: 'mean' or 'sum'."
                )
            self._weight += int(weight.item())
            self._sum += rates.item() * int(weight.item())
        else:
            self._counts += counts.sum((0, 1))
        self._batches += 1

    def _rate(self, counts: HostArray) -> HostArray:
        way = _BY_NAME.get(self.metric_name.replace(" ", "_").lower())
        if way is None:
            raise NotImplementedError(
                f"ConfusionMatrixMetric: there is no metric_name {self.metric_name!r}; there are "
                f"{', '.join(names.split()[0] for names in _FRACTIONS)}."
            )
        return _divide(*way(*np.moveaxis(counts, -1, 0)))

    def eval(self) -> Any:
        """The rate: (1,) of all counts, or the mean over the batches, a number.

        Raises:
            RuntimeError: no batch yet, or no rate that is defined.
        """
        if not self._batches:
            raise RuntimeError("ConfusionMatrixMetric: eval() before any update(): no batch yet.")
        if self._counts.any():
            return self._rate(self._counts[None])
        if not self._weight:
            raise RuntimeError(
                f"ConfusionMatrixMetric: no sample has a {self.metric_name}: all divide by 0."
            )
        return self._sum / self._weight


def _counted(outputs: HostArray, label: HostArray, first: bool) -> HostArray:
    """(N, C, 4): true and false positives, true and false negatives."""
    if not first and outputs.shape[1] > 1:
        outputs, label = outputs[:, 1:], label[:, 1:]
    said, right = (x.reshape(*x.shape[:2], -1).astype(float) for x in (outputs, label))
    tp, tn = ((said + right == total).sum(2).astype(float) for total in (2, 0))
    positive = right.sum(2)
    negative = right.shape[2] - positive
    return np.stack([tp, negative - tn, tn, positive - tp], axis=-1)


def _reduced(rates: HostArray, way: str) -> tuple[HostArray, HostArray]:
    """Rates (N, C) with NaN where undefined, reduced, and how many are in it."""
    defined = ~np.isnan(rates)
    rates = np.where(defined, rates, 0)
    if way == "none":
        return rates, defined
    how, _, over = way.partition("_")
    if how == "sum":
        axes = {"": (0, 1), "batch": 0, "channel": 1}[over]
        return rates.sum(axes), defined.sum(axes)
    for axis in {"": (1, 0), "batch": (0,), "channel": (1,)}[over]:
        weight = defined.sum(axis)
        rates = np.nan_to_num(_divide(rates.sum(axis), weight))
        defined = weight > 0 if over == "" and axis == 1 else weight
    return rates, defined
