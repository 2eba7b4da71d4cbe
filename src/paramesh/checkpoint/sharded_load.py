"""Loading from checkpoints in slices what this process needs, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from paramesh import placement
from paramesh.checkpoint.boxes import box_of
from paramesh.checkpoint.storage import Source
from paramesh.dtype import x64
from paramesh.nn.cell import Cell
from paramesh.parallel.per_device import local_rows
from paramesh.parameter import Parameter


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
            sharding = place.cut_sharding(param)
            if sharding is not None:
                found[name] = _cut(source, name, sharding)
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


def _cut(source: Source, name: str, sharding: Any) -> Any:
    entry = source.entry(name)

    def read(index: Any) -> np.ndarray[Any, Any]:
        # A copy: JAX may use an aligned array as it is, and this one would end with the file.
        return np.array(source.read_box(name, box_of(index, entry.shape)))

    with x64(entry.dtype):
        return jax.make_array_from_callback(entry.shape, sharding, read)
