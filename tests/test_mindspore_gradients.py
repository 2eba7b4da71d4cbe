"""MindSpore's operators of gradients are the derivatives of the operators they are named after."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import paramesh
import paramesh.mindspore_gradients as gradients
from paramesh import Tensor, ops

X = np.array([[0.3, -0.6, 0.8], [0.1, 0.45, -0.2]], np.float32)
DY = np.array([[1.0, 2.0, -3.0], [0.5, -1.0, 4.0]], np.float32)
IMAGE = np.random.default_rng(1).normal(size=(2, 3, 6, 6)).astype(np.float32)


def derived(fn: Callable[[Any], Any], x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    return np.asarray(jax.vjp(fn, jnp.asarray(x))[1](jnp.asarray(dy))[0])


def of(form: Any) -> Callable[[Any], Any]:
    """An operator on raw values."""
    return lambda x: form(x)._get()


#: Those that take (x, dy), (dy, x), (y, dy) or (dy, y).
ELEMENTWISE: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "AbsGrad": ("x, dy", jnp.abs),
    "ACosGrad": ("x, dy", jnp.arccos),
    "AsinGrad": ("x, dy", jnp.arcsin),
    "AtanGrad": ("x, dy", jnp.arctan),
    "HSigmoidGrad": ("dy, x", of(ops.HSigmoid())),
    "HSwishGrad": ("dy, x", of(ops.HSwish())),
    "ReLU6Grad": ("dy, x", of(ops.ReLU6())),
    "SiLUGrad": ("dy, x", of(ops.SiLU())),
    "SoftplusGrad": ("dy, x", of(ops.Softplus())),
    "LogSigmoidGrad": ("dy, x", of(ops.LogSigmoid())),
    "HShrinkGrad": ("dy, x", of(ops.HShrink())),
    "SoftShrinkGrad": ("dy, x", of(ops.SoftShrink())),
    "GeLUGrad": ("dy, x", of(ops.GeLU())),
    "AsinhGrad": ("y, dy", jnp.arcsinh),
    "InvGrad": ("y, dy", jnp.reciprocal),
    "ReciprocalGrad": ("y, dy", jnp.reciprocal),
    "SigmoidGrad": ("y, dy", jax.nn.sigmoid),
    "TanhGrad": ("y, dy", jnp.tanh),
    "SoftmaxGrad": ("y, dy", jax.nn.softmax),
    "LogSoftmaxGrad": ("y, dy", jax.nn.log_softmax),
    "EluGrad": ("dy, y", jax.nn.elu),
    "ReluGrad": ("dy, y", jax.nn.relu),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_of_one_input(name: str) -> None:
    order, fn = ELEMENTWISE[name]
    values = {"x": X, "dy": DY, "y": np.asarray(fn(jnp.asarray(X)))}
    args = [Tensor(values[each]) for each in order.split(", ")]
    found = getattr(gradients, name)()(*args).asnumpy()
    np.testing.assert_allclose(found, derived(fn, X, DY), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "fn", "shift"),
    [("AcoshGrad", jnp.arccosh, 2), ("SqrtGrad", jnp.sqrt, 2), ("RsqrtGrad", jax.lax.rsqrt, 2)],
)
def test_of_inputs_above_zero(name: str, fn: Any, shift: float) -> None:
    y = np.asarray(fn(jnp.asarray(X + shift)))
    found = getattr(gradients, name)()(Tensor(y), Tensor(DY)).asnumpy()
    np.testing.assert_allclose(found, derived(fn, X + shift, DY), rtol=1e-4)


@pytest.mark.parametrize(
    ("form", "args", "fn", "x", "dy"),
    [
        (
            gradients.MaxPoolGrad(2, 2),
            lambda x, y, dy: (x, y, dy),
            of(ops.MaxPool(2, 2)),
            IMAGE,
            IMAGE[:, :, :3, :3],
        ),
        (
            gradients.AvgPoolGrad(2, 2),
            lambda x, y, dy: (x, y, dy),
            of(ops.AvgPool(2, 2)),
            IMAGE,
            IMAGE[:, :, :3, :3],
        ),
        (
            gradients.ResizeBilinearGrad(True),
            lambda x, y, dy: (dy, x),
            of(ops.ResizeBilinear((3, 4), True)),
            IMAGE,
            IMAGE[:, :, :3, :4],
        ),
        (
            gradients.ResizeNearestNeighborGrad(),
            lambda x, y, dy: (dy, (6, 6)),
            of(ops.ResizeNearestNeighbor((3, 4))),
            IMAGE,
            IMAGE[:, :, :3, :4],
        ),
        (
            gradients.LRNGrad(2, 1.0, 1e-2, 0.75),
            lambda x, y, dy: (dy, x, y),
            of(ops.LRN(2, 1.0, 1e-2, 0.75)),
            IMAGE,
            IMAGE,
        ),
        (
            gradients.L2NormalizeGrad(1),
            lambda x, y, dy: (x, y, dy),
            of(ops.L2Normalize(1)),
            X,
            DY,
        ),
        (
            gradients.SliceGrad(),
            lambda x, y, dy: (dy, x, (0, 1), (2, -1)),
            lambda x: x[:, 1:],
            X,
            DY[:, :2],
        ),
        (
            gradients.StridedSliceGrad(),
            lambda x, y, dy: (dy, (2, 3), (0, 2), (2, 0), (1, -1)),
            lambda x: x[0:2, 2:0:-1],
            X,
            DY[:, :2],
        ),
        (gradients.FlattenGrad(), lambda x, y, dy: (dy, (2, 3)), jnp.ravel, X, DY.reshape(-1)),
        (
            gradients.BiasAddGrad(),
            lambda x, y, dy: (dy,),
            lambda b: jnp.zeros_like(IMAGE) + b[:, None, None],
            IMAGE[0, :, 0, 0],
            IMAGE,
        ),
        (
            gradients.Conv2DBackpropFilter(4, 3),
            lambda x, y, dy: (dy, Tensor(IMAGE), (4, 3, 3, 3)),
            lambda w: ops.Conv2D(4, 3)(Tensor(IMAGE), w)._get(),
            np.ones((4, 3, 3, 3), np.float32),
            np.ones((2, 4, 4, 4), np.float32) * np.arange(4, dtype=np.float32),
        ),
        (
            gradients.SigmoidCrossEntropyWithLogitsGrad(),
            lambda x, y, dy: (x, Tensor(np.abs(X)), dy),
            lambda x: ops.SigmoidCrossEntropyWithLogits()(x, np.abs(X))._get(),
            X,
            DY,
        ),
        (
            gradients.KLDivLossGrad("none"),
            lambda x, y, dy: (dy, x, Tensor(np.abs(X))),
            lambda x: ops.KLDivLoss("none")(x, np.abs(X))._get(),
            X,
            DY,
        ),
        (
            gradients.BinaryCrossEntropyGrad("mean"),
            lambda x, y, dy: (x, Tensor(np.abs(DY) / 4), Tensor(1.0)),
            lambda x: ops.BinaryCrossEntropy()(x, np.abs(DY) / 4, np.ones_like(X))._get(),
            np.abs(X),
            np.float32(1),
        ),
    ],
)
def test_of_an_operator(form: Any, args: Any, fn: Any, x: np.ndarray, dy: np.ndarray) -> None:
    y = np.asarray(fn(jnp.asarray(x)))
    found = form(*args(*map(Tensor, (x, y, dy)))).asnumpy()
    np.testing.assert_allclose(found, derived(fn, x, dy), rtol=1e-4, atol=1e-5)


def test_of_several_inputs() -> None:
    x, dy = Tensor(X), Tensor(DY)
    one, other = gradients.MaximumGrad()(x, Tensor(X[:1]), dy)  # equal in the first row: all to x
    assert one.asnumpy()[0].tolist() == DY[0].tolist()
    assert other.shape == (1, 3)
    np.testing.assert_allclose((one.asnumpy() + 0).sum() + other.asnumpy().sum(), DY.sum(), 1e-6)
    (least,) = gradients.MinimumGrad(grad_y=False)(x, Tensor(X - 1), dy)
    assert not least.asnumpy().any()
    of_x, of_weight = gradients.PReLUGrad()(dy, x, Tensor([0.5]))
    np.testing.assert_allclose(of_x.asnumpy(), np.where(X > 0, DY, DY / 2))
    np.testing.assert_allclose(of_weight.asnumpy(), [(DY * X)[X < 0].sum()], 1e-6)
    gamma, beta = (Tensor(np.array(v, np.float32)) for v in ([1, 2, 3], [0, 0, 0]))
    form = ops.LayerNorm(1, 1, 1e-7)
    _, mean, _ = form(x, gamma, beta)
    found = gradients.LayerNormGrad()(x, dy, Tensor(X.var(1, keepdims=True)), mean, gamma)
    back = jax.vjp(lambda *v: form(*v)[0]._get(), X, gamma._get(), beta._get())[1]
    for each, wanted in zip(found, back(jnp.asarray(DY)), strict=True):
        np.testing.assert_allclose(each.asnumpy(), wanted, rtol=1e-3, atol=1e-4)


def test_of_a_mean_that_is_not_the_inputs() -> None:
    """MindSpore's formula, in which mean and variance are what is given."""
    mean, variance = np.full((2, 1), 0.3, np.float32), np.full((2, 1), 0.5, np.float32)
    inner, scale, off = DY * X[:1], 1 / np.sqrt(0.5), X - mean
    first = np.sum(-0.5 * inner * off * scale**3, 1, keepdims=True)
    total, last = (np.sum(v, 1, keepdims=True) for v in (inner, -2 * off))
    wanted = inner * scale + first * 2 / 3 * off + (first * last / 3 - scale * total) / 3
    args = map(Tensor, (X, DY, variance, mean, X[0]))
    found = gradients.LayerNormGrad()(*args)[0].asnumpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="reduction must be none, mean, sum or batchmean"):
        gradients.KLDivLossGrad("most")


def test_at_the_edges_of_relu6() -> None:
    edges = Tensor(np.array([0, 6, 7], np.float32))
    assert gradients.ReLU6Grad()(Tensor([1.0, 2.0, 3.0]), edges).asnumpy().tolist() == [0, 2, 0]
    assert paramesh.grad(lambda x: ops.relu6(x).sum())(edges).asnumpy().tolist() == [0, 1, 0]


def test_of_positions() -> None:
    images = Tensor(IMAGE)
    values, at = ops.MaxPoolWithArgmax(2, 2)(images)
    found = gradients.MaxPoolGradWithArgmax(2, 2)(images, values, at).asnumpy()
    np.testing.assert_allclose(found[found != 0].sum(), values.asnumpy().sum(), 1e-5)
    picked = gradients.MaxPoolGradGradWithArgmax(2, 2)(images, images, at)
    np.testing.assert_allclose(picked.asnumpy(), values.asnumpy())
    twice = gradients.MaxPoolGradGrad(2, 2)(images, values, images)
    np.testing.assert_allclose(twice.asnumpy(), values.asnumpy())
    mask = Tensor(np.array([1, 0], np.float32))
    assert gradients.DropoutGrad(0.5)(Tensor([3.0, 4.0]), mask).asnumpy().tolist() == [6, 0]
    assert gradients.ReluGradV2()(Tensor([3.0, 4.0]), mask).asnumpy().tolist() == [3, 0]
    assert gradients.ConcatOffset(2, 1)((Tensor(X), Tensor(X))) == ((0, 0), (0, 3))
    bits = gradients.StridedSliceGrad()(Tensor([True]), (3,), (1,), (2,), (1,))
    assert bits.asnumpy().tolist() == [False, True, False]


def test_of_the_incomplete_gamma_function() -> None:
    a, x, step = 1.5, 2.0, 1e-3
    high, low = (scipy.special.gammainc(a + s, x) for s in (step, -step))
    found = gradients.IgammaGradA()(Tensor([a]), Tensor([x])).asnumpy()
    np.testing.assert_allclose(found, [(high - low) / (2 * step)], rtol=1e-4)


def test_of_complex_numbers_the_conjugate() -> None:
    x, dy = (np.array([v], np.complex64) for v in (0.5 + 0.2j, 1 + 1j))
    found = gradients.AtanGrad()(Tensor(x), Tensor(dy)).asnumpy()
    np.testing.assert_allclose(found, dy * np.conj(1 / (1 + x * x)), 1e-5)
    found = gradients.InvGrad()(Tensor(x), Tensor(dy)).asnumpy()
    np.testing.assert_allclose(found, -dy * np.conj(x) ** 2, 1e-5)


def test_a_gradient_of_another_shape() -> None:
    with pytest.raises(ValueError, match=r"ACosGrad: .*output's shape \(2, 3\), got \(3,\)"):
        gradients.ACosGrad()(Tensor(X), Tensor(DY[0]))


def test_a_gradient_that_there_is_not() -> None:
    with pytest.raises(AttributeError, match="no gradient 'TanGrad'. Did you mean .*TanhGrad"):
        gradients.TanGrad  # noqa: B018


def test_of_regions_counts_the_last_row_and_column() -> None:
    """As in MindSpore, whose operator leaves them out of the means."""
    rois = np.array([[[0.0], [0.0], [0.0], [4.0], [4.0]]], np.float32)
    form = gradients.__dict__["PSROIPoolingGrad"]((4, 4), 1.0, 2, 1)
    found = form(Tensor(np.ones((1, 1, 2, 2), np.float32)), Tensor(rois)).asnumpy()
    assert found.sum() == 4
    np.testing.assert_allclose(found[0, 3, 2:, 2:], 0.25)
    out = ops.PSROIPooling(1.0, 2, 1)(Tensor(np.ones((1, 4, 4, 4), np.float32)), Tensor(rois))
    assert np.array_equal(out.asnumpy(), np.ones((1, 1, 2, 2)))
    with pytest.raises(ValueError, match="dy must be of the output's shape"):
        form(Tensor(DY), Tensor(rois))


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ((1, 2, 2), TypeError, "spatial_scale must be of type float, got 1"),
        ((0.5, 2.0, 2), TypeError, "group_size must be of type int, got 2.0"),
        ((0.5, 2, -1), ValueError, "output_dim must be above 0, got -1"),
    ],
)
def test_settings_of_regions(
    settings: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        ops.PSROIPooling(*settings)
    with pytest.raises(error, match=message):
        gradients.__dict__["PSROIPoolingGrad"]((4, 4), *settings)


def test_sizes_of_regions() -> None:
    form = gradients.__dict__["PSROIPoolingGrad"]
    with pytest.raises(TypeError, match="an int or a tuple of ints, got 4.5"):
        form(4.5, 0.5, 2, 2)
    with pytest.raises(ValueError, match="one or two ints from 1 on, got"):
        form((4, 0), 0.5, 2, 2)


@pytest.mark.slow
def test_of_windows_by_their_places() -> None:
    x = Tensor(np.random.default_rng(2).normal(size=(2, 3, 6, 6)).astype(np.float32))
    samples = Tensor(np.full((2, 3, 2), 0.5, np.float32))
    pool = ops.FractionalMaxPoolWithFixedKsize(2, 3)
    out, places = pool(x, samples)
    form = gradients.__dict__["FractionalMaxPoolGradWithFixedKsize"]()
    found = form(x, out, places)
    want = paramesh.grad(lambda v: (pool(v, samples)[0] ** 2).sum() / 2)(x)
    np.testing.assert_allclose(found.asnumpy(), want.asnumpy(), rtol=1e-6)


@pytest.mark.slow
def test_of_deformable_offsets_in_both_formats() -> None:
    source = np.random.default_rng(3)
    dy, x, offsets = (
        source.normal(size=s).astype(np.float32)
        for s in ((1, 2, 6, 4), (1, 2, 5, 4), (1, 12, 3, 2))
    )
    settings = ((1, 1, 1, 2), (0, 0, 0, 0), (2, 2))
    first = gradients.__dict__["DeformableOffsetsGrad"](*settings)(*map(Tensor, (dy, x, offsets)))
    turned = ((1, 1, 2, 1), *settings[1:])
    form = gradients.__dict__["DeformableOffsetsGrad"](*turned, data_format="NHWC")
    second = form(*(Tensor(np.moveaxis(v, 1, -1)) for v in (dy, x, offsets)))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_allclose(np.moveaxis(other.asnumpy(), -1, 1), one.asnumpy(), rtol=1e-5)
    with pytest.raises(ValueError, match="'NCHW' or 'NHWC', and modulated=True, got 'CHWN'"):
        gradients.__dict__["DeformableOffsetsGrad"](*settings, data_format="CHWN")
