"""Arrays that lie over a mesh of the user's, said to lie over the mesh of a program.

Inside of `jax.set_mesh` all new arrays lie over that mesh, and an array may have been put there by
hand. In a program of several devices such an array is an error of JAX, though all its elements are
where they should be: axes of the kind `Explicit` are part of an array's type, and an operator that
is partitioned by a rule of paramesh wants all arrays of its program over one mesh.
"""

from __future__ import annotations

import jax
from jax.sharding import AbstractMesh, Mesh, NamedSharding

from paramesh.array_types import Array
from paramesh.parallel.layouts.jax_sharding import as_layout


def is_over(array: Array, mesh: Mesh | AbstractMesh) -> bool:
    """Whether an array is said to lie over a mesh, or over none."""
    sharding = array.sharding
    return not isinstance(sharding, NamedSharding) or sharding.mesh == mesh


def over(array: Array, mesh: Mesh) -> Array:
    """The same elements on the same devices, which are those of a mesh; nothing is copied.

    Args:
        array: over the devices of the mesh, in any order.
        mesh: of the program. What it cannot show gets a mesh of its own, as `Layout.sharding` says.
    """
    if is_over(array, mesh):
        return array
    return as_said(array, as_layout(array.sharding, array.shape).sharding(mesh))


def as_said(array: Array, sharding: NamedSharding) -> Array:
    """An array with an equivalent sharding; nothing is copied."""
    shards = [shard.data for shard in array.addressable_shards]
    return jax.make_array_from_single_device_arrays(array.shape, sharding, shards)
