"""The losses and Parameters of one device over 20 steps of data_parallel; rates between steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import compiled_programs
import paramesh
from paramesh import Tensor, context, nn, ops
from sharded_networks import (
    DIGITS,
    IMAGES,
    TEXT,
    X,
    Y,
    assert_same,
    lenet_step,
    mlp_step,
    run,
    transformer_step,
)

NETWORKS: dict[str, tuple[Any, ...]] = {
    "mlp": (mlp_step, X, Y),
    "lenet": (lenet_step, IMAGES, DIGITS),
    "transformer": (transformer_step, TEXT, TEXT),
}
FOUR = {"device_num": 4}
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def on_one_device() -> dict[str, Any]:
    """What each network does on one device, once it was asked for."""
    return {}


@pytest.mark.parametrize("split", [False, True], ids=["whole", "parallel_optimizer"])
@pytest.mark.parametrize(
    ("network", "devices"),
    [
        ("mlp", 1),
        ("mlp", 2),
        ("mlp", 4),
        ("lenet", 4),
        ("transformer", 4),
        *(
            pytest.param(network, devices, marks=slow)
            for network, devices in [
                ("mlp", 8),
                *((name, n) for name in ("lenet", "transformer") for n in (1, 2, 8)),
            ]
        ),
    ],
)
def test_the_same_as_on_one_device(
    network: str, devices: int, split: bool, on_one_device: dict[str, Any]
) -> None:
    make, *inputs = NETWORKS[network]
    if network not in on_one_device:
        on_one_device[network] = run(make, (), *inputs)[:2]
    context.set_auto_parallel_context(
        parallel_mode="data_parallel",
        device_num=devices,
        gradients_mean=True,
        enable_parallel_optimizer=split,
    )
    *here, step = run(make, (), *inputs)
    assert_same(here, on_one_device[network])
    assert step._program().traces == 1
    if (network, devices) in (("mlp", 4), ("lenet", 2), ("transformer", 2)) and not split:
        text = compiled_programs.text_of(step, *inputs)
        trained = sum(param.size for param in step.weights)
        gradients = [n for n in compiled_programs.sizes(text, "all-reduce") if n > 1]
        assert len(gradients) < len(step.weights)
        assert sum(gradients) == trained


MODES: dict[str, dict[str, Any]] = {
    "stand_alone": {},
    "data_parallel": {"gradients_mean": True},
    "full_batch": {"parallel_mode": "data_parallel", "gradients_mean": True, "full_batch": True},
    "semi_auto_parallel": {},
    "auto_parallel": {"search_mode": "sharding_propagation"},
}


@pytest.mark.parametrize("execution", [context.GRAPH_MODE, context.PYNATIVE_MODE])
@pytest.mark.parametrize("mode", MODES)
def test_rates_are_asked_for_outside_of_a_step(mode: str, execution: int) -> None:
    """The step, of shape (1,), is no batch."""
    context.set_context(mode=execution)
    settings = {"parallel_mode": mode} | MODES[mode]
    context.set_auto_parallel_context(**settings, **({} if mode == "stand_alone" else FOUR))
    layer = nn.Dense(8, 4)
    schedule = nn.ExponentialDecayLR(0.5, 0.25, 2)
    optimizer = nn.AdamWeightDecay(layer.trainable_params(), schedule, weight_decay=schedule)
    step = nn.TrainOneStepCell(nn.WithLossCell(layer, nn.MSELoss()), optimizer)
    for done in range(3):
        expected = np.float32(0.5 * 0.25 ** (done / 2))
        for found in (optimizer.get_lr(), optimizer.get_weight_decay()):
            assert found.shape == ()
            np.testing.assert_allclose(found.asnumpy(), expected, rtol=1e-6)
        paramesh.jit(step)(Tensor(X[:4]), Tensor(np.zeros((4, 4), np.float32)))


def test_two_optimizers_of_one_schedule_are_at_their_own_steps() -> None:
    schedule = nn.ExponentialDecayLR(0.5, 0.25, 1)
    params = [nn.Dense(2, 2).trainable_params() for _ in range(2)]
    first, second = (nn.SGD(ps, schedule) for ps in params)
    first(tuple(ops.zeros_like(p) for p in params[0]))
    assert [float(o.get_lr().asnumpy()) for o in (first, second)] == [0.125, 0.5]
