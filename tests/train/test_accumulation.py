"""Gradient accumulation: the numbers of the full batch from several micro-batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, nn
from paramesh.train.cells import TrainOneStepCell, WithLossCell

X = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)


def train(steps: int = 3, dtype: Any = None) -> tuple[list[float], list[Any]]:
    paramesh.set_seed(1)
    net = nn.SequentialCell(nn.Dense(4, 6, weight_init="normal"), nn.Tanh(), nn.Dense(6, 4))
    if dtype is not None:
        net.to_float(dtype)
    momentum = nn.Momentum(net.trainable_params(), 0.1, 0.9)
    step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), momentum)
    losses = [float(step(Tensor(X), Tensor(X * 0.5))) for _ in range(steps)]
    return losses, [param.asnumpy() for param in step.get_parameters()]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"parallel_mode": "data_parallel", "device_num": 4, "gradients_mean": True},
        {"parallel_mode": "semi_auto_parallel", "device_num": 4},
    ],
    ids=lambda settings: settings.get("parallel_mode", "stand_alone"),
)
def test_the_same_as_the_full_batch(settings: dict[str, Any]) -> None:
    losses, values = train()
    context.set_auto_parallel_context(grad_accumulation_step=4, **settings)
    found, here = train()
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for value, expected in zip(here, values, strict=True):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-6)


def test_16_bit_gradients_are_added_up_in_32() -> None:
    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.w = Parameter(Tensor(np.zeros(1, np.float16)))

        def construct(self, x: Any) -> Any:
            return (x * self.w).sum()

    context.set_auto_parallel_context(grad_accumulation_step=4)
    net = Net()
    # In Float16, 2048 + 1 is 2048.
    x = Tensor(np.array([2048, 1, 1, 1], np.float16))
    TrainOneStepCell(net, nn.SGD(net.trainable_params(), 1.0))(x)
    assert net.w.asnumpy()[0] == np.float16(-2051 / 4)


def test_what_is_written_in_every_micro_batch_stays() -> None:
    class Net(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.w = Parameter(Tensor(np.ones(1, np.float32)))
            self.rows = Parameter(Tensor(np.zeros((), np.float32)), requires_grad=False)

        def construct(self, x: Any, factor: Any) -> Any:
            self.rows.assign(self.rows + x.shape[0])
            return (x * self.w * factor).mean()

    context.set_auto_parallel_context(grad_accumulation_step=8)
    net = Net()
    TrainOneStepCell(net, nn.SGD(net.trainable_params(), 1.0))(Tensor(X), Tensor(2.0))
    assert float(net.rows) == 16
    np.testing.assert_allclose(net.w.asnumpy(), 1 - 2 * X.mean(), rtol=1e-5)


def test_a_batch_that_cannot_be_split() -> None:
    context.set_auto_parallel_context(grad_accumulation_step=5)
    with pytest.raises(ValueError, match=r"grad_accumulation_step=5 does not divide .*\(16, 4\)"):
        train(1)


def test_a_loss_with_axes() -> None:
    context.set_auto_parallel_context(grad_accumulation_step=4)
    net = nn.Dense(4, 4)
    step = TrainOneStepCell(
        WithLossCell(net, nn.MSELoss(reduction="none")), nn.SGD(net.trainable_params(), 0.1)
    )
    with pytest.raises(ValueError, match=r"its loss has shape \(4, 4\).*reduction='mean'"):
        step(Tensor(X), Tensor(X))


@pytest.mark.parametrize("value", [0, 65537, True, 2.0])
def test_a_setting_that_cannot_be(value: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="grad_accumulation_step"):
        context.set_auto_parallel_context(grad_accumulation_step=value)
