"""What layers start from: the distributions of the golden data, and what users give instead."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import goldens
from layer_cases import make, numbers
from paramesh import nn
from paramesh.initializer import XavierNormal, initializer
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor

DEFAULTS: dict[str, list[dict[str, Any]]] = goldens.load("layers")["defaults"]
LAYERS = 12  # as many as were made for the golden data


@pytest.mark.parametrize("code", sorted(DEFAULTS))
def test_distribution(code: str) -> None:
    drawn: dict[str, list[np.ndarray]] = {}
    for _ in range(LAYERS):
        params = list(make(code).get_parameters())
        assert all(param.has_init for param in params)
        for param in params:
            drawn.setdefault(param.name, []).append(param.asnumpy().astype(np.float64))
    about = {
        p.name: (list(p.shape), str(p.dtype), p.requires_grad) for p in make(code).get_parameters()
    }
    assert list(drawn) == [row["name"] for row in DEFAULTS[code]]
    for row in DEFAULTS[code]:
        assert about[row["name"]] == (row["shape"], row["dtype"], row["requires_grad"])
        check_sample(np.stack(drawn[row["name"]]).ravel(), row)


def check_sample(sample: np.ndarray, row: dict[str, Any]) -> None:
    """Moments within five standard errors of the recorded ones, and the same kind of ends."""
    n, std = row["samples"], row["std"]
    assert sample.size == n
    if std == 0:
        assert set(sample) == {row["mean"]}
        return
    assert abs(sample.mean() - row["mean"]) < 5 * std * np.sqrt(2 / n)
    bounded = row["max"] < 2 * std
    kurtosis = 1.8 if bounded else 3.0
    assert abs(sample.std() - std) < 5 * std * np.sqrt((kurtosis - 1) / (2 * n))
    found = np.mean((sample - sample.mean()) ** 4) / sample.var() ** 2
    assert abs(found - kurtosis) < 20 / np.sqrt(n)
    if bounded:
        # Uniform: the spread says where the ends are.
        end = np.sqrt(3) * std
        assert np.abs(sample).max() < end * (1 + 5 / np.sqrt(n))
        assert np.abs(sample).max() > end * (1 - 30 / n - 5 / np.sqrt(n))


def test_layers_start_from_different_numbers() -> None:
    first, second = nn.Dense(4, 3), nn.Dense(4, 3)
    assert not np.array_equal(first.weight.asnumpy(), second.weight.asnumpy())


@pytest.mark.parametrize(
    ("start", "wanted"),
    [
        (0.5, np.full((3, 2), 0.5, np.float32)),
        ("ones", np.ones((3, 2), np.float32)),
        (Tensor(np.arange(6, dtype=np.float32).reshape(3, 2)), np.arange(6).reshape(3, 2)),
        (initializer("zeros", (3, 2)), np.zeros((3, 2))),
    ],
)
def test_given_start(start: Any, wanted: np.ndarray) -> None:
    np.testing.assert_array_equal(nn.Dense(2, 3, weight_init=start).weight.asnumpy(), wanted)


def test_given_initializer_stays_a_recipe() -> None:
    layer = nn.Conv2d(2, 3, 3, weight_init=XavierNormal(2.0), has_bias=True, bias_init="normal")
    assert layer.weight.init == XavierNormal(2.0)
    assert isinstance(layer.bias, Parameter)
    assert layer.bias.has_init


def test_start_in_another_element_type() -> None:
    layer = make("nn.Dense(4, 3, dtype=ms.bfloat16)")
    assert str(layer.weight.dtype) == "BFloat16"
    assert layer.weight.has_init
    x = Tensor(numbers(2, 4)).astype(layer.weight.dtype)
    assert str(layer(x).dtype) == "BFloat16"


@pytest.mark.parametrize(
    ("code", "error", "says"),
    [
        ("nn.Dense(2, 3, weight_init=None or [1.0])", TypeError, r"Dense\(weight_init\): .*list"),
        (
            "nn.Conv1d(2, 3, 3, weight_init=Tensor(np.ones((3, 2, 3))))",
            ValueError,
            r"\(3, 2, 1, 3\)",
        ),
        ("nn.BatchNorm2d(4, moving_mean_init='nosuch')", ValueError, r"\(moving_mean_init\): "),
        ("nn.PReLU(4, w=Tensor(np.ones(3)))", ValueError, r"PReLU\(w\): .*shape \(3,\)"),
        ("nn.Embedding(4, 3, embedding_table=Tensor(np.ones((3, 4))))", ValueError, r"\(4, 3\)"),
        ("nn.Dense(2, 3, dtype='nosuch')", TypeError, r"Dense\(dtype\): "),
        ("nn.Dense(2, 3, bias_init='he_uniform')", ValueError, r"Dense\(bias_init\): "),
    ],
)
def test_start_that_does_not_fit(code: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make(code)
