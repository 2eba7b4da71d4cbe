"""Optimizer state of which each device holds a part: the parallel optimizer in data_parallel.

The state of several Parameters lies in one flat array, filled up to a multiple of the devices and
cut evenly over them. Reading one of them from outside collects it: in several processes all have to
do that together. From outside it is like any other Parameter: named, saved, loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding

from paramesh import tracing
from paramesh.parallel.over_devices import OverDevices
from paramesh.parameter import Parameter, Plan, on_host
from paramesh.recipe import Recipe
from paramesh.structures import Constant


def part_of(flat: Any, count: int, axis: str) -> Any:
    """The part of a flat array that the device which runs this holds; traced."""
    width = -(-flat.size // count)
    flat = jnp.pad(flat, (0, width * count - flat.size))
    return lax.dynamic_slice(flat, (lax.axis_index(axis) * width,), (width,))


class _PartOfPlan(Plan):
    """A plan of which each device sees a part; to see a member, it asks the others."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], count: int, axis: str) -> None:
        super().__init__(shapes)
        self.count, self.axis = count, axis
        self.width = -(-self.size // count)

    def part(self, flat: Any, i: int, ranks: Any = None) -> Any:
        """Member `i`, whole."""
        return super().part(lax.all_gather(flat, self.axis, tiled=True), i, ranks)

    def join(self, arrays: Sequence[Any]) -> Any:
        """This device's part of the members' arrays."""
        return part_of(super().join(arrays), self.count, self.axis)


class SplitState(OverDevices):
    """State of several Parameters, a part of it on each device.

    Args:
        name: for messages.
        plan: where the members would lie in one flat array.
        members: the state Parameters.
        owner: the optimizer.
        sharding: of the flat array.
        devices: of the mesh, by rank.
        key: what `Placement.splits` is where programs can use this.
        axis: the name of the axis over the devices in programs.
    """

    def __init__(
        self,
        name: str,
        plan: Plan,
        members: Sequence[Parameter],
        owner: Any,
        sharding: NamedSharding,
        devices: Sequence[Any],
        key: Any,
        axis: str,
    ) -> None:
        parts = _PartOfPlan(plan.shapes, len(devices), axis)
        super().__init__(name, parts, members, owner, sharding, devices)
        self.width = parts.width
        self.shape = (self.width,)
        self.global_shape = (self.width * len(devices),)
        self._key = key

    def enter(self, placement: Any) -> None:
        """Give the members their values back where programs split state otherwise."""
        if placement.splits != self._key:
            self.dissolve(again=False)

    def declared(self) -> list[Parameter]:
        """None: each device computes its part of a recipe alone."""
        return []

    def take(self, i: int) -> Any:
        """The whole value of a member, collected from the devices that hold parts of it."""
        array = self._taken.get(i)
        if array is None:
            plan = self.plan
            whole = self._value if self._value is not None else self._before
            with jax.core.eval_context():
                flat = self._collected(whole, plan.starts[i], plan.starts[i] + plan.sizes[i])
                array = self._taken[i] = jnp.array(flat.reshape(plan.shapes[i]), copy=True)
        return array

    def _collected(self, whole: Any, start: int, stop: int) -> np.ndarray[Any, Any]:
        if not whole.is_fully_addressable:
            return np.ravel(multihost_utils.process_allgather(whole, tiled=True))[start:stop]
        found: list[np.ndarray[Any, Any]] = []
        for shard in whole.addressable_shards:
            first = shard.index[0].start or 0
            low, high = max(start, first), min(stop, first + self.width)
            if low < high:
                found.append(on_host(shard.data)[low - first : high - first])
        return np.concatenate(found)

    def _gather(self) -> None:
        strays = [(i, self._members[i]()) for i in sorted(self._strays)]
        with jax.core.eval_context():
            if self._before is None:
                parts = [np.zeros(self.width, self.dtype.np_dtype) for _ in self.local()]
            else:
                parts = [np.array(part) for part in self.parts(self._before)]
            for device, part in zip(self.local(), parts, strict=True):
                first = self.devices.index(device) * self.width
                for i, param in strays:
                    if param is not None:
                        self._put_into(part, first, i, param)
            self._value = self.assembled(parts)
        self._before = None
        self._strays.clear()
        for _, param in strays:
            if param is not None:
                param._value = param._recipe = None
                tracing.lent.discard(param)

    def _put_into(self, part: Any, first: int, i: int, param: Parameter) -> None:
        """Write what of a stray lies in the part of the flat array that begins at `first`."""
        start = self.plan.starts[i]
        low = max(start, first)
        high = min(start + self.plan.sizes[i], first + self.width)
        if low < high:
            part[low - first : high - first] = _elements(param, low - start, high - start)

    def joined(self, base: Any, others: Mapping[int, Any]) -> Any:
        """This device's part, with other values for some members; traceable."""
        return self.plan.join(
            [
                others[i] if i in others else self.plan.part(base, i)
                for i in range(len(self._members))
            ]
        )


def _elements(param: Parameter, low: int, high: int) -> Any:
    """Elements of a Parameter, in the order of memory; of a recipe, no more rows than needed."""
    recipe = param._recipe
    if param._value is not None or recipe is None:
        return np.ravel(on_host(param._concrete()))[low:high]
    return _computed(recipe, low, high)


def _computed(recipe: Recipe, low: int, high: int) -> Any:
    if isinstance(recipe.initializer, Constant):
        return recipe.initializer.constant(recipe.dtype)
    if not recipe.shape:
        return np.ravel(np.asarray(recipe.compute()))
    row = recipe.size // recipe.shape[0]
    first, last = low // row, -(-high // row)
    rows = np.ravel(np.asarray(recipe.compute((slice(first, last),))))
    return rows[low - first * row : high - first * row]
