"""Convolutions, pools and normalisation where the golden data has no case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layer_cases import make, numbers
from paramesh import nn
from paramesh.tensor import Tensor
from type_checks import present

X = numbers(2, 4, 7, 6)


def last(x: np.ndarray) -> np.ndarray:
    return np.moveaxis(x, 1, -1)


@pytest.mark.parametrize(
    "settings",
    ["Conv2d(4, 6, 3, 2, group=2, has_bias=True", "BatchNorm2d(4", "MaxPool2d(3, 2", "AvgPool2d(2"],
)
def test_channels_last_is_the_same(settings: str) -> None:
    first = make(f"nn.{settings})").set_train()
    turned = make(f"nn.{settings}, data_format='NHWC')").set_train()
    for name, param in first.parameters_and_names():
        value = param.asnumpy()
        other = getattr(turned, name)
        assert other.shape == (last(value).shape if value.ndim > 1 else value.shape)
        other.set_data(Tensor(last(value) if value.ndim > 1 else value))
    np.testing.assert_allclose(
        turned(Tensor(last(X))).asnumpy(), last(first(Tensor(X)).asnumpy()), rtol=1e-5, atol=1e-6
    )
    for name, param in first.parameters_and_names():
        if "moving" in name:
            np.testing.assert_allclose(getattr(turned, name).asnumpy(), param.asnumpy(), rtol=1e-6)


@pytest.mark.parametrize("layer", ["MaxPool2d(2)", "AvgPool2d(3, 2, 'same')", "AvgPool1d(2, 2)"])
def test_pools_without_a_batch(layer: str) -> None:
    net = make(f"nn.{layer}")
    x = X[..., 0] if "1d" in layer else X
    np.testing.assert_array_equal(net(Tensor(x[0])).asnumpy(), net(Tensor(x)).asnumpy()[0])


def test_max_pool_with_distances_between_the_points() -> None:
    out = nn.MaxPool2d(2, 1, dilation=2)(Tensor(X)).asnumpy()
    wanted = np.max([X[:, :, i : i + 5, j : j + 4] for i in (0, 2) for j in (0, 2)], 0)
    np.testing.assert_array_equal(out, wanted)


def test_windows_that_leave_the_image() -> None:
    out = nn.MaxPool2d(2, 2, "pad", ceil_mode=True)(Tensor(X)).asnumpy()
    assert out.shape == (2, 4, 4, 3)
    np.testing.assert_array_equal(out[:, :, 3], np.maximum(X[:, :, 6, ::2], X[:, :, 6, 1::2]))
    mean = nn.AvgPool2d(2, 2, "pad", ceil_mode=True, divisor_override=3)(Tensor(X)).asnumpy()
    np.testing.assert_allclose(mean[:, :, 0, 0], X[:, :, :2, :2].sum((2, 3)) / 3, rtol=1e-5)


def test_adaptive_pool_of_sequences() -> None:
    x = X[..., 0]
    wanted = np.stack([x[..., 0:3].mean(-1), x[..., 2:5].mean(-1), x[..., 4:7].mean(-1)], -1)
    np.testing.assert_allclose(nn.AdaptiveAvgPool1d(3)(x).asnumpy(), wanted, rtol=1e-5, atol=1e-7)


def test_convolution_of_volumes_with_paddings() -> None:
    x = numbers(1, 2, 3, 4, 3)
    net = nn.Conv3d(2, 2, 2, pad_mode="pad", padding=(1, 0, 0, 1, 2, 0), group=2, has_bias=True)
    w, b = (present(p).asnumpy() for p in (net.weight, net.bias))
    grown = np.pad(x, [(0, 0), (0, 0), (1, 0), (0, 1), (2, 0)])
    wanted = np.zeros((1, 2, 3, 4, 4), np.float32) + b.reshape(1, 2, 1, 1, 1)
    for d, h, k in np.ndindex(2, 2, 2):
        wanted += (
            w[None, :, 0, d, h, k, None, None, None] * grown[:, :, d : d + 3, h : h + 4, k : k + 4]
        )
    np.testing.assert_allclose(net(Tensor(x)).asnumpy(), wanted, rtol=1e-5, atol=1e-6)


def test_transposed_convolution_is_the_gradient() -> None:
    from paramesh.transforms import grad

    # out = stride * in where the stride is larger than the kernel, too.
    for settings in ("3, 2, 'pad', (1, 0, 0, 1)", "2, 3, 'valid'", "3, 1, 'valid'"):
        kernel, stride, mode = settings.split(", ")[:3]
        padding = settings.partition(f"{mode}, ")[2] or "0"
        back = make(f"nn.Conv2dTranspose(4, 6, {kernel}, {stride}, {mode}, {padding}, group=2)")
        out = back(Tensor(X))
        conv = make(f"nn.Conv2d(6, 4, {kernel}, {stride}, {mode}, {padding}, group=2)")
        conv.weight.set_data(back.weight.value())
        cotangent = Tensor(X)
        slope = grad(lambda t, conv=conv, c=cotangent: (conv(t) * c).sum())(out)
        np.testing.assert_allclose(slope.asnumpy(), out.asnumpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("layer", "ndim"), [("1d", 3), ("2d", 4), ("3d", 5)])
def test_instance_norm(layer: str, ndim: int) -> None:
    x = numbers(3, 4, 5, 2, 2)[(..., *[0] * (5 - ndim))]
    net = make(f"nn.InstanceNorm{layer}(4, gamma_init='uniform', beta_init='normal')")
    inside = tuple(range(2, ndim))
    centred = x - x.mean(inside, keepdims=True)
    shape = (1, 4, *[1] * len(inside))
    gamma, beta = (p.asnumpy().reshape(shape) for p in (net.gamma, net.beta))
    wanted = centred / np.sqrt((centred**2).mean(inside, keepdims=True) + 1e-5) * gamma + beta
    for training in (False, True):
        out = net.set_train(training)(Tensor(x))
        np.testing.assert_allclose(out.asnumpy(), wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(
        net.moving_mean.asnumpy(), 0.1 * x.mean(inside).mean(0), rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(
        net.moving_variance.asnumpy(), 0.9 + 0.1 * x.var(inside, ddof=1).mean(0), rtol=1e-5
    )


def test_batch_statistics_of_the_batch_always() -> None:
    net = nn.BatchNorm2d(4, use_batch_statistics=True)
    net(Tensor(X))
    np.testing.assert_allclose(
        net.moving_mean.asnumpy(), 0.1 * X.mean((0, 2, 3)), rtol=1e-4, atol=1e-7
    )


def test_parameters_are_named_by_the_path_in_a_network() -> None:
    net = nn.SequentialCell(nn.BatchNorm2d(4), nn.PReLU(4))
    assert [p.name for p in net.get_parameters()] == [
        "0.moving_mean",
        "0.moving_variance",
        "0.gamma",
        "0.beta",
        "1.w",
    ]


@pytest.mark.parametrize(
    ("mode", "align", "wanted"),
    [
        ("nearest", None, [0, 0, 1, 1, 2, 2]),
        ("linear", False, [0, 0.25, 0.75, 1.25, 1.75, 2]),
        ("linear", True, [0, 0.4, 0.8, 1.2, 1.6, 2]),
        ("area", None, [0, 0, 1, 1, 2, 2]),
    ],
)
def test_upsampling(mode: str, align: Any, wanted: list[float]) -> None:
    x = Tensor(np.arange(3, dtype=np.float32).reshape(1, 1, 3))
    out = nn.Upsample(size=6, mode=mode, align_corners=align)(x)
    np.testing.assert_allclose(out.asnumpy()[0, 0], wanted, rtol=1e-6, atol=1e-7)


def test_bilinear_is_linear_along_both_axes() -> None:
    x = Tensor(np.add.outer(np.arange(3), 10 * np.arange(2)).astype(np.float32)[None, None])
    out = nn.Upsample(scale_factor=(2.0, 1.0), mode="bilinear")(x).asnumpy()[0, 0]
    rows = np.array([0, 0.25, 0.75, 1.25, 1.75, 2])
    np.testing.assert_allclose(out, np.add.outer(rows, [0, 10]), rtol=1e-6, atol=1e-6)


def test_patches() -> None:
    net = nn.Unfold((1, 2, 3, 1), (1, 2, 1, 1), (1, 1, 2, 1))
    out = net(Tensor(X)).asnumpy()
    assert out.shape == (2, 2 * 3 * 4, 3, 2)
    for i, (row, column) in enumerate(np.ndindex(2, 3)):
        wanted = X[:, :, row : row + 5 : 2, 2 * column : 2 * column + 2]
        np.testing.assert_allclose(out[:, 4 * i : 4 * i + 4], wanted, rtol=1e-6)


def test_activations_of_dense() -> None:
    from paramesh.ops.activations import ReLU

    x = Tensor(X[0, 0])
    given = (nn.get_activation("relu"), "relu", nn.ReLU(), ReLU())
    outs = [
        nn.Dense(6, 3, "ones", "ones", activation=each)(x).asnumpy()  # type: ignore[arg-type]
        for each in given
    ]
    for out in outs:
        np.testing.assert_array_equal(out, outs[0])
        assert out.min() >= 0
    assert nn.get_activation(None) is None
    assert nn.get_activation("") is None


def test_bilinear_dense() -> None:
    a, b = numbers(5, 2, 3), numbers(5, 2, 4, seed=1)
    net = nn.BiDense(3, 4, 2)
    wanted = np.einsum("nmi,kij,nmj->nmk", a, net.weight.asnumpy(), b) + net.bias.asnumpy()  # type: ignore[union-attr]
    np.testing.assert_allclose(net(a, b).asnumpy(), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [None, 1, (0, 1)])
@pytest.mark.parametrize("most", [0.5, 100.0])
def test_clip_by_norm(axis: int | tuple[int, ...] | None, most: float) -> None:
    norm = np.sqrt((X * X).sum(axis, keepdims=True))
    expected = X * most / np.maximum(norm, most)
    given = nn.ClipByNorm(axis)(Tensor(X), Tensor(np.float32(most)))
    np.testing.assert_allclose(given.asnumpy(), expected, rtol=1e-5)
    assert np.array_equal(nn.ClipByNorm()(Tensor(0 * X), 1.0).asnumpy(), 0 * X)
