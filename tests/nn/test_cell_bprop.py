"""`bprop` of Cells that read and write Parameters: their gradients are zeros, as in MindSpore."""

from typing import Any

import numpy as np
import pytest

from paramesh import Parameter, ParameterTuple, Tensor, context, nn, ops, value_and_grad

X, Y = np.array([[1, 2]], np.float32), np.array([[3, 4]], np.float32)


class Own(nn.Cell):
    """Its bprop is not the derivative, so that one sees which was used."""

    def __init__(self) -> None:
        super().__init__()
        self.z = Parameter(Tensor(np.array([1.5], np.float32)))
        self.calls = Parameter(Tensor(np.zeros(1, np.float32)), requires_grad=False)

    def construct(self, x: Any, y: Any) -> Any:
        ops.assign_add(self.calls, Tensor(np.ones(1, np.float32)))
        return x * self.z * y

    def bprop(self, x: Any, y: Any, out: Any, dout: Any) -> Any:
        return x + x + self.z * dout, y + y


class Around(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.inner = Own()
        self.k = Parameter(Tensor(np.array([2.0], np.float32)))

    def construct(self, x: Any, y: Any) -> Any:
        return self.inner(x * self.k, y) * self.k


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_parameters_of_a_cell_with_bprop(mode: int) -> None:
    context.set_context(mode=mode)
    net = Around()
    params = ParameterTuple(net.trainable_params())
    by_all = ops.GradOperation(get_all=True, get_by_list=True)
    (dx, dy), weights = by_all(net, params)(Tensor(X), Tensor(Y))
    # inside: x = 2 X and dout = 2, so that the gradient there is 4 X + 3
    np.testing.assert_allclose(dx.asnumpy(), (4 * X + 3) * 2)
    np.testing.assert_allclose(dy.asnumpy(), 2 * Y)
    found = {p.name: g.asnumpy() for p, g in zip(params, weights, strict=True)}
    np.testing.assert_allclose(found["inner.z"], [0])
    np.testing.assert_allclose(found["k"], [(3 * X * Y).sum() + ((4 * X + 3) * X).sum()])
    assert net.inner.calls.tolist() == [1]
    value, _ = value_and_grad(net, None, weights=params)(Tensor(X), Tensor(Y))
    np.testing.assert_allclose(value.asnumpy(), 6 * X * Y)
    assert net.inner.calls.tolist() == [2]
    assert net(Tensor(X), Tensor(Y)).shape == (1, 2)
    assert net.inner.calls.tolist() == [3]
