"""Training Cells: gradients, loss scales, overflows, and the seam of the placement."""

from __future__ import annotations

import numpy as np
import pytest

from paramesh import context, nn, optim, placement
from paramesh import dtype as mstype
from paramesh.tensor import Tensor
from paramesh.train import (
    DynamicLossScaleUpdateCell,
    TrainOneStepCell,
    TrainOneStepWithLossScaleCell,
    WithLossCell,
)


def values(cell: nn.Cell) -> list[np.ndarray]:
    return [p.asnumpy() for p in cell.get_parameters()]


def test_a_step_returns_gradients_and_scales_the_loss() -> None:
    net = nn.Dense(2, 1, weight_init="ones", bias_init="zeros")
    x, y = Tensor(np.array([[1.0, 2.0]], np.float32)), Tensor(np.array([[1.0]], np.float32))
    for sens in (1.0, 4.0):
        opt = optim.SGD(net.trainable_params(), 0.0, loss_scale=sens)
        step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), opt, sens, return_grad=True)
        loss, grads = step(x, y)
        assert loss.asnumpy() == 4.0
        assert {n: (g.asnumpy() / sens).tolist() for n, g in grads.items()} == {
            "weight": [[4.0, 8.0]],
            "bias": [4.0],
        }
    with pytest.raises(TypeError, match="optimizer must be an Optimizer, got str"):
        TrainOneStepCell(net, "sgd")


def test_gradients_pass_the_placement(monkeypatch) -> None:
    class Doubling(placement.Placement):
        key = ("doubling",)

        def reduce_gradients(self, params, grads):
            assert [p.name for p in params] == ["weight", "bias"]
            return [2 * g for g in grads]

    doubling = Doubling()
    monkeypatch.setattr(placement, "current", lambda: doubling)
    net = nn.Dense(2, 1, weight_init="ones", bias_init="zeros")
    step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), optim.SGD(net.trainable_params(), 1.0))
    step(Tensor(np.array([[1.0, 2.0]], np.float32)), Tensor(np.array([[1.0]], np.float32)))
    assert net.bias.asnumpy().tolist() == [-8.0]


@pytest.mark.parametrize("mode", [context.GRAPH_MODE, context.PYNATIVE_MODE])
def test_an_overflow_changes_nothing_but_the_scale(mode: int) -> None:
    context.set_context(mode=mode)
    net = nn.Dense(2, 1, weight_init="ones")
    opt = optim.Adam(net.trainable_params(), 0.1)
    step = TrainOneStepWithLossScaleCell(
        WithLossCell(net, nn.MSELoss()), opt, DynamicLossScaleUpdateCell(2.0**10, 2, 1)
    )
    y = Tensor(np.array([[1.0]], np.float32))
    step(Tensor(np.array([[1.0, 2.0]], np.float32)), y)  # one good step
    before = values(opt)
    loss, overflow, scale = step(Tensor(np.array([[1.0, 1e38]], np.float32)), y)
    assert (bool(overflow.asnumpy()), scale.asnumpy()) == (True, 2048)
    assert step.scale_sense.asnumpy() == 1024
    for x, z in zip(before, values(opt), strict=True):
        np.testing.assert_array_equal(x, z)
    loss, overflow, scale = step(Tensor(np.array([[1.0, 2.0]], np.float32)), y)
    assert not overflow.asnumpy()
    assert np.isfinite(loss.asnumpy())
    assert opt.global_step.asnumpy().tolist() == [2]


def test_a_scale_that_stays_is_a_tensor() -> None:
    net = nn.Dense(2, 1)
    opt = optim.SGD(net.trainable_params(), 0.1)
    step = TrainOneStepWithLossScaleCell(
        WithLossCell(net, nn.MSELoss()), opt, Tensor([8.0], mstype.float32)
    )
    x, y = Tensor(np.ones((1, 2), np.float32)), Tensor(np.ones((1, 1), np.float32))
    assert step(x, y)[2].asnumpy() == 8
    step.set_sense_scale(Tensor([16.0], mstype.float32))
    assert step(x, y)[2].asnumpy() == 16
    with pytest.raises(ValueError, match="A loss scale has one element"):
        step.set_sense_scale(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError, match="scale_sense must be an update Cell or a Tensor"):
        TrainOneStepWithLossScaleCell(net, opt, 3.0)
