"""Normalizations keep the digits of values whose mean is large beside their deviation."""

from __future__ import annotations

import numpy as np

import paramesh as ms
from paramesh import Tensor, ops


def test_batch_norm_of_a_large_mean_is_as_exact_as_the_values() -> None:
    random = np.random.default_rng(0)
    images = (1024 + random.normal(0, 1, (4, 3, 5, 5))).astype(np.float32)
    slopes = random.normal(0, 1, images.shape).astype(np.float32)
    mean, one, zero = (Tensor(np.full(3, v, np.float32)) for v in (1024, 1, 0))
    exact = (images.astype(np.float64) - 1024) / np.sqrt(1 + 1e-5)

    def scored(weight: Tensor) -> Tensor:
        return (ops.batch_norm(Tensor(images), mean, one, weight, zero) * Tensor(slopes)).sum()

    out = ops.batch_norm(Tensor(images), mean, one, one, zero)
    np.testing.assert_allclose(out.asnumpy(), exact, atol=1e-6)
    gradient = ms.grad(scored)(one).asnumpy()
    np.testing.assert_allclose(gradient, (exact * slopes).sum((0, 2, 3)), rtol=1e-5)
