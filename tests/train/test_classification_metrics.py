"""Metrics of classification give MindSpore's numbers, and say what they cannot take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from paramesh import Tensor, train
from type_checks import wrong

DATA: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "golden" / "metrics.json").read_text()
)
OUT, BINARY = np.array(DATA["out"], np.float32), np.array(DATA["bs"], np.float32)
LABEL, OF_BINARY = np.array(DATA["lab"], np.int32), np.array(DATA["bl"], np.int32)
ONE, OTHER = (np.array(DATA[k], np.float32) for k in ("ml", "ml2"))
PAIR = (Tensor(OUT), Tensor(LABEL))
TEXT = [["i", "have", "a", "pen", "on", "my", "desk"]]
REFERENCES = [
    [
        ["i", "have", "a", "pen", "in", "my", "desk"],
        ["there", "is", "a", "pen", "on", "my", "desk"],
    ]
]
MANY = ((Tensor(ONE), Tensor(OTHER)), (Tensor(OTHER), Tensor(OTHER)))

#: name in the recording -> (the metric, its batches, options of `eval`).
CASES: dict[str, tuple[train.Metric, tuple[Any, ...], dict[str, Any]]] = {
    "Precision": (train.Precision(), (PAIR, PAIR), {}),
    "Precision average": (train.Precision(), (PAIR, PAIR), {"average": True}),
    "Precision multilabel": (train.Precision("multilabel"), MANY, {"average": True}),
    "Recall": (train.Recall(), (PAIR, PAIR), {}),
    "Recall average": (train.Recall(), (PAIR, PAIR), {"average": True}),
    "Recall multilabel": (train.Recall("multilabel"), MANY, {"average": True}),
    "Precision multilabel samples": (train.Precision("multilabel"), MANY, {}),
    "Recall multilabel samples": (train.Recall("multilabel"), MANY, {}),
    "F1": (train.F1(), (PAIR,), {}),
    "Fbeta 2": (train.Fbeta(2.0), (PAIR,), {"average": True}),
    **{
        f"ConfusionMatrix {way}": (train.ConfusionMatrix(3, way), (PAIR, PAIR), {})
        for way in ("no_norm", "target", "prediction", "all")
    },
    "Perplexity": (train.Perplexity(), (PAIR,), {}),
    "Perplexity ignore": (train.Perplexity(1), (PAIR,), {}),
    "BleuScore": (train.BleuScore(), ((TEXT, REFERENCES),), {}),
    "BleuScore smooth": (train.BleuScore(2, True), ((TEXT, REFERENCES),), {}),
    "Dice": (train.Dice(), ((Tensor(ONE), Tensor(OTHER)), (Tensor(OUT), Tensor(ONE))), {}),
    "CosineSimilarity": (train.CosineSimilarity(), ((OUT,),), {}),
    "CosineSimilarity mean": (
        train.CosineSimilarity(reduction="mean", zero_diagonal=False),
        ((OUT,),),
        {},
    ),
    "ROC": (train.ROC(pos_label=1), ((Tensor(BINARY), Tensor(OF_BINARY)),), {}),
}


@pytest.mark.parametrize("name", CASES)
def test_mindspores_number(name: str) -> None:
    metric, batches, options = CASES[name]
    metric.clear()
    for batch in batches:
        metric.update(*batch)
    found, wanted = metric.eval(**options), DATA["results"][name]
    parts = zip(found, wanted, strict=True) if isinstance(found, tuple) else [(found, wanted)]
    for got, want in parts:
        pairs = zip(got, want, strict=True) if isinstance(got, list) else [(got, want)]
        for a, b in pairs:
            np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-5)


def test_every_recorded_metric_has_a_case() -> None:
    assert set(DATA["results"]) - {"auc"} == set(CASES)


def test_the_area_under_a_curve() -> None:
    x, y = np.array([0, 0.1, 0.5, 1.0]), np.array([0, 0.4, 0.6, 1])
    assert train.auc(x, y) == pytest.approx(DATA["results"]["auc"])
    assert type(train.auc(x, y)) is np.float64
    assert train.auc(x[::-1], y[::-1]) == pytest.approx(train.auc(x, y))
    assert train.auc(x[[1, 0, 2, 3]], y[[1, 0, 2, 3]], reorder=True) == train.auc(x, y)
    with pytest.raises(ValueError, match="x goes up and down"):
        train.auc(x[[1, 0, 2, 3]], y)


def test_metrics_by_name() -> None:
    assert isinstance(train.get_metric_fn("topk", 3), train.TopKCategoricalAccuracy)
    made = train.get_metrics({"precision", "F1", "loss"})
    assert isinstance(made["F1"], train.F1)
    assert set(train.names()) > {"recall", "roc", "acc"}
    with pytest.raises(ValueError, match="No metric is called 'prec'"):
        train.get_metric_fn("prec")


def test_indexes_choose_the_inputs() -> None:
    class Second(train.Metric):
        @train.rearrange_inputs
        def update(self, *inputs: Any) -> None:
            self.seen = inputs

    metric = Second()
    metric.set_indexes([2, 0])
    metric.update(1, 2, 3)
    assert metric.seen == (3, 1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train.Precision("other"), "eval_type must be one of"),
        (lambda: train.Precision().eval(), r"Precision: eval\(\) before any update"),
        (lambda: train.Recall().update(OUT), r"Recall takes \(outputs, label\), 2 inputs, got 1"),
        (lambda: train.F1().update(OUT, LABEL[:2]), "need one class below 3 for each sample"),
        (lambda: train.Fbeta(0), "beta must be above 0"),
        (lambda: train.ConfusionMatrix(2, "no"), "normalize must be one of"),
        (lambda: train.Dice().update(ONE, ONE[:2]), "must have one shape"),
        (lambda: train.BleuScore(5), "n_gram must be 1 to 4"),
        (lambda: train.BleuScore(smooth=wrong(1)), "smooth must be a bool, got 1"),
        (lambda: train.ConfusionMatrix(wrong("2")), "num_classes must be a int, got '2'"),
        (lambda: train.ROC(wrong(1.5)), "class_num must be a int, got 1.5"),
        (lambda: train.ROC().update(OUT, LABEL), "scores .* are of 3 classes, and class_num is 1"),
        (lambda: train.ROC(2).update(LABEL, LABEL), r"with class_num=2 scores are \(N, 2, …\)"),
        (lambda: train.ROC().update(LABEL, LABEL[:2]), r"scores \(6,\) and labels \(2,\) do not"),
        (lambda: train.CosineSimilarity(reduction=wrong(2)), "reduction must be a str"),
        (lambda: train.Perplexity().update(OUT, LABEL[:2]), "6 rows of probabilities and 2 labels"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError, RuntimeError), match=message):
        make()


def test_a_curve_for_each_class_is_that_class_against_the_rest() -> None:
    metric = train.ROC(class_num=3)
    metric.update(*PAIR)
    rates, hits, thresholds = metric.eval()
    for c in range(3):
        one = train.ROC(pos_label=1)
        one.update(OUT[:, c], c == LABEL)
        for got, want in zip((rates[c], hits[c], thresholds[c]), one.eval(), strict=True):
            np.testing.assert_array_equal(got, want)
