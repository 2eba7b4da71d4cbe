"""Properties of optimizers over drawn shapes, groups and numbers (eager: nothing is compiled)."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from paramesh import context, optim
from paramesh.parameter import Parameter
from paramesh.tensor import Tensor

SHAPE = (2, 3)
MAKE = {
    "Momentum": lambda p, **rest: optim.Momentum(p, 0.1, 0.9, weight_decay=0.01, **rest),
    "Adam": lambda p, **rest: optim.Adam(p, 0.05, weight_decay=0.01, **rest),
    "RMSProp": lambda p, **rest: optim.RMSProp(p, 0.05, momentum=0.5, **rest),
}


@pytest.fixture(autouse=True)
def _pynative() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)


def _params(values: np.ndarray) -> list[Parameter]:
    return [Parameter(Tensor(v), name=f"p{i}") for i, v in enumerate(values)]


def _train(optimizer, params, grads, scale=1.0) -> np.ndarray:
    index = {id(p): i for i, p in enumerate(params)}
    for step in grads:
        given = [Tensor(step[index[id(p)]] * np.float32(scale)) for p in optimizer.parameters]
        optimizer(tuple(given))
    return np.stack([p.asnumpy() for p in params])


@given(
    kind=st.sampled_from(sorted(MAKE)),
    seed=st.integers(0, 2**16),
    group_of=st.lists(st.integers(0, 2), min_size=1, max_size=5),
    ordered=st.booleans(),
)
@settings(max_examples=15)
def test_grouping_changes_nothing_by_itself(kind, seed, group_of, ordered) -> None:
    numbers = np.random.RandomState(seed)
    n = len(group_of)
    values = numbers.normal(size=(n, *SHAPE)).astype(np.float32)
    grads = numbers.normal(size=(2, n, *SHAPE)).astype(np.float32)
    plain = _params(values)
    expected = _train(MAKE[kind](plain), plain, grads)
    grouped = _params(values)
    groups = [
        {"params": [p for p, g in zip(grouped, group_of, strict=True) if g == i]}
        for i in sorted(set(group_of))
    ]
    if ordered:
        groups.append({"order_params": grouped})
    found = _train(MAKE[kind](groups), grouped, grads)
    np.testing.assert_array_equal(found, expected)


@given(kind=st.sampled_from(sorted(MAKE)), seed=st.integers(0, 2**16), power=st.integers(0, 16))
@settings(max_examples=15)
def test_a_power_of_two_as_loss_scale_changes_no_bit(kind, seed, power) -> None:
    numbers = np.random.RandomState(seed)
    values = numbers.normal(size=(2, *SHAPE)).astype(np.float32)
    grads = numbers.normal(size=(2, 2, *SHAPE)).astype(np.float32)
    plain, scaled = _params(values), _params(values)
    expected = _train(MAKE[kind](plain), plain, grads)
    found = _train(MAKE[kind](scaled, loss_scale=2.0**power), scaled, grads, 2.0**power)
    np.testing.assert_array_equal(found, expected)


@given(
    boundaries=st.lists(st.integers(1, 30), min_size=1, max_size=5, unique=True).map(sorted),
    seed=st.integers(0, 2**16),
)
@settings(max_examples=25)
def test_piecewise_rates_are_as_long_as_the_last_milestone(boundaries, seed) -> None:
    rates = np.random.RandomState(seed).uniform(0.01, 1, len(boundaries)).tolist()
    found = optim.piecewise_constant_lr(boundaries, rates)
    assert len(found) == boundaries[-1]
    for step, rate in enumerate(found):
        first = next(i for i, end in enumerate(boundaries) if step < end)
        assert rate == rates[first]
