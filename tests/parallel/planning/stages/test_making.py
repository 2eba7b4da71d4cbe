"""Plans of steps with pipeline stages, and their programs: on devices of the CPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Tensor, context, nn
from paramesh.errors import ContextError
from paramesh.parallel.pipeline import loop_run
from paramesh.parallel.planning import PipelinePlan
from paramesh.parallel.planning.stages.costs import timing_of
from paramesh.train import TrainOneStepCell
from pipeline_networks import MLP, WIDTH, step_of, with_stages

ROWS, MICRO_BATCHES = 32, 8
X = Tensor(np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float32))
#: A value between layers, of one micro-batch, where it is replicated in a stage.
VALUE = ROWS // MICRO_BATCHES * WIDTH * 4


def stepping(scheduler: str = "1f1b") -> TrainOneStepCell:
    with_stages(2, "auto_parallel", pipeline_config={"pipeline_scheduler": scheduler})
    return step_of(MLP(0, 1), nn.MSELoss(), MICRO_BATCHES)


@pytest.fixture(autouse=True)
def _no_figures_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("PARAMESH_TARGETS", str(tmp_path))
    yield
    context.reset()


def test_each_stage_is_planned() -> None:
    step = stepping()
    plan = paramesh.plan_stages(step, X, X, target="cpu:8", memory="1MB")
    assert all(param.has_init for param in step.network.trainable_params())
    weights = (WIDTH + 1) * WIDTH * 4
    for number, stage in enumerate(plan.stages):
        assert stage.stage == number
        assert stage.parameters == stage.gradients == weights
        assert 2 * weights <= stage.state < 2 * weights + 64  # Adam's moments, and counters
        assert stage.inputs == ROWS // 4 * WIDTH * 4
        parts = (stage.gradients, stage.inputs, stage.activations, stage.workspace)
        assert stage.total == stage.parameters + stage.state + sum(parts)
    assert plan.fits is True
    assert {row.name: row.stage for row in plan.parameters.rows} == {
        "layers.0.weight": 0,
        "layers.0.bias": 0,
        "layers.1.weight": 1,
        "layers.1.bias": 1,
    }
    assert plan.seconds >= max(stage.working for stage in plan.stages)
    assert 0 < plan.idle < 1
    said = json.loads(json.dumps(plan.to_dict()))
    assert [stage["stage"] for stage in said["stages"]] == [0, 1]
    assert "2 stages of 4, 8 micro-batches, 1f1b" in str(plan)
    assert "HloModule" in plan.as_text()
    check_times(plan)


def check_times(plan: PipelinePlan) -> None:
    """With passes of one second, the step is the table: (m + p - 1) forward and backward passes."""
    lowered = plan.lowered

    def one(task: Any) -> float:
        return float(task.kind in ("forward", "backward"))

    timing = timing_of(lowered, one, lambda nbytes, source, to: 0.0)
    assert timing.step == 2 * (MICRO_BATCHES + 1)
    assert timing.work == (2 * MICRO_BATCHES,) * 2
    np.testing.assert_allclose(timing.idle, 1 / (MICRO_BATCHES + 1))
    # The first stage gets a gradient; the second an activation, and what its gradient needs.
    timing = timing_of(lowered, one, lambda nbytes, source, to: 0.25 * nbytes / VALUE)
    assert timing.sends == (0.25 * MICRO_BATCHES, 0.5 * MICRO_BATCHES)
    assert timing.step > 2 * (MICRO_BATCHES + 1)


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["1f1b", "gpipe"])
def test_activations_are_those_that_a_step_holds(
    scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = stepping(scheduler)
    plan = paramesh.plan_stages(step, X, X, target="cpu:8")
    step(X, X)
    most = [0, 0]

    def look(stage: int, forward: bool, micro_batch: int) -> None:
        device = jax.devices()[4 * stage]
        rows = (ROWS // MICRO_BATCHES,)
        own = [a for a in jax.live_arrays() if a.shape[:1] == rows]
        own = [a for a in own if device in a.sharding.device_set]
        own = [a for a in own if a.dtype == np.float32]  # not the four words of random state
        held = sum(4 * int(np.prod(a.sharding.shard_shape(a.shape))) for a in own)
        most[stage] = max(most[stage], held)

    monkeypatch.setattr(loop_run, "before_work", look)
    step(X, X)
    for stage, held in zip(plan.stages, most, strict=True):
        # It is looked at before a work has what the neighbour sends.
        assert stage.activations + stage.inputs - held in (0, VALUE)


@pytest.mark.slow
def test_the_programs_of_the_stages_are_lowered() -> None:
    with_stages(2)
    step = step_of(MLP(0, 1), nn.MSELoss())
    lowered = step.lower(X, X)
    stages = [
        (task.stage, task.kind, task.times)
        for task in lowered.stage.tasks
        if task.kind in ("forward", "backward")
    ]
    assert stages == [(0, "forward", 4), (1, "forward", 4), (1, "backward", 4), (0, "backward", 4)]
    for task in lowered.stage.tasks:
        for sharding in jax.tree.leaves(task.compiled.input_shardings):
            devices = {device.id // 4 for device in sharding.device_set}
            assert devices == {task.stage}
    products = 2 * ROWS * WIDTH * WIDTH  # one forward and two backward in each layer, but the first
    assert lowered.cost_analysis()["flops"] > 5 * products
    assert "TrainOneStepCell_stage1_backward, 4 times in a step" in lowered.as_text()
    with pytest.raises(ContextError, match=r"several programs.*Call the step itself"):
        lowered.compile()


def test_mistakes() -> None:
    step = stepping()
    with pytest.raises(ContextError, match=r"pipeline_stages=2, so the step is several.*plan_st"):
        paramesh.plan(step, X, X, target="cpu:8")
    with_stages(1)
    with pytest.raises(ContextError, match=r"plan_stages: pipeline_stages=1"):
        paramesh.plan_stages(step, X, X, target="cpu:8")


def test_inputs_of_a_cell_are_tensors_in_plans() -> None:
    """A PipelineCell splits Tensors alone: plans gave it arrays."""
    net = nn.Dense(WIDTH, WIDTH)
    loss = nn.GradAccumulationCell(nn.WithLossCell(net, nn.MSELoss()), 2)
    step = TrainOneStepCell(loss, nn.SGD(net.trainable_params(), 0.1))
    plan = paramesh.plan(step, X, X, target="cpu:1")
    assert plan.name == "TrainOneStepCell"
