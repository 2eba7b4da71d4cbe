"""The later functions and layers of `mint`, with numbers that torch 2.13 gave, or by numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, mint, nn, ops
from paramesh.mint import further
from paramesh.mint import nn as mint_nn
from paramesh.mint.nn import functional as made_functional
from paramesh.mint.nn import further as functional
from type_checks import wrong

#: What tables make is not known to type checkers.
F: Any = made_functional
layers: Any = mint_nn


def tensor(values: Any) -> Tensor:
    return Tensor(np.asarray(values, np.float32))


X, Y = [[1, 3, 2], [5, 4, 5]], [[2, 1, 2], [0, 1, 1]]
A, B = [[2, 1], [1, 3]], [[1], [2]]
IMAGE = np.arange(4.0).reshape(1, 1, 2, 2)
TIME = np.arange(24.0).reshape(4, 2, 3) / 10
WEIGHT = np.arange(12.0).reshape(2, 3, 2) / 10

CASES: dict[str, tuple[Any, list[Any]]] = {
    "cummax": (lambda: further.cummax(tensor(X), 1),
               [[[1, 3, 3], [5, 5, 5]], [[0, 1, 1], [0, 0, 2]]]),
    "cummin": (lambda: further.cummin(tensor(X), -1),
               [[[1, 1, 1], [5, 4, 4]], [[0, 0, 0], [0, 1, 1]]]),
    "kthvalue": (lambda: mint.kthvalue(tensor(X), 2), [[2, 5], [2, 0]]),
    "kthvalue keepdim": (lambda: mint.kthvalue(tensor(X), 1, dim=0, keepdim=True),
                         [[[1, 3, 2]], [[0, 0, 0]]]),
    "triangular_solve": (lambda: further.triangular_solve(tensor(B), tensor(A)),
                         [[[1 / 6], [2 / 3]], A]),
    "triangular_solve transposed": (
        lambda: further.triangular_solve(tensor(B), tensor(A), False, True, True),
        [[[-1], [2]], A]),
    "conv_tbc": (lambda: further.conv_tbc(tensor(TIME), tensor(WEIGHT), tensor([1, 2]), 1)[:2],
                 [[[1.28, 2.31], [2.0, 3.12]], [[2.82, 4.06], [3.72, 5.14]]]),
    "addcmul": (lambda: (mint.addcmul(tensor(X), tensor(X), tensor(Y), value=2),),
                [[[5, 9, 10], [5, 12, 15]]]),
    "fix": (lambda: (further.fix(tensor([-1.5, 2.7])),), [[-1, 2]]),
    "soft_margin_loss": (
        lambda: (functional.soft_margin_loss(tensor(X), tensor(np.where(np.asarray(Y), 1, -1))),),
        [0.9200596]),
    "cosine_embedding_loss": (
        lambda: (functional.cosine_embedding_loss(tensor(X), tensor(Y), Tensor([1, -1]), 0.1),),
        [0.4407828]),
    "cosine_embedding_loss none": (
        lambda: (functional.cosine_embedding_loss(tensor(X), tensor(Y), Tensor([1, -1]),
                                                  reduction="none"),), [[0.1982163, 0.7833495]]),
    "max_unpool2d": (
        lambda: (functional.max_unpool2d(tensor([[[[5, 7], [13, 15]]]]),
                                         Tensor([[[[0, 3], [8, 11]]]]), 2),),
        [[[[[5, 0, 0, 7], [0, 0, 0, 0], [13, 0, 0, 15], [0, 0, 0, 0]]]]]),
    "MaxUnpool2d": (
        lambda: (mint_nn.MaxUnpool2d(2)(tensor([[[[5]]]]), Tensor([[[[3]]]])),),
        [[[[[0, 0], [0, 5]]]]]),
    "UpsamplingBilinear2d": (lambda: (mint_nn.UpsamplingBilinear2d(size=3)(tensor(IMAGE)),),
                             [[[[[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]]]]),
    "UpsamplingNearest2d": (
        lambda: (mint_nn.UpsamplingNearest2d(scale_factor=(2, 1))(tensor(IMAGE)),),
        [[[[[0, 1], [0, 1], [2, 3], [2, 3]]]]]),
    "ZeroPad1d": (lambda: (mint_nn.ZeroPad1d((2, 1))(tensor([[[1, 2]]])),), [[[[0, 0, 1, 2, 0]]]]),
    "ZeroPad3d": (lambda: (mint_nn.ZeroPad3d(1)(tensor(np.ones((1, 1, 1, 1, 1)))).sum((0, 1, 2)),),
                  [[[0, 0, 0], [0, 1, 0], [0, 0, 0]]]),
    "addr_": (lambda: (further.addr_(tensor(X), tensor([1, 2]), tensor([1, 2, 3]), 1, 2),),
              [[[3, 7, 8], [9, 12, 17]]]),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_it_is_what_torch_gives(name: str) -> None:
    compute, wanted = CASES[name]
    found = compute()
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.asnumpy(), other, rtol=1e-5, atol=1e-6)
    if len(found) == 2 and "solve" not in name and name != "conv_tbc":
        assert found[1].dtype == paramesh.int64


WRITES: dict[str, tuple[Any, Any]] = {
    "relu_": (lambda x: functional.relu_(x), lambda x: np.maximum(x, 0)),
    "sigmoid_": (lambda x: functional.sigmoid_(x), lambda x: 1 / (1 + np.exp(-x))),
    "elu_": (lambda x: functional.elu_(x, 2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
    "hardtanh_": (lambda x: functional.hardtanh_(x, -1, 2), lambda x: np.clip(x, -1, 2)),
    "threshold_": (lambda x: functional.threshold_(x, 1.0, 9.0), lambda x: np.where(x > 1, x, 9)),
}


@pytest.mark.parametrize("name", WRITES)
def test_its_input_has_the_result(name: str) -> None:
    call, reference = WRITES[name]
    values = np.array([-2, 0.5, 3], np.float32)
    x = Tensor(values)
    assert call(x) is x
    np.testing.assert_allclose(x.asnumpy(), reference(values), rtol=1e-6)
    assert mint.nn.functional.__dict__[name] is getattr(functional, name)
    # The gradient goes through what was written.
    found = paramesh.grad(lambda x: call(x * 1.0).sum() * 3)(Tensor(values)).asnumpy()
    step = 1e-2
    slopes = [(reference(values + d) - reference(values - d)).sum() / (2 * step)
              for d in step * np.eye(3, dtype=np.float32)]  # fmt: skip
    np.testing.assert_allclose(found, 3 * np.array(slopes), rtol=1e-2, atol=1e-2)


#: With `inplace` by name and by position, and layers; each has its result in its input.
INPLACE: dict[str, tuple[Any, Any]] = {
    "relu": (lambda x: F.relu(x, inplace=True), lambda x: np.maximum(x, 0)),
    "relu at": (lambda x: F.relu(x, True), lambda x: np.maximum(x, 0)),
    "relu input": (lambda x: F.relu(input=x, inplace=True), lambda x: np.maximum(x, 0)),
    "relu6": (lambda x: F.relu6(x * 1.0, True), lambda x: np.clip(x, 0, 6)),
    "elu": (lambda x: F.elu(x, 1.0, True), lambda x: np.where(x > 0, x, np.expm1(x))),
    "hardtanh": (lambda x: F.hardtanh(x, inplace=True), lambda x: np.clip(x, -1, 1)),
    "threshold": (lambda x: F.threshold(x, 1.0, 9.0, True), lambda x: np.where(x > 1, x, 9)),
}


@pytest.mark.parametrize("name", INPLACE)
def test_in_place_it_is_written_into_the_input(name: str) -> None:
    call, reference = INPLACE[name]
    values = np.array([-2, 0.5, 3], np.float32)
    x = Tensor(values)
    found = call(x)
    np.testing.assert_allclose(found.asnumpy(), reference(values), rtol=1e-6)
    if name != "relu6":  # whose input is not kept here
        assert found is x
        np.testing.assert_allclose(x.asnumpy(), reference(values), rtol=1e-6)


LAYERS: dict[str, Any] = {
    "ReLU": lambda: layers.ReLU(inplace=True),
    "SiLU": lambda: layers.SiLU(inplace=True),
    "ELU": lambda: layers.ELU(2.0, True),
    "Dropout": lambda: mint_nn.Dropout(0.5, inplace=True),
    "Dropout2d": lambda: mint_nn.Dropout2d(0.5, inplace=True),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_write_into_what_a_network_gives_them(name: str) -> None:
    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.layer = LAYERS[name]()

        def construct(self, x: Any) -> Any:
            y = x * 1.0
            found = self.layer(y)
            return ops.stack([found - y, y - x])

    x = tensor(np.full((2, 3, 2, 2), -2.0))
    same, moved = Net().set_train()(x).asnumpy()
    assert not same.any()
    assert moved.any()


def test_in_place_dropouts() -> None:
    x = tensor(np.ones((4, 3, 2)))
    paramesh.set_seed(0)
    found = F.dropout(x, 0.5, inplace=True)
    assert found is x
    assert 0 in x.asnumpy()
    x = tensor(np.ones((16, 3, 2)))
    assert F.dropout2d(x, 0.5, inplace=True) is x
    assert 0 in x.asnumpy()
    assert F.dropout2d(x, 0.5, training=False, inplace=True) is x
    with pytest.raises(TypeError, match="relu: inplace=True needs a Tensor to write into"):
        F.relu(wrong(np.ones(2, np.float32)), inplace=True)


def test_an_item_is_a_number() -> None:
    assert further.item(tensor([3])) == 3.0
    assert isinstance(further.item(Tensor([3])), int)
    assert issubclass(mint_nn.ZeroPad1d, nn.ConstantPad1d)


def test_mistakes_name_the_argument() -> None:
    for match, call in {
        r"k must be an int in 1\.\.3, got 9": lambda: mint.kthvalue(tensor(X), 9),
        "b and A need two axes": lambda: further.triangular_solve(tensor([1]), tensor(A)),
        r"weight \(length, channels, outputs\)": lambda: further.conv_tbc(
            tensor(X), tensor(WEIGHT), tensor([1])),
        "relu_: input must be a Tensor, got list": lambda: functional.relu_(wrong([1.0])),
        "relu_: input must be of a float type": lambda: functional.relu_(Tensor([1])),
        "reduction must be 'none', 'mean' or 'sum', got 'max'": lambda: functional.soft_margin_loss(
            tensor(X), tensor(Y), wrong("max")),
        "UpsamplingNearest2d: give size or scale_factor": lambda: mint_nn.UpsamplingNearest2d(),
    }.items():  # fmt: skip
        with pytest.raises((TypeError, ValueError), match=match):
            call()
