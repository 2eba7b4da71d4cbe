"""Compiled functions and gradient functions in copies and pickles: without their programs."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn

X = np.ones((2, 2), np.float32)


@paramesh.jit
def double(x: Any) -> Any:
    return 2 * x


class Holding(nn.Cell):
    """Keeps functions of a Cell as attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Dense(2, 1, weight_init="ones", has_bias=False)
        self.fast = paramesh.jit(self.layer, donate=False)
        self.slope = paramesh.value_and_grad(self.layer, None, self.layer.trainable_params())
        self.of_one = paramesh.grad(self.layer, None, self.layer.weight)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
}


@pytest.mark.parametrize("way", COPIES)
def test_functions_of_a_copied_cell_are_those_of_the_copy(way: str) -> None:
    net = Holding()
    for call in (net.fast, net.slope, net.of_one):
        call(X)
    other = COPIES[way](net)
    other.layer.weight.set_data(Tensor(np.zeros((1, 2), np.float32)))
    assert net.fast(X).asnumpy()[0, 0] == 2
    assert other.fast(X).asnumpy()[0, 0] == 0
    value, gradients = other.slope(X)
    assert value.asnumpy()[0, 0] == 0
    assert [g.shape for g in gradients] == [(1, 2)]
    assert other.of_one(X).shape == (1, 2)
    assert not other.fast._donate


@pytest.mark.parametrize("way", COPIES)
def test_a_decorated_function_is_found_by_its_name(way: str) -> None:
    double(X)
    assert COPIES[way](double) is double
