"""Many devices: how arrays are sharded over them."""

import importlib
from typing import TYPE_CHECKING, Any

from paramesh.parallel.layouts.layout import Layout, Placed
from paramesh.parallel.layouts.mesh import all_devices, device_mesh
from paramesh.parallel.modes.per_device import per_device, set_per_device, set_slices
from paramesh.parallel.processes.full_value import whole

if TYPE_CHECKING:
    from paramesh.parallel.modes.auto_parallel import AutoParallel

__all__ = [
    "AutoParallel",
    "Layout",
    "Placed",
    "all_devices",
    "device_mesh",
    "per_device",
    "set_per_device",
    "set_slices",
    "whole",
]


def __getattr__(name: str) -> Any:
    if name == "AutoParallel":  # it is a Cell, and those are not loaded before somebody asks
        from paramesh.parallel.modes.auto_parallel import AutoParallel

        return AutoParallel
    if name in ("set_algo_parameters", "get_algo_parameters", "reset_algo_parameters"):
        return getattr(importlib.import_module("paramesh.mindspore_names"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
