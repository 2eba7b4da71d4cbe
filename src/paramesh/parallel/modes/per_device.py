"""Parameters that have a value of their own on each device: `layerwise_parallel=True`.

A program over several devices takes all the values of such a Parameter as one array with one row
for each device. Outside of programs the Parameter is what MindSpore's rank sees: the value of this
process's first device. What is written from outside goes to all devices of this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from paramesh import context
from paramesh._compat.jax import eval_context
from paramesh.array_types import Array
from paramesh.errors import ContextError, ParameterShapeError
from paramesh.parameter import FlatLayout, Parameter, Pool
from paramesh.state.placement import current
from paramesh.tensor.base import Tensor, as_value, raw, wrap


class _OneRow(FlatLayout):
    """The layout of an array of which each device sees one row."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__([shape])

    def member(self, flat: Array, i: int, ranks: object = None) -> Any:
        """What one device sees, without the axis of devices."""
        return flat.reshape(self.shapes[0])

    def join(self, arrays: Sequence[Any]) -> Any:
        """The other way round."""
        return jnp.asarray(arrays[0])[None]


class PerDevice(Pool):
    """The values of one Parameter, one for each device of a mesh.

    Args:
        param: the Parameter; until the first program it keeps its value, or its recipe.
        sharding: of the array of all values: its first axis over all devices.
        devices: of the mesh, by rank.
    """

    def __init__(self, param: Parameter, sharding: NamedSharding, devices: Sequence[Any]) -> None:
        self.sharding = sharding
        self.devices = tuple(devices)
        self.global_shape = (len(self.devices), *param.shape)
        super().__init__(param.name, _OneRow(param.shape), param.dtype, [param], self)
        self.shape = (1, *param.shape)

    def is_made(self) -> bool:
        """True: it asks for nothing that is made later."""
        return True

    def form_pools(self) -> None:
        """Nothing: dissolved, it is made again when the next program uses the Parameter."""

    def enter(self, placement: Any) -> None:
        """Refuse programs over other devices: they have no place for these values.

        Raises:
            ContextError: the placement is another one.
        """
        if getattr(placement, "devices", None) != self.devices or not placement.per_device:
            mode = context.get_auto_parallel_context("parallel_mode")
            raise ContextError(
                f"Parameter '{self.name}' has a value on each of {len(self.devices)} devices from "
                f"a program in another parallel setting, and {mode} over "
                f"{placement.count} devices cannot take them over. Save it, make the network again "
                "under the new setting, and load it; parallel.per_device(param) gives the values."
            )

    def local(self) -> list[Any]:
        """The devices of this process, by rank."""
        here = jax.process_index()
        return [d for d in self.devices if d.process_index == here]

    @staticmethod
    def rows(whole: Array) -> list[np.ndarray[Any, Any]]:
        """The values of this process's devices, by rank."""
        shards = sorted(whole.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return [np.asarray(shard.data)[0] for shard in shards]

    def _member_of(self, base: Array, i: int) -> Any:
        # The value of this process's first device.
        return jnp.asarray(np.array(self.rows(base)[0]))

    def view(self, i: int) -> None:
        """None: the array is not the values of members side by side."""

    def values(self) -> list[np.ndarray[Any, Any]]:
        """The values of this process's devices, by rank."""
        return [np.array(row) for row in self.rows(self._concrete())]

    def put(self, rows: Sequence[Any]) -> None:
        """Give each of this process's devices its value."""
        with eval_context():
            shards = [
                jax.device_put(jnp.asarray(row)[None], d)
                for row, d in zip(rows, self.local(), strict=True)
            ]
            self._store(
                jax.make_array_from_single_device_arrays(self.global_shape, self.sharding, shards)
            )

    def _gather(self) -> None:
        _, param = self.detached()[0]
        self.put([param._contents] * len(self.local()))

    def joined(self, base: Array, others: Mapping[int, Any]) -> Any:
        """The array with another value; traceable."""
        return self.layout.join(list(others.values()))


def per_device(param: Parameter) -> Tensor:
    """The values that a layerwise-parallel Parameter has on the devices of this process.

    Returns:
        A Tensor with the devices as first axis, by rank: one row if it lives on one device.
    """
    pool = _pool(param)
    if pool is None:
        return Tensor(np.asarray(param._concrete())[None])
    return Tensor(np.stack(pool.values()))


def all_devices_values(param: Parameter) -> Tensor | None:
    """The values of a layerwise-parallel Parameter on all devices of all processes, in place.

    Returns:
        A Tensor with the devices as first axis, by rank, sharded over them; None if the Parameter
        has one value, under the present settings.

    Raises:
        ContextError: as for a program of the present settings.
    """
    pool = _pool(param)
    return None if pool is None else wrap(pool._concrete())


def local_rows(param: Parameter) -> tuple[int, int, int]:
    """Which of the values of a layerwise-parallel Parameter are this process's.

    Returns:
        (the first rank, the rank after the last one, how many ranks there are).

    Raises:
        ContextError: as for a program of the present settings.
    """
    pool = _pool(param)
    if pool is None:
        return 0, 1, 1
    ranks = [pool.devices.index(device) for device in pool.local()]
    return ranks[0], ranks[-1] + 1, len(pool.devices)


def value_count(param: Parameter) -> int:
    """How many values a Parameter has in this process, under the present settings.

    Raises:
        ContextError: as for a program of the present settings.
    """
    pool = _pool(param)
    return 1 if pool is None else len(pool.local())


def set_per_device(param: Parameter, values: object) -> None:
    """Give a layerwise-parallel Parameter a value for each device of this process.

    Args:
        param: a Parameter with `layerwise_parallel=True`.
        values: an array or Tensor with the devices as first axis, by rank.

    Raises:
        ParameterShapeError: another number of rows, or another shape.
        ContextError: as for a program of the present settings.
    """
    pool = _pool(param)
    rows = np.asarray(as_value(raw(values)) if isinstance(values, Tensor) else values)
    wanted = (1 if pool is None else len(pool.local()), *param.shape)
    if tuple(rows.shape) != wanted:
        raise ParameterShapeError(
            f"Parameter '{param.name}' has values of shape {param.shape} on {wanted[0]} devices "
            f"of this process; got an array of shape {tuple(rows.shape)}, expected {wanted}."
        )
    if pool is None:
        param.set_data(Tensor(rows[0]))
    else:
        pool.put(list(rows.astype(param.dtype.np_dtype)))


def set_slices(param: Parameter, whole: Tensor, axis: int = 0) -> None:
    """Give each device its slice of what is sharded over all devices, by rank.

    Of an `initializer(...)` each slice is computed by itself, and the full array exists nowhere;
    the numbers are those that an unsharded Parameter of the full shape would start from.

    Args:
        param: a Parameter with `layerwise_parallel=True`, of the shape of one slice.
        whole: an initializer, or a Tensor with values; its `axis` is as many times longer than
            that of `param` as there are devices.
        axis: that is sharded.

    Raises:
        ParameterShapeError: the shapes do not fit.
        ContextError: as for a program of the present settings.
    """
    pool = _pool(param)
    count = 1 if pool is None else len(pool.devices)
    expected = list(param.shape)
    if not -len(expected) <= axis < len(expected):
        raise ParameterShapeError(
            f"Parameter '{param.name}' of shape {param.shape} has no axis {axis}."
        )
    expected[axis] *= count
    if list(whole.shape) != expected:
        raise ParameterShapeError(
            f"Parameter '{param.name}' of shape {param.shape} is one of {count} slices along axis "
            f"{axis}, so the full array has shape {tuple(expected)}; got {whole.shape}."
        )
    size = param.shape[axis]
    ranks = range(count) if pool is None else [pool.devices.index(d) for d in pool.local()]
    rows: list[Any] = []
    for rank in ranks:
        index = [slice(None)] * len(expected)
        index[axis] = slice(rank * size, rank * size + size)
        recipe = whole.recipe
        row = whole[tuple(index)] if recipe is None else recipe.compute(tuple(index))
        rows.append(np.asarray(row))
    set_per_device(param, np.stack(rows))


def _pool(param: Parameter) -> PerDevice | None:
    """Where the values of a Parameter are, under the present settings; None for one value."""
    if param.layerwise_parallel:
        current().adopt([param])
    slot = param._slot
    return slot.pool if slot is not None and isinstance(slot.pool, PerDevice) else None
