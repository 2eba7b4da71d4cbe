"""A `construct` that is replaced after the first call is traced anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn

X = Tensor(np.ones(2, np.float32))


def made() -> tuple[Any, Any, nn.Cell]:
    """A class of inner Cells, one of outer ones, and a network of them."""

    class Inner(nn.Cell):
        def construct(self, x: Tensor) -> Tensor:
            return x * 2

    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def construct(self, x: Tensor) -> Tensor:
            return self.inner(x) + 1

    return Inner, Net, Net()


def thousand(self: Any, x: Tensor) -> Tensor:
    return x * 1000


@pytest.mark.parametrize("through", ["call", "jit", "gradient"])
@pytest.mark.parametrize(("which", "expected"), [("Inner", 1001.0), ("Net", 1000.0)])
def test_another_construct_of_a_class(through: str, which: str, expected: float) -> None:
    inner, outer, net = made()
    run: Callable[[Tensor], Tensor] = {
        "call": net,
        "jit": paramesh.jit(lambda x: net(x)),
        "gradient": lambda x: paramesh.value_and_grad(net.construct, 0)(x)[0],
    }[through]
    cls = {"Inner": inner, "Net": outer}[which]
    before = cls.construct
    assert float(run(X)[0]) == 3.0
    cls.construct = thousand
    assert float(run(X)[0]) == expected
    cls.construct = before
    assert float(run(X)[0]) == 3.0


def test_the_program_of_the_first_construct_is_used_again() -> None:
    _, outer, net = made()
    step = paramesh.jit(lambda x: net(x))
    before = outer.construct
    for construct in (before, thousand, before, thousand):
        outer.construct = construct
        step(X)
    assert step.traces == 2


def test_a_construct_that_is_another_object_each_time_is_traced_once() -> None:
    _, outer, net = made()

    class New:
        def __get__(self, instance: object, owner: type | None = None) -> Any:
            return lambda x: x + 7

    outer.construct = New()
    step = paramesh.jit(lambda x: net(x))
    for _ in range(3):
        assert float(step(X)[0]) == 8.0
    assert step.traces == 1
