"""What holds for every layer, whatever it computes."""

from __future__ import annotations

import copy
import inspect
from typing import Any

import jax
import numpy as np
import pytest

from layer_cases import CASES, Case, make
from paramesh import context, dtype, nn
from paramesh.tensor import Tensor

#: They take no Tensors, or not Tensors alone (tests/nn/test_fused.py).
OTHERS = {"Range", "ResizeBilinear"}
#: They take sparse Tensors (tests/ops/test_sparse.py).
OTHERS |= {"SparseTensorDenseMatmul", "SparseToDense"}
#: Their windows are drawn (tests/ops/test_fractional_pooling.py).
OTHERS |= {"FractionalMaxPool2d", "FractionalMaxPool3d"}
CONTAINERS = {"Cell", "CellDict", "CellList", "SequentialCell", "LossBase"}
#: Gives something else at every call; see test_kv_cache.py.
STATEFUL = {"KVCache"}


def leaves(outputs: Any) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(outputs)]


def test_every_layer_has_a_case() -> None:
    others = CONTAINERS | STATEFUL | OTHERS
    layers = {n for n in nn.__all__ if inspect.isclass(getattr(nn, n))} - others
    assert layers == {case.layer for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.code)
def test_layer(case: Case) -> None:
    net = make(case.code)
    inputs = tuple(map(Tensor, case.inputs))
    declared = copy.deepcopy(net)
    for cell in (net, declared):
        assert all(param.has_init for param in cell.get_parameters())
    assert [p.name for p in declared.get_parameters()] == [p.name for p in net.get_parameters()]

    first = leaves(net(*inputs))
    second = leaves(net(*inputs))
    assert net._compiled.traces == 1
    assert not any(param.has_init for param in net.trainable_params())
    # A copy has the same recipes, or the same values, and shares nothing.
    again = leaves(declared(*inputs))
    for a, b, c in zip(first, second, again, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)
    for mine, other in zip(net.get_parameters(), declared.get_parameters(), strict=True):
        assert mine is not other
        np.testing.assert_array_equal(mine.asnumpy(), other.asnumpy())
    used = copy.deepcopy(net)
    for mine, other in zip(net.get_parameters(), used.get_parameters(), strict=True):
        np.testing.assert_array_equal(mine.asnumpy(), other.asnumpy())


@pytest.mark.parametrize("code", ["nn.BatchNorm2d(4)", "nn.LSTM(6, 3)", "nn.Dropout(p=0.5)"])
def test_training_compiles_once(code: str) -> None:
    case = next(case for case in CASES if case.code == code)
    net = make(code).set_train()
    net(*map(Tensor, case.inputs))
    # A generator's state is found while tracing, so a first call with random numbers traces twice.
    traces = net._compiled.traces
    assert traces <= 1 + ("Dropout" in code)
    for _ in range(3):
        net(*map(Tensor, case.inputs))
    assert net._compiled.traces == traces


@pytest.mark.parametrize(
    "code",
    ["nn.Dense(6, 3)", "nn.GroupNorm(2, 4)", "nn.MultiheadAttention(6, 2)", "nn.GRU(6, 3)"],
)
def test_operator_by_operator_is_the_same(code: str) -> None:
    case = next(case for case in CASES if case.code == code)
    net = make(code)
    compiled = leaves(net(*map(Tensor, case.inputs)))
    context.set_context(mode=context.PYNATIVE_MODE)
    for a, b in zip(compiled, leaves(net(*map(Tensor, case.inputs))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "code",
    [
        "nn.Dense(6, 3, dtype=ms.float64)",
        "nn.Conv2d(4, 6, 3, has_bias=True, dtype=ms.float64)",
        "nn.Conv3d(4, 2, 2, has_bias=True, dtype=ms.float64)",
        "nn.BatchNorm1d(6, dtype=ms.float64)",
        "nn.LSTM(6, 3, dtype=ms.float64)",
        "nn.LSTMCell(6, 3, dtype=ms.float64)",
        "nn.MultiheadAttention(6, 2, dtype=ms.float64)",
        "nn.PReLU(6)",
        "nn.Upsample(scale_factor=2.0, mode='bilinear')",
        "nn.MSELoss()",
    ],
)
def test_64_bits_stay(code: str) -> None:
    layer = code.removeprefix("nn.").partition("(")[0]
    case = next(case for case in CASES if case.layer == layer)
    inputs = [Tensor(x.astype(np.float64)) for x in case.inputs]
    for out in leaves(make(code)(*inputs)):
        assert out.dtype == np.float64


def test_half_precision_inside_to_float() -> None:
    net = nn.SequentialCell(nn.Conv2d(4, 6, 3, has_bias=True), nn.Flatten(), nn.Dense(120, 2))
    x = next(case for case in CASES if case.layer == "Conv2d").inputs[0]
    exact = net(Tensor(x)).asnumpy()
    out = net.to_float(dtype.float16)(Tensor(x))
    assert str(out.dtype) == "Float16"
    assert str(net[0].weight.dtype) == "Float32"
    np.testing.assert_allclose(out.asnumpy(), exact, atol=1e-2)
