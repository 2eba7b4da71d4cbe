"""TimeDistributed: a layer at each step."""

from __future__ import annotations

import numpy as np
import pytest

from paramesh import Tensor, nn, ops
from type_checks import wrong

X = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)


@pytest.mark.parametrize(("time", "other"), [(1, 0), (1, -1), (0, 1), (-2, 0), (2, 0), (0, -1)])
def test_at_once_as_step_by_step(time: int, other: int) -> None:
    steps = nn.TimeDistributed(ops.Tanh(), time)(Tensor(X))
    once = nn.TimeDistributed(ops.Tanh(), time, other)(Tensor(X))
    np.testing.assert_allclose(steps.asnumpy(), np.tanh(X), rtol=1e-6)
    assert sorted(once.asnumpy().ravel()) == sorted(steps.asnumpy().ravel())


def test_a_layer_with_parameters() -> None:
    dense = nn.Dense(4, 2)
    out = nn.TimeDistributed(dense, 1, 0)(Tensor(X))
    np.testing.assert_allclose(out.asnumpy(), dense(Tensor(X)).asnumpy(), rtol=1e-5, atol=1e-6)


def test_refusals() -> None:
    with pytest.raises(TypeError, match="layer must be a Cell or an operator, got function"):
        nn.TimeDistributed(lambda x: x, 1)
    with pytest.raises(TypeError, match="time_axis must be an int, got 1.5"):
        nn.TimeDistributed(nn.ReLU(), wrong(1.5))
    with pytest.raises(TypeError, match="takes a Tensor, got list"):
        nn.TimeDistributed(nn.ReLU(), 1)(wrong([1.0]))
    with pytest.raises(ValueError, match="three axes or more, got"):
        nn.TimeDistributed(nn.ReLU(), 1)(Tensor(X[0]))
    with pytest.raises(ValueError, match="Leave reshape_with_axis out"):
        nn.TimeDistributed(nn.Dense(12, 5), 1, 2)(Tensor(X))
