"""Programs compiled for the devices of a target, laid out as the settings say.

`plan` searches for layouts whatever the settings say. Here a program has the layouts that it would
have if the devices of the target were those of this machine: by the parallel mode, the strategies
and the layouts that are set. It is compiled and never run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from paramesh import context
from paramesh.parallel.modes.auto import SEARCHES
from paramesh.parallel.planning.calibration import calibrated
from paramesh.parallel.planning.devices import target_devices
from paramesh.parallel.planning.lowering import lowered_over, refuse_servers, refuse_stages
from paramesh.parallel.planning.placements import placement_over
from paramesh.parallel.planning.step import planned_program


def lowered_for(
    fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], target: str
) -> jax.stages.Lowered:
    """A call, lowered for the devices of a target under the settings as they are.

    The devices of the target take the place of those that `device_num` means.

    Args:
        fn: what `paramesh.jit` compiles: a function, or a CompiledFunction.
        args: of the call; a `jax.ShapeDtypeStruct` may stand for a Tensor. A batch is that of all
            devices together.
        kwargs: of the call.
        target: the devices, see `devices.py`.

    Raises:
        ValueError: there is no such target.
        MissingCompilerError: the compiler of its hardware is not installed.
        ContextError: fewer devices of the CPU; a target of several devices in `stand_alone`;
            a parameter server; a Parameter with a value for each device.
        LayoutError: strategies, layouts or a batch do not fit the devices.
    """
    refuse_servers("compile")
    refuse_stages("compile")
    settings = context.get_auto_parallel_context
    on, mode = target_devices(target), settings("parallel_mode")
    if mode == "auto_parallel" and settings("search_mode") in SEARCHES:
        figures, _ = calibrated(on.target)
        memory = settings("device_memory")
        return planned_program(fn, args, kwargs, on, figures, memory).lowered
    return lowered_over(placement_over(on, mode), fn, args, kwargs).stage
