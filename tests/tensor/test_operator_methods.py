"""Methods of Tensor that are operators."""

from __future__ import annotations

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, ops
from paramesh.errors import ContextError
from paramesh.providers import Providers
from paramesh.tensor.operator_methods import OPERATORS

X = np.array([[3.0, 1.0, 2.0], [0.5, 0.25, 1.0]], np.float32)


@pytest.mark.parametrize("name", OPERATORS)
def test_each_is_an_operator(name: str) -> None:
    assert callable(getattr(ops, OPERATORS[name]))
    assert getattr(Tensor, name).__name__ == name
    assert f"`ops.{OPERATORS[name]}`" in getattr(Tensor, name).__doc__


def test_arguments_are_handed_on() -> None:
    values, places = Tensor(X).top_k(2)
    assert np.array_equal(values.asnumpy(), [[3, 2], [1, 0.5]])
    assert np.array_equal(places.asnumpy(), [[0, 2], [2, 0]])
    rows = Parameter(X, "rows").scatter_div(Tensor(np.array([[1]])), updates=Tensor(X[:1]))
    np.testing.assert_allclose(rows.asnumpy()[1], X[1] / X[0])
    np.testing.assert_allclose(Tensor(X).arcsinh().asnumpy(), np.arcsinh(X), rtol=1e-6)


def test_in_programs() -> None:
    found = paramesh.jit(lambda x: x.copysign(-x))(Tensor(X))
    assert np.array_equal(found.asnumpy(), -X)


def test_without_operators() -> None:
    with pytest.raises(ContextError, match="nobody knows the operator 'svd'"):
        Providers().operator("svd")
