"""Metrics of masks and images give MindSpore's numbers, and say what they cannot take."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramesh import Model, Tensor, nn, train
from type_checks import wrong

DATA: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "golden" / "metrics.json").read_text()
)["masks"]
RESULTS: dict[str, Any] = DATA["results"]
MASKS = tuple(map(np.array, DATA["masks"]))
HOT = tuple(map(np.array, DATA["hot"]))
FLAT = tuple(map(np.array, DATA["flat"]))
IMAGE = np.array(DATA["image"], np.float32)
FLAGS = {"True": True, "False": False}


def close(metric: train.Metric, name: str, *batches: tuple[Any, ...]) -> None:
    for batch in batches:
        metric.update(*batch)
    np.testing.assert_allclose(metric.eval(), RESULTS[name], rtol=1e-5, atol=1e-6)


def sensitivity_of(said: Any, right: Any) -> float:
    return (said * right).sum() / right.sum()


def network() -> nn.Cell:
    weight = Tensor(np.array([[0.1, 0.8, 0.1, 0.1], [1, 1, 1, 1]], np.float32))
    bias = Tensor(np.array([0.3, 0.6], np.float32))
    return nn.Dense(4, 2, weight_init=weight, bias_init=bias)


@pytest.mark.parametrize("name", [n for n in RESULTS if "Distance" in n])
def test_distances_of_edges_are_mindspores(name: str) -> None:
    kind, how, *flag = name.split()
    make = getattr(train, kind)
    if how == "percentile":
        metric = make(percentile=60.0, directed=True)
    elif kind == "HausdorffDistance":
        metric = make(how, crop=FLAGS[flag[0]])
    else:
        metric = make(FLAGS[flag[0]], how)
    close(metric, name, (Tensor(MASKS[0]), MASKS[1], 1))


@pytest.mark.parametrize("name", [n for n in RESULTS if n.endswith((" counts", " samples"))])
def test_rates_of_confusion_are_mindspores(name: str) -> None:
    rate, _, how = name.rpartition(" ")
    metric = train.ConfusionMatrixMetric(metric_name=rate, calculation_method=how == "samples")
    close(metric, name, HOT, HOT[::-1])


def test_what_else_the_rates_count() -> None:
    assert train.ConfusionMatrixMetric(calculation_method=True)(*FLAT) == sensitivity_of(*FLAT)
    close(train.ConfusionMatrixMetric(skip_channel=False), "sensitivity later", HOT)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["mean_batch", "sum_channel", "none"]))
def test_a_batch_gives_one_number(seed: int, way: str) -> None:
    label = np.random.default_rng(seed).integers(0, 2, (2, 3, 4))
    exact = train.ConfusionMatrixMetric(metric_name="accuracy", calculation_method=True)
    assert exact(label, label) == 1
    metric = train.ConfusionMatrixMetric(
        metric_name="accuracy", calculation_method=True, decrease=way
    )
    with pytest.raises(ValueError, match=r"eval\(\) needs one number for a batch"):
        metric.update(label, label)


def test_occlusion_is_mindspores() -> None:
    net = network()
    label = np.array([1], np.int32)
    close(train.OcclusionSensitivity(), "OcclusionSensitivity", (net, IMAGE, label))
    close(
        train.OcclusionSensitivity(margin=1, n_batch=3),
        "OcclusionSensitivity margin 1",
        (net, IMAGE, label),
    )
    close(train.OcclusionSensitivity(b_box=[1, -1]), "OcclusionSensitivity box", (net, IMAGE, [0]))


def test_labels_of_fewer_columns() -> None:
    metric = train.TopKCategoricalAccuracy(2)
    close(metric, "TopKCategoricalAccuracy", (np.array(DATA["out"]), np.array(DATA["labels"])))


@pytest.mark.parametrize(
    "metric",
    [
        train.HausdorffDistance(),
        train.MeanSurfaceDistance(),
        train.RootMeanSquareDistance(),
        train.ConfusionMatrixMetric(),
        train.OcclusionSensitivity(),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_every_one_needs_a_batch(metric: train.Metric) -> None:
    with pytest.raises(RuntimeError, match=r"eval\(\) before any update\(\)"):
        metric.eval()
    with pytest.raises(ValueError, match=r"takes \(.*\), got 1 inputs"):
        metric.update(MASKS[0])


def test_empty_masks_are_infinitely_far() -> None:
    none, some = np.zeros((3, 3), bool), np.eye(3, dtype=bool)
    assert train.MeanSurfaceDistance()(none, some, 0) == np.inf
    assert train.HausdorffDistance()(some, none, 0) == np.inf


@pytest.mark.parametrize(
    "metric",
    [
        train.HausdorffDistance(),
        train.HausdorffDistance(percentile=50.0),
        train.MeanSurfaceDistance(),
        train.RootMeanSquareDistance(),
        train.RootMeanSquareDistance(symmetric=True),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_distances_are_numpys_numbers(metric: train.Metric) -> None:
    """As in MindSpore: they have `item` and `dtype`."""
    some = np.eye(3, dtype=bool)
    for other in (some, some[::-1]):
        assert type(metric(some, other, 0)) is np.float64


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: train.HausdorffDistance("far"), ValueError, "distance_metric must be one of"),
        (lambda: train.HausdorffDistance(wrong(2)), TypeError, "distance_metric must be a str"),
        (lambda: train.HausdorffDistance(percentile=101.0), ValueError, "percentile must be 0 to"),
        (lambda: train.HausdorffDistance(crop=wrong(1)), TypeError, "crop must be a bool, got 1"),
        (lambda: train.MeanSurfaceDistance(wrong(1)), TypeError, "symmetric must be a bool"),
        (
            lambda: train.MeanSurfaceDistance().update(MASKS[0], MASKS[1][:2], 1),
            ValueError,
            "must have one shape",
        ),
        (
            lambda: train.MeanSurfaceDistance().update(*MASKS, 5),
            ValueError,
            "label_idx 5 is in neither",
        ),
        (
            lambda: train.ConfusionMatrixMetric(metric_name="luck")(*HOT),
            NotImplementedError,
            "no metric_name 'luck'",
        ),
        (
            lambda: train.ConfusionMatrixMetric(decrease="half"),
            ValueError,
            "decrease must be one of",
        ),
        (
            lambda: train.ConfusionMatrixMetric(wrong(1)),
            TypeError,
            "skip_channel must be a bool, got 1",
        ),
        (
            lambda: train.ConfusionMatrixMetric().update(HOT[0], 2 * HOT[1]),
            ValueError,
            "must be one-hot",
        ),
        (lambda: train.OcclusionSensitivity(wrong(1)), TypeError, "pad_val must be a float"),
        (lambda: train.OcclusionSensitivity(margin=0), ValueError, "margin must be at least 1"),
        (
            lambda: train.OcclusionSensitivity(b_box=[0, 4]).update(network(), IMAGE, 1),
            ValueError,
            "is not inside of the image",
        ),
        (
            lambda: train.OcclusionSensitivity().update(network(), [*IMAGE, *IMAGE], 1),
            RuntimeError,
            "takes one image",
        ),
        (
            lambda: train.OcclusionSensitivity().update(print, IMAGE, 1),
            TypeError,
            "first input must be a Cell",
        ),
        (lambda: train.Accuracy().set_indexes(wrong(0)), ValueError, "must be a list"),
        (lambda: train.Accuracy().set_indexes([0, 3])(1, 2), ValueError, "update.. got 2 inputs"),
    ],
)
def test_refusals(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_model_gives_a_metric_the_outputs_of_its_indexes() -> None:
    class Both(nn.Cell):
        def construct(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            return x, -x, y

    metric = train.MAE().set_indexes([2, 0])
    model = Model(nn.Dense(1, 1), eval_network=Both(), metrics={"mae": metric})
    x = np.array([[1.0], [2.0]], np.float32)
    assert model.eval([(x, x + 1)]) == {"mae": 1.0}
