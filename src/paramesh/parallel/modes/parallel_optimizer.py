"""The parallel optimizer: optimizer state divided over devices that all hold the Parameters.

Every device updates its shard of each Parameter with its shard of the state, and the devices then
gather the new shards (ZeRO stage 1: Rajbhandari et al. 2020, arXiv:1910.02054; MindSpore's
`enable_parallel_optimizer`). The state exists nowhere in full. A shard is a slice of the flattened
Parameter, so that no shape has to be divisible.

Glossary
    shard       the elements of a flat array that one device has; all shards are equally long, the
                last ones are padded with zeros
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding

from paramesh._compat.jax import eval_context
from paramesh.array_types import Array, HostArray
from paramesh.dtype import DType
from paramesh.errors import ContextError
from paramesh.parallel.modes import meeting
from paramesh.parameter import FlatLayout, Parameter, Pool
from paramesh.sampling.recipe import Recipe
from paramesh.state import placement, storage
from paramesh.state.placement import ProgramPlacement

if TYPE_CHECKING:
    from paramesh.optim import Optimizer


class Divider:
    """How values of one size are divided over the devices of a mesh with one axis.

    Args:
        size: elements.
        sharding: of arrays that are sharded along their first axis over all devices.
        devices: of the mesh, by rank.
    """

    def __init__(self, size: int, sharding: NamedSharding, devices: Sequence[Any]) -> None:
        self.size = size
        self.sharding = sharding
        self.devices = tuple(devices)
        self.axis: Any = sharding.mesh.axis_names[0]
        self.shard_size = -(-size // len(self.devices))

    def shard(self, value: Array) -> Any:
        """This device's shard of a value that all devices have; traceable inside a program.

        Raises:
            ProgramNeededError: outside of programs, where this process has several devices.
        """
        place = placement.current()
        if not place.meets:
            return place.meet("enable_parallel_optimizer", (), _nothing, (value,))[0]
        flat = jnp.ravel(value)
        filling = self.shard_size * len(self.devices) - self.size
        flat = jnp.pad(flat, (0, filling)) if filling else flat
        rank = lax.axis_index(self.axis) if meeting.inside() else self._rank()
        return lax.dynamic_slice(flat, (rank * self.shard_size,), (self.shard_size,))

    def join(self, shard: Array, shape: tuple[int, ...]) -> Any:
        """The value of which each device gives its shard; traceable inside a program."""
        (full,) = placement.current().meet(
            "enable_parallel_optimizer", "shards", self._gathered, (shard,)
        )
        return full[: self.size].reshape(shape)

    def _gathered(self, shard: Array) -> list[Array]:
        return [lax.all_gather(shard, self.axis, tiled=True)]

    def _rank(self) -> int:
        """That of this process's one device."""
        here = jax.process_index()
        return next(i for i, d in enumerate(self.devices) if d.process_index == here)

    def pool(
        self,
        name: str,
        layout: FlatLayout,
        dtype: DType,
        members: Sequence[Parameter],
        owner: Optimizer,
    ) -> SplitState:
        """The pool that holds the shards of `members`."""
        return SplitState(name, layout, dtype, members, owner, self)


class SplitState(Pool):
    """Optimizer state of which every device has a shard.

    The members read, save and load like other Parameters, one at a time: what is read is put
    together on the host. With several processes a member cannot be read outside of programs, since
    no process has all of it; sharded checkpoints keep the shards.
    """

    def __init__(
        self,
        name: str,
        layout: FlatLayout,
        dtype: DType,
        members: Sequence[Parameter],
        owner: Any,
        divider: Divider,
    ) -> None:
        super().__init__(name, _ShardLayout(layout, divider), dtype, members, owner)
        self.divider = divider
        self.shape = (divider.shard_size,)

    @property
    def sharding(self) -> NamedSharding:
        """Of the array of all shards."""
        return self.divider.sharding

    @property
    def global_shape(self) -> tuple[int, ...]:
        """The shape of the array of all shards."""
        return (self.divider.shard_size * len(self.divider.devices),)

    def movable(self) -> bool:
        """Whether this process has all shards, and can put the members together."""
        base = self.base()
        return base is None or base.is_fully_addressable

    def enter(self, placement: ProgramPlacement) -> None:
        """Refuse programs over other devices, if the members cannot be put together here.

        Raises:
            ContextError: the placement is another one.
        """
        if getattr(placement, "devices", None) != self.divider.devices and not self.movable():
            raise self._elsewhere()
        super().enter(placement)

    def declared(self) -> list[Parameter]:
        """None: recipes run in `_gather`, one after another, and only the shards are kept."""
        return []

    def take(self, i: int) -> Any:
        """An array of its own with the value of a member.

        Raises:
            ContextError: other processes have shards of it.
        """
        if not self.movable():
            raise self._elsewhere()
        return super().take(i)

    def _elsewhere(self) -> ContextError:
        return ContextError(
            f"{self.name} is divided over the devices of several processes "
            "(enable_parallel_optimizer), and this process has only its own shards. Read it "
            "in a program that all of them run, save it by save_checkpoint(…, "
            "format='sharded'), or train without dividing it."
        )

    def _member_of(self, base: Array, i: int) -> Any:
        start, size = self.layout.starts[i], self.layout.sizes[i]
        member = np.empty(size, self.dtype.np_dtype)
        for shard in base.addressable_shards:
            at = shard.index[0].start or 0
            _copy(np.asarray(shard.data), at, member, start)
        return jnp.asarray(member.reshape(self.layout.shapes[i]))

    def view(self, i: int) -> None:
        """None: the array is not the values of members side by side."""

    def located(self, i: int) -> tuple[Any, int] | None:
        """Where member `i` lies: the array of all shards, and the member's first element in it.

        None for a stray, which holds its value itself.
        """
        return storage.inside(self, self._located, i)

    def _located(self, i: int) -> tuple[Any, int] | None:
        return None if self._is_detached(i) else (self.base(), self.layout.starts[i])

    def _gather(self) -> None:
        size, sharding = self.divider.shard_size, self.sharding
        indices: Any = sharding.addressable_devices_indices_map(self.global_shape)
        here = {device: index[0].start or 0 for device, index in indices.items()}
        base = self.base()
        with eval_context():
            shards = {device: np.zeros(size, self.dtype.np_dtype) for device in here}
            if base is not None:
                for shard in base.addressable_shards:
                    shards[shard.device] = np.array(shard.data)
            for i, param in self.detached():
                value = np.ravel(_value(param))
                for device, at in here.items():
                    _copy(value, self.layout.starts[i], shards[device], at)
            arrays = [jax.device_put(shards[device], device) for device in here]
            array = jax.make_array_from_single_device_arrays(self.global_shape, sharding, arrays)
        self._store_inside(array)

    def joined(self, base: Array, others: Mapping[int, Any]) -> Any:
        """This device's shard with other values for some members; traceable."""
        flat = self.divider.join(base, (self.divider.size,))
        for i, value in others.items():
            flat = lax.dynamic_update_slice(flat, value.ravel(), (self.layout.starts[i],))
        return self.divider.shard(flat)

    def _changes(self, value: Array) -> list[storage.Change]:
        """Outside of programs a process of one device writes its shard."""
        if value.shape != self.global_shape:
            value = meeting.over_all(value, self.sharding)
        return super()._changes(value)


class _ShardLayout(FlatLayout):
    """A layout of which a device sees its shard."""

    def __init__(self, layout: FlatLayout, divider: Divider) -> None:
        super().__init__(layout.shapes)
        self._divider = divider

    def join(self, arrays: Sequence[Any]) -> Any:
        """This device's shard of the members' arrays; traceable."""
        return self._divider.shard(super().join(arrays))

    def member(self, flat: Array, i: int, ranks: Sequence[Any] | None = None) -> Any:
        """Member `i`, put together from all devices; traceable."""
        return super().member(self._divider.join(flat, (self._divider.size,)), i, ranks)


def _nothing(value: Array) -> list[Array]:
    return [value]


def _value(param: Parameter) -> Any:
    """A member's value, of a recipe too, without its being kept."""
    contents: Any = param._contents
    if isinstance(contents, Recipe):
        return np.asarray(contents.compute())
    return np.asarray(contents.addressable_data(0))


def _copy(source: HostArray, source_at: int, target: HostArray, target_at: int) -> None:
    """Copy what two stretches of a flat array, given with their first elements, share."""
    low = max(source_at, target_at)
    high = min(source_at + len(source), target_at + len(target))
    if low < high:
        target[low - target_at : high - target_at] = source[low - source_at : high - source_at]
