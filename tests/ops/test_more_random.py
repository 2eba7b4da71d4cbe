"""Channels that are dropped, other distributions, and candidates of sampled softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh.ops as ops
from paramesh.tensor import Tensor

RATES = Tensor(np.array([2.0, 6.0], np.float32))
N = 4000


@pytest.mark.parametrize(
    ("form", "shape"),
    [(ops.Dropout2D(0.4), (64, 16, 2, 3)), (ops.Dropout3D(0.4), (64, 16, 2, 2, 1))],
)
def test_whole_channels_are_dropped(form: Any, shape: tuple[int, ...]) -> None:
    for dtype, kept in ((np.float32, 2.5), (np.int8, 2)):
        out, mask = form(Tensor(np.ones(shape, dtype)))
        values, flags = (each.asnumpy().reshape(64 * 16, -1) for each in (out, mask))
        assert flags.dtype == bool
        assert values.dtype == dtype
        assert (flags == flags[:, :1]).all()
        assert (values == np.where(flags, kept, 0)).all()
        assert 0.3 < flags.mean() < 0.5
    with pytest.raises(ValueError, match=r"keep_prob must be in \[0, 1\], got 2"):
        type(form)(2)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_functions_that_drop_channels(axes: int) -> None:
    fn = getattr(ops, f"dropout{axes}d")
    x = Tensor(np.ones((32, 16) + (2,) * axes, np.float32))
    out = fn(x, 0.75).asnumpy().reshape(512, -1)
    assert set(np.unique(out)) == {0, 4}
    assert (out == out[:, :1]).all()
    assert 0.65 < (out == 0).mean() < 0.85
    assert (fn(x, 0.75, False).asnumpy() == 1).all()
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\]"):
        fn(x, 1.5)


@pytest.mark.parametrize(
    ("draw", "means", "deviations"),
    [
        (lambda: ops.random_gamma((N,), RATES), (2, 6), (2**0.5, 6**0.5)),
        (lambda: ops.RandomGamma(3)((N,), RATES), (2, 6), (2**0.5, 6**0.5)),
        (lambda: ops.gamma((N,), RATES, Tensor(2.0)), (1, 3), (0.5**0.5, 1.5**0.5)),
        (lambda: ops.random_poisson((N,), RATES), (2, 6), (2**0.5, 6**0.5)),
        (lambda: ops.poisson((N,), RATES), (2, 6), (2**0.5, 6**0.5)),
        (lambda: ops.laplace((N, 2), RATES, Tensor(0.5)), (2, 6), (0.5**0.5, 0.5**0.5)),
        (lambda: ops.StandardLaplace(1, 2)((N, 2)), (0, 0), (2**0.5, 2**0.5)),
    ],
)
def test_distributions(draw: Any, means: Any, deviations: Any) -> None:
    found = draw().asnumpy()
    assert found.shape == (N, 2)
    np.testing.assert_allclose(found.mean(0), means, atol=0.2)
    np.testing.assert_allclose(found.std(0), deviations, rtol=0.1)


def test_candidates() -> None:
    true = Tensor(np.array([[1, 7], [0, 4]], np.int64))
    for unique in (True, False):
        drawn, of_true, of_drawn = ops.LogUniformCandidateSampler(2, 5, unique, 8)(true)
        assert drawn.dtype == true.dtype
        assert (drawn.shape, of_true.shape, of_drawn.shape) == ((5,), (2, 2), (5,))
        chances = np.log1p(1 / np.arange(1, 9)) / np.log(9)
        wanted = 1 - (1 - chances) ** 5 if unique else 5 * chances
        np.testing.assert_allclose(of_true.asnumpy(), wanted[true.asnumpy()], 1e-5)
        np.testing.assert_allclose(of_drawn.asnumpy(), wanted[drawn.asnumpy()], 1e-5)
        assert not unique or len(set(drawn.asnumpy().tolist())) == 5
    drawn, _, _ = ops.uniform_candidate_sampler(true, 2, 4, True, 8, remove_accidental_hits=True)
    assert not set(drawn.asnumpy().tolist()) & {0, 1, 4, 7}
    with pytest.raises(ValueError, match="num_sampled=9 of 8 classes cannot be drawn"):
        ops.uniform_candidate_sampler(true, 2, 9, True, 8)
    with pytest.raises(ValueError, match=r"true_classes must be of shape \(n, num_true=1\)"):
        ops.UniformCandidateSampler(1, 2, True, 8)(true)
