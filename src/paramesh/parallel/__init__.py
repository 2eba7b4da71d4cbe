"""Many devices: how arrays are cut over them."""

from paramesh.parallel.layouts.layout import Layout, Placed
from paramesh.parallel.layouts.mesh import all_devices, device_mesh
from paramesh.parallel.modes.per_device import per_device, set_per_device, set_slices
from paramesh.parallel.processes.full_value import whole

__all__ = [
    "Layout",
    "Placed",
    "all_devices",
    "device_mesh",
    "per_device",
    "set_per_device",
    "set_slices",
    "whole",
]
