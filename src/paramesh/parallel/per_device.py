"""Parameters that have a value of their own on each device: `layerwise_parallel=True`.

A program over several devices takes all the values of such a Parameter as one array with one row
for each device. Outside of programs the Parameter is what MindSpore's rank sees: the value of this
process's first device. What is written from outside goes to all devices of this process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from paramesh import tracing
from paramesh.errors import ParameterShapeError
from paramesh.parameter import Parameter, Plan, Pool
from paramesh.tensor import Tensor, as_value, raw


class _OneRow(Plan):
    """The plan of an array of which each device sees one row."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__([shape])

    def part(self, flat: Any, i: int, ranks: Any = None) -> Any:
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
        super().__init__(param.name, _OneRow(param.shape), param.dtype, [param], self)
        self.sharding = sharding
        self.devices = len(devices)
        self._devices = tuple(devices)
        self.shape = (1, *param.shape)

    def form_pools(self) -> None:
        """Nothing: dissolved, it is made again when the next program uses the Parameter."""

    @property
    def global_shape(self) -> tuple[int, ...]:
        """The shape of the array of all values."""
        return (self.devices, *self.plan.shapes[0])

    def local(self) -> list[Any]:
        """The devices of this process, by rank."""
        here = jax.process_index()
        return [d for d in self._devices if d.process_index == here]

    def take(self, i: int) -> Any:
        """The value of this process's first device."""
        array = self._taken.get(i)
        if array is None:
            whole = self._value if self._value is not None else self._before
            with jax.core.eval_context():
                row = np.array(self.rows(whole)[0])
                array = self._taken[i] = jnp.asarray(row)
        return array

    @staticmethod
    def rows(whole: Any) -> list[np.ndarray[Any, Any]]:
        """The values of this process's devices, by rank."""
        shards = sorted(whole.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return [np.asarray(shard.data)[0] for shard in shards]

    def values(self) -> list[np.ndarray[Any, Any]]:
        """The values of this process's devices, by rank."""
        return [np.array(row) for row in self.rows(self._concrete())]

    def put(self, rows: Sequence[Any]) -> None:
        """Give each of this process's devices its value."""
        with jax.core.eval_context():
            parts = [
                jax.device_put(jnp.asarray(row)[None], d)
                for row, d in zip(rows, self.local(), strict=True)
            ]
            self._store(
                jax.make_array_from_single_device_arrays(self.global_shape, self.sharding, parts)
            )

    def _gather(self) -> None:
        param = self.strays()[0]
        self.put([param._concrete()] * len(self.local()))
        tracing.lent.discard(param)

    def joined(self, base: Any, others: Mapping[int, Any]) -> Any:
        """The array with another value; traceable."""
        return self.plan.join(list(others.values()))


def per_device(param: Parameter) -> Tensor:
    """The values that a layerwise-parallel Parameter has on the devices of this process.

    Returns:
        A Tensor with the devices as first axis, by rank: one row if it has not been used by a
        program over several devices.
    """
    slot = param._slot
    if slot is None or not isinstance(slot.pool, PerDevice):
        return Tensor(np.asarray(param._concrete())[None])
    return Tensor(np.stack(slot.pool.values()))


def set_per_device(param: Parameter, values: Any) -> None:
    """Give a layerwise-parallel Parameter a value for each device of this process.

    Args:
        param: a Parameter that a program over several devices has used.
        values: an array with the devices as first axis, by rank.

    Raises:
        ParameterShapeError: another number of rows, or another shape.
    """
    slot = param._slot
    rows = np.asarray(as_value(raw(values)) if isinstance(values, Tensor) else values)
    here = per_device(param)
    if tuple(rows.shape) != here.shape:
        raise ParameterShapeError(
            f"Parameter '{param.name}' has values of shape {param.shape} on {here.shape[0]} "
            f"devices of this process; got an array of shape {tuple(rows.shape)}, "
            f"expected {here.shape}."
        )
    if slot is None or not isinstance(slot.pool, PerDevice):
        param.set_data(Tensor(rows[0]))
    else:
        slot.pool.put(list(rows.astype(param.dtype.np_dtype)))
