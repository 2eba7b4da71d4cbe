"""What type checkers and editors know of a program of a user's: pyright checks this file.

`assert_type` is an error of pyright's where it infers another type, and does nothing when it runs.
"""

from __future__ import annotations

import inspect
from typing import Any, assert_type

import numpy as np
import pytest
from paramesh.common.initializer import initializer
from paramesh.nn.loss import MSELoss
from paramesh.nn.optim import Adam

import paramesh
from operator_cases import arrays, elementwise, networks, reductions
from paramesh import Parameter, ParameterTuple, Tensor, mint, nn, ops
from paramesh import numpy as mnp
from paramesh.ops import functional, operations
from paramesh.ops.table import TABLE

CASES = [*elementwise.CASES, *reductions.CASES, *arrays.CASES, *networks.CASES]


class Net(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Dense(3, 2)
        self.scale = Parameter(Tensor(np.ones(2, np.float32)), name="scale")

    def construct(self, x: Tensor) -> Tensor:
        return self.layer(x) * self.scale


class Trainer:
    def __init__(self, net: Net) -> None:
        self.net = net

    @paramesh.jit
    def step(self, x: Tensor, scale: float) -> Tensor:
        return (self.net(x) * scale).sum()


@paramesh.jit(static_argnames=["times"])
def repeated(x: Tensor, times: int = 2) -> Tensor:
    for _ in range(times):
        x = x + 1
    return x


def test_tensors() -> None:
    x = Tensor(np.ones((2, 3), np.float32))
    param = Parameter(x, name="p")
    for made in (x, param):
        assert_type(made + 1, Tensor)
        assert_type(2 - made, Tensor)
        assert_type(made @ made.T, Tensor)
        assert_type(made > 0, Tensor)
        assert_type(-made, Tensor)
        assert_type(made[0], Tensor)
        assert_type(made.mean(), Tensor)
        assert_type(made.reshape(3, 2), Tensor)
    assert_type([row for row in x], list[Tensor])
    assert_type(x == 1, Tensor)
    assert_type(x.shape, tuple[int, ...])
    assert_type(float(x.sum()), float)
    assert type(param + 1) is type(param.mean()) is Tensor


def test_operators() -> None:
    x = Tensor(np.ones((2, 3), np.float32))
    assert_type(ops.relu(x), Tensor)
    assert_type(ops.add(input=x, other=1), Tensor)
    assert_type(ops.softmax(x), Tensor)
    assert_type(ops.topk(x, 2), tuple[Tensor, ...])
    assert_type(ops.split(x, 1), tuple[Tensor, ...])
    assert_type(ops.ReLU()(x), Any)


def test_programs() -> None:
    net = Net()
    x = Tensor(np.ones((2, 3), np.float32))
    assert_type(repeated(x, times=3), Tensor)
    assert_type(paramesh.jit(lambda x: ops.relu(x))(x), Tensor)
    assert_type(Trainer(net).step(x, 0.5), Tensor)
    assert repeated.traces == 1
    gradients = paramesh.value_and_grad(net.construct, None, net.trainable_params())
    assert_type(gradients(x), tuple[Tensor, Any])
    assert_type(net.trainable_params(), list[Parameter])
    assert_type(ParameterTuple(net.trainable_params())[0], Parameter)
    assert_type(net.layer, nn.Dense)


class Compiled(nn.Cell):
    """`construct` under `jit` is no wrong override: it needs no remark here."""

    @paramesh.jit
    def construct(self, x: Tensor) -> Tensor:
        return x + 1


def test_names_that_are_looked_up() -> None:
    assert_type(nn.Adam, type[Adam])
    assert_type(nn.Accuracy, type[paramesh.train.Accuracy])
    assert_type(paramesh.EarlyStopping, type[paramesh.train.EarlyStopping])
    assert_type(functional.softmax(Tensor([1.0])), Tensor)
    assert_type(operations.ReLU, type[ops.Primitive])
    assert_type(ops.GradOperation, type[paramesh.GradOperation])
    assert_type(mint.nn.Linear(2, 3), mint.nn.Linear)
    assert nn.Adam is Adam


def test_paths_of_mindspore() -> None:
    assert_type(initializer("ones", [2]), Tensor)
    assert_type(MSELoss(), nn.MSELoss)
    assert MSELoss is nn.MSELoss


def test_functions_and_methods_of_tables() -> None:
    x = Tensor(np.ones((2, 3), np.float32))
    assert_type(mint.sum(x, dim=1, keepdim=True), Tensor)
    assert_type(mint.topk(x, 2), tuple[Tensor, ...])
    assert_type(mint.nn.functional.gelu(x), Tensor)
    assert_type(mnp.mean(x, axis=0), Tensor)
    assert_type(mnp.split(x, 2), list[Tensor])
    assert_type(mnp.where(x > 0, x, 0), Tensor)
    assert_type(x.softmax(-1), Tensor)
    assert_type(x.chunk(2), tuple[Tensor, ...])
    assert_type(x.is_floating_point(), bool)
    assert_type(x.top_k(2), tuple[Tensor, ...])
    assert_type(x.add_(1), Tensor)
    assert_type(Parameter(x, name="p").add_(1), Parameter)
    assert_type(Compiled().construct(x), Tensor)


def test_what_is_wrong_is_marked() -> None:
    with pytest.raises(TypeError, match="wrong"):
        repeated(Tensor(1.0), wrong=1)  # pyright: ignore[reportCallIssue]
    with pytest.raises(AttributeError, match="Adan"):
        _ = nn.Adan  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(TypeError, match="wrong"):
        mint.sum(Tensor([1.0]), wrong=1)  # pyright: ignore[reportCallIssue]


def _declared(name: str) -> str:
    """What the source says that an operator gives, by its decorator."""
    source = inspect.getsource(TABLE[name].compute)
    return next((line[1:] for line in source.splitlines() if line.startswith("@")), "function")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_operators_give_what_they_are_declared_to(case: Any) -> None:
    def given(value: Any) -> Any:
        if isinstance(value, tuple) and any(isinstance(part, np.ndarray) for part in value):
            return tuple(map(given, value))
        return Tensor(value) if isinstance(value, np.ndarray) else value

    found = TABLE[case.op](
        case.op, tuple(map(given, case.args)), {k: given(v) for k, v in case.kwargs.items()}
    )
    several = isinstance(found, tuple) and all(isinstance(part, Tensor) for part in found)
    kind = {"function": isinstance(found, Tensor), "tuple_function": several}
    assert kind.get(_declared(case.op), True), type(found)
