"""Pooling by windows that are drawn: what holds for every draw, and what is refused.

Windows of given samples are compared with MindSpore's in `tests/test_recorded_names.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, nn, ops

X = np.random.default_rng(0).normal(size=(2, 10, 23, 3)).astype(np.float32)


@pytest.mark.parametrize("pseudo_random", [False, True])
@pytest.mark.parametrize("overlapping", [False, True])
def test_each_window_has_its_largest_and_its_mean(pseudo_random: bool, overlapping: bool) -> None:
    settings = dict(pseudo_random=pseudo_random, overlapping=overlapping)
    for form, reduced in ((ops.FractionalMaxPool, np.max), (ops.FractionalAvgPool, np.mean)):
        out, rows, columns = form([1.0, 1.4, 1.7, 1.0], **settings)(Tensor(X))
        assert out.shape == (2, 7, 13, 3)
        for size, edges in ((10, rows.asnumpy()), (23, columns.asnumpy())):
            steps = np.diff(edges)
            assert (edges[0], edges[-1], edges.dtype) == (0, size, np.int64)
            assert set(steps) <= {size // (len(edges) - 1), size // (len(edges) - 1) + 1}
        for i in range(7):
            for j in range(13):
                (top, left), (low, right) = (
                    (int(rows[i + k]), int(columns[j + k])) for k in (0, 1)
                )
                part = X[:, top : low + overlapping, left : right + overlapping]
                want = reduced(part, (1, 2))
                np.testing.assert_allclose(out.asnumpy()[:, i, j], want, rtol=1e-5, atol=1e-6)


def test_windows_are_drawn_anew_and_by_the_seed() -> None:
    pool = nn.FractionalMaxPool2d(2, 5)
    image = Tensor(X.transpose(0, 3, 1, 2))
    first, second = pool(image).asnumpy(), pool(image).asnumpy()
    assert not np.array_equal(first, second)
    paramesh.set_seed(3)
    again = pool(image).asnumpy()
    paramesh.set_seed(3)
    assert np.array_equal(again, pool(image).asnumpy())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ops.fractional_max_pool2d(x, 2), "either output_size or output_ratio"),
        (lambda x: ops.fractional_max_pool2d(x, 2, 3, 0.5), "either output_size or output_ratio"),
        (lambda x: ops.fractional_max_pool2d(x, 2, output_ratio=1.5), "2 numbers between 0 and 1"),
        (lambda x: ops.fractional_max_pool2d(x, 9, 9), r"no \(9, 9\) windows of \(9, 9\)"),
        (lambda x: nn.FractionalMaxPool3d(2), "either output_size or output_ratio"),
        (lambda x: ops.FractionalMaxPool([1.0, 2.0, 2.0, 1.0], seed=1), "deterministic=True"),
        (lambda x: ops.FractionalMaxPool([2.0, 2.0, 2.0, 1.0])(x), "must be 1.0"),
        (lambda x: ops.FractionalMaxPool([1.0, 0.5, 2.0, 1.0])(x), "four ratios from 1 on"),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Tensor(X))
