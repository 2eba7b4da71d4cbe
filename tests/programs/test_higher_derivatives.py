"""`jet` and `derivative`: polynomials give their derivatives exactly, sines by the chain rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn, ops

X = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_of_a_sine(order: int) -> None:
    out, found = ops.derivative(ops.sin, Tensor(X), order)
    np.testing.assert_allclose(out.asnumpy(), np.sin(X), 1e-6)
    np.testing.assert_allclose(found.asnumpy(), np.sin(X + order * np.pi / 2), 1e-5)


def test_along_a_curve() -> None:
    # x(t) = x + t + 3 t² and y(t) = x - t: the product's derivatives at 0.
    curves = (np.stack([np.ones_like(X), 6 * np.ones_like(X)]),
              np.stack([-np.ones_like(X), np.zeros_like(X)]))  # fmt: skip
    given = tuple(Tensor(c) for c in curves)
    fn = paramesh.jit(lambda x, y: ops.jet(lambda a, b: (a * b, b), (x, y), given))
    (product, other), (first, second) = fn(Tensor(X), Tensor(X))
    assert np.array_equal(product.asnumpy(), X * X)
    assert np.array_equal(other.asnumpy(), X)
    assert np.array_equal(first.asnumpy(), np.stack([np.zeros_like(X), 6 * X - 2]))
    assert np.array_equal(second.asnumpy(), curves[1])


def test_of_a_network() -> None:
    net = nn.Dense(2, 1)
    _, found = ops.derivative(net, Tensor(X), 2)
    assert found.asnumpy().tolist() == [[0], [0]]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ops.derivative(ops.sin, x, 0), ValueError, "order must be at least 1"),
        (
            lambda x: ops.derivative(ops.sin, x.int(), 1),
            TypeError,
            r"primals\[0\] must be a Tensor",
        ),
        (lambda x: ops.jet(ops.sin, 1.0, x), TypeError, "got float"),
        (lambda x: ops.jet(ops.sin, x, x), ValueError, r"series must be \(orders, ...\)"),
        (lambda x: ops.jet(ops.sin, x, (x, x)), ValueError, "series must be"),
    ],
)
def test_refusals(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(Tensor(X))
