"""Several optimizers in one Cell have names of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import paramesh
from paramesh import Parameter, Tensor, load_checkpoint, nn, save_checkpoint, value_and_grad


class Step(nn.Cell):
    """Trains two Parameters, each with an optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = Parameter(Tensor([1.0, 2.0]), name="a")
        self.b = Parameter(Tensor([3.0]), name="b")
        self.first = nn.Momentum([self.a], 0.1, 0.9)
        self.second = nn.Momentum([self.b], 0.1, 0.9)
        self.gradients = value_and_grad(self.loss, None, [self.a, self.b])

    def loss(self) -> Tensor:
        return (self.a * self.a * self.b).sum()

    def construct(self) -> Any:
        loss, (by_a, by_b) = self.gradients()
        self.first((by_a,))
        self.second((by_b,))
        return loss


@pytest.mark.parametrize("mode", [paramesh.GRAPH_MODE, paramesh.PYNATIVE_MODE])
def test_two_train_and_are_saved(mode: int, tmp_path: Path) -> None:
    paramesh.set_context(mode=mode)
    step = Step()
    assert list(step.parameters_dict()) == [
        *("a", "b", "global_step", "learning_rate", "momentum", "moments.a"),
        *("second.global_step", "second.learning_rate", "second.momentum", "second.moments.b"),
    ]
    step()
    step()
    assert step.second.global_step.asnumpy().tolist() == [2]
    save_checkpoint(step, tmp_path / "two.ckpt")
    fresh = Step()
    load_checkpoint(tmp_path / "two.ckpt", fresh)
    assert float(fresh()) == float(step())
    assert fresh.b.asnumpy() == step.b.asnumpy()


def test_one_in_the_place_of_another_has_its_names() -> None:
    step = Step()
    step.first = nn.Momentum([step.a], 0.1, 0.9)
    assert step.first.global_step.name == "global_step"
