"""Collective operations of the processes of a group, where Python reaches them.

The operators of `ops` are about one program that all devices run. Here the processes of a group
alone come to an operation, each with the values of its one device, as in torch and MindSpore's
`mint.distributed`: the program is over the devices of the group (see `modes.meeting`). It does not
matter which parallel mode is set.

Glossary
    members   the ranks of a group, in its order
    place     a rank's position among the members
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh

from paramesh.dtype import x64
from paramesh.errors import ProgramNeededError
from paramesh.parallel.communication import management
from paramesh.parallel.layouts.mesh import all_devices
from paramesh.parallel.modes import meeting
from paramesh.parallel.modes.meeting import DEVICES
from paramesh.parallel.processes import groups

Members = tuple[int, ...]

REDUCTIONS = ("sum", "avg", "max", "min", "prod")


def members(group: str | None, call: str) -> Members:
    """The ranks of a group that this process is in; of the world for None.

    Raises:
        TypeError: not a name. ValueError: there is no such group, or this process is not in it.
        ProgramNeededError: this process has several devices of it.
    """
    if group is not None and not isinstance(group, str):
        raise TypeError(f"{call}: group must be the name of a group or None, got {group!r}.")
    rank = management.first_rank()
    found = groups.group_of(groups.WORLD_NAMES[0] if group is None else group, rank)
    if found is None:
        raise ValueError(f"{call}: rank {rank} is not in the group '{group}'.")
    devices = all_devices()
    here = [r for r in found if devices[r].process_index == jax.process_index()]
    if len(here) > 1:
        raise ProgramNeededError(
            f"{call}: this process has {len(here)} devices of the group, and outside of compiled "
            "programs it computes with the batch of all of them, so there are no values of each "
            "that could meet. Start one process for each device (paramesh launch "
            "--devices-per-process 1), or call it in a program of data_parallel or "
            "hybrid_parallel."
        )
    return found


def _together(
    found: Members, name: str, settings: tuple[Hashable, ...], compute: Callable[..., Any], x: Array
) -> Array:
    """`compute(x)` on the devices of the members; what ours gives."""
    if not meeting.is_known(x):
        raise ProgramNeededError(
            f"mint.distributed.{name}: processes meet where values are known, and inside of a "
            "transform or program of one process they are not. Call it outside of it, or set "
            "parallel_mode='data_parallel' (or 'hybrid_parallel'), in which all devices run the "
            "program."
        )
    devices = all_devices()
    mesh = Mesh(np.array([devices[rank] for rank in found]), (DEVICES,))
    with x64(x):
        key = ("members", name, *settings)
        return meeting.run(mesh, name, key, lambda *arrays: [compute(*arrays)], [x])[0]


def _local(op: str) -> Callable[..., Any]:
    return {"sum": jnp.sum, "max": jnp.max, "min": jnp.min, "prod": jnp.prod, "avg": jnp.mean}[op]


def all_reduce(x: Array, op: str, found: Members) -> Array:
    """The reduction of the members' values, on each of them."""
    if len(found) == 1:
        return x

    def compute(x: Array) -> Array:
        if op == "prod":
            return jnp.prod(lax.all_gather(x, DEVICES), 0, dtype=x.dtype)
        fn = {"sum": lax.psum, "avg": lax.pmean, "max": lax.pmax, "min": lax.pmin}[op]
        return fn(x, DEVICES).astype(x.dtype)

    return _together(found, "all_reduce", (op,), compute, x)


def all_gather(x: Array, found: Members) -> Array:
    """(...) -> (members, ...): the value of each."""
    if len(found) == 1:
        return x[None]
    return _together(found, "all_gather", (), lambda x: lax.all_gather(x, DEVICES), x)


def all_to_all(x: Array, found: Members) -> Array:
    """(members, ...) -> (members, ...): row i is sent to member i, and comes from it."""
    if len(found) == 1:
        return x
    return _together(
        found, "all_to_all", (), lambda x: lax.all_to_all(x, DEVICES, 0, 0, tiled=True), x
    )


def reduce_scatter(x: Array, op: str, found: Members) -> Array:
    """(members, ...) -> (...): the reduction of each member's own row."""
    if len(found) == 1:
        return x[0]

    def compute(x: Array) -> Array:
        if op == "sum":
            return lax.psum_scatter(x, DEVICES)
        rows = lax.all_to_all(x, DEVICES, 0, 0, tiled=True)
        return _local(op)(rows, axis=0).astype(x.dtype)

    return _together(found, "reduce_scatter", (op,), compute, x)


def broadcast(x: Array, place: int, found: Members) -> Array:
    """The value of the member at a place, on each."""
    if len(found) == 1:
        return x

    def compute(x: Array) -> Array:
        own = lax.axis_index(DEVICES) == place
        sent = x.astype(jnp.int8) if x.dtype == jnp.bool_ else x
        return lax.psum(jnp.where(own, sent, jnp.zeros((), sent.dtype)), DEVICES).astype(x.dtype)

    return _together(found, "broadcast", (place,), compute, x)
