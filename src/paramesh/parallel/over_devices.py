"""Values of which each device holds a part: one array, its first axis cut over all devices.

Programs of data_parallel and hybrid_parallel give each device its part.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.core
import numpy as np
from jax.sharding import NamedSharding

from paramesh.parameter import Parameter, Plan, Pool


class OverDevices(Pool):
    """A pool whose array is cut along its first axis over the devices of a mesh.

    Args:
        name: for messages.
        plan: what a device sees, and where the members lie in it.
        members: the Parameters, of one element type.
        owner: see `Pool`.
        sharding: of the array: its first axis over all devices.
        devices: of the mesh, by rank.

    Attributes:
        shape: of the part that a device sees.
        global_shape: of the array.
    """

    shape: tuple[int, ...]
    global_shape: tuple[int, ...]

    def __init__(
        self,
        name: str,
        plan: Plan,
        members: Sequence[Parameter],
        owner: Any,
        sharding: NamedSharding,
        devices: Sequence[Any],
    ) -> None:
        super().__init__(name, plan, members[0].dtype, members, owner)
        self.sharding = sharding
        self.devices = tuple(devices)

    def local(self) -> list[Any]:
        """The devices of this process, by rank."""
        here = jax.process_index()
        return [d for d in self.devices if d.process_index == here]

    @staticmethod
    def parts(whole: Any) -> list[np.ndarray[Any, Any]]:
        """What the devices of this process hold of the array, by rank."""
        shards = sorted(whole.addressable_shards, key=lambda shard: shard.index[0].start or 0)
        return [np.asarray(shard.data) for shard in shards]

    def assembled(self, parts: Sequence[Any]) -> Any:
        """The array, from what the devices of this process are to hold."""
        with jax.core.eval_context():
            placed = [jax.device_put(p, d) for p, d in zip(parts, self.local(), strict=True)]
            return jax.make_array_from_single_device_arrays(
                self.global_shape, self.sharding, placed
            )
