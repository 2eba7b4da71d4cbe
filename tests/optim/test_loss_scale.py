"""Loss scales: the manager and its Cell make the same moves, those that MindSpore makes."""

from __future__ import annotations

import pytest

from paramesh import optim
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor
from paramesh.transforms import jit
from type_checks import present, wrong

OVERFLOWS = [0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]
# From 16, factor 2, window 3.
SCALES = [16, 16, 32, 32, 32, 16, 16, 16, 8, 4, 4, 4, 8, 8, 8, 16, 8, 4, 2, 1, 1, 1]


def test_the_manager() -> None:
    manager = optim.DynamicLossScaleManager(16, 2, 3)
    found = []
    for overflow in OVERFLOWS:
        manager.update_loss_scale(bool(overflow))
        found.append(manager.get_loss_scale())
    assert found == SCALES
    assert manager.get_drop_overflow_update()


def test_the_cell() -> None:
    cell = optim.DynamicLossScaleManager(16, 2, 3).get_update_cell()
    names = [(p.name, p.shape, str(p.dtype)) for p in cell.get_parameters()]
    assert names == [
        ("current_iterator_step", (), "Int32"),
        ("last_overflow_iterator_step", (), "Int32"),
    ]
    assert cell.get_loss_scale() == 16
    scale = Parameter(16.0, name="scale_sense")

    @jit
    def step(overflow):
        return cell(scale, overflow)

    found = []
    for overflow in OVERFLOWS:
        assert bool(step(Tensor(bool(overflow)))) == bool(overflow)
        found.append(float(scale.asnumpy()))
    assert found == SCALES
    assert step.traces == 1


def test_a_scale_that_stays() -> None:
    manager = optim.FixedLossScaleManager()
    manager.update_loss_scale(True)
    assert manager.get_loss_scale() == 128.0
    cell = present(manager.get_update_cell())
    assert bool(cell(Tensor(8.0), Tensor(True)))
    assert cell.get_loss_scale() == 128.0
    assert optim.FixedLossScaleManager(4.0, False).get_update_cell() is None
    assert not optim.FixedLossScaleManager(4.0, False).get_drop_overflow_update()


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: optim.FixedLossScaleManager(0.5), ValueError, "loss_scale must be at least 1"),
        (
            lambda: optim.FixedLossScaleManager(2.0, wrong(1)),
            TypeError,
            "drop_overflow_update must be",
        ),
        (lambda: optim.DynamicLossScaleManager(0.5), ValueError, "init_loss_scale must be at le"),
        (lambda: optim.DynamicLossScaleManager(2.0, 0), ValueError, "scale_factor must be above"),
        (lambda: optim.DynamicLossScaleManager(2.0, 2, 0), ValueError, "scale_window must be at"),
        (
            lambda: optim.DynamicLossScaleManager(2.0, 2, wrong(1.5)),
            TypeError,
            "scale_window must be an",
        ),
        (
            lambda: optim.DynamicLossScaleUpdateCell(8, 2, 3)(Tensor(8.0), Tensor(True)),
            TypeError,
            "writes loss_scale: give a Parameter, got Tensor",
        ),
        (lambda: optim.LossScaleManager().get_loss_scale(), NotImplementedError, "has no get_loss"),
    ],
)
def test_mistakes(make, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()
