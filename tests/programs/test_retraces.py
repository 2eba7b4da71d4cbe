"""What changes between two training steps costs one trace, and the numbers stay right.

Each change is made to two networks that train alike, one compiled with pools and one operator by
operator.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, nn
from paramesh.errors import UntrainedWarning
from programs.networks import Deep, trainer

X = Tensor(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3))


class Averaging(Deep):
    """With a running mean of the outputs, which is written while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = Parameter(Tensor(np.zeros(3, np.float32)), requires_grad=False)

    def construct(self, x: Any) -> Any:
        x = super().construct(x)
        if self.training:
            self.mean.assign(self.mean * 0.5 + x.mean(0) * 0.5)
        return x


class Training:
    """A network, its optimizer, and training steps, compiled or eager."""

    def __init__(self, mode: int) -> None:
        self.mode = mode
        self.net = Averaging()
        self.adam = nn.Adam(self.net.trainable_params(), 0.05, eps=1e-2)
        self.compiled = trainer(self.net, self.adam)

    def run(self, steps: int) -> list[float]:
        """The loss of each step."""
        context.set_context(mode=self.mode)
        step = self.compiled if self.mode == context.GRAPH_MODE else self.compiled.fn
        return [float(step(X)) for _ in range(steps)]

    def pools(self) -> int:
        """How many of its Parameters live in pools."""
        return sum(p._slot is not None for p in self.adam.get_parameters())

    def values(self) -> dict[str, np.ndarray[Any, Any]]:
        """All Parameters of the network and of the optimizer."""
        params = {**self.net.parameters_dict(), **self.adam.parameters_dict()}
        return {name: param.asnumpy() for name, param in params.items()}


def replace_a_parameter(t: Training) -> None:
    t.net.layers[2].bias = Parameter(Tensor(np.full(3, 0.25, np.float32)))


def train_fewer(t: Training) -> None:
    t.net.layers[2].weight.requires_grad = False


def add_a_layer(t: Training) -> None:
    t.net.layers.append(nn.Dense(3, 3, weight_init="ones", bias_init=0.5))


def halve_the_precision(t: Training) -> None:
    t.net.layers[2].bias.set_dtype(paramesh.float16)


CHANGES: dict[str, Callable[[Training], Any]] = {
    "requires_grad": train_fewer,
    "set_train": lambda t: t.net.set_train(),
    "a layer more": add_a_layer,
    "dtype": halve_the_precision,
    "another Parameter": replace_a_parameter,
    "another activation": lambda t: t.net.layers[1].register_forward_hook(
        lambda cell, inputs, out: out * 0.5
    ),
}
#: Of these the optimizer knows nothing, and says so.
UNTRAINED = ("a layer more", "another Parameter")
#: These read or write the values alone.
NO_CHANGES: dict[str, Callable[[Training], Any]] = {
    "set_data": lambda t: t.net.layers[2].bias.set_data(Tensor(np.ones(3, np.float32))),
    "learning rate": lambda t: t.adam.learning_rate.set_data(0.01),
    "reading": lambda t: t.values(),
    "the same again": lambda t: t.net.set_train(False),
    "clone": lambda t: [p.clone() for p in t.net.get_parameters()],
}


@pytest.mark.parametrize("name", [*CHANGES, *NO_CHANGES])
def test_a_change_between_steps(name: str) -> None:
    change = (CHANGES | NO_CHANGES)[name]
    trained: list[Training] = []
    losses: list[list[float]] = []
    for mode in (context.GRAPH_MODE, context.PYNATIVE_MODE):
        training = Training(mode)
        before = training.run(2)
        change(training)
        with pytest.warns(UntrainedWarning) if name in UNTRAINED else nullcontext():
            losses.append(before + training.run(3))
        trained.append(training)
    compiled, eager = trained
    assert compiled.compiled.traces == 1 + (name in CHANGES)
    assert compiled.pools() > 0
    assert eager.pools() == 0
    half = name == "dtype"
    np.testing.assert_allclose(losses[0], losses[1], rtol=2e-3 if half else 1e-5)
    expected = eager.values()
    for key, value in compiled.values().items():
        assert value.dtype == expected[key].dtype
        tolerances = (1e-2, 1e-3) if half else (1e-4, 1e-6)
        np.testing.assert_allclose(value, expected.pop(key), *tolerances, err_msg=key)
    assert not expected


def test_changes_that_are_taken_back_cost_nothing_more() -> None:
    training = Training(context.GRAPH_MODE)
    training.run(2)
    for _ in range(3):
        training.net.set_train(True)
        training.run(2)
        training.net.set_train(False)
        training.run(2)
    assert training.compiled.traces == 2


def test_a_class_that_was_defined_anew() -> None:
    """As a notebook's %autoreload does: instances get the new class, and what it computes."""

    def defined(factor: float) -> type[nn.Cell]:
        class Scaled(nn.Cell):
            def construct(self, x: Any) -> Any:
                return x * factor

        return Scaled

    inner = defined(2.0)()
    net = nn.SequentialCell(inner)
    np.testing.assert_array_equal(net(X).asnumpy(), X.asnumpy() * 2)
    object.__setattr__(inner, "__class__", defined(3.0))
    np.testing.assert_array_equal(net(X).asnumpy(), X.asnumpy() * 3)
