"""Operators whose gradients are MindSpore's and not those that JAX derives."""

from __future__ import annotations

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, ops

INFINITE = np.array([np.inf, 2, np.nan, 3], np.float32)
FACTORS = np.array([0, 3, 0, 0], np.float32)


def test_a_product_without_nan() -> None:
    product = ops.MulNoNan()
    assert product(Tensor(INFINITE), Tensor(FACTORS)).asnumpy().tolist() == [0, 6, 0, 0]
    assert product(Tensor(np.ones((2, 1), np.int32)), 2).asnumpy().tolist() == [[2], [2]]
    by_x, by_y = paramesh.grad(lambda x, y: product(x, y).sum(), (0, 1))(
        Tensor(np.ones((2, 1), np.float32)), Tensor(FACTORS)
    )
    assert by_x.asnumpy().tolist() == [[3], [3]]
    assert by_y.asnumpy().tolist() == [2, 2, 2, 2]
    # Where nothing comes back, an infinite factor changes nothing.
    some = paramesh.grad(lambda x, y: product(x, y)[1], (0, 1))(Tensor(INFINITE), Tensor(FACTORS))
    assert [g.asnumpy().tolist() for g in some] == [[0, 3, 0, 0], [0, 2, 0, 0]]


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_next_number_moves_with_its_input(dtype: type) -> None:
    x, y = np.array([[1], [2]], dtype), np.array([3, 0, 2], dtype)
    out = ops.nextafter(Tensor(x), Tensor(y))
    np.testing.assert_array_equal(out.asnumpy(), np.nextafter(x, y))
    by_x, by_y = paramesh.grad(lambda x, y: ops.nextafter(x, y).sum(), (0, 1))(Tensor(x), Tensor(y))
    assert (by_x.asnumpy().tolist(), by_y.asnumpy().tolist()) == ([[3], [3]], [0, 0, 0])
