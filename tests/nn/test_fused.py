"""Layers over one operator that take no Tensors alone, and what fused layers refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from paramesh import Tensor, nn, ops
from type_checks import wrong

X = Tensor(np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4))


def test_a_range_is_made_of_numbers() -> None:
    assert nn.Range(1, 8, 4)().asnumpy().tolist() == [1, 5]
    assert nn.Range(3)().asnumpy().tolist() == [0, 1, 2]


def test_images_are_resized_by_a_size_or_a_factor() -> None:
    net = nn.ResizeBilinear(half_pixel_centers=True)
    want = ops.interpolate(X, size=(6, 8), mode="bilinear").asnumpy()
    for found in (net(X, size=(6, 8)), net(X, scale_factor=2)):
        np.testing.assert_allclose(found.asnumpy(), want)
    with pytest.raises(ValueError, match="give size or scale_factor"):
        net(X)


def test_a_padding_of_another_type() -> None:
    with pytest.raises(TypeError, match="expected an int or a tuple, got '-1'"):
        nn.ReflectionPad1d(wrong("-1"))
    with pytest.raises(TypeError, match=r"expected ints, got \('2', 2\)"):
        nn.ReflectionPad2d(wrong(("2", 2)))


def test_numbers_of_another_type() -> None:
    with pytest.raises(TypeError, match=r"RReLU\(lower\): expected a number"):
        nn.RReLU(wrong("-1"), wrong("-1"))


def test_pooling_of_one_sequence_or_image_alone() -> None:
    for pool, batch in (
        (nn.LPPool1d(2, 3, 1), np.arange(24, dtype=np.float32).reshape(2, 3, 4)),
        (nn.LPPool2d(1, (1, 3), 1), np.arange(24, dtype=np.float32).reshape(2, 1, 3, 4)),
    ):
        np.testing.assert_array_equal(pool(batch[1]).asnumpy(), pool(batch)[1].asnumpy())
    assert nn.LPPool1d(1, 3, 1)(np.ones((2, 4), np.float32)).asnumpy().tolist() == [[3, 3]] * 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.SyncBatchNorm(2, process_groups=[[0]]), "process_groups"),
        (lambda: nn.ChannelShuffle(3)(X), "2 channels do not make 3 groups"),
        (lambda: nn.ConstantPad2d((1, 2, 3), 0), "expected an int, or up to 4 ints in pairs"),
        (lambda: nn.ReflectionPad2d(3)(X), "3 elements cannot be mirrored along axis 2"),
        (lambda: nn.Conv3dTranspose(1, 1, 2, output_padding=1), "needs pad_mode='pad'"),
        (lambda: nn.MultiMarginLoss(p=3), "expected 1 or 2"),
        (lambda: nn.RReLU(0.9, 0.1), r"RReLU\(lower\): expected at most upper, 0.1, got 0.9"),
        (lambda: nn.CentralCrop(0.0), "expected a number above 0"),
        (lambda: nn.CentralCrop(0.5)(X[..., None]), r"must be \(n, c, h, w\) or \(c, h, w\)"),
        (lambda: nn.LPPool1d(1, 2)(X), "expected 2 or 3 axes"),
        (lambda: nn.DiceLoss()(X, X[0]), "must have one shape"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
