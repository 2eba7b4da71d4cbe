"""Hooks of the gradients of Tensors on the way: MindSpore's order, removal, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor
from type_checks import wrong

X = Tensor([1.0, 2.0])


def gradient(hooks: list[Any], removed: int | None = None) -> list[float]:
    def loss(x: Any) -> Any:
        y = x * 2
        handles = [y.register_hook(hook) for hook in hooks]
        if removed is not None:
            handles[removed].remove()
        return (y * y).sum()

    eager = paramesh.grad(loss)(X).asnumpy()
    compiled = paramesh.jit(paramesh.grad(loss))(X).asnumpy()
    assert np.array_equal(eager, compiled)
    return eager.tolist()


def test_hooks_change_gradients_in_their_order() -> None:
    assert gradient([]) == [8, 16]
    assert gradient([lambda g: g * 10]) == [80, 160]
    assert gradient([lambda g: g * 10, lambda g: g + 1]) == [82, 162]
    assert gradient([lambda g: g * 10, lambda g: g + 1], removed=0) == [10, 18]
    assert gradient([lambda g: None]) == [8, 16]


def test_a_hook_sees_the_gradient() -> None:
    seen = []

    def loss(x: Any) -> Any:
        y = x * 2
        y.register_hook(lambda g: seen.append(type(g)))
        return (y * y).sum()

    paramesh.grad(loss)(X)
    assert seen == [Tensor]


def test_what_is_not_differentiated_has_no_effect() -> None:
    handle = X.register_hook(lambda g: g * 10)
    assert paramesh.grad(lambda x: (x * x).sum())(X).asnumpy().tolist() == [2, 4]
    handle.remove()
    handle.remove()


def test_errors() -> None:
    with pytest.raises(TypeError, match="a hook must be callable, got int"):
        X.register_hook(wrong(3))
    with pytest.raises(ValueError, match=r"shape \(\), expected \(2,\)"):
        gradient([lambda g: g.sum()])
