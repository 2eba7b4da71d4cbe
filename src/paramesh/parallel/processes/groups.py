"""Groups of devices, by name: who takes part in a collective operation.

Glossary
    rank        a device's place in the list of all devices of all processes (see `mesh.py`)
    world       all devices of the settings; its group has MindSpore's two names
    partition   what a name stands for: the ranks of one group, or of several that share no device,
                in which case each device means the one that it is in

In MindSpore every rank runs a program of its own, and a name may mean other ranks in each. Here all
devices run one program: a name is made once, with all the groups that it stands for.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from paramesh import context
from paramesh._compat.jax import process_allgather
from paramesh.errors import ContextError
from paramesh.parallel.layouts.mesh import all_devices
from paramesh.state.placement import OTHER_WORLD, WORLD

HCCL_WORLD_COMM_GROUP, NCCL_WORLD_COMM_GROUP = WORLD, OTHER_WORLD
WORLD_NAMES = (HCCL_WORLD_COMM_GROUP, NCCL_WORLD_COMM_GROUP)

Partition = tuple[tuple[int, ...], ...]

_groups: dict[str, Partition] = {}
_agreed: set[str] = set()


def devices_of_settings() -> tuple[Any, ...]:
    """The devices that programs of a parallel mode run on, by rank: `device_num` or all.

    Raises:
        ContextError: there are fewer devices, or a process would be left without one.
    """
    devices = all_devices()
    wanted = context.device_num()
    if wanted is None or wanted == len(devices):
        return devices
    kind = devices[0].platform.upper()
    if wanted > len(devices):
        raise ContextError(
            f"set_auto_parallel_context: device_num={wanted}, but there are {len(devices)} {kind} "
            f"devices. On the CPU, XLA_FLAGS=--xla_force_host_platform_device_count={wanted} makes "
            "virtual ones."
        )
    if len({d.process_index for d in devices[:wanted]}) < jax.process_count():
        raise ContextError(
            f"set_auto_parallel_context: device_num={wanted}, but the {jax.process_count()} "
            f"processes have {len(devices)} {kind} devices, and each must take part with one. "
            "Leave device_num out to use all of them, or start fewer processes."
        )
    return devices[:wanted]


def world() -> tuple[int, ...]:
    """The ranks of all devices of the settings."""
    return tuple(range(len(devices_of_settings())))


def make(name: str, ranks: Sequence[Any]) -> None:
    """Give a group, or several that share no device, a name.

    Raises:
        TypeError: no name, or no ranks.
        ValueError: the name is taken; ranks that there are not, or twice; no rank at all.
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"create_group: a group's name must be a str, got {name!r}.")
    if name in WORLD_NAMES or name in _groups:
        raise ValueError(
            f"create_group: there is a group '{name}' already; destroy_group it first, or choose "
            "another name."
        )
    shown = f"create_group('{name}', {ranks!r})"
    if not isinstance(ranks, list | tuple) or not ranks:
        raise TypeError(f"{shown}: needs the ranks of the group, such as [0, 1].")
    several = all(isinstance(subgroup, list | tuple) for subgroup in ranks)
    partition = tuple(tuple(subgroup) for subgroup in (ranks if several else [ranks]))
    listed = [rank for subgroup in partition for rank in subgroup]
    if not all(type(rank) is int for rank in listed):
        raise TypeError(f"{shown}: ranks are ints, such as [0, 1], or several lists of them.")
    count = len(world())
    if any(not 0 <= rank < count for rank in listed):
        raise ValueError(f"{shown}: there are {count} devices, so ranks are 0..{count - 1}.")
    if len(set(listed)) != len(listed) or not all(partition):
        raise ValueError(f"{shown}: a rank is there twice, or a group is empty.")
    _groups[name] = partition


def destroy(name: str) -> None:
    """Forget a group.

    Raises:
        ValueError: the world, or no group of this name.
    """
    if name in WORLD_NAMES:
        raise ValueError(f"destroy_group: '{name}' is the group of all devices, which stays.")
    partition(name)
    del _groups[name]
    _agreed.discard(name)


def is_made(name: str) -> bool:
    """Whether there is a group of that name."""
    return name in WORLD_NAMES or name in _groups


def clear() -> None:
    """Forget all groups."""
    _groups.clear()
    _agreed.clear()


def partition(name: object) -> Partition:
    """The groups that a name stands for.

    Raises:
        ValueError: there is no such group.
    """
    if name in WORLD_NAMES:
        return (world(),)
    found = _groups.get(name) if isinstance(name, str) else None
    if found is None:
        known = ", ".join(repr(n) for n in (HCCL_WORLD_COMM_GROUP, *_groups))
        raise ValueError(
            f"There is no group {name!r}; there are {known}. Make it: "
            f"paramesh.communication.create_group({name!r}, [0, 1])."
        )
    return found


def check_alike(name: str) -> None:
    """Refuse a group that other processes know otherwise: their programs would wait forever.

    Every process calls it, since every one compiles the same program.

    Raises:
        ContextError: it differs.
    """
    if jax.process_count() == 1 or name in WORLD_NAMES or name in _agreed:
        return
    mine = zlib.crc32(repr(partition(name)).encode())
    # On a thread of its own: JAX takes no values of processes while this one traces a program.
    with ThreadPoolExecutor(1, "paramesh-group") as thread:
        seen = thread.submit(process_allgather, np.array(mine, np.uint32)).result()
    if len(set(np.ravel(seen).tolist())) > 1:
        raise ContextError(
            f"The group '{name}' is {list(map(list, partition(name)))} in this process and another "
            "in others. All devices run one program: make it alike everywhere, with all the groups "
            f"that the name stands for, such as create_group('{name}', [[0, 1], [2, 3]])."
        )
    _agreed.add(name)


def group_of(name: str, rank: int) -> tuple[int, ...] | None:
    """The ranks of the group of that name which a device is in; None if it is in none."""
    return next((subgroup for subgroup in partition(name) if rank in subgroup), None)
