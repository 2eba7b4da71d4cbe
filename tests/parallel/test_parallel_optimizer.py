"""The parallel optimizer in data_parallel: each device keeps and updates a part."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Parameter, Tensor, context, nn
from paramesh.errors import ContextError
from paramesh.parallel.split_state import SplitState
from paramesh.train.cells import TrainOneStepCell, WithLossCell

X = np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)
OPTIMIZERS = {
    "Adam": lambda params: nn.Adam(params, 0.01, weight_decay=0.1),
    "Momentum": lambda params: nn.Momentum(params, 0.1, 0.9),
    "AdamWeightDecay": lambda params: nn.AdamWeightDecay(params, 0.01, weight_decay=0.1),
    "SGD": lambda params: nn.SGD(params, 0.1),
}


def parallel(devices: int, split: bool = True, **settings: Any) -> None:
    context.set_auto_parallel_context(
        parallel_mode="data_parallel",
        device_num=devices,
        gradients_mean=True,
        enable_parallel_optimizer=split,
        **settings,
    )


def training(name: str = "Adam") -> TrainOneStepCell:
    """A network whose Parameters no number of devices divides."""
    paramesh.set_seed(1)
    net = nn.SequentialCell(nn.Dense(6, 5), nn.Tanh(), nn.Dense(5, 3), nn.Tanh(), nn.Dense(3, 6))
    return TrainOneStepCell(
        WithLossCell(net, nn.MSELoss()), OPTIMIZERS[name](net.trainable_params())
    )


def run(step: TrainOneStepCell, steps: int = 3) -> list[float]:
    return [float(step(Tensor(X), Tensor(np.tanh(X)))) for _ in range(steps)]


def values(step: TrainOneStepCell) -> dict[str, np.ndarray]:
    return {name: p.asnumpy() for name, p in step.parameters_dict().items()}


def program(step: TrainOneStepCell) -> tuple[Any, str]:
    """The compiled step and its text."""
    entry = step._compiled.trace(Tensor(X), Tensor(X))  # type: ignore[attr-defined]
    donated = [p._concrete() for p in entry.donated]
    kept = [p._concrete() for p in entry.kept]
    leaves = context and paramesh.placement.current().place_inputs([X, X])
    return entry, entry.program.lower(donated, kept, leaves).compile().as_text()


def count(text: str, collective: str) -> int:
    return len(re.findall(rf"= \S+ {collective}(?:-start)?\(", text))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_same_as_without(name: str) -> None:
    step = training(name)
    losses, wanted = run(step), values(step)
    parallel(4)
    step = training(name)
    np.testing.assert_allclose(run(step), losses, rtol=1e-5)
    for key, value in values(step).items():
        np.testing.assert_allclose(value, wanted[key], rtol=1e-4, atol=1e-6, err_msg=key)
