"""Undoing a pooling: the places, the sizes, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn, ops
from type_checks import wrong

X = np.array([[[[6.0, 8.0], [14.0, 16.0]]]], np.float32)
AT = np.array([[[[5, 7], [13, 15]]]], np.int64)
WHOLE = np.zeros((1, 1, 4, 4), np.float32)
WHOLE[0, 0, 1::2, 1::2] = X[0, 0]


def test_values_are_where_they_were() -> None:
    whole = np.random.default_rng(3).permutation(48).astype(np.float32).reshape(1, 3, 4, 4)
    x, at = ops.MaxPoolWithArgmax(2, 2)(Tensor(whole))
    found = nn.MaxUnpool2d(2)(x, at).asnumpy()
    np.testing.assert_array_equal(found, np.where(found != 0, whole, 0))
    np.testing.assert_array_equal(np.sort(found[found != 0]), np.sort(x.asnumpy().ravel()))

    np.testing.assert_array_equal(ops.max_unpool2d(X, AT, 2).asnumpy(), WHOLE)
    np.testing.assert_array_equal(ops.max_unpool2d(X[0], AT[0], (2, 2), 0).asnumpy(), WHOLE[0])
    of_ints = ops.max_unpool1d(np.array([[[2, 4]]], np.int32), np.array([[[1, 3]]], np.int32), 2)
    assert of_ints.asnumpy().tolist() == [[[0, 2, 0, 4]]]
    one = ops.max_unpool3d(np.full((1,) * 5, 7, np.float32), np.full((1,) * 5, 7), 2, 1).asnumpy()
    assert (one.shape, one.ravel().tolist()) == ((1, 1, 2, 2, 2), [0] * 7 + [7])


def test_sizes_may_be_said_and_places_outside_are_left_out() -> None:
    wider = ops.max_unpool2d(X, AT, 2, output_size=(4, 5)).asnumpy()
    assert wider.shape == (1, 1, 4, 5)
    assert wider.ravel()[AT.ravel()].tolist() == X.ravel().tolist()
    np.testing.assert_array_equal(
        ops.max_unpool2d(X, AT, 2, output_size=(1, 1, 4, 4)).asnumpy(), WHOLE
    )
    at = np.array([[[[-1, 7], [13, 99]]]])
    kept = WHOLE.copy()
    kept[0, 0, 1, 1] = kept[0, 0, 3, 3] = 0
    np.testing.assert_array_equal(ops.max_unpool2d(X, at, 2).asnumpy(), kept)


def test_gradients_are_those_of_the_values() -> None:
    def loss(x: Tensor) -> Any:
        return (ops.max_unpool2d(x, AT, 2) * np.arange(16, dtype=np.float32).reshape(4, 4)).sum()

    assert paramesh.grad(loss)(Tensor(X)).asnumpy().ravel().tolist() == [5, 7, 13, 15]


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((X, X, 2), TypeError, "indices must be integers, got float32"),
        ((X, AT[..., :1], 2), ValueError, r"shape of x, \(1, 1, 2, 2\), got \(1, 1, 2, 1\)"),
        ((X[0, 0], AT[0, 0], 2), ValueError, r"3 or 4 axes, got shape \(2, 2\)"),
        ((X, AT, 0), ValueError, "kernel_size must be"),
        ((X, AT, 2, -1), ValueError, "stride must be"),
        ((X, AT, 2, 2, -1), ValueError, "padding must be"),
        ((X, AT, 2, 2, 0, (4, 6)), ValueError, r"\(4, 6\) must differ from \(4, 4\) by less"),
        ((X, AT, 2, 2, 0, (2, 4, 4)), ValueError, "must be 2 sizes, or the shape of the result"),
    ],
)
def test_refusals(arguments: tuple[Any, ...], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        ops.max_unpool2d(*wrong(arguments))
