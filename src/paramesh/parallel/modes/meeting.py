"""Devices that meet outside of programs: a collective operation as a small program of its own.

Where every process has one device, as in MindSpore, eager code of a process computes what its
device computes, so a collective operation can run where Python reaches it. The values of this
process become its shard of arrays over all devices, a program over these (`jax.shard_map`) does the
operation, and this process's shards of the results are what the operation gives. All processes
come to the same operations in the same order, as they do in MindSpore.

A process of several devices computes eagerly on the batch of all of them, and has no values of each
that could meet. There is no such program then: see `ProgramNeededError`.

Both ways across the border are linear operators of JAX, one the transpose of the other, so that
gradients of every order go through: what a device sends to others gets the sum of the gradients
that it has there, as inside of programs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh._compat.jax import Primitive, ShapedArray, ad, to_concrete_value
from paramesh.array_types import Array, ArrayLike

#: The mesh axis over all devices, by which collectives find each other.
DEVICES = "devices"

#: So many programs are kept.
MOST_PROGRAMS = 512


def inside() -> bool:
    """Whether a program over all devices is being traced on this thread."""
    try:
        lax.axis_index(DEVICES)
    except NameError:
        return False
    return True


def is_known(value: object) -> bool:
    """Whether an array has values now: also that of a gradient that is computed eagerly has."""
    return not isinstance(value, jax.core.Tracer) or to_concrete_value(value) is not None


def run(
    mesh: Mesh,
    operator: str,
    key: Hashable,
    compute: Callable[..., Sequence[Any]],
    arrays: Sequence[Any],
) -> list[Any]:
    """`compute(*arrays)` on all devices, each with the arrays of its process; the results of ours.

    Compiled once for each key, and shapes and element types of the arrays.

    Args:
        mesh: of all devices, of which this process has one, with the axis `DEVICES`.
        operator: the name of the program.
        key: equal for equal computations.
        compute: takes what one device has, and may use collectives; it gives several arrays.
        arrays: raw, alike in all processes.
    """
    kinds = tuple((tuple(a.shape), np.dtype(a.dtype)) for a in arrays)
    program = _programs.get((mesh, key, kinds))
    if program is None:
        for oldest in [*_programs][: max(0, len(_programs) + 1 - MOST_PROGRAMS)]:
            _programs.pop(oldest, None)  # another thread may have been here
        program = _programs[mesh, key, kinds] = _Program(mesh, operator, compute, kinds)
    sharded = NamedSharding(mesh, PartitionSpec(DEVICES))
    rows = [a if a.ndim else a.reshape(1) for a in arrays]
    results = program.compiled(*(_join.bind(row, sharded=sharded) for row in rows))
    own = [_own.bind(result, sharded=sharded) for result in results]
    return [a if has_axes else a.reshape(()) for a, has_axes in zip(own, program.axes, strict=True)]


class _Program:
    """One operation over all devices.

    Attributes:
        compiled: takes and gives arrays over all devices.
        axes: for each result whether it has axes; known when it was traced.
        traces: how often it was traced.
    """

    def __init__(
        self,
        mesh: Mesh,
        operator: str,
        compute: Callable[..., Sequence[Any]],
        kinds: Sequence[tuple[tuple[int, ...], Any]],
    ) -> None:
        self.axes: list[bool] = []
        self.traces = 0

        def of_one(*rows: jax.Array) -> list[jax.Array]:
            self.traces += 1
            given = [row.reshape(shape) for row, (shape, _) in zip(rows, kinds, strict=True)]
            results = [jnp.asarray(result) for result in compute(*given)]
            self.axes = [bool(result.ndim) for result in results]
            return [result if result.ndim else result.reshape(1) for result in results]

        of_one.__name__ = re.sub(r"\W+", "_", operator)
        sharded = PartitionSpec(DEVICES)
        # check_vma=False as in programs: a value is that of one device until devices meet.
        over_all = jax.shard_map(
            of_one, mesh=mesh, in_specs=sharded, out_specs=sharded, check_vma=False
        )
        self.compiled = jax.jit(over_all)


_programs: dict[Hashable, _Program] = {}


def programs() -> list[_Program]:
    """The operations that were compiled, the oldest first."""
    return list(_programs.values())


# The border between this process's arrays and those over all devices.

_join = Primitive("paramesh_join_devices")
_own = Primitive("paramesh_own_device")


def own_shard(array: Array) -> Any:
    """What this process's one device has of an array over all devices."""
    return array.addressable_data(0)


def over_all(given: ArrayLike, sharded: NamedSharding) -> Any:
    """An array over all devices, of which this process's one device has `given`.

    Args:
        given: an array with axes.
        sharded: along the first one.
    """
    row = given if isinstance(given, jax.Array) else jnp.asarray(given)
    (device,) = sharded.addressable_devices
    if len(row.sharding.device_set) > 1:
        row = row.addressable_data(0)
    if row.sharding.device_set != {device}:
        row = jax.device_put(row, device)
    shape = (len(sharded.device_set) * row.shape[0], *row.shape[1:])
    return jax.make_array_from_single_device_arrays(shape, sharded, [row])


def _joined_shape(row: ShapedArray, sharded: NamedSharding) -> ShapedArray:
    return ShapedArray((len(sharded.device_set) * row.shape[0], *row.shape[1:]), row.dtype)


def _own_shape(array: ShapedArray, sharded: NamedSharding) -> ShapedArray:
    return ShapedArray((array.shape[0] // len(sharded.device_set), *array.shape[1:]), array.dtype)


_join.def_impl(over_all)
_own.def_impl(lambda array, sharded: own_shard(array))
_join.def_abstract_eval(_joined_shape)
_own.def_abstract_eval(_own_shape)
ad.deflinear2(_join, lambda back, row, sharded: [_own.bind(back, sharded=sharded)])
ad.deflinear2(_own, lambda back, array, sharded: [_join.bind(back, sharded=sharded)])
