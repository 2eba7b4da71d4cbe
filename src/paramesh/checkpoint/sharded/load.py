"""Loading from checkpoints in slices what this process needs, and no more."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from paramesh.checkpoint.formats.boxes import Box, box_of
from paramesh.checkpoint.formats.interface import Source
from paramesh.dtype import is_64bit, x64
from paramesh.nn.cell import Cell
from paramesh.parallel.modes.per_device import local_rows
from paramesh.parameter import Parameter
from paramesh.state import placement


def loaded_slices(source: Source, names: Sequence[str], net: Cell) -> dict[str, Any]:
    """The arrays of a checkpoint of which this process needs a part.

    They are those of Parameters of `net` that are cut over devices, as far as that is known: from
    their own layouts, a strategy file, or a program that has run. Each device's slice is read by
    itself, whatever the slices of the checkpoint are. Of a layerwise-parallel Parameter the rows of
    this process's devices are read.

    Returns:
        {name: array}; the other names are missing, and are to be read whole.

    Raises:
        ContextError, LayoutError: as for a program of the present settings.
    """
    place = placement.current()
    mine = net.parameters_dict()
    found: dict[str, Any] = {}
    cut: dict[str, Any] = {}
    for name in names:
        param = mine.get(name)
        if param is None:
            continue
        shape = source.entry(name).shape
        if param.layerwise_parallel:
            rows = _rows(source, name, param)
            if rows is not None:
                found[name] = rows
        elif shape == param.shape:
            sharding = place.known_sharding(param)
            if sharding is not None:
                cut[name] = sharding
    wide = {name: s for name, s in cut.items() if is_64bit(source.entry(name).dtype)}
    others = {name: s for name, s in cut.items() if name not in wide}
    found |= _cut(source, others)
    if wide:
        with jax.enable_x64(True):
            found |= _cut(source, wide)
    return found


def _rows(source: Source, name: str, param: Parameter) -> Any:
    shape = source.entry(name).shape
    if shape[1:] != param.shape or len(shape) == len(param.shape):
        return None
    first, last, count = local_rows(param)
    if shape[0] != count or last - first == count:
        return None
    rows = source.read_rows(name, first, last)
    with x64(source.entry(name).dtype):
        return jax.device_put(rows, may_alias=False)


def _cut(source: Source, shardings: Mapping[str, Any]) -> dict[str, Any]:
    """The arrays, each device's slice copied once: from the file's pages to the device."""
    views: list[Any] = []
    devices: list[Any] = []
    counts: list[int] = []
    for name, sharding in shardings.items():
        shape = source.entry(name).shape
        read: dict[Box, Any] = {}
        indices = sharding.addressable_devices_indices_map(shape)
        for device, index in indices.items():
            box = box_of(index, shape)
            if box not in read:
                read[box] = source.read_box(name, box)
            views.append(read[box])
            devices.append(device)
        counts.append(len(indices))
    # JAX may use an aligned numpy array as it is; then the array would end with the file.
    parts = iter(jax.device_put(views, devices, may_alias=False))
    return {
        name: jax.make_array_from_single_device_arrays(
            source.entry(name).shape, sharding, list(itertools.islice(parts, count))
        )
        for (name, sharding), count in zip(shardings.items(), counts, strict=True)
    }
