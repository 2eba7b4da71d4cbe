"""Which placement belongs to which parallel mode."""

from __future__ import annotations

from collections.abc import Sequence

from paramesh.parallel.data_parallel import DataParallel
from paramesh.parallel.groups import devices_of_settings
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
    devices = devices_of_settings()
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
