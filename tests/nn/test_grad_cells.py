"""`Jvp` and `Vjp` are `jvp` and `vjp` as Cells, in both modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn, ops
from paramesh.nn.grad import Jvp, Vjp
from type_checks import wrong

X = Tensor(np.array([[1.0, 2.0], [3.0, 4.0]], np.float32))
V = Tensor(np.array([[1.0, 0.5], [2.0, -1.0]], np.float32))


class Cube(nn.Cell):
    def construct(self, x: Tensor) -> Tensor:
        return x**3


class Two(nn.Cell):
    def construct(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return 2 * x, x * y**2


@pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
def test_derivatives(mode: int) -> None:
    paramesh.set_context(mode=mode)
    out, along = Jvp(Cube())(X, V)
    np.testing.assert_allclose(out, X.asnumpy() ** 3)
    np.testing.assert_allclose(along, 3 * X.asnumpy() ** 2 * V.asnumpy())
    out, back = Vjp(Cube())(X, V)
    np.testing.assert_allclose(out, X.asnumpy() ** 3)
    np.testing.assert_allclose(back, 3 * X.asnumpy() ** 2 * V.asnumpy())
    _, (first, second) = Jvp(Two())(X, V, (V, X))
    x, v = X.asnumpy(), V.asnumpy()
    np.testing.assert_allclose(first, 2 * v)
    np.testing.assert_allclose(second, v * v**2 + x * 2 * v * x)
    _, (by_x, by_y) = Vjp(Two())(X, V, (V, X))
    np.testing.assert_allclose(by_x, 2 * v + x * v**2, rtol=1e-6)
    np.testing.assert_allclose(by_y, x * x * 2 * v, rtol=1e-6)


def test_they_are_among_the_operators() -> None:
    np.testing.assert_allclose(ops.jvp(Cube(), X, V)[1], 3 * X.asnumpy() ** 2 * V.asnumpy())
    np.testing.assert_allclose(ops.vjp(Cube(), X)[1](V)[0], 3 * X.asnumpy() ** 2 * V.asnumpy())


@pytest.mark.parametrize("kind", [Jvp, Vjp])
@pytest.mark.parametrize("v", [(V, V), (V,), 1])
def test_what_v_has_to_be(kind: Any, v: Any) -> None:
    with pytest.raises(TypeError, match=r"v must be a Tensor, one for each (in|out)put"):
        kind(Cube())(X, v)
    with pytest.raises(TypeError, match="takes the function's inputs and then v"):
        kind(Cube())(X)
    with pytest.raises(TypeError, match="expected a Cell or a function, got 3"):
        kind(wrong(3))
