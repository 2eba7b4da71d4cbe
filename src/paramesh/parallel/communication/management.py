"""`mindspore.communication`: joining the other processes, ranks, groups.

A rank is a device's place among all devices. With one device for each process, as `paramesh
launch` starts them on a machine of several, ranks are those of MindSpore. A process of several
devices has the rank of its first one; inside a program of data_parallel or hybrid_parallel, where
one text runs on all of them, `get_rank()` is the rank of the device that runs it.
"""

from __future__ import annotations

import socket
import zlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh._compat.jax import process_allgather
from paramesh.errors import ContextError
from paramesh.parallel.layouts.mesh import all_devices
from paramesh.parallel.modes import meeting
from paramesh.parallel.modes.meeting import DEVICES
from paramesh.parallel.processes import groups, membership
from paramesh.parallel.processes.groups import HCCL_WORLD_COMM_GROUP, NCCL_WORLD_COMM_GROUP
from paramesh.providers import providers
from paramesh.state import placement
from paramesh.tensor.base import wrap

__all__ = [
    "init",
    "release",
    "get_rank",
    "get_group_size",
    "get_local_rank",
    "get_local_rank_size",
    "create_group",
    "destroy_group",
    "get_world_rank_from_group_rank",
    "get_group_rank_from_world_rank",
    "GlobalComm",
    "HCCL_WORLD_COMM_GROUP",
    "NCCL_WORLD_COMM_GROUP",
]

_BACKENDS = ("hccl", "nccl", "mccl", "gloo")


class GlobalComm:
    """What MindSpore scripts look up: the group of all devices, and whether `init` was called."""

    BACKEND: str = ""
    WORLD_COMM_GROUP: str = HCCL_WORLD_COMM_GROUP
    INITED: bool = False


_alone = providers.group_size


class _State:
    #: For each process a number that processes of one host have in common; [] for one process.
    hosts: list[int]


_state = _State()
_state.hosts = []


def init(backend_name: str | None = None) -> None:
    """Join the other processes of this run, if the environment names any (see `membership`).

    Comes before the first Tensor is made, and in all processes. A second call does nothing.

    Args:
        backend_name: MindSpore's "hccl", "nccl", "mccl", or "gloo"; checked, and of no effect:
            JAX's collectives are NCCL's on GPUs and gloo's on CPUs.

    Raises:
        TypeError, ValueError: another backend.
        ContextError: see `processes.join`.
    """
    if backend_name is not None and not isinstance(backend_name, str):
        raise TypeError(f"init: backend_name must be a str or None, got {backend_name!r}.")
    if backend_name is not None and backend_name not in _BACKENDS:
        names = ", ".join(map(repr, _BACKENDS))
        raise ValueError(f"init: backend_name={backend_name!r} is not one of {names}.")
    if GlobalComm.INITED:
        return
    if membership.join():
        mine = np.array(zlib.crc32(socket.gethostname().encode()), np.uint32)
        seen = process_allgather(mine)
        _state.hosts = np.ravel(seen).tolist()
    platform = jax.default_backend()
    GlobalComm.BACKEND = {"cpu": "gloo", "gpu": "nccl"}.get(platform, platform)
    GlobalComm.INITED = True
    providers.group_size = _devices_in


def release() -> None:
    """Forget all groups, and leave the other processes; waits until all of them do.

    Raises:
        ContextError: `init` was not called.
    """
    _require("release")
    groups.clear()
    GlobalComm.INITED, GlobalComm.BACKEND = False, ""
    providers.group_size = _alone
    membership.leave()


def _require(call: str) -> None:
    if not GlobalComm.INITED:
        raise ContextError(f"{call}: call paramesh.communication.init() first.")


def first_rank() -> int:
    """The rank of this process's first device."""
    here = jax.process_index()
    return next(i for i, d in enumerate(all_devices()) if d.process_index == here)


def _running() -> placement.Placement | None:
    """The placement whose program is being traced on this thread, if each device runs it."""
    place = placement.current()
    return place if place.per_device and meeting.inside() else None


def _of_device(table: dict[int, int], count: int) -> Any:
    """The entry of the device that runs the program, as an Int32 Tensor."""
    numbers = np.array([table.get(rank, 0) for rank in range(count)], np.int32)
    return wrap(jnp.asarray(numbers)[lax.axis_index(DEVICES)])


def get_rank(group: str = HCCL_WORLD_COMM_GROUP) -> Any:
    """The rank of this process's first device in a group; for a worker of servers its own.

    Returns:
        An int; inside a program of data_parallel or hybrid_parallel an Int32 Tensor of shape (),
        the rank of the device that runs it (0 on a device that is in no group of the name).

    Raises:
        ContextError: `init` was not called.
        ValueError: no such group, or this process's first device is not in it.
    """
    place = _running()
    if place is not None:
        subgroups = groups.partition(group)
        return _of_device(
            {r: i for subgroup in subgroups for i, r in enumerate(subgroup)}, place.count
        )
    _require("get_rank")
    worker = membership.worker_of_servers() if group == HCCL_WORLD_COMM_GROUP else None
    if worker is not None:
        return worker[0]
    return _mine(group).index(first_rank())


def _mine(group: str) -> tuple[int, ...]:
    found = groups.group_of(group, first_rank())
    if found is None:
        raise ValueError(
            f"Rank {first_rank()} is in no group '{group}', which is "
            f"{list(map(list, groups.partition(group)))}."
        )
    return found


def get_group_size(group: str = HCCL_WORLD_COMM_GROUP) -> int:
    """How many devices are in a group: in the one of the world, all of the settings.

    For a worker of servers that JAX has not joined with others, how many workers there are.

    Raises:
        ContextError: `init` was not called.
        ValueError: no such group, or the device is not in it.
    """
    if _running() is None:
        _require("get_group_size")
        worker = membership.worker_of_servers() if group == HCCL_WORLD_COMM_GROUP else None
        if worker is not None:
            return worker[1]
    return _devices_in(group)


def _devices_in(group: str) -> int:
    subgroups = groups.partition(group)
    sizes = {len(subgroup) for subgroup in subgroups}
    return sizes.pop() if len(sizes) == 1 else len(_mine(group))


def get_local_rank(group: str = HCCL_WORLD_COMM_GROUP) -> int:
    """The place of this process's first device among those of its host that are in a group.

    Raises:
        ContextError, ValueError: as `get_rank`.
    """
    _require("get_local_rank")
    return _of_this_host(group).index(first_rank())


def get_local_rank_size(group: str = HCCL_WORLD_COMM_GROUP) -> int:
    """How many devices of this host are in a group.

    Raises:
        ContextError, ValueError: as `get_rank`.
    """
    _require("get_local_rank_size")
    return len(_of_this_host(group))


def _of_this_host(group: str) -> list[int]:
    devices = all_devices()
    hosts = _state.hosts or [0] * jax.process_count()
    here = hosts[jax.process_index()]
    return [rank for rank in _mine(group) if hosts[devices[rank].process_index] == here]


def create_group(group: str, rank_ids: Any) -> None:
    """Give some devices a name, for collective operators and the calls here.

    Every process makes the same groups: all devices run one program.

    Args:
        group: the name.
        rank_ids: the ranks of its devices; or a list of such lists, none of which shares a device
            with another: then each device means the group that it is in.

    Raises:
        ContextError: `init` was not called.
        TypeError, ValueError: a name that is taken, ranks that there are not.
    """
    _require("create_group")
    groups.make(group, rank_ids)


def destroy_group(group: str) -> None:
    """Forget a group.

    Raises:
        ContextError: `init` was not called.
        ValueError: no such group, or that of all devices.
    """
    _require("destroy_group")
    groups.destroy(group)


def get_world_rank_from_group_rank(group: str, group_rank_id: int) -> int:
    """The rank among all devices of one of the group that this process is in.

    Raises:
        ContextError: `init` was not called.
        TypeError, ValueError: no such group, or no such rank in it.
    """
    _require("get_world_rank_from_group_rank")
    ranks = _mine(group)
    if type(group_rank_id) is not int:
        raise TypeError(f"group_rank_id must be an int, got {group_rank_id!r}.")
    if not 0 <= group_rank_id < len(ranks):
        raise ValueError(
            f"group_rank_id={group_rank_id} is outside 0..{len(ranks) - 1}: '{group}' has "
            f"{len(ranks)} devices."
        )
    return ranks[group_rank_id]


def get_group_rank_from_world_rank(world_rank_id: int, group: str) -> int:
    """The place in a group of a device that has this rank among all.

    Raises:
        ContextError: `init` was not called.
        TypeError, ValueError: no such group, or the device is not in it.
    """
    _require("get_group_rank_from_world_rank")
    if type(world_rank_id) is not int:
        raise TypeError(f"world_rank_id must be an int, got {world_rank_id!r}.")
    ranks = groups.group_of(group, world_rank_id)
    if ranks is None:
        raise ValueError(f"Rank {world_rank_id} is in no group '{group}'.")
    return ranks.index(world_rank_id)
