"""Plans that were found, executed: from the same numbers to the same numbers as on one device."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn
from paramesh.parallel.modes import auto
from paramesh.train import TrainOneStepCell, WithLossCell
from search_cases import FAST
from searched_networks import NETWORKS, batch_of, step_of

STEPS = 50
#: Those that every run of the tests has.
QUICK = ("MLP", "wide and deep")

Values = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(autouse=True)
def _fast_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices for which small tensors are worth cutting."""
    monkeypatch.setattr(auto, "target_of", lambda platform, kind: FAST)


def trained(name: str) -> tuple[Values, list[float], Values, Any]:
    """The first numbers, the losses, the last numbers, and the step."""
    paramesh.set_seed(1)
    step, batch = step_of(name), batch_of(name)
    step.set_train()
    step.compile(*batch)
    step.init_parameters_data()
    first = {n: p.asnumpy().copy() for n, p in step.parameters_dict().items()}
    losses = [float(step(*batch)) for _ in range(STEPS)]
    last = {n: p.asnumpy() for n, p in step.parameters_dict().items()}
    return first, losses, last, step


def assert_same_values(name: str) -> None:
    first, losses, last, _ = trained(name)
    context.set_auto_parallel_context(
        parallel_mode="auto_parallel", device_num=8, dataset_strategy="full_batch"
    )
    got_first, got_losses, got_last, step = trained(name)
    rows = step.layout_table().rows
    assert any(max(row.parts, default=1) > 1 for row in rows), "nothing is cut"
    for own, value in first.items():
        np.testing.assert_array_equal(got_first[own], value, err_msg=own)
    np.testing.assert_allclose(got_losses, losses, rtol=1e-6)
    for own, value in last.items():
        scale = float(np.abs(value).max(initial=1.0))
        np.testing.assert_allclose(got_last[own], value, rtol=0, atol=1e-6 * scale, err_msg=own)


@pytest.mark.parametrize("name", QUICK)
def test_a_plan_computes_what_one_device_computes(name: str) -> None:
    assert_same_values(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(QUICK)))
def test_plans_of_more_networks_compute_what_one_device_computes(name: str) -> None:
    assert_same_values(name)


def dropped(rows: int) -> tuple[Any, np.ndarray[Any, Any]]:
    """A step with dropout, whose mask has (rows, 256) numbers, and its batch."""
    net = nn.SequentialCell(nn.Dense(64, 256), nn.Dropout(p=0.5), nn.ReLU(), nn.Dense(256, 64))
    rule = nn.Momentum(net.trainable_params(), 0.1, 0.9)
    step = TrainOneStepCell(WithLossCell(net, nn.MSELoss()), rule).set_train()
    return step, np.ones((rows, 64), np.float32)


def test_random_numbers_are_made_shard_by_shard_and_are_those_of_one_device() -> None:
    losses: list[list[float]] = []
    for mode in ("stand_alone", "auto_parallel"):
        paramesh.set_seed(1)
        context.set_auto_parallel_context(parallel_mode=mode, dataset_strategy="full_batch")
        step, x = dropped(512)
        losses.append([float(step(Tensor(x), Tensor(x))) for _ in range(3)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    plan = paramesh.plan(step, x, x, target="cpu:8")
    assert "random_bits" not in plan.search.kept_whole()
    text = plan.as_text()
    assert "u32[512,32]" in text
    assert "u32[512,256]" not in text
