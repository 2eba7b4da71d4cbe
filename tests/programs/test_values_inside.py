"""Values of Tensors inside of functions whose gradient is taken."""

from __future__ import annotations

import numpy as np
import pytest

from paramesh import context, nn, ops
from paramesh.errors import TracedValueError, UncompiledWarning
from paramesh.providers import providers
from paramesh.tensor import Tensor
from paramesh.transforms import jit, value_and_grad

X = Tensor(np.array([[1.0, 2.0], [3.0, 5.0]], np.float32))
READS = {
    "asnumpy": (lambda y: y.asnumpy().tolist(), [[1.0, 4.0], [9.0, 25.0]]),
    "tolist": (lambda y: y.tolist(), [[1.0, 4.0], [9.0, 25.0]]),
    "array": (lambda y: np.asarray(y).max(), 25.0),
    "item": (lambda y: y.sum().item(), 39.0),
    "float": (lambda y: float(y.mean()), 9.75),
    "int": (lambda y: int(y[1, 1]), 25),
    "bool": (lambda y: bool(y.sum() > 38), True),
    "of one element": (lambda y: float(y[:1, :1]), 1.0),
    "index": (lambda y: [10, 11][y.argmax(1)[0]], 11),
    "format": (lambda y: f"{y.mean():.2f}", "9.75"),
    "str": (lambda y: str(y.sum()), "39.0"),
}


@pytest.mark.parametrize("name", READS)
def test_gradients_that_are_not_compiled_have_values(name: str) -> None:
    read, expected = READS[name]
    seen = []

    def loss(x: Tensor) -> Tensor:
        y = ops.square(x)
        seen.append(read(y))
        return y.sum()

    context.set_context(mode=context.PYNATIVE_MODE)
    value, grad = value_and_grad(loss)(X)
    assert seen[-1] == expected  # twice, where 64 bits are met
    assert (value.item(), grad.tolist()) == (39.0, [[2.0, 4.0], [6.0, 10.0]])


class Reading(nn.Cell):
    """A number that is read is a constant of the gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Dense(2, 1, weight_init="ones", has_bias=False)

    def construct(self, x: Tensor) -> Tensor:
        y = self.fc(x)
        return (y * float(y.asnumpy().max())).sum()


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_scripts_may_read_values_in_a_step(mode: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`paramesh run` lets them: MindSpore's default mode is PyNative."""
    monkeypatch.setattr(providers, "by_operators", True)
    context.set_context(mode=mode)
    net = Reading()
    step = nn.TrainOneStepCell(net, nn.SGD(net.trainable_params(), 0.0))
    grad = value_and_grad(net, None, net.trainable_params())
    if mode == context.GRAPH_MODE:
        for run in (lambda: net(X), lambda: grad(X), lambda: step(X)):
            with pytest.warns(UncompiledWarning, match=r"operator by operator: The values \(asn"):
                run()
    assert net(X).item() == step(X).item() == 88.0
    value, (by_weight,) = grad(X)
    assert (value.item(), by_weight.tolist()) == (88.0, [[32.0, 56.0]])


def test_elsewhere_a_program_that_reads_values_is_an_error() -> None:
    with pytest.raises(TracedValueError, match=r"The values \(asnumpy\(\)"):
        Reading()(X)
    with pytest.raises(TracedValueError, match=r"float\(\)"):
        jit(lambda x: x * float(x.sum()))(X)


def test_scripts_may_have_branches_that_cannot_be_converted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As steps with a loss scale are written: `succ` is a bool, or what the optimizer gave."""

    def step(x: Tensor, overflow: Tensor) -> Tensor:
        if overflow:
            succ = False
        else:
            succ = (True, True)
        return x * 2 if succ else x

    monkeypatch.setattr(providers, "by_operators", True)
    with pytest.warns(UncompiledWarning, match="must be of one shape and element type"):
        found = [jit(step)(X, Tensor(flag)).tolist() for flag in (False, True)]
    assert found == [[[2.0, 4.0], [6.0, 10.0]], X.tolist()]
