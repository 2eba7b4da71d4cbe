"""Which placement belongs to which parallel mode."""

from __future__ import annotations

from collections.abc import Sequence

from paramesh import context
from paramesh.errors import ContextError
from paramesh.parallel.data_parallel import DataParallel
from paramesh.parallel.mesh import all_devices
from paramesh.parallel.processes import join
from paramesh.parallel.semi_auto import SemiAuto
from paramesh.parallel.table import LayoutTable, layout_table
from paramesh.parameter import Parameter
from paramesh.placement import Placement, current


def placement_of(mode: str) -> Placement:
    """The placement for a parallel mode, over the devices that the settings name.

    Raises:
        ContextError: there are fewer devices than `device_num` says; as `processes.join`.
    """
    join()
    devices = all_devices()
    wanted = context.get_auto_parallel_context("device_num")
    if wanted > len(devices):
        raise ContextError(
            f"set_auto_parallel_context: device_num={wanted}, but there are {len(devices)} "
            f"{devices[0].platform.upper()} devices. On the CPU, "
            f"XLA_FLAGS=--xla_force_host_platform_device_count={wanted} makes virtual ones."
        )
    if wanted > 1:
        devices = devices[:wanted]
    if mode in ("data_parallel", "hybrid_parallel"):
        return DataParallel(devices, mode)
    return SemiAuto(devices, mode)


def table_of(params: Sequence[Parameter]) -> LayoutTable:
    """The layouts of Parameters under the present settings, as far as they are known.

    Raises:
        ContextError: as `placement_of`.
        LayoutError: a layout that was given does not fit the devices.
    """
    place = current()
    layouts = place.layouts(params)
    rows = {p.name: (p.shape, p.dtype, layout) for p, layout in zip(params, layouts, strict=True)}
    return layout_table(rows, place.count)
