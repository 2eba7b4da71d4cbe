"""Schedules as lists and as Cells, against the recorded values."""

from __future__ import annotations

import builtins

import numpy as np
import optax
import pytest

from optimizer_cases import GOLDEN, close, make
from paramesh import context, optim
from paramesh.dtype import int32
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor

LISTS = GOLDEN["dynamic_lr_lists"]
CELLS = GOLDEN["lr_schedule_cells"]

_SAYS = {
    "nn.piecewise_constant_lr([2], [0.1, 0.2])": "must be equally long, got 1 and 2",
    "nn.cosine_decay_lr(0.1, 0.01, 8, 2, 3)": "min_lr must be below max_lr",
    "nn.exponential_decay_lr(-0.1, 0.9, 8, 2, 1)": "learning_rate must be above 0, got -0.1",
    "nn.exponential_decay_lr(1, 0.9, 8, 2, 1)": "learning_rate must be a float, got int",
    "nn.warmup_lr(0.1, 8, 2, 0)": "warmup_epoch must be at least 1, got 0",
}


@pytest.mark.parametrize("expr", LISTS)
def test_lists(expr: str) -> None:
    record = LISTS[expr]
    if "error" in record:
        with pytest.raises(getattr(builtins, record["error"]), match=_SAYS[expr]):
            make(expr, None)
        return
    rates = make(expr, None)
    assert isinstance(rates, list)
    assert rates == pytest.approx(record["values"], rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("expr", CELLS)
def test_cells(expr: str) -> None:
    schedule = make(expr, None)
    steps = np.array(CELLS[expr]["steps"], np.int32)
    # A schedule is elementwise, so that one call does for all steps.
    rates = schedule(Tensor(steps))
    assert rates.dtype.long_name == "float32"
    np.testing.assert_allclose(rates.asnumpy(), CELLS[expr]["values"], rtol=2e-6, atol=1e-8)
    assert "=" in repr(schedule)


def test_cells_take_a_step_of_any_kind() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    schedule = optim.WarmUpLR(0.1, 4)
    for step in (2, Tensor(2, int32), Tensor(np.array([2], np.int32))):
        rate = schedule(step)
        close(rate.asnumpy(), 0.05 * np.ones(np.shape(step)))


@pytest.mark.parametrize(
    ("expr", "error", "says"),
    [
        ("nn.ExponentialDecayLR(1, 0.9, 4)", TypeError, "learning_rate must be a float, got int"),
        ("nn.ExponentialDecayLR(0.1, 0.9, 4.0)", TypeError, "decay_steps must be an int"),
        ("nn.ExponentialDecayLR(0.1, 0.9, 0)", ValueError, "decay_steps must be at least 1"),
        ("nn.NaturalExpDecayLR(0.1, 0.0, 4)", ValueError, "decay_rate must be above 0"),
        ("nn.InverseDecayLR(0.1, 0.9, 4, 1)", TypeError, "is_stair must be True or False"),
        ("nn.CosineDecayLR(0.1, 0.1, 4)", ValueError, "min_lr must be below max_lr"),
        ("nn.PolynomialDecayLR(0.1, -0.1, 4, 1.0)", ValueError, "end_learning_rate must be at"),
        ("nn.PolynomialDecayLR(0.1, 0.01, 4, 0.0)", ValueError, "power must be above 0"),
        ("nn.WarmUpLR(float('inf'), 4)", ValueError, "learning_rate must be above 0, got inf"),
        ("nn.piecewise_constant_lr([], [])", ValueError, "milestone is empty"),
        ("nn.piecewise_constant_lr([4, 2], [0.1, 0.2])", ValueError, r"milestone\[1\] must not"),
        ("nn.piecewise_constant_lr(3, [0.2])", TypeError, "milestone must be a list, got int"),
        ("nn.LearningRateSchedule()(1)", NotImplementedError, r"has no construct\(self, global_"),
    ],
)
def test_arguments_are_checked(expr: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make(expr, None)


def _moved(optimizer, param) -> float:
    before = param.asnumpy()
    optimizer((Tensor(np.ones(2, np.float32)),))
    return float((before - param.asnumpy())[0])


def _param() -> Parameter:
    return Parameter(Tensor(np.zeros(2, np.float32)), name="w")


def test_a_schedule_of_ones_own_and_one_of_optax() -> None:
    class HalfEvery(optim.LearningRateSchedule):
        def __init__(self, start, steps):
            super().__init__()
            self.start, self.steps = start, steps

        def construct(self, global_step):
            return self.start * 0.5 ** (global_step // self.steps)

    theirs = optax.exponential_decay(1.0, 2, 0.5, staircase=True)
    for rate in (HalfEvery(1.0, 2), theirs):
        w = _param()
        optimizer = optim.SGD([w], rate)
        assert [_moved(optimizer, w) for _ in range(4)] == pytest.approx([1.0, 1.0, 0.5, 0.5])
        assert optimizer._compiled.traces == 1
        assert not optimizer._cells["learning_rate"].parameters_dict()


def test_a_rate_tensor_is_copied() -> None:
    w, rate = _param(), Tensor(0.5)
    optimizer = optim.SGD([w], rate)
    rate[...] = 0.25
    assert optimizer.learning_rate.asnumpy() == 0.5
    assert optimizer.learning_rate.name == "learning_rate"
