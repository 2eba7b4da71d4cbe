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


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.SyncBatchNorm(2, process_groups=[[0]]), "process_groups"),
        (lambda: nn.ChannelShuffle(3)(X), "2 channels do not make 3 groups"),
        (lambda: nn.ConstantPad2d((1, 2, 3), 0), "expected an int, or up to 4 ints in pairs"),
        (lambda: nn.ReflectionPad2d(3)(X), "3 elements cannot be mirrored along axis 2"),
        (lambda: nn.Conv3dTranspose(1, 1, 2, output_padding=1), "needs pad_mode='pad'"),
        (lambda: nn.MultiMarginLoss(p=3), "expected 1 or 2"),
        (lambda: nn.DiceLoss()(X, X[0]), "must have one shape"),
    ],
)
def test_refusals(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
