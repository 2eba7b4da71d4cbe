"""Loading from a checkpoint only the shards of this process."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import jax

from paramesh.checkpoint.formats.boxes import Box, box_of
from paramesh.checkpoint.formats.interface import Array, Source
from paramesh.dtype import is_64bit, x64
from paramesh.nn.cell import Cell
from paramesh.parallel.modes.per_device import local_rows
from paramesh.parameter import Parameter
from paramesh.state import placement


def loaded_slices(source: Source, names: Sequence[str], net: Cell) -> dict[str, Any]:
    """The sharded arrays of a network, read from a checkpoint.

    They are the Parameters of `net` with a known sharding: from their own layouts, a strategy file,
    or a program that has run. Each device's shard is read separately, whatever the slices of the
    checkpoint are. Of a layerwise-parallel Parameter the rows of this process's devices are read.

    Returns:
        {name: array}; arrays of the other names have to be read in full.

    Raises:
        ContextError, LayoutError: as for a program with the current settings.
    """
    place = placement.current()
    mine = net.parameters_dict()
    found: dict[str, Any] = {}
    shardings: dict[str, jax.sharding.Sharding] = {}
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
                shardings[name] = sharding
    x64_names = {name: s for name, s in shardings.items() if is_64bit(source.entry(name).dtype)}
    others = {name: s for name, s in shardings.items() if name not in x64_names}
    found |= _sharded_arrays(source, others)
    if x64_names:
        with jax.enable_x64(True):
            found |= _sharded_arrays(source, x64_names)
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


def _sharded_arrays(
    source: Source, shardings: Mapping[str, jax.sharding.Sharding]
) -> dict[str, Any]:
    """The arrays; each device's shard is copied once, from the pages of the file to the device."""
    views: list[Array] = []
    devices: list[Any] = []
    counts: list[int] = []
    for name, sharding in shardings.items():
        shape = source.entry(name).shape
        read: dict[Box, Array] = {}
        indices = sharding.addressable_devices_indices_map(shape)
        for device, index in indices.items():
            assert index is not None
            box = box_of(index, shape)
            if box not in read:
                read[box] = source.read_box(name, box)
            views.append(read[box])
            devices.append(device)
        counts.append(len(indices))
    # JAX may alias an aligned numpy array, which would then be invalid when the file is closed.
    shards = iter(jax.device_put(views, devices, may_alias=False))
    return {
        name: jax.make_array_from_single_device_arrays(
            source.entry(name).shape, sharding, list(itertools.islice(shards, count))
        )
        for (name, sharding), count in zip(shardings.items(), counts, strict=True)
    }
