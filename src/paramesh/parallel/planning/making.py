"""`paramesh.plan`: a training step on devices that need not exist, searched, compiled and counted.

The step is traced as it would be trained, and searched for layouts as `auto_parallel` does. Then
the compiler of the target's hardware compiles it for that many devices, and says what each would
hold.
Nothing runs, and Parameters stay recipes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from paramesh.context import memory_bytes
from paramesh.nn.cell import Cell, as_input
from paramesh.optim import Optimizer
from paramesh.parallel.modes.layout_table import layout_table
from paramesh.parallel.planning.calibration import calibrated
from paramesh.parallel.planning.devices import TargetDevices, target_devices
from paramesh.parallel.planning.memory.predicted import arguments, passing
from paramesh.parallel.planning.remedies import Tried, remedies_for
from paramesh.parallel.planning.report import Memory, StepPlan
from paramesh.parallel.planning.sent import sent_by
from paramesh.parallel.planning.step import PlannedProgram, planned_program
from paramesh.parallel.planning.step_time import step_time_of
from paramesh.transforms.compiled_function import CompiledFunction
from paramesh.transforms.reachability import cells_of, is_cell
from paramesh.transforms.stages import compiled_for_target


def plan(
    step: Callable[..., Any],
    *inputs: object,
    target: str,
    memory: int | str | None = None,
    remedies: bool = True,
    **named: object,
) -> StepPlan:
    """How a training step would be placed on devices that need not exist, and what it would cost.

    Args:
        step: a Cell such as `TrainOneStepCell`, a function of `paramesh.jit`, or a plain function
            of Tensors that trains.
        *inputs: of a call: Tensors, arrays, or `jax.ShapeDtypeStruct` for arrays that are not
            there. A batch is that of all devices together.
        target: the devices: "h100:8" (one host), "h100:2x8" (two hosts of eight), "v5e:8x8",
            "v5p:4x4x4" (slices of TPUs), "cpu:8" (virtual devices of this host).
        memory: bytes that a device may hold, or a text such as "80GB"; None for what the hardware
            has.
        remedies: if it does not fit, also try what would make it fit, each of which is searched and
            compiled.
        **named: inputs by keyword.

    Returns:
        The plan; `print` shows it, `to_dict()` gives its numbers.

    Raises:
        ValueError: there is no such target, or `memory` is not a number of bytes.
        TypeError: `step` cannot be called.
        MissingCompilerError: the compiler of the target's hardware is not installed.
        ContextError: there are not enough devices of the CPU, or the settings ask for a parameter
            server.
        LayoutError: layouts that were given contradict each other.
    """
    limit = None if memory is None else memory_bytes("plan", "memory", memory)
    fn = function_of(step)
    on = target_devices(target)
    return planned(fn, *inputs_of(step, inputs, named), on, limit, remedies)


def planned(
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    on: TargetDevices,
    limit: int | None = None,
    remedies: bool = True,
) -> StepPlan:
    """`plan` for raw arguments of a compiled function.

    Args:
        fn: a CompiledFunction, or a function.
        args: raw, as programs take them.
        kwargs: likewise.
        on: the devices.
        limit: bytes that a device may hold; None for what the target has.
        remedies: see `plan`.
    """
    target, measured = calibrated(on.target)
    room = limit if limit is not None else on.target.memory or None

    def made(most: float | None = None) -> StepPlan:
        program = planned_program(fn, args, kwargs, on, target, most)
        return _counted(fn, program, compiled_for_target(program.lowered), room, measured)

    found = made()
    if found.fits is False and remedies:
        tries: list[Tried] = remedies_for(fn, found, made)
        found = dataclasses.replace(found, remedies=tuple(one.remedy for one in tries))
    return found


def function_of(step: object) -> Any:
    """What `paramesh.jit` makes of a step.

    Raises:
        TypeError: it cannot be called.
    """
    if isinstance(step, CompiledFunction):
        return step
    if isinstance(step, Cell):
        return step._program()
    if not callable(step) or is_cell(step):
        raise TypeError(f"plan: the step must be a Cell or a function, got {type(step).__name__}.")
    return CompiledFunction(step, kept_with=object())


def inputs_of(
    step: object, inputs: Sequence[object], named: Mapping[str, object]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The inputs of a call as `step` would be given them: a Cell has Tensors."""
    if not isinstance(step, Cell):
        return tuple(inputs), dict(named)
    args = tuple(as_input(value) for value in inputs)
    return args, {name: as_input(value) for name, value in named.items()}


def trained_states(fn: Callable[..., Any]) -> set[Any]:
    """The Parameters of the optimizers that a function leads to."""
    found: set[Any] = set()
    for outer in cells_of(fn):
        if isinstance(outer, Cell):
            for _, cell in outer.cells_and_names():
                if isinstance(cell, Optimizer):
                    found |= set(cell.parameters)
    return found


def _counted(
    fn: Callable[..., Any], program: PlannedProgram, stage: Any, limit: int | None, measured: bool
) -> StepPlan:
    search, on = program.plan, program.on
    trained: dict[str, Any] = {}
    others: dict[str, Any] = {}
    optimized = trained_states(fn)
    for (state, _), layout in zip(program.states, program.layouts, strict=True):
        row = (state.shape, state.dtype, layout)
        is_trained = state in optimized if optimized else state.requires_grad
        (trained if is_trained else others)[state.name] = row
    parameters = layout_table(trained, on.count)
    states = layout_table(others, on.count)
    return StepPlan(
        name=program.name,
        target=on.name,
        devices=on.count,
        device_kind=str(on.devices[0].device_kind),
        axes=dict(zip(search.axes, search.matrix, strict=True)) if on.count > 1 else {},
        dtype=program.dtype,
        parameters=parameters,
        states=states,
        memory=_memory(program, stage, parameters.bytes_per_device, states.bytes_per_device, limit),
        parts=step_time_of(search),
        collectives=tuple(search.collectives()),
        compiled=tuple(sent_by(stage.as_text())) if on.count > 1 else (),
        remedies=(),
        calibrated=measured,
        search=search,
        stage=stage,
    )


def _memory(
    program: PlannedProgram, stage: Any, parameters: int, state: int, limit: int | None
) -> Memory:
    said = stage.memory_analysis()
    results = max(said.output_size_in_bytes - said.alias_size_in_bytes, 0)
    temporary = results + said.temp_size_in_bytes + said.generated_code_size_in_bytes
    total = said.argument_size_in_bytes + temporary
    inputs = sum(_local(struct, sharding) for struct, sharding in program.inputs)
    rest = max(total - parameters - state - inputs, 0)
    counted = passing(program.plan)
    between = min(round(counted), rest)
    return Memory(
        parameters=parameters,
        state=state,
        inputs=inputs,
        activations=between,
        workspace=rest - between,
        total=total,
        temporary=temporary,
        predicted=round(arguments(program.plan) + counted),
        limit=limit,
    )


def _local(struct: jax.ShapeDtypeStruct, sharding: Sharding) -> int:
    slice_shape = sharding.shard_shape(struct.shape)
    return math.prod(slice_shape) * np.dtype(struct.dtype).itemsize
