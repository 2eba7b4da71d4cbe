"""Recurrent layers: lengths of sequences, states, dropout between layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layer_cases import make, numbers
from paramesh import Parameter, ParameterTuple, nn
from paramesh.tensor import Tensor

TIME, BATCH, SIZE = 5, 3, 6
LENGTHS = np.array([5, 2, 2], np.int64)
X = numbers(TIME, BATCH, SIZE)


def parts(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize(
    "code", ["RNN(6, 4)", "LSTM(6, 4, bidirectional=True)", "GRU(6, 4, 2, bidirectional=True)"]
)
def test_lengths_are_as_truncated_sequences(code: str) -> None:
    net = make(f"nn.{code}")
    out, state = net(Tensor(X), None, Tensor(LENGTHS))
    for i, length in enumerate(LENGTHS):
        # Every sequence on its own, truncated at its end.
        alone, end = net(Tensor(X[:length, i : i + 1]))
        np.testing.assert_allclose(
            out.asnumpy()[:length, i], alone.asnumpy()[:, 0], rtol=1e-5, atol=1e-6
        )
        assert not out.asnumpy()[length:, i].any()
        for mine, other in zip(parts(state), parts(end), strict=True):
            np.testing.assert_allclose(
                mine.asnumpy()[:, i], other.asnumpy()[:, 0], rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_cell_is_one_step_of_the_layer(kind: str) -> None:
    layer, cell = make(f"nn.{kind}(6, 4)"), make(f"nn.{kind}Cell(6, 4)")
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        getattr(cell, name).set_data(getattr(layer, f"{name}_l0").value())
    out, end = layer(Tensor(X))
    state = None
    for time in range(TIME):
        state = cell(Tensor(X[time]), state)
        np.testing.assert_allclose(
            parts(state)[0].asnumpy(), out.asnumpy()[time], rtol=1e-5, atol=1e-6
        )
    for mine, other in zip(parts(end), parts(state), strict=True):
        np.testing.assert_allclose(mine.asnumpy()[0], other.asnumpy(), rtol=1e-5, atol=1e-6)


def test_relu() -> None:
    layer = nn.RNN(6, 4, nonlinearity="relu")
    wx, wh, bx, bh = (p.asnumpy() for p in layer.get_parameters())
    h = np.zeros((BATCH, 4), np.float32)
    for x in X:
        h = np.maximum(x @ wx.T + bx + h @ wh.T + bh, 0)
    np.testing.assert_allclose(layer(Tensor(X))[1].asnumpy()[0], h, rtol=1e-5, atol=1e-6)
    assert not np.allclose(nn.RNNCell(6, 4)(X[0]).asnumpy(), h)


def test_dropout_is_between_layers_in_training_only() -> None:
    deep, shallow = nn.RNN(6, 4, 2, dropout=0.5), nn.RNN(6, 4, 1, dropout=0.5)
    x = Tensor(X)
    assert np.array_equal(deep(x)[0].asnumpy(), deep(x)[0].asnumpy())
    for net in (deep, shallow):
        net.set_train()
    assert not np.array_equal(deep(x)[0].asnumpy(), deep(x)[0].asnumpy())
    assert np.array_equal(shallow(x)[0].asnumpy(), shallow(x)[0].asnumpy())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_lists_of_weights_are_the_weights(bidirectional: bool) -> None:
    layer = nn.LSTM(6, 4, 2, bidirectional=bidirectional)
    names = [p.name for p in layer.w_ih_list]
    assert names[1] == ("weight_ih_l0_reverse" if bidirectional else "weight_ih_l1")
    lists = ("w_ih_list", "w_hh_list", "b_ih_list", "b_hh_list")
    assert {id(p) for one in lists for p in getattr(layer, one)} == {
        id(p) for p in layer.get_parameters()
    }
    for one in lists:
        given = [
            Parameter(np.full(p.shape, 0.1, np.float32), name=p.name) for p in getattr(layer, one)
        ]
        setattr(layer, one, ParameterTuple(given))
        assert [id(p) for p in getattr(layer, one)] == [id(p) for p in given]
    assert all((p.asnumpy() == np.float32(0.1)).all() for p in layer.get_parameters())
    assert [p.name for p in layer.w_ih_list] == names
    # All weights and biases are 0.1, so that all 4 units of a layer are the same.
    out = layer(Tensor(X))[0].asnumpy()
    assert np.ptp(out[..., :4], axis=-1).max() < 1e-6
    with pytest.raises(ValueError, match=r"LSTM.w_hh_list: expected \d Parameters of the shapes"):
        layer.w_hh_list = layer.w_ih_list[:1]
    with pytest.raises(ValueError, match="got int"):
        layer.w_ih_list = 3
    assert nn.GRU(6, 4, has_bias=False).b_ih_list == ()
