"""SSIM, MSSSIM and PSNR against scipy's filters, and losses of overlaps and regularizers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import paramesh
from paramesh import Tensor, nn
from type_checks import wrong

_RNG = np.random.default_rng(5)
A = _RNG.random((2, 3, 20, 18)).astype(np.float32)
B = np.clip(A + 0.1 * _RNG.normal(size=A.shape), 0, 1).astype(np.float32)


def smoothed(x: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    weights = np.exp(-(np.arange(-(size // 2), size // 2 + 1) ** 2) / (2 * 1.5**2))
    for axis in (2, 3):
        x = ndimage.correlate1d(x.astype(np.float64), weights / weights.sum(), axis)
    edge = size // 2
    return x[:, :, edge:-edge, edge:-edge]


def parts(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], size: int) -> tuple[Any, Any]:
    mean_a, mean_b = smoothed(a, size), smoothed(b, size)
    var_a, var_b = smoothed(a**2, size) - mean_a**2, smoothed(b**2, size) - mean_b**2
    both = smoothed(a * b, size) - mean_a * mean_b
    contrast = (2 * both + 0.03**2) / (var_a + var_b + 0.03**2)
    light = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
    return (light * contrast).mean((2, 3)), contrast.mean((2, 3))


def test_ssim() -> None:
    found = nn.SSIM()(Tensor(A), Tensor(B))
    np.testing.assert_allclose(found, parts(A, B, 11)[0].mean(1), rtol=1e-4)
    np.testing.assert_allclose(nn.SSIM()(Tensor(A), Tensor(A)), [1, 1], rtol=1e-5)
    half = nn.SSIM(filter_size=5)(Tensor(A, paramesh.float16), Tensor(B, paramesh.float16))
    np.testing.assert_allclose(half, parts(A, B, 5)[0].mean(1), rtol=1e-2)


def test_msssim() -> None:
    found = nn.MSSSIM(power_factors=(0.4, 0.6), filter_size=5)(Tensor(A), Tensor(B))
    small_a, small_b = (x.reshape(2, 3, 10, 2, 9, 2).mean((3, 5)) for x in (A, B))
    first, last = parts(A, B, 5)[1], parts(small_a, small_b, 5)[0]
    np.testing.assert_allclose(found, (first**0.4 * last**0.6).mean(1), rtol=1e-4)


def test_psnr_and_whole_numbers() -> None:
    a, b = ((x * 255).astype(np.uint8) for x in (A, B))
    want = 10 * np.log10(255**2 / ((a - b.astype(np.float64)) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(nn.PSNR(255)(Tensor(a), Tensor(b)), want, rtol=1e-5)
    close = nn.MSSSIM(255, (0.4, 0.6), 5)(Tensor(a), Tensor(b))
    of_floats = nn.MSSSIM(1.0, (0.4, 0.6), 5)(Tensor(a / 255.0), Tensor(b / 255.0))
    np.testing.assert_allclose(close, of_floats, rtol=1e-4)
    assert nn.PSNR()(Tensor(A), Tensor(A)).asnumpy().tolist() == [np.inf, np.inf]


@pytest.mark.parametrize("kind", [nn.PSNR, nn.SSIM, nn.MSSSIM])
def test_images_that_do_not_fit(kind: Any) -> None:
    net, image = kind(), Tensor(A)
    with pytest.raises(ValueError, match="must have one shape"):
        net(image, Tensor(A[:1]))
    with pytest.raises(ValueError, match=r"img2 must be \(N, C, H, W\), got shape \(20, 18\)"):
        net(image, Tensor(A[0, 0]))
    with pytest.raises(TypeError, match="both images must have one dtype"):
        net(image, Tensor(A, paramesh.float16))
    with pytest.raises(TypeError, match="img1 must be a Tensor"):
        net(3, image)
    with pytest.raises(TypeError, match="max_val must be int or float, got True"):
        kind(True)
    with pytest.raises(ValueError, match="max_val must be above 0"):
        kind(-1)


def test_the_loss_over_classes_is_the_mean_of_dice() -> None:
    logits, label = A, (B > 0.5).astype(np.float32)
    net = nn.MultiClassDiceLoss(activation="sigmoid", ignore_indiex=1)
    chances = 1 / (1 + np.exp(-logits))

    def dice(i: int) -> float:
        a, b = chances[:, i], label[:, i]
        return 1 - (2 * (a * b).sum() + 1e-5) / ((a * a).sum() + (b * b).sum() + 1e-5)

    np.testing.assert_allclose(net(Tensor(logits), Tensor(label)), (dice(0) + dice(2)) / 3, 1e-5)
    weighed = nn.MultiClassDiceLoss(Tensor([[1.0], [2.0], [4.0]]), activation=nn.Sigmoid())
    want = (dice(0) + 2 * dice(1) + 4 * dice(2)) / 3
    np.testing.assert_allclose(weighed(Tensor(logits), Tensor(label)), [want], rtol=1e-5)


def test_the_sum_of_absolute_values() -> None:
    assert nn.L1Regularizer(0.5)(Tensor([[1.0, -2.0], [-3.0, 4.0]])) == 5


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: nn.SSIM(filter_size=0), ValueError, "filter_size must be above 0"),
        (lambda: nn.SSIM(filter_size=wrong(1.1)), TypeError, "filter_size must be int, got 1.1"),
        (lambda: nn.SSIM(filter_sigma=-0.1), ValueError, "filter_sigma must be above 0"),
        (lambda: nn.SSIM(k1=wrong(1)), TypeError, "k1 must be a float, got 1"),
        (lambda: nn.SSIM(filter_size=21)(Tensor(A), Tensor(B)), ValueError, "smaller than the win"),
        (lambda: nn.MSSSIM(power_factors=wrong({1.0})), TypeError, "must be a tuple or list"),
        (lambda: nn.MSSSIM()(Tensor(A), Tensor(B)), ValueError, "at scale 1 are smaller"),
        (lambda: nn.MultiClassDiceLoss(activation="odd"), ValueError, "activation"),
        (lambda: nn.MultiClassDiceLoss(activation=wrong(2)), TypeError, "a name or a Cell"),
        (lambda: nn.MultiClassDiceLoss(Tensor([1.0])), ValueError, "expected two axes"),
        (
            lambda: nn.MultiClassDiceLoss()(Tensor(A), Tensor(A[:1])),
            ValueError,
            "must have one shape",
        ),
        (
            lambda: nn.MultiClassDiceLoss(Tensor([[1.0]]))(Tensor(A), Tensor(A)),
            ValueError,
            "are of 1 classes, the labels of 3",
        ),
        (lambda: nn.L1Regularizer(0.0), ValueError, "expected a number above 0"),
        (lambda: nn.L1Regularizer(np.inf), ValueError, "expected a finite number"),
        (lambda: nn.L1Regularizer(1)(Tensor([True])), TypeError, "must be numbers, got Bool"),
    ],
)
def test_refusals(make: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
