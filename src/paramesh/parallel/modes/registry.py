"""Which placement belongs to which parallel mode."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from paramesh.context import get_auto_parallel_context, get_ps_context
from paramesh.errors import ContextError
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.layout_tuple import to_nested_tuple
from paramesh.parallel.modes.auto import SEARCHES, Auto
from paramesh.parallel.modes.data_parallel import DataParallel
from paramesh.parallel.modes.layout_table import LayoutTable, layout_table
from paramesh.parallel.modes.pipelined import Pipelined, PipelinedAuto, PipelinedSemiAuto
from paramesh.parallel.modes.semi_auto import SemiAuto
from paramesh.parallel.processes.groups import devices_of_settings
from paramesh.parallel.processes.membership import join
from paramesh.parameter import Parameter
from paramesh.state.placement import Placement, current


def placement_of(mode: str) -> Placement:
    """The placement for a parallel mode, over the devices that the settings name.

    Raises:
        ContextError: there are fewer devices than `device_num` says; as `processes.join`.
    """
    join()
    devices = devices_of_settings()
    stages = get_auto_parallel_context("pipeline_stages")
    if stages > 1 and get_ps_context("enable_ps"):
        raise ContextError(
            f"set_auto_parallel_context: pipeline_stages={stages} does not work with a parameter "
            "server (set_ps_context(enable_ps=True)). Use one of them."
        )
    if mode in ("data_parallel", "hybrid_parallel"):
        if stages > 1:
            raise ContextError(
                f"set_auto_parallel_context: pipeline_stages={stages} needs parallel_mode="
                f"'semi_auto_parallel' or 'auto_parallel', not '{mode}', in which every device "
                "has all layers."
            )
        return DataParallel(devices, mode)
    if mode == "auto_parallel" and get_auto_parallel_context("search_mode") in SEARCHES:
        return PipelinedAuto(devices, mode) if stages > 1 else Auto(devices, mode)
    return PipelinedSemiAuto(devices, mode) if stages > 1 else SemiAuto(devices, mode)


def tuples_of(params: Sequence[Parameter]) -> dict[str, tuple[Any, ...]]:
    """{name: MindSpore's tuple} of the layouts of Parameters.

    In modes without one global view, of those that programs of such modes have laid out before.

    Raises:
        ContextError, LayoutError: as `table_of`; a layout that such a tuple cannot say.
    """
    if get_auto_parallel_context("parallel_mode") in ("semi_auto_parallel", "auto_parallel"):
        return table_of(params).to_tuples()
    found = {param: param.layout for param in params}
    return {
        param.name: to_nested_tuple(layout, param.shape, param.name)
        for param, layout in found.items()
        if isinstance(layout, Layout)
    }


def table_of(params: Sequence[Parameter]) -> LayoutTable:
    """The layouts of Parameters under the present settings, as far as they are known.

    Raises:
        ContextError: as `placement_of`.
        LayoutError: a layout that was given does not fit the devices.
    """
    place = current()
    layouts = place.layouts(params)
    rows = {p.name: (p.shape, p.dtype, layout) for p, layout in zip(params, layouts, strict=True)}
    if isinstance(place, Pipelined):
        homes = {p.name: place.home_of(p) for p in params}
        stages = {name: home for name, home in homes.items() if home is not None}
        table = layout_table(rows, place.count, stages, place.stages.count)
    else:
        table = layout_table(rows, place.count)
    if isinstance(place, Auto):
        return dataclasses.replace(table, plan=place.plan_of(params))
    return table
