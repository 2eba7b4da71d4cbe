"""Bessel functions are SciPy's, near 0 and far from it, and so are their derivatives."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.special

import paramesh
import paramesh.ops as ops
from paramesh.tensor import Tensor

#: name -> its derivative.
FUNCTIONS = {
    "j0": lambda x: -scipy.special.j1(x),
    "j1": lambda x: scipy.special.jvp(1, x),
    "y0": lambda x: -scipy.special.y1(x),
    "y1": lambda x: scipy.special.yvp(1, x),
    "k0": lambda x: -scipy.special.k1(x),
    "k1": lambda x: scipy.special.kvp(1, x),
    "k0e": lambda x: scipy.special.k0e(x) - scipy.special.k1e(x),
    "k1e": lambda x: scipy.special.kvp(1, x) * np.exp(x) + scipy.special.k1e(x),
}
X = np.concatenate([np.linspace(0.01, 30, 60), [1e-6, 2.0, 8.0, 100.0, 500.0]])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_gradients(name: str) -> None:
    fn, formula = getattr(ops, f"bessel_{name}"), getattr(scipy.special, name)
    found = fn(Tensor(X)).asnumpy()
    np.testing.assert_allclose(found, formula(X), rtol=1e-11, atol=1e-13)
    single = fn(Tensor(X.astype(np.float32)))
    assert single.dtype == paramesh.float32
    np.testing.assert_allclose(single.asnumpy(), formula(X.astype(np.float32)), 1e-6, 1e-30)
    places = X[5:60:6]
    slope = paramesh.grad(lambda x: fn(x).sum())(Tensor(places)).asnumpy()
    np.testing.assert_allclose(slope, FUNCTIONS[name](places), rtol=1e-9, atol=1e-11)


def test_at_zero_and_below() -> None:
    edge = Tensor(np.array([0, -1], np.float32))
    assert ops.bessel_y0(edge).asnumpy().tolist()[0] == -np.inf
    assert ops.bessel_k1e(edge).asnumpy().tolist()[0] == np.inf
    assert np.isnan(ops.BesselY1()(edge).asnumpy()[1])
    np.testing.assert_allclose(ops.BesselJ1()(edge).asnumpy(), scipy.special.j1([0, -1]), 1e-6)
