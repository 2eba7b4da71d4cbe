"""Losses of margins against their formulas in numpy, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from paramesh import Tensor, nn, ops
from type_checks import untyped, wrong

RNG = np.random.default_rng(0)
X = RNG.normal(size=(3, 4)).astype(np.float32)
Y = RNG.normal(size=(3, 4)).astype(np.float32)
Z = RNG.normal(size=(3, 4)).astype(np.float32)
CLASSES = np.array([1, 0, 3])
WEIGHT = np.array([0.5, 1.0, 2.0, 3.0], np.float32)


def reduced(losses: Any, reduction: str) -> Any:
    return {"none": losses, "sum": losses.sum(), "mean": losses.mean()}[reduction]


def multi_margin(p: int, weight: Any) -> Any:
    losses = []
    for row, right in zip(X, CLASSES, strict=True):
        others = [max(0, 0.5 - row[right] + v) ** p for i, v in enumerate(row) if i != right]
        losses.append(sum(others) / 4 * (1 if weight is None else weight[right]))
    return np.array(losses)


def label_margin(x: Any, target: Any) -> float:
    right = []
    for at in target:
        if at < 0:
            break
        right.append(at)
    others = [at for at in range(len(x)) if at not in right]
    return sum(max(0, 1 - (x[a] - x[b])) for a in right for b in others) / len(x)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("weight", [None, WEIGHT])
def test_multi_margin_loss(reduction: str, p: int, weight: Any) -> None:
    given = None if weight is None else Tensor(weight)
    found = ops.multi_margin_loss(Tensor(X), Tensor(CLASSES), p, 0.5, given, untyped(reduction))
    np.testing.assert_allclose(found.asnumpy(), reduced(multi_margin(p, weight), reduction), 1e-5)
    layer = nn.MultiMarginLoss(p, 0.5, reduction)(Tensor(X), Tensor(CLASSES), given)
    assert np.array_equal(found.asnumpy(), layer.asnumpy())


def test_multilabel_margin_loss() -> None:
    targets = np.array([[1, 0, -1, 3], [-1, 0, 1, 2], [3, 2, 1, 0]])
    wanted = [label_margin(x, t) for x, t in zip(X, targets, strict=True)]
    found = ops.multilabel_margin_loss(Tensor(X), Tensor(targets), "none")
    np.testing.assert_allclose(found.asnumpy(), wanted, 1e-5)
    loss, right = ops.MultilabelMarginLoss("sum")(Tensor(X[0]), Tensor(targets[0]))
    np.testing.assert_allclose(loss.asnumpy(), wanted[0], 1e-5)
    assert right.asnumpy().tolist() == [1, 1, 0, 0]


def test_cosine_embedding_loss() -> None:
    target = np.array([1, -1, -1])
    cosine = (X * Y).sum(1) / np.linalg.norm(X, axis=1) / np.linalg.norm(Y, axis=1)
    wanted = np.where(target == 1, 1 - cosine, np.maximum(cosine - 0.1, 0))
    found = ops.cosine_embedding_loss(Tensor(X), Tensor(Y), Tensor(target), 0.1, "none")
    np.testing.assert_allclose(found.asnumpy(), wanted, 1e-5, 1e-6)
    one = ops.cosine_embedding_loss(Tensor(X[0]), Tensor(Y[0]), Tensor(1))
    np.testing.assert_allclose(one.asnumpy(), wanted[0], 1e-5)


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("p", [2, 3.5])
def test_triplet_margin_loss(swap: bool, p: float) -> None:
    def distance(a: Any, b: Any) -> Any:
        return (np.abs(a - b + 1e-6) ** p).sum(1) ** (1 / p)

    far = distance(X, Z)
    far = np.minimum(far, distance(Y, Z)) if swap else far
    wanted = np.maximum(distance(X, Y) - far + 0.7, 0)
    found = ops.triplet_margin_loss(
        Tensor(X), Tensor(Y), Tensor(Z), 0.7, p, swap=swap, reduction="none"
    )
    np.testing.assert_allclose(found.asnumpy(), wanted, 1e-5)
    layer = nn.TripletMarginLoss(p, swap, reduction="none")
    again = layer(Tensor(X), Tensor(Y), Tensor(Z), 0.7).asnumpy()
    assert np.array_equal(found.asnumpy(), again)
    form = ops.TripletMarginLoss(p, swap, reduction="none")
    assert np.array_equal(form(Tensor(X), Tensor(Y), Tensor(Z), Tensor(0.7)).asnumpy(), again)


def test_multilabel_soft_margin_loss() -> None:
    target = (Y > 0).astype(np.float32)
    losses = target * np.log1p(np.exp(-X)) + (1 - target) * np.log1p(np.exp(X))
    found = ops.multilabel_soft_margin_loss(Tensor(X), Tensor(target), Tensor(WEIGHT), "sum")
    np.testing.assert_allclose(found.asnumpy(), (losses * WEIGHT).mean(1).sum(), 1e-5)
    layer = nn.MultiLabelSoftMarginLoss(Tensor(WEIGHT), "sum")(Tensor(X), Tensor(target))
    assert np.array_equal(found.asnumpy(), layer.asnumpy())


def test_soft_margin_loss_of_large_numbers() -> None:
    found = ops.soft_margin_loss(Tensor([-40.0, 40.0, 0.0]), Tensor([1.0, 1.0, -1.0]), "none")
    np.testing.assert_allclose(found.asnumpy(), [40, 0, np.log(2)], 1e-6, 1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, t: ops.multi_margin_loss(x, t, 3), "p must be 1 or 2, got 3"),
        (lambda x, t: ops.multi_margin_loss(x, t[:2]), r"target \(n,\), got \(3, 4\) and \(2,\)"),
        (lambda x, t: ops.multi_margin_loss(x, t, weight=x), r"weight must be of shape \(4,\)"),
        (
            lambda x, t: ops.multi_margin_loss(x, t, reduction=wrong("max")),
            "'mean', 'sum' or 'none'",
        ),
        (lambda x, t: ops.multilabel_margin_loss(x, t), "of one shape"),
        (lambda x, t: ops.cosine_embedding_loss(x, x, t, 2.0), "margin must be from -1 to 1"),
        (lambda x, t: ops.cosine_embedding_loss(x, x, t[:2]), r"target must be of shape \(3,\)"),
        (lambda x, t: ops.soft_margin_loss(x, t), "expected one shape"),
        (lambda x, t: ops.triplet_margin_loss(x, x, x, p=0), "p must be positive"),
    ],
)
def test_refusals(call: Callable[[Any, Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Tensor(X), Tensor(CLASSES))
