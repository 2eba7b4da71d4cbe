"""What the stages of a lowered step hold and how long it takes, by its schedule.

A stage holds its Parameters and their state, gradients as they are added up, and of each
micro-batch on its way what the backward pass needs: that is followed along the schedule, from where
a task makes a value to where the last one takes it. The time of each task is that of the search's
cost model; a task waits for its stage to be free, and for what comes from the neighbouring stage.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding, Sharding

from paramesh._compat.jax import shape_of
from paramesh.parallel.pipeline.loop import Sum
from paramesh.parallel.pipeline.lowered import LoweredLoop, LoweredStages, LoweredTask
from paramesh.parallel.pipeline.schedule import Work
from paramesh.parallel.pipeline.stages import Stages
from paramesh.parallel.search.plan import Given, Program, find
from paramesh.parallel.search.targets import Target


class StageBytes(NamedTuple):
    """Bytes of a device of a stage.

    Attributes:
        gradients: sums over micro-batches.
        activations: at the peak, what passes between tasks.
        inputs: micro-batches of the step's inputs.
        workspace: that a task needs besides, at that peak, by its compiler.
        updating: while Parameters are updated, besides them and their gradients.
    """

    gradients: int
    activations: int
    inputs: int
    workspace: int
    updating: int

    @property
    def most(self) -> int:
        """At the peak, besides Parameters and state."""
        in_loop = self.activations + self.inputs + self.workspace
        return self.gradients + max(in_loop, self.updating)


def local_bytes(shown: jax.ShapeDtypeStruct) -> int:
    """The bytes of a device of what lies so."""
    shape = shown.shape
    if shown.sharding is not None:
        shape = shown.sharding.shard_shape(shape)
    return math.prod(shape) * np.dtype(shown.dtype).itemsize


def bytes_of_stages(lowered: LoweredStages) -> list[StageBytes]:
    """What each stage holds besides Parameters and state."""
    found: list[StageBytes] = []
    for stage in range(lowered.count):
        gradients = activations = inputs = workspace = 0
        for loop in lowered.loops:
            gradients += _sums(loop, stage)
            inputs += _inputs(loop, stage)
            now, room = _peak(loop, stage)
            activations, workspace = max(activations, now), max(workspace, room)
        updating = max(
            (_room(task) for task in lowered.tasks if task.stage == stage and task.times == 1),
            default=0,
        )
        found.append(StageBytes(gradients, activations, inputs, workspace, updating))
    return found


def _room(task: LoweredTask) -> int:
    """The bytes that a task needs for results that take no argument's place, and while it runs."""
    said = task.compiled.memory_analysis()
    if said is None:
        return sum(map(local_bytes, task.results.values()))
    new = max(said.output_size_in_bytes - said.alias_size_in_bytes, 0)
    return int(new + said.temp_size_in_bytes)


def _sums(loop: LoweredLoop, stage: int) -> int:
    total = 0
    for number, task in loop.tasks.items():
        summands = {
            var
            for kind in loop.plan.kinds
            if isinstance(kind, Sum)
            for var in kind.summands
            if loop.plan.pass_of(var) == number
        }
        if task.stage == stage:
            total += sum(local_bytes(task.results[var]) for var in summands)
    return total


def _inputs(loop: LoweredLoop, stage: int) -> int:
    taken = {
        var: shown
        for task in loop.tasks.values()
        if task.stage == stage
        for var, shown in task.inputs.items()
        if var in set(loop.plan.xs)
    }
    return loop.plan.count * sum(map(local_bytes, taken.values()))


def _peak(loop: LoweredLoop, stage: int) -> tuple[int, int]:
    """(bytes of what passes between tasks, of what a task needs besides) at the stage's peak."""
    plan = loop.plan
    held: dict[tuple[Any, int], dict[int, int]] = {}
    left: dict[tuple[Any, int], int] = {}
    most = (0, 0)

    def now() -> int:
        return sum(own.get(stage, 0) for own in held.values())

    for tick in loop.table:
        for there, work in enumerate(tick):
            task = None if work is None else loop.tasks.get(_pass(work, there, plan.stages))
            if work is None or task is None:
                continue
            micro_batch = work.micro_batch
            for var in task.part.invars:
                if (var, micro_batch) in held:
                    held[var, micro_batch][there] = local_bytes(task.inputs[var])
            if there == stage:
                most = max(most, (now(), _room(task)), key=sum)
            for var, shown in task.results.items():
                if plan.uses.get(var):
                    held[var, micro_batch] = {there: local_bytes(shown)}
                    left[var, micro_batch] = len(plan.uses[var])
            for var in task.part.invars:
                if (var, micro_batch) in left:
                    left[var, micro_batch] -= 1
                    if not left[var, micro_batch]:
                        del held[var, micro_batch], left[var, micro_batch]
    return most


def _pass(work: Work, stage: int, stages: int) -> int:
    return stage if work.forward else 2 * stages - 1 - stage


# Time.


def seconds_of(task: LoweredTask, stages: Stages, target: Target, hosts: int) -> float:
    """Of a task as modelled: the search's cost of its equations, with inputs as they lie.

    Args:
        task: the task.
        stages: the stages.
        target: what the devices can do.
        hosts: over how many hosts the devices of a stage are.
    """
    closed = task.part.closed(stages, task.stage)
    variables = [v for eqn in closed.jaxpr.eqns for v in (*eqn.invars, *eqn.outvars)]
    if not any(shape_of(var) for var in variables):
        return 0.0  # numbers alone: nothing to lay out
    given: dict[int, Given] = {}
    for number, var in enumerate(task.part.invars):
        sharding = getattr(task.inputs[var], "sharding", None)
        if isinstance(sharding, NamedSharding) and task.inputs[var].shape:
            given[number] = Given(sharding, f"the task before '{task.name}'")
    ids = tuple(device.id for device in stages.groups[task.stage])
    names = ("",) * len(task.part.invars)
    return find(Program(closed, names, {}, given, ids, hosts), target).seconds


class Span(NamedTuple):
    """A task at work, once.

    Attributes:
        stage: on whose devices.
        kind: as of a `LoweredTask`.
        micro_batch: that it is for; -1 outside of loops over them.
        start: in seconds after the step begins, as modelled.
        seconds: that it takes.
    """

    stage: int
    kind: str
    micro_batch: int
    start: float
    seconds: float


@dataclass(frozen=True)
class Timing:
    """When the stages work in a step, as modelled.

    Attributes:
        step: seconds of all of it.
        work: seconds in which each stage computes, or sends inside of itself.
        sends: seconds in which each stage waits for what its neighbours send.
        idle: the share of the time of all stages in which they do not compute.
        spans: what each stage does when, in the order in which a step begins it.
    """

    step: float
    work: tuple[float, ...]
    sends: tuple[float, ...]
    idle: float
    spans: tuple[Span, ...]


def timing_of(
    lowered: LoweredStages,
    seconds: Callable[[LoweredTask], float],
    send: Callable[[int, int, int], float],
) -> Timing:
    """The step along its schedules.

    Args:
        lowered: the step.
        seconds: of a task.
        send: seconds of (bytes of a device, from a stage, to a stage).
    """
    count = lowered.count
    free, work, sends = [0.0] * count, [0.0] * count, [0.0] * count
    costs = {id(task): seconds(task) for task in lowered.tasks}
    spans: list[Span] = []

    def run(task: LoweredTask, start: float = 0.0, micro_batch: int = -1) -> float:
        stage, spent = task.stage, costs[id(task)]
        begins = max(free[stage], start)
        spans.append(Span(stage, task.kind, micro_batch, begins, spent))
        free[stage] = begins + spent
        work[stage] += spent
        return free[stage]

    for task in lowered.tasks:
        if task.kind == "before":
            run(task)
    for loop in lowered.loops:
        _run_loop(loop, run, sends, send)
    for task in lowered.tasks:
        if task.kind in ("between", "update"):
            run(task)
    step = max(free, default=0.0)
    idle = 1.0 - sum(work) / (count * step) if step else 0.0
    return Timing(step, tuple(work), tuple(sends), idle, tuple(spans))


def _run_loop(
    loop: LoweredLoop,
    run: Callable[[LoweredTask, float, int], float],
    sends: list[float],
    send: Callable[[int, int, int], float],
) -> None:
    stages = loop.plan.stages
    done: dict[tuple[int, int], float] = {}
    for tick in loop.table:
        for stage, work in enumerate(tick):
            if work is None:
                continue
            number = _pass(work, stage, stages)
            task = loop.tasks.get(number)
            before = done.get((number - 1, work.micro_batch), 0.0)
            if task is None:
                done[number, work.micro_batch] = before
                continue
            coming = _coming(loop, number, task)
            spent = sum(send(nbytes, source, stage) for source, nbytes in coming.items())
            sends[stage] += spent
            done[number, work.micro_batch] = run(task, before + spent, work.micro_batch)


def _coming(loop: LoweredLoop, number: int, task: LoweredTask) -> Mapping[int, int]:
    """{stage: bytes of a device} that other stages send a task for one micro-batch."""
    found: dict[int, int] = {}
    for var in task.part.invars:
        source = loop.plan.number.get(var)
        if source is None or source >= number:
            continue
        earlier = [n for n in loop.plan.uses[var] if n < number]
        if any(loop.plan.stage_of(n) == task.stage for n in earlier):
            continue  # it is there since then
        there = loop.plan.stage_of(source)
        if there != task.stage:
            found[there] = found.get(there, 0) + local_bytes(task.inputs[var])
    return found


def sending(stages: Stages, target: Target) -> Callable[[int, int, int], float]:
    """Seconds of (bytes of a device, from a stage, to a stage)."""

    def seconds(nbytes: int, source: int, to: int) -> float:
        pairs = zip(stages.groups[source], stages.groups[to], strict=True)
        out = any(a.process_index != b.process_index for a, b in pairs)
        return target.latency + nbytes / (target.network if out else target.link)

    return seconds


def struct_bytes(shape: Sequence[int], dtype: np.dtype[Any], sharding: Sharding) -> int:
    """The bytes of a device of a state that lies so."""
    return local_bytes(jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=sharding))
