"""Primitives that a script defines itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, ops
from paramesh.mindspore_primitives import (
    IsInstance,
    IsSubClass,
    PrimitiveWithInfer,
    SameTypeShape,
    core,
    ms_len,
    number,
    prim_attr_register,
)

X = Tensor(np.array([1.0, 2.0], np.float32))


class Scaled(PrimitiveWithInfer):
    @prim_attr_register
    def __init__(self, factor: float = 3) -> None:
        self.init_prim_io_names(inputs=["x"], outputs=["y"])

    def __call__(self, x: Any) -> Any:
        return x * self.factor  # type: ignore[attr-defined]

    def get_bprop(self) -> Any:
        return lambda x, out, dout: (dout * 100,)


def test_a_primitive_computes_what_its_call_says() -> None:
    made = Scaled(4)
    assert made.attrs == {"factor": 4, "input_names": ["x"], "output_names": ["y"]}
    assert (made.name, repr(made)) == ("Scaled", "Scaled()")
    assert made(X).asnumpy().tolist() == [4, 8]
    assert paramesh.jit(made)(X).asnumpy().tolist() == [4, 8]
    assert paramesh.grad(lambda x: made(x).sum())(X).asnumpy().tolist() == [100, 100]
    plain = type("Plain", (PrimitiveWithInfer,), {"__call__": lambda self, x: x * x})()
    assert paramesh.grad(lambda x: plain(x).sum())(X).asnumpy().tolist() == [2, 4]
    assert made.set_device("CPU").attrs["primitive_target"] == "CPU"


def test_a_primitive_without_a_computation() -> None:
    made = type("Kernel", (ops.PrimitiveWithInfer,), {})()
    with pytest.raises(NotImplementedError, match="Kernel: .* write __call__ with operators"):
        made(X)


def test_inner_primitives() -> None:
    assert SameTypeShape()(X, X * 2) is X
    for other, error, message in (
        (5.0, TypeError, "y must be a Tensor, got float"),
        (Tensor([1, 2]), TypeError, "the element types differ: Float32 and Int64"),
        (X[:1], ValueError, r"the shapes differ: \(2,\) and \(1,\)"),
    ):
        with pytest.raises(error, match=f"SameTypeShape: {message}"):
            SameTypeShape()(X, other)  # type: ignore[arg-type]
    assert IsSubClass()(paramesh.float32, number)
    assert not IsSubClass()(paramesh.bool_, number)
    with pytest.raises(TypeError, match="IsSubClass: type_ must be an element type, got None"):
        IsSubClass()(paramesh.float32, None)
    assert IsInstance()([1], list)
    assert IsInstance()(1, paramesh.int64)
    assert not IsInstance()(True, paramesh.int64)
    assert IsInstance()(X, paramesh.float32)
    with pytest.raises(TypeError, match="IsInstance: expected a type, got 3"):
        IsInstance()(1, 3)
    assert ms_len([1, 2]) == 2
    assert core(len) is len
    assert core(loop_can_unroll=True)(len) is len
