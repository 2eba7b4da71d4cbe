"""Metrics against counts done by hand."""

from __future__ import annotations

import numpy as np
import pytest

from paramesh.tensor import Tensor
from paramesh.train import MAE, MSE, Accuracy, Loss, TopKCategoricalAccuracy, get_metrics

OUTPUTS = np.array([[0.2, 0.5, 0.3], [0.9, 0.1, 0.0], [0.1, 0.3, 0.6]], np.float32)


@pytest.mark.parametrize(
    ("metric", "batches", "expected"),
    [
        (Accuracy(), [(OUTPUTS, np.array([1, 0, 0])), (OUTPUTS, np.array([2, 2, 2]))], 3 / 6),
        (Accuracy(), [(OUTPUTS, np.eye(3)[[1, 0, 0]])], 2 / 3),
        (Accuracy("multilabel"), [(np.array([[0, 1], [1, 1]]), np.array([[0, 1], [0, 1]]))], 0.5),
        (TopKCategoricalAccuracy(2), [(OUTPUTS, np.array([2, 2, 1]))], 2 / 3),
        (Loss(), [(np.float32(1),), (np.array([4.0]),)], 2.5),
        (MAE(), [(np.array([1.0, 2.0]), np.array([2.0, 5.0]))], 2.0),
        (MSE(), [(np.array([1.0, 2.0]), np.array([[2.0], [5.0]]))], 5.0),
    ],
    ids=lambda x: type(x).__name__ if hasattr(x, "eval") else None,
)
def test_counts(metric, batches, expected) -> None:
    for wrapped in (np.asarray, lambda x: Tensor(np.asarray(x))):
        metric.clear()
        with pytest.raises(RuntimeError, match="no batch yet"):
            metric.eval()
        for batch in batches:
            metric.update(*map(wrapped, batch))
        assert metric.eval() == pytest.approx(expected)
        assert type(metric.eval()) is np.float64  # as in MindSpore; it has `item` and `dtype`


def test_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit together"):
        Accuracy().update(OUTPUTS, np.zeros(2))
    with pytest.raises(ValueError, match="Accuracy takes \\(outputs, label\\), got 1"):
        Accuracy().update(OUTPUTS)
    with pytest.raises(ValueError, match="reduce the loss"):
        Loss().update(np.zeros(2))
    with pytest.raises(ValueError, match="k must be at least 1"):
        TopKCategoricalAccuracy(0)
    with pytest.raises(TypeError, match="eval_type must be"):
        Accuracy("regression")
    with pytest.raises(TypeError, match="must be a dict or a set of names"):
        get_metrics("accuracy")
