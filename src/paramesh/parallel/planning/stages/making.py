"""`paramesh.plan_stages`: a training step with pipeline stages, on devices that need not exist.

Layouts are searched for the devices of a stage, and the step is divided into tasks, as
`auto_parallel` does with stages. The compiler of the target's hardware compiles each task for the
devices of its stage. What a stage holds and how long a step takes follows from its schedule
(`costs.py`).
"""

from __future__ import annotations

import dataclasses
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from jax.sharding import NamedSharding, Sharding

from paramesh import context
from paramesh._compat.jax import ClosedJaxpr
from paramesh.context import memory_bytes
from paramesh.errors import ContextError
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.modes.layout_table import layout_table
from paramesh.parallel.modes.pipelined import Marking, with_loops_joined
from paramesh.parallel.pipeline.division import Division
from paramesh.parallel.pipeline.lowered import LoweredStages
from paramesh.parallel.pipeline.run import StagedProgram
from paramesh.parallel.pipeline.stages import Stages
from paramesh.parallel.planning.calibration import calibrated
from paramesh.parallel.planning.devices import TargetDevices, target_devices
from paramesh.parallel.planning.lowering import lowered_over, refuse_servers
from paramesh.parallel.planning.making import function_of, inputs_of, trained_states
from paramesh.parallel.planning.stages.costs import (
    bytes_of_stages,
    seconds_of,
    sending,
    struct_bytes,
    timing_of,
)
from paramesh.parallel.planning.stages.report import PipelinePlan, StagePlan
from paramesh.parallel.planning.step import Planning
from paramesh.parallel.search.targets import Target
from paramesh.parameter import Parameter
from paramesh.transforms.stages import compiled_for_target


def plan_stages(
    step: Callable[..., Any],
    *inputs: object,
    target: str,
    memory: int | str | None = None,
    **named: object,
) -> PipelinePlan:
    """How a training step with pipeline stages would be placed on devices that need not exist.

    The number of stages and the schedule are the settings `pipeline_stages` and `pipeline_config`;
    Cells say where stages begin. Layouts are searched for the devices of a stage.

    Args:
        step: as of `plan`; its loss is a `PipelineCell`.
        *inputs: as of `plan`.
        target: as of `plan`: all devices; the stages divide them.
        memory: bytes that a device may hold, or a text such as "80GB"; None for what the hardware
            has.
        **named: inputs by keyword.

    Returns:
        The plan; `print` shows it, `to_dict()` gives its numbers.

    Raises:
        ContextError: `pipeline_stages` is 1 or does not divide the devices, or as `plan`.
        ValueError, TypeError, MissingCompilerError, LayoutError: as `plan`.
    """
    limit = None if memory is None else memory_bytes("plan_stages", "memory", memory)
    fn = function_of(step)
    args, kwargs = inputs_of(step, inputs, named)
    return planned_stages(fn, args, kwargs, target_devices(target), limit)


def has_stages() -> bool:
    """Whether the settings ask for stages."""
    return context.get_auto_parallel_context("pipeline_stages") > 1


class PlanningStages(Marking, Planning):
    """`auto_parallel` with stages over devices of a target.

    Args:
        on: all devices.
        count: how many stages.
        target: what they can do.

    Raises:
        ContextError: the stages do not divide the devices.
    """

    def __init__(self, on: TargetDevices, count: int, target: Target) -> None:
        settings = context.get_auto_parallel_context
        inputs = "full_batch" if settings("full_batch") else settings("dataset_strategy")
        self.stages = Stages(on.devices, count, inputs, planned=True)
        group = self.stages.groups[0]
        hosts = -(-len(group) * on.hosts // on.count)
        super().__init__(
            dataclasses.replace(on, hosts=hosts, devices=group, shape=(len(group),)), target
        )
        self.hosts = hosts
        config = settings("pipeline_config") or {}
        self.scheduler: str = config.get("pipeline_scheduler", "1f1b")
        self.key = (*self.key, "stages", count, self.scheduler)
        self._basis = (self.key, self._basis[1])
        self.following = weakref.WeakSet()
        #: {state: its stage}.
        self.homes: dict[Any, int] = {}

    def rewritten(self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any]) -> Any:
        """The program with its loops joined and the layouts of the best plan."""
        return super().rewritten(with_loops_joined(closed, self.stages.count), states, written)

    def divided(
        self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any], name: str
    ) -> StagedProgram:
        """The program as tasks of the stages."""
        division = Division(closed, states, written, self.stages.count, self.following)
        self.homes = {states[at]: home for at, home in division.homes.items()}
        return StagedProgram(
            division, self.stages, self.scheduler, name, self.platform, compiled_for_target
        )

    def state_sharding(self, state: object) -> Sharding:
        """Where a state lies: on the devices of its home."""
        return self.stages.moved(super().state_sharding(state), self.homes.get(state, 0))

    def _alone_or(self, sharding: Sharding) -> Sharding:
        if isinstance(sharding, NamedSharding):
            return sharding
        return super()._alone_or(sharding)


def planned_stages(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    on: TargetDevices,
    limit: int | None = None,
) -> PipelinePlan:
    """`plan_stages` for raw arguments of a compiled function.

    Args:
        fn: a CompiledFunction, or a function.
        args: raw, as programs take them.
        kwargs: likewise.
        on: the devices.
        limit: bytes that a device may hold; None for what the target has.
    """
    count = context.get_auto_parallel_context("pipeline_stages")
    refuse_servers("plan_stages")
    if count < 2:
        raise ContextError(
            f"plan_stages: pipeline_stages={count}, so there are no stages to plan. Set "
            "set_auto_parallel_context(pipeline_stages=...), or use paramesh.plan."
        )
    target, measured = calibrated(on.target)
    place = PlanningStages(on, count, target)
    call = lowered_over(place, fn, args, kwargs)
    lowered: object = call.stage
    if not isinstance(lowered, LoweredStages) or place.plan is None:
        raise AssertionError("a trace with stages without tasks")
    target = target.of_dtype(place.dtype)
    seconds = {id(t): seconds_of(t, place.stages, target, place.hosts) for t in lowered.tasks}
    timing = timing_of(lowered, lambda t: seconds[id(t)], sending(place.stages, target))
    trained = trained_states(fn)
    rows: list[StagePlan] = []
    room = limit if limit is not None else on.target.memory or None
    layouts: dict[str, tuple[Any, Any, Layout | None]] = {}
    homes: dict[str, int] = {}
    parameters, states = [0] * count, [0] * count
    for state, sharding in call.states:
        assert isinstance(state, Parameter)
        home = place.homes.get(state, 0)
        is_trained = state in trained if trained else state.requires_grad
        size = struct_bytes(state.shape, state.dtype.np_dtype, sharding)
        (parameters if is_trained else states)[home] += size
        if is_trained:
            layouts[state.name] = (state.shape, state.dtype, place.layout_of(state))
            homes[state.name] = home
    for stage, own in enumerate(bytes_of_stages(lowered)):
        mine = [task for task in lowered.tasks if task.stage == stage]
        spent = {
            kind: sum(seconds[id(t)] for t in mine if t.kind == kind)
            for kind in ("forward", "backward", "update")
        }
        total = parameters[stage] + states[stage] + own.most
        rows.append(
            StagePlan(
                stage,
                parameters[stage],
                states[stage],
                own.gradients,
                own.inputs,
                own.activations,
                total
                - parameters[stage]
                - states[stage]
                - own.gradients
                - own.inputs
                - own.activations,
                total,
                spent["forward"],
                spent["backward"],
                spent["update"],
                timing.sends[stage],
                timing.work[stage],
            )
        )
    micro_batches = max((loop.plan.count for loop in lowered.loops), default=1)
    return PipelinePlan(
        name=call.name,
        target=on.name,
        devices=on.count,
        device_kind=str(on.devices[0].device_kind),
        scheduler=place.scheduler,
        micro_batches=micro_batches,
        dtype=place.dtype,
        stages=tuple(rows),
        parameters=layout_table(layouts, on.count // count, homes, count),
        seconds=timing.step,
        idle=timing.idle,
        spans=timing.spans,
        limit=room,
        calibrated=measured,
        lowered=lowered,
    )
