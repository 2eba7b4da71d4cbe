"""data_parallel over 20 steps: the losses and Parameters of one device, for three networks."""

from __future__ import annotations

from typing import Any

import pytest

import compiled_programs
from paramesh import context
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
