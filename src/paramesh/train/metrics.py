"""Metrics: what an evaluation counts over all its batches.

A metric is cleared, updated with every batch, and asked for its result at the end. Updates take
host arrays or Tensors; `indexes` of the tuple that the evaluation network returns.

Source: MindSpore's metrics of these names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self, TypeAlias

import numpy as np

from paramesh import lazy_names
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import Tensor

HostArray = np.ndarray[Any, Any]

#: Outputs and labels of a batch: what `numpy.asarray` takes.
MetricInput: TypeAlias = TensorLike | Sequence[Any] | int | float


def rearrange_inputs(func: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator for `update` of a metric: it gets the inputs that `set_indexes` chose.

    Raises:
        ValueError: in the call, an index without an input.
    """

    @functools.wraps(func)
    def update(self: Metric, *inputs: MetricInput) -> Any:
        if self.indexes is not None:
            beyond = [i for i in self.indexes if not -len(inputs) <= i < len(inputs)]
            if beyond:
                raise ValueError(
                    f"{type(self).__name__}: set_indexes({self.indexes}) was called, and update() "
                    f"got {len(inputs)} inputs: pass all outputs of the evaluation network."
                )
            inputs = tuple(inputs[i] for i in self.indexes)
        return func(self, *inputs)

    update.rearranges = True  # type: ignore[attr-defined]
    return update


class Metric:
    """Base of all metrics: write `clear`, `update` and `eval`."""

    #: Whether `update` gets the loss, and not (outputs, label), where no indexes are set.
    takes_loss = False

    def __init__(self) -> None:
        self._indexes: list[int] | None = None

    def __call__(self, *inputs: Any) -> Any:
        """The result for these inputs alone: `clear`, `update`, `eval`."""
        self.clear()
        self.update(*inputs)
        return self.eval()

    @property
    def indexes(self) -> list[int] | None:
        """Which of the evaluation network's outputs count; None: as the kind says."""
        return self._indexes

    def set_indexes(self, indexes: list[int]) -> Self:
        """Choose which of the evaluation network's outputs count, and in which order.

        `update` of the metrics here, and each with `rearrange_inputs`, takes all outputs then, and
        picks these.

        Returns:
            The metric itself.

        Raises:
            ValueError: not a list of ints.
        """
        if not isinstance(indexes, list) or not all(isinstance(i, int) for i in indexes):
            raise ValueError(
                f"For 'set_indexes', the argument 'indexes' must be a list and all its elements "
                f"must be int: {type(self).__name__} got {indexes!r}."
            )
        self._indexes = list(indexes)
        return self

    def _convert_data(self, data: Tensor | HostArray | list[Any]) -> HostArray:
        """A host array of a Tensor's or list's values, for `update` of a script's own metric.

        Raises:
            TypeError: anything else.
        """
        if not isinstance(data, Tensor | np.ndarray | list):
            raise TypeError(
                f"{type(self).__name__}: expected a Tensor, list or numpy array, got "
                f"{type(data).__name__}. Make one of it: numpy.asarray."
            )
        return np.asarray(data)

    def clear(self) -> None:
        """Forget all batches."""
        raise NotImplementedError(f"{type(self).__name__} has no clear().")

    def update(self, *inputs: MetricInput) -> None:
        """Count one batch."""
        raise NotImplementedError(f"{type(self).__name__} has no update(*inputs).")

    def eval(self) -> Any:
        """The result over all batches since `clear`."""
        raise NotImplementedError(f"{type(self).__name__} has no eval().")


class Loss(Metric):
    """The mean of the batches' losses; `update(loss)`."""

    takes_loss = True

    def __init__(self) -> None:
        super().__init__()
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self._sum, self._count = 0.0, 0

    @rearrange_inputs
    def update(self, *inputs: MetricInput) -> None:
        """Count one batch.

        Raises:
            ValueError: more than one input, or a loss of several elements.
        """
        if len(inputs) != 1:
            raise ValueError(f"Loss takes the loss alone, got {len(inputs)} inputs.")
        loss = np.asarray(inputs[0])
        if loss.size != 1:
            raise ValueError(
                f"Loss takes one number for a batch, got shape {loss.shape}: reduce the loss."
            )
        self._sum += float(loss.reshape(()))
        self._count += 1

    def eval(self) -> float:
        """The mean, a `numpy.float64` as in MindSpore.

        Raises:
            RuntimeError: no batch yet.
        """
        return np.float64(self._sum / _counted(self, self._count))


class _OfPairs(Metric):
    """A sum over (outputs, label) pairs, divided by what was counted."""

    def __init__(self) -> None:
        super().__init__()
        self.clear()

    def clear(self) -> None:
        """Forget all batches."""
        self._sum, self._count = 0.0, 0

    @rearrange_inputs
    def update(self, *inputs: MetricInput) -> None:
        """Count one batch of (outputs, label).

        Raises:
            ValueError: not two inputs, or shapes that do not fit together.
        """
        if len(inputs) != 2:
            raise ValueError(
                f"{type(self).__name__} takes (outputs, label), got {len(inputs)} inputs."
            )
        outputs, label = (np.asarray(x) for x in inputs)
        self._sum += self._summed(outputs, label)
        self._count += self._counts(outputs, label)

    def eval(self) -> float:
        """The mean, a `numpy.float64` as in MindSpore.

        Raises:
            RuntimeError: no batch yet.
        """
        return np.float64(self._sum / _counted(self, self._count))

    def _summed(self, outputs: HostArray, label: HostArray) -> float:
        raise NotImplementedError

    def _counts(self, outputs: HostArray, label: HostArray) -> int:
        return len(outputs)


class MAE(_OfPairs):
    """Sum of |outputs - label|, divided by the number of samples."""

    def _summed(self, outputs: HostArray, label: HostArray) -> float:
        return float(np.abs(outputs - label.reshape(outputs.shape)).sum(dtype=np.float64))


class MSE(_OfPairs):
    """Sum of (outputs - label)², divided by the number of samples."""

    def _summed(self, outputs: HostArray, label: HostArray) -> float:
        return float(np.square(outputs - label.reshape(outputs.shape)).sum(dtype=np.float64))


class Accuracy(_OfPairs):
    """The fraction of the samples that are classified correctly.

    Args:
        eval_type: "classification": outputs (N, C, …), labels (N, …) as numbers of classes or
            one-hot like the outputs; "multilabel": both (N, C, …) of 0 and 1, and a sample counts
            if all its labels are right.

    Raises:
        TypeError: another type.
    """

    def __init__(self, eval_type: str = "classification") -> None:
        if eval_type not in ("classification", "multilabel"):
            raise TypeError(
                f"Accuracy: eval_type must be 'classification' or 'multilabel', got {eval_type!r}."
            )
        self._type = eval_type
        super().__init__()

    def _summed(self, outputs: HostArray, label: HostArray) -> float:
        if self._type == "multilabel":
            _same_shape(self, outputs, label)
            rows = np.moveaxis(outputs == label, 1, -1).reshape(-1, outputs.shape[1])
            return float(rows.all(axis=1).sum())
        right = outputs.argmax(axis=1) == _classes(self, outputs, label)
        return float(right.sum())

    def _counts(self, outputs: HostArray, label: HostArray) -> int:
        return outputs.size // outputs.shape[1]


class TopKCategoricalAccuracy(_OfPairs):
    """The fraction of the samples whose class is among the k highest outputs.

    Args:
        k: at least 1.

    Raises:
        TypeError, ValueError: `k` is not an int, or below 1.
    """

    def __init__(self, k: int) -> None:
        if not isinstance(k, int) or isinstance(k, bool):
            raise TypeError(f"TopKCategoricalAccuracy: k must be an int, got {k!r}.")
        if k < 1:
            raise ValueError(f"TopKCategoricalAccuracy: k must be at least 1, got {k}.")
        self.k = k
        super().__init__()

    def _summed(self, outputs: HostArray, label: HostArray) -> float:
        # One-hot labels may have fewer columns than there are outputs, as in MindSpore.
        one_hot = (
            label.ndim == outputs.ndim == 2
            and ((label == 0) | (label == 1)).all()
            and (label.sum(axis=1) == 1).all()
        )
        classes = label.argmax(axis=1) if one_hot else _classes(self, outputs, label)
        if len(classes) != len(outputs):
            _classes(self, outputs, classes)
        best = np.argsort(-outputs, axis=1, kind="stable")[:, : self.k]
        return float((best == classes[:, None]).any(axis=1).sum())


class Top1CategoricalAccuracy(TopKCategoricalAccuracy):
    """`TopKCategoricalAccuracy(1)`."""

    def __init__(self) -> None:
        super().__init__(1)


class Top5CategoricalAccuracy(TopKCategoricalAccuracy):
    """`TopKCategoricalAccuracy(5)`."""

    def __init__(self) -> None:
        super().__init__(5)


def _classes(metric: Metric, outputs: HostArray, label: HostArray) -> HostArray:
    if outputs.ndim < 2:
        raise ValueError(
            f"{type(metric).__name__}: outputs must be (N, C, …), got shape {outputs.shape}."
        )
    if label.ndim == outputs.ndim:
        _same_shape(metric, outputs, label)
        return classes_of(metric, label)
    if label.shape != outputs.shape[:1] + outputs.shape[2:]:
        raise ValueError(
            f"{type(metric).__name__}: outputs {outputs.shape} and label {label.shape} do not fit "
            "together: a label is one number for each sample, or one-hot."
        )
    return label


def classes_of(metric: Metric, label: HostArray) -> HostArray:
    """The numbers of the classes of one-hot labels (N, C, …).

    Raises:
        ValueError: they are not one-hot: the highest of several shares would be a guess.
    """
    if not (((label == 0) | (label == 1)).all() and (label.sum(axis=1) == 1).all()):
        raise ValueError(
            f"{type(metric).__name__}: labels of shape {label.shape} must be one-hot: 1 at one "
            "class of each sample, 0 elsewhere. Give the numbers of the classes instead."
        )
    return label.argmax(axis=1)


def _same_shape(metric: Metric, outputs: HostArray, label: HostArray) -> None:
    if outputs.shape != label.shape:
        raise ValueError(
            f"{type(metric).__name__}: outputs {outputs.shape} and label {label.shape} must have "
            "one shape."
        )


def _counted(metric: Metric, count: int) -> int:
    if count == 0:
        raise RuntimeError(f"{type(metric).__name__}: eval() before any update(): no batch yet.")
    return count


#: Metrics of other modules here, which are loaded when somebody asks for one by name.
_ELSEWHERE = {
    "F1": "F1",
    "bleu_score": "BleuScore",
    "confusion_matrix": "ConfusionMatrix",
    "confusion_matrix_metric": "ConfusionMatrixMetric",
    "cosine_similarity": "CosineSimilarity",
    "dice": "Dice",
    "hausdorff_distance": "HausdorffDistance",
    "mean_surface_distance": "MeanSurfaceDistance",
    "occlusion_sensitivity": "OcclusionSensitivity",
    "perplexity": "Perplexity",
    "precision": "Precision",
    "recall": "Recall",
    "roc": "ROC",
    "root_mean_square_distance": "RootMeanSquareDistance",
}

#: The modules of metrics that are not in this one. MindSpore has all at `train.metrics`.
_HOMES = lazy_names.homes(
    {
        "paramesh.train.classification_metrics": """
            auc BleuScore ConfusionMatrix CosineSimilarity Dice F1 Fbeta Perplexity Precision
            Recall ROC
        """,
        "paramesh.train.confusion_metric": "ConfusionMatrixMetric",
        "paramesh.train.occlusion": "OcclusionSensitivity",
        "paramesh.train.surface_metrics": """
            HausdorffDistance MeanSurfaceDistance RootMeanSquareDistance
        """,
    }
)

#: Also gives the metrics of other modules, as MindSpore's `train.metrics` does.
__getattr__ = lazy_names.opened("paramesh.train.metrics", _HOMES, lambda: [*_HOMES, *globals()])

_BY_NAME: dict[str, type[Metric]] = {
    "accuracy": Accuracy,
    "acc": Accuracy,
    "loss": Loss,
    "mae": MAE,
    "mse": MSE,
    "topk": TopKCategoricalAccuracy,
    "top_1_accuracy": Top1CategoricalAccuracy,
    "top_5_accuracy": Top5CategoricalAccuracy,
}


#: What a Model takes: {name: Metric}, or names.
Metrics = Mapping[str, Metric] | Iterable[str]


def get_metrics(metrics: object) -> dict[str, Metric]:
    """{name: Metric} from names, or from a dict of Metrics.

    Raises:
        TypeError: another kind; ValueError: an unknown name.
    """
    if metrics is None:
        return {}
    if isinstance(metrics, Mapping):
        given: Mapping[str, Any] = metrics
        for name, metric in given.items():
            if not isinstance(metric, Metric):
                raise TypeError(f"metrics['{name}'] must be a Metric, got {metric!r}.")
        return dict(given)
    if isinstance(metrics, str) or not isinstance(metrics, Iterable):
        raise TypeError(f"metrics must be a dict or a set of names, got {metrics!r}.")
    found: dict[str, Metric] = {}
    for name in metrics:
        found[name] = get_metric_fn(name)
    return found


def names() -> list[str]:
    """The names that metrics are asked for by, sorted."""
    return sorted({*_BY_NAME, *_ELSEWHERE})


def get_metric_fn(name: str, *args: object, **kwargs: object) -> Metric:
    """A new metric by its name, made with these arguments.

    Raises:
        ValueError: no metric has that name.
    """
    kind = _BY_NAME.get(name)
    if name in _ELSEWHERE:
        kind = __getattr__(_ELSEWHERE[name])
    if kind is None:
        raise ValueError(f"No metric is called {name!r}. There are {', '.join(names())}.")
    return kind(*args, **kwargs)
