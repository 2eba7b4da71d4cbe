"""enable_parallel_optimizer in data_parallel: the same training with divided optimizer state."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn
from paramesh.checkpoint import load_checkpoint, save_checkpoint
from paramesh.parallel.modes.parallel_optimizer import SplitState
from paramesh.state import placement
from paramesh.train.cells import (
    TrainOneStepCell,
    TrainOneStepWithLossScaleCell,
    WithLossCell,
)

X = np.random.default_rng(0).normal(size=(16, 4)).astype(np.float32)
#: Eleven small Parameters, of odd sizes too; one of more elements than may lie in a flat array.
SIZES = (4, 7, 5, 4, 3, 4)
OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "Adam": lambda params: nn.Adam(params, 0.01),
    "AdamWeightDecay": lambda params: nn.AdamWeightDecay(params, 0.01, weight_decay=0.1),
    "Momentum": lambda params: nn.Momentum(params, 0.1, 0.9),
    "RMSProp": lambda params: nn.RMSProp(params, 0.01, centered=True),
    "Adagrad": lambda params: nn.Adagrad(params, 0.1, 0.1),
    "FTRL": lambda params: nn.FTRL(params, learning_rate=0.1),
}


def network() -> Any:
    paramesh.set_seed(1)
    layers = [
        cell
        for n, m in itertools.pairwise(SIZES)
        for cell in (nn.Dense(n, m, weight_init="normal"), nn.Tanh())
    ]
    return nn.SequentialCell(*layers)


def training(make: Callable[[Any], Any]) -> Any:
    net = network()
    return TrainOneStepCell(WithLossCell(net, nn.MSELoss()), make(net.trainable_params()))


def run(step: Any, steps: int = 4) -> list[float]:
    return [float(step(Tensor(X), Tensor(X * 0.5))) for _ in range(steps)]


def divide(devices: int = 8, **settings: Any) -> None:
    context.set_auto_parallel_context(
        parallel_mode="data_parallel",
        device_num=devices,
        gradients_mean=True,
        enable_parallel_optimizer=True,
        **settings,
    )


def values(step: Any) -> dict[str, Any]:
    return {name: param.asnumpy() for name, param in step.parameters_dict().items()}


def states(step: Any) -> list[SplitState]:
    found = (param._slot for param in step.get_parameters() if param._slot is not None)
    return list({slot.pool: None for slot in found if isinstance(slot.pool, SplitState)})


@pytest.mark.parametrize(
    ("name", "flat"),
    [
        ("Adam", "auto"),
        ("Momentum", "never"),
        *(
            pytest.param(name, "auto", marks=pytest.mark.slow)
            for name in OPTIMIZERS
            if name != "Adam"
        ),
    ],
)
def test_the_same_as_on_one_device(name: str, flat: str) -> None:
    context.set_context(flat_parameters=flat)
    alone = training(OPTIMIZERS[name])
    losses = run(alone)
    divide()
    step = training(OPTIMIZERS[name])
    np.testing.assert_allclose(run(step), losses, rtol=1e-5)
    # Gradients are added in another order, which Adam's first steps blow up where they are tiny.
    for key, value in values(alone).items():
        np.testing.assert_allclose(values(step)[key], value, rtol=2e-4, atol=2e-6, err_msg=key)


@pytest.mark.parametrize("flat", ["auto", "never"])
def test_what_is_frozen_stays_where_state_is_divided(flat: str) -> None:
    context.set_context(flat_parameters=flat)
    divide()
    step = training(OPTIMIZERS["Adam"])
    run(step, 1)
    frozen = step.optimizer.parameters[:3]
    for param in frozen:
        param.requires_grad = False
    names = tuple(f".{p.name}" for p in frozen)
    before = values(step)
    run(step, 1)
    assert states(step)
    stays = [n for n, value in values(step).items() if np.array_equal(value, before[n])]
    mine = [n for n in before if f".{n}".endswith(names)]
    assert len(mine) == 9  # and two moments of each
    assert set(mine) <= set(stays)
    assert not [n for n in stays if n.startswith(("moment1.", "moment2.")) and n not in mine]


def test_no_device_has_all_of_the_state() -> None:
    divide()
    step = training(OPTIMIZERS["Adam"])
    run(step, 1)
    pools = states(step)
    trained = sum(p.size for p in step.optimizer.parameters)
    assert sum(pool.divider.size for pool in pools) == 2 * trained
    for pool in pools:
        shards = pool._value.addressable_shards
        assert len(shards) == 8
        assert {shard.data.size for shard in shards} == {-(-pool.divider.size // 8)}


def test_the_compiled_step_meets_for_gradients_and_new_values_alone() -> None:
    divide()
    net = network()
    adam = nn.Adam(net.trainable_params(), 0.01)
    cell = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), adam)
    step = paramesh.jit(lambda x, y: cell(x, y))
    step(Tensor(X), Tensor(X))
    place = placement.current()
    entry = step.trace(Tensor(X), Tensor(X))
    donated = [state._concrete() for state in entry.donated]
    kept = [state._concrete() for state in entry.kept]
    leaves = [*place.place_inputs([X, X]), np.int32(0)]
    text = cast(Any, entry.program).lower(donated, kept, leaves).compile().as_text()
    count = sum(p.size for p in adam.parameters)
    part = -(-count // 8)
    gathers = re.findall(r"= f32\[(\d+)\]\S* all-gather\(", text)
    assert gathers == [str(8 * part)]  # the new values; no state
    signature = text[text.index("entry_computation_layout={(") :].split("->")[0]
    assert signature.count(f"f32[{part}]") == 2  # the moments
    assert signature.count(f"f32[{count}]") == 1  # the weights
    assert f"f32[{8 * part}]" not in signature


def test_a_parameter_that_is_kept_out() -> None:
    divide()
    step = training(OPTIMIZERS["Momentum"])
    kept = step.optimizer.parameters[0]
    kept.parallel_optimizer = False
    run(step, 1)
    moments = {m.name: m for m in step.optimizer.moments}
    inside = {p.name for pool in states(step) for _, p in pool.entries()}
    assert f"moments.{kept.name}" not in inside
    assert len(inside) == len(moments) - 1
    assert moments[f"moments.{kept.name}"]._value.is_fully_replicated


def test_state_is_read_written_saved_and_loaded(tmp_path: Path) -> None:
    divide()
    step = training(OPTIMIZERS["Adam"])
    run(step, 2)
    path = tmp_path / "two.safetensors"
    save_checkpoint(step, path)
    rest = run(step, 2)
    again = training(OPTIMIZERS["Adam"])
    load_checkpoint(path, again)
    assert run(again, 2) == rest
    moment = again.optimizer.moment1[2]
    before = moment.asnumpy()
    moment.set_data(Tensor(before + 1))
    np.testing.assert_array_equal(moment.asnumpy(), before + 1)
    other = again.optimizer.moment1[3].asnumpy()
    run(again, 1)
    assert np.abs(moment.asnumpy() - before).max() > 0.5
    assert np.abs(again.optimizer.moment1[3].asnumpy() - other).max() < 0.5


def test_on_with_one_device_and_back() -> None:
    alone = training(OPTIMIZERS["Adam"])
    losses = run(alone, 6)
    divide()
    step = training(OPTIMIZERS["Adam"])
    found = run(step, 2)
    context.reset_auto_parallel_context()
    found += run(step, 2)
    assert not states(step)
    divide(4)
    found += run(step, 2)
    assert {len(pool.divider.devices) for pool in states(step)} == {4}
    np.testing.assert_allclose(found, losses, rtol=1e-5)


def test_state_inside_a_program() -> None:
    divide()
    step = training(OPTIMIZERS["Momentum"])
    run(step, 1)
    moment = step.optimizer.moments[0]
    before = moment.asnumpy()

    @paramesh.jit
    def double(x: Any) -> Any:
        moment.assign(moment * 2)
        return x

    double(Tensor(X))
    assert states(step)
    np.testing.assert_allclose(moment.asnumpy(), before * 2, rtol=1e-6)


def test_a_step_with_an_overflow_leaves_the_state() -> None:
    divide()
    net = network()
    adam = nn.Adam(net.trainable_params(), 0.01)
    scale = nn.DynamicLossScaleUpdateCell(2.0**10, 2, 1000)
    step = TrainOneStepWithLossScaleCell(WithLossCell(net, nn.MSELoss()), adam, scale)
    step(Tensor(X), Tensor(X))
    before = values(adam)
    _, overflow, _ = step(Tensor(X), Tensor(np.full_like(X, np.inf)))
    assert bool(overflow)
    for name, value in values(adam).items():
        np.testing.assert_array_equal(value, before[name], err_msg=name)


def test_it_is_off_by_itself() -> None:
    context.set_auto_parallel_context(parallel_mode="data_parallel", device_num=8)
    step = training(OPTIMIZERS["Adam"])
    run(step, 1)
    assert not states(step)
