"""A NaN is found where it arises: in which Cell, on which line, beside which Parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Model, Parameter, Tensor, nn, ops
from paramesh.errors import NotFiniteError
from paramesh.train import StopAtNaN

X = Tensor(np.ones((1, 2), np.float32))


@pytest.fixture
def looking() -> Iterator[None]:
    """JAX looks at what programs give."""
    jax.config.update("jax_debug_nans", True)
    yield
    jax.config.update("jax_debug_nans", False)


class Log(nn.Cell):
    """The logarithm of a Parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = Parameter(Tensor([1.0, -1.0]))

    def construct(self, x: Any) -> Any:
        return x * ops.log(self.scale)


class Net(nn.Cell):
    """A layer that is right, and one that is not."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.inner = nn.Dense(2, 2), nn.SequentialCell(Log())

    def construct(self, x: Any) -> Any:
        return self.inner(self.fc(x)).sum()


@pytest.mark.usefixtures("looking")
@pytest.mark.parametrize("how", ["graph", "pynative", "step"])
def test_the_cell_the_line_and_the_parameters(how: str) -> None:
    net = Net()
    before = {p.name: p.asnumpy() for p in net.get_parameters()}
    momentum = nn.Momentum(net.trainable_params(), 0.1, 0.9)
    gradients = paramesh.value_and_grad(net, None, weights=net.trainable_params())

    @paramesh.jit
    def step(x: Any) -> Any:
        loss, slopes = gradients(x)
        momentum(slopes)
        return loss

    if how == "pynative":
        paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    with pytest.raises(NotFiniteError, match="encountered in log in Cell 'Net.inner.0'") as caught:
        (step if how == "step" else net)(X)
    text = str(caught.value)
    assert "test_not_finite.py" in text
    assert "return x * ops.log(self.scale)" in text
    assert "Parameter 'inner.0.scale' Float32[2]: from -1 to 1" in text
    assert caught.value.cell == "Net.inner.0"
    assert caught.value.parameters == []
    for param in net.get_parameters():
        np.testing.assert_array_equal(param, before[param.name])


def test_parameters_that_are_no_numbers_are_named(request: pytest.FixtureRequest) -> None:
    net = nn.SequentialCell(nn.Dense(2, 2))
    net[0].weight.set_data(Tensor(np.array([[1.0, np.nan], [2.0, 3.0]], np.float32)))
    request.getfixturevalue("looking")
    with pytest.raises(
        FloatingPointError, match=r"'0.weight' Float32\[2, 2\]: from 1 to 3, 1 of 4"
    ):
        net(X)


def trained(rate: float, callback: StopAtNaN, steps: int = 4) -> Model:
    """Some steps with a learning rate."""
    net = nn.SequentialCell(nn.Dense(2, 2), nn.Dense(2, 1))
    model = Model(net, nn.MSELoss(), nn.SGD(net.trainable_params(), rate))
    batch = (np.ones((4, 2), np.float32), np.ones((4, 1), np.float32))
    model.train(1, [batch] * steps, [callback], progress=False)
    return model


def test_training_stops_and_says_which_parameters_are_not_finite() -> None:
    trained(0.01, StopAtNaN(1))
    with pytest.raises(
        NotFiniteError, match=r"the loss of step [23] \(epoch 1\) is (nan|inf)"
    ) as e:
        trained(1e30, StopAtNaN(1))
    assert "Parameter '0.weight'" in str(e.value)
    assert "0.weight" in e.value.parameters
    with pytest.raises(NotFiniteError, match=r"the loss of step 4 \(epoch 1\)"):
        trained(1e30, StopAtNaN(100))
    with pytest.raises(TypeError, match="every must be an int, got 0.5"):
        StopAtNaN(0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        StopAtNaN(0)


def test_mixed_precision_computes_in_16_bits_with_parameters_in_32() -> None:
    class Kinds(nn.Cell):
        """Keeps the element types that it sees."""

        def construct(self, x: Any) -> Any:
            kinds.append(x.dtype)
            return x

    kinds: list[Any] = []
    net = nn.SequentialCell(nn.Dense(2, 2), Kinds(), nn.LayerNorm((2,)))
    norms: list[Any] = []
    net[2].register_forward_hook(lambda cell, inputs, out: norms.append(out.dtype))
    assert paramesh.mixed_precision(net) is net
    assert paramesh.mixed_precision(net)(X).dtype is paramesh.float32
    assert set(kinds) == {paramesh.bfloat16}
    assert set(norms) == {paramesh.float32}
    slopes = paramesh.grad(lambda x: net(x).sum(), None, net.trainable_params())(X)
    assert {slope.dtype for slope in slopes} == {paramesh.float32}
    assert net[0].weight.dtype is paramesh.float32
    paramesh.mixed_precision(net, "float16")
    kinds.clear()
    net(X)
    assert set(kinds) == {paramesh.float16}
    with pytest.raises(ValueError, match="dtype must be bfloat16 or float16, got float64"):
        paramesh.mixed_precision(net, paramesh.float64)
    with pytest.raises(TypeError, match="network must be a Cell, got int"):
        paramesh.mixed_precision(3)  # type: ignore[arg-type]
