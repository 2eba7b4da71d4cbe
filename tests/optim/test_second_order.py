"""THOR: factors and steps are those of its formula in Float64, and scripts find it where it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Model, Tensor, context, nn, ops
from paramesh.mindspore_internals import ConvertModelUtils
from paramesh.nn.second_order import Conv2dThor, DenseThor, EmbeddingThor, keep_factors_of
from paramesh.optim.second_order import Thor, thor
from paramesh.train.cells import TrainOneStepCell

BATCH, DAMPING, RATE, MOMENTUM, DECAY = 6, 0.3, 0.1, 0.9, 0.01


def rate(*values: float) -> Tensor:
    return Tensor(np.array(values, np.float32))


def mean_square(rows: np.ndarray) -> np.ndarray:
    return rows.T @ rows / len(rows)


def inverse(factor: np.ndarray, damping: float) -> np.ndarray:
    """Of the blocks of 128 on the diagonal, with the damping there."""
    out = np.zeros_like(factor)
    for at in range(0, len(factor), 128):
        part = slice(at, at + 128)
        block = factor[part, part]
        out[part, part] = np.linalg.inv(block + np.sqrt(damping) * np.eye(len(block)))
    return out


class Dense2(nn.Cell):
    """Two layers, of which the first has more inputs than a block."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Dense(150, 5, activation="tanh")
        self.layers = nn.SequentialCell(nn.LayerNorm((5,)), nn.Dense(5, 3, has_bias=False))

    def construct(self, x: Tensor, y: Tensor) -> Tensor:
        return ops.square(self.layers(self.first(x)) - y).sum() / BATCH


def dense_gradients(p: dict[str, Any], x: Any, y: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Float64: (gradients, {weight: (its rows, the gradients of its outputs)})."""
    z = x @ p["first.weight"].T + p["first.bias"]
    h = np.tanh(z)
    centred = h - h.mean(1, keepdims=True)
    scale = 1 / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-7)
    unit = centred * scale
    n = unit * p["layers.0.gamma"] + p["layers.0.beta"]
    d_out = 2 * (n @ p["layers.1.weight"].T - y) / BATCH
    d_n = d_out @ p["layers.1.weight"]
    d_unit = d_n * p["layers.0.gamma"]
    d_h = scale * (
        d_unit - d_unit.mean(1, keepdims=True) - unit * (d_unit * unit).mean(1, keepdims=True)
    )
    d_z = d_h * (1 - h**2)
    gradients = {
        "first.weight": d_z.T @ x,
        "first.bias": d_z.sum(0),
        "layers.0.gamma": (d_n * unit).sum(0),
        "layers.0.beta": d_n.sum(0),
        "layers.1.weight": d_out.T @ n,
    }
    return gradients, {"first.weight": (x, d_z), "layers.1.weight": (n, d_out)}


@pytest.mark.parametrize(
    ("frequency", "nesterov", "mode"),
    [
        (None, False, context.GRAPH_MODE),
        (2, True, context.GRAPH_MODE),
        pytest.param(2, False, context.PYNATIVE_MODE, marks=pytest.mark.slow),
        pytest.param(None, True, context.PYNATIVE_MODE, marks=pytest.mark.slow),
    ],
)
def test_steps_are_those_of_the_formula(frequency: int | None, nesterov: bool, mode: int) -> None:
    context.set_context(mode=mode)
    paramesh.set_seed(1)
    net = Dense2()
    rates, dampings, scale = [0.1, 0.05, 0.2], [0.3, 0.2, 0.4], 8.0
    optimizer = thor(
        net, rate(*rates), rate(*dampings), MOMENTUM, DECAY, scale, BATCH, nesterov,
        lambda param: "bias" not in param.name, frequency=frequency or 7,
    )  # fmt: skip
    if frequency is not None:
        model = Model(net, optimizer=optimizer)
        convert = ConvertModelUtils.convert_to_thor_model
        assert convert(model, network=net, optimizer=optimizer) is model
    cell = TrainOneStepCell(net, optimizer, sens=scale)
    params = {p.name: p.asnumpy().astype(np.float64) for p in net.trainable_params()}
    moments = {name: np.zeros_like(value) for name, value in params.items()}
    inverses: dict[str, Any] = {}
    random = np.random.default_rng(2)
    for step in range(3):
        x = random.normal(size=(BATCH, 150)).astype(np.float32)
        y = random.normal(size=(BATCH, 3)).astype(np.float32)
        cell(Tensor(x), Tensor(y))
        gradients, seen = dense_gradients(params, x.astype(np.float64), y.astype(np.float64))
        for name, (rows, outs) in seen.items():
            if step % (frequency or 1) == 0:
                factors = mean_square(rows), mean_square(outs) * BATCH**2
                inverses[name] = [inverse(each, dampings[step]) for each in factors]
            a, g = inverses[name]
            gradients[name] = g @ gradients[name] @ a
        for name in ("layers.0.gamma", "layers.0.beta"):
            g = gradients[name]
            gradients[name] = g / (g**2 / BATCH + np.sqrt(dampings[step]))
        for name, g in gradients.items():
            g = g + (DECAY * params[name] if "bias" not in name else 0)
            moments[name] = MOMENTUM * moments[name] + g
            moved = g + MOMENTUM * moments[name] if nesterov else moments[name]
            params[name] = params[name] - rates[step] * moved
    for param in net.trainable_params():
        np.testing.assert_allclose(param.asnumpy(), params[param.name], rtol=2e-4, atol=2e-5)


class Images(nn.Cell):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, (3, 2), **options)

    def construct(self, x: Tensor) -> Tensor:
        return ops.square(self.conv(x)).sum()


@pytest.mark.parametrize(
    ("options", "sides"),
    [
        ({"pad_mode": "valid", "stride": 2}, (0, 0, 0, 0)),
        ({"pad_mode": "same"}, (1, 1, 0, 1)),
        ({"pad_mode": "pad", "padding": (2, 0, 1, 1), "has_bias": True}, (2, 0, 1, 1)),
    ],
    ids=["valid", "same", "pad"],
)
def test_a_convolution_goes_by_the_places_of_its_outputs(options: Any, sides: Any) -> None:
    paramesh.set_seed(1)
    net = Images(**options)
    weight, stride = net.conv.weight.asnumpy().astype(np.float64), options.get("stride", 1)
    images = np.random.default_rng(0).normal(size=(BATCH, 2, 7, 6)).astype(np.float32)
    out = net.conv(Tensor(images)).asnumpy().astype(np.float64)
    padded = np.pad(images, ((0, 0), (0, 0), sides[:2], sides[2:])).astype(np.float64)
    height, width = out.shape[2:]
    rows = np.array([
        padded[n, :, i * stride : i * stride + 3, j * stride : j * stride + 2].ravel()
        for n in range(BATCH) for i in range(height) for j in range(width)
    ])  # fmt: skip
    outs = 2 * np.moveaxis(out, 1, -1).reshape(-1, 3)
    optimizer = thor(net, rate(RATE), rate(DAMPING), 0.0, batch_size=BATCH)
    TrainOneStepCell(net, optimizer)(Tensor(images))
    assert isinstance(net.conv, Conv2dThor)
    share = 1 / (height * width)
    a = inverse(mean_square(rows), DAMPING * share)
    g = inverse(mean_square(outs) * BATCH**2, DAMPING * share)
    moved = (g @ (outs.T @ rows) @ a * share).reshape(weight.shape)
    np.testing.assert_allclose(net.conv.weight.asnumpy(), weight - RATE * moved, rtol=1e-4)


def test_an_embedding_goes_by_how_often_its_rows_are_read() -> None:
    class Words(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(7, 3)

        def construct(self, ids: Tensor) -> Tensor:
            return ops.square(self.words(ids) - 1).sum()

    paramesh.set_seed(1)
    net = Words()
    ids = np.array([[1, 2, 2], [5, 1, 1]], np.int32)
    table = net.words.embedding_table.asnumpy().astype(np.float64)
    optimizer = thor(net, rate(RATE), rate(DAMPING), 0.0, batch_size=2)
    TrainOneStepCell(net, optimizer)(Tensor(ids))
    assert isinstance(net.words, EmbeddingThor)
    outs = 2 * (table[ids.ravel()] - 1)
    gradient = np.zeros_like(table)
    np.add.at(gradient, ids.ravel(), outs)
    a = 1 / (np.bincount(ids.ravel(), minlength=7) / 2 + np.sqrt(DAMPING))
    moved = a[:, None] * gradient @ inverse(mean_square(outs) * 4, DAMPING)
    np.testing.assert_allclose(
        net.words.embedding_table.asnumpy(), table - RATE * moved, rtol=1e-5, atol=1e-6
    )


def test_layers_stay_what_they_are_with_their_names() -> None:
    net = Dense2()
    before = {param.name: param for param in net.trainable_params()}
    first = net.first
    layers = keep_factors_of(net)
    assert net.first is first
    assert [type(layer) for layer in layers] == [DenseThor, DenseThor]
    assert {param.name: param for param in net.trainable_params()} == before
    added = {param.name: param.shape for param in net.get_parameters()}.items() - {
        (name, param.shape) for name, param in before.items()
    }
    assert added == {
        ("first.matrix_a", (2, 128, 128)), ("first.matrix_g", (1, 5, 5)),
        ("layers.1.matrix_a", (1, 5, 5)), ("layers.1.matrix_g", (1, 3, 3)),
    }  # fmt: skip
    assert keep_factors_of(net) == layers  # once more changes nothing


def test_frozen_layers_and_groups_of_channels_are_left_alone() -> None:
    net = nn.SequentialCell(nn.Dense(2, 2), nn.Conv2d(4, 4, 3, group=2), nn.Conv2d(4, 4, 3))
    net[0].weight.requires_grad = False
    assert keep_factors_of(net) == [net[2]]


def test_gradients_are_those_without_factors() -> None:
    """What the factors need is no gradient of anything that was asked for."""
    paramesh.set_seed(1)
    net, random = Dense2(), np.random.default_rng(0)
    x, y = (Tensor(random.normal(size=(BATCH, n)).astype(np.float32)) for n in (150, 3))
    weights = net.trainable_params()
    before = paramesh.value_and_grad(net, None, weights)(x, y)
    keep_factors_of(net)
    after = paramesh.value_and_grad(net, None, weights)(x, y)
    assert len(after[1]) == len(weights)
    for one, other in zip((before[0], *before[1]), (after[0], *after[1]), strict=True):
        np.testing.assert_allclose(one.asnumpy(), other.asnumpy(), rtol=1e-5, atol=1e-6)
    assert np.abs(net.first.matrix_g.asnumpy()).max() > 0


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"learning_rate": 0.1}, TypeError, "learning_rate must be a Tensor, got float"),
        ({"damping": [0.1]}, TypeError, "damping must be a Tensor, got list"),
        ({"momentum": 1}, TypeError, "momentum"),
        ({"momentum": -0.1}, ValueError, "momentum"),
        ({"frequency": 1}, ValueError, "frequency"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay"),
        ({"use_nesterov": 1}, TypeError, "use_nesterov"),
        ({"loss_scale": -1.0}, ValueError, "loss_scale"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_it_refuses(change: Any, error: type[Exception], says: str) -> None:
    given: Any = {"learning_rate": rate(0.1), "damping": rate(0.1), "momentum": 0.9} | change
    net = nn.Dense(2, 2)
    with pytest.raises(error, match=says):
        thor(net, **given)
    assert type(net) is nn.Dense  # its layers keep factors only when all is right


def test_devices_that_share_a_batch_are_refused() -> None:
    context.set_auto_parallel_context(parallel_mode="data_parallel")
    with pytest.raises(NotImplementedError, match="parallel_mode='data_parallel'"):
        thor(nn.Dense(2, 2), rate(0.1), rate(0.1), 0.9)


def test_where_scripts_find_it() -> None:
    assert nn.thor is thor
    assert paramesh.optim.thor is thor
    assert nn.DenseThor is DenseThor
    assert isinstance(thor(nn.Dense(2, 2), rate(0.1), rate(0.1), 0.9), Thor)
