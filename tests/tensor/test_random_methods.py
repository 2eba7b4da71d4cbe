"""Methods of Tensor that draw numbers: their range, their distribution, their element type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, ops

COUNT = 4000
#: call, and the mean and deviation of what it draws.
CALLS: dict[str, tuple[Callable[[Any], Any], float, float]] = {
    "normal_": (lambda x: x.normal_(2, 3), 2, 3),
    "uniform_": (lambda x: x.uniform_(-1, 3), 1, 4 / 12**0.5),
    "uniform": (lambda x: x.uniform(-1, 3), 1, 4 / 12**0.5),
    "random_": (lambda x: x.random_(0, 10), 4.5, (99 / 12) ** 0.5),
    "bernoulli_": (lambda x: x.bernoulli_(0.3), 0.3, 0.21**0.5),
    "exponential_": (lambda x: x.exponential_(0.5), 2, 2),
    "log of log_normal": (lambda x: x.log_normal(1, 0.5).log(), 1, 0.5),
    "atan of cauchy": (lambda x: ((x.cauchy(1, 2) - 1) / 2).atan(), 0, np.pi / 12**0.5),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64"])
def test_distribution(name: str, dtype: str) -> None:
    call, mean, deviation = CALLS[name]
    paramesh.set_seed(1)
    x = Tensor(np.zeros(COUNT, dtype))
    found = call(x)
    assert (found is x) == name.endswith("_")
    if "cauchy" not in name:
        assert found.asnumpy().dtype == dtype
    drawn = found.asnumpy().astype(np.float64)
    assert abs(drawn.mean() - mean) < 5 * deviation / COUNT**0.5
    assert abs(drawn.std() / deviation - 1) < 0.1
    assert not np.array_equal(call(x).asnumpy(), drawn)
    paramesh.set_seed(1)
    assert np.array_equal(call(x).asnumpy().astype(np.float64), drawn)


def test_whole_numbers() -> None:
    for dtype, most in (("int8", 127), ("uint8", 255), ("int32", 2**31 - 1), ("float16", 2**11)):
        drawn = Tensor(np.zeros(COUNT, dtype)).random_().asnumpy()
        assert drawn.dtype == dtype
        assert 0 <= drawn.min() < drawn.max() <= most
    assert set(Tensor(np.zeros(COUNT, "int32")).random_(-2, 1).asnumpy()) == {-2, -1, 0}


def test_chance_of_each_element() -> None:
    drawn = Tensor(np.zeros((3, 2), np.int32)).bernoulli_(Tensor([0.0, 1.0]))
    assert drawn.asnumpy().tolist() == [[0, 1]] * 3


def test_slopes_of_rrelu() -> None:
    paramesh.set_seed(1)
    drawn = ops.rrelu(Tensor(np.full(COUNT, -1.0, np.float32)), 0.2, 0.4).asnumpy()
    assert -0.4 <= drawn.min() < -0.39 < -0.21 < drawn.max() <= -0.2
    assert ops.rrelu(Tensor([2.0])).asnumpy() == [2]


def test_classes_with_and_without_replacement() -> None:
    weights = Tensor(np.tile(np.array([0.1, 0.2, 0.7], np.float32), (COUNT, 1)))
    drawn = ops.multinomial_with_replacement(weights, 3, 5, 2, True).asnumpy()
    assert drawn.shape == (COUNT, 2)
    assert drawn.dtype == np.int64
    assert abs((drawn == 2).mean() - 0.7) < 0.03
    apart = ops.multinomial_with_replacement(weights, 3, 5, 3).asnumpy()
    assert np.array_equal(np.sort(apart, 1), np.tile([0, 1, 2], (COUNT, 1)))
    with pytest.raises(ValueError, match="from 1 to the 3 classes"):
        ops.multinomial_with_replacement(weights, 3, 5, 4)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: x.normal_(std=-1), ValueError, "std must be at least 0"),
        (lambda x: x.uniform_(1, 0), ValueError, "from_ must be at most to"),
        (lambda x: x.random_(3, 3), ValueError, "from_ must be below to"),
        (lambda x: x.bernoulli_(1.5), ValueError, r"p must be in \[0, 1\]"),
        (lambda x: x.exponential_(0), ValueError, "lambd must be positive"),
        (lambda x: x.cauchy(sigma=0), ValueError, "sigma must be positive"),
        (lambda x: x.log_normal(std=-1), ValueError, "std must be at least 0"),
        (lambda x: x.uniform(generator=object()), TypeError, "set_seed"),
        (lambda x: x.int().normal_(), TypeError, "floating type, got"),
        (lambda x: (x > 0).random_(), TypeError, "do not fit into"),
        (lambda x: ops.rrelu(x, 2, 1), ValueError, "lower must be at most upper"),
    ],
)
def test_refusals(call: Callable[[Any], Any], error: type[Exception], message: str) -> None:
    x = Tensor([1.0, 2.0])
    with pytest.raises(error, match=message):
        call(x)
    assert x.asnumpy().tolist() == [1, 2]
