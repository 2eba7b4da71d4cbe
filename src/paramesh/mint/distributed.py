"""`mint.distributed`: the processes that there are, by torch's names.

Functions write into the Tensors that they are given. Outside of compiled programs the processes of
a group come to them, each with one device; inside of a program of data_parallel or hybrid_parallel
all devices do. With `async_op=True` they give a handle to wait with: nothing of JAX waits before
values are asked for. Messages between two processes (`send`, objects) go by way of one of them.
"""

from __future__ import annotations

import jax
import numpy as np

from paramesh.mint.meetings import (
    all_gather,
    all_gather_into_tensor,
    all_gather_into_tensor_uneven,
    all_reduce,
    all_to_all,
    all_to_all_single,
    barrier,
    broadcast,
    gather,
    reduce,
    reduce_scatter,
    reduce_scatter_tensor,
    reduce_scatter_tensor_uneven,
    scatter,
)
from paramesh.mint.messages import (
    P2POp,
    all_gather_object,
    batch_isend_irecv,
    broadcast_object_list,
    gather_object,
    irecv,
    isend,
    recv,
    recv_object_list,
    scatter_object_list,
    send,
    send_object_list,
)
from paramesh.parallel import communication
from paramesh.parallel.communication import management
from paramesh.parallel.processes import groups

__all__ = [
    "P2POp",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_into_tensor_uneven",
    "all_gather_object",
    "all_reduce",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "batch_isend_irecv",
    "broadcast",
    "broadcast_object_list",
    "destroy_process_group",
    "gather",
    "gather_object",
    "get_backend",
    "get_global_rank",
    "get_group_rank",
    "get_process_group_ranks",
    "get_rank",
    "get_world_size",
    "init_process_group",
    "irecv",
    "is_available",
    "is_initialized",
    "isend",
    "new_group",
    "recv",
    "recv_object_list",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "reduce_scatter_tensor_uneven",
    "scatter",
    "scatter_object_list",
    "send",
    "send_object_list",
]


def is_available() -> bool:
    """True."""
    return True


def is_initialized() -> bool:
    """Whether `init_process_group` was called."""
    return management.GlobalComm.INITED


def init_process_group(
    backend: str = "hccl",
    init_method: str | None = None,
    timeout: object = None,
    world_size: int = -1,
    rank: int = -1,
    **settings: object,
) -> None:
    """Join the other processes, as `communication.init`.

    Args:
        backend: of no effect: JAX's collectives are NCCL's on GPUs and gloo's on CPUs.
        init_method: of no effect: processes find each other by what `paramesh launch`, SLURM or
            Open MPI say.
        timeout: of no effect.
        world_size: the number of devices, to be checked; -1: whatever it is.
        rank: this process's, to be checked; -1: whatever it is.
        **settings: of no effect.

    Raises:
        ValueError: `world_size` or `rank` is another.
    """
    communication.init()
    there = communication.get_group_size()
    if world_size not in (-1, there):
        raise ValueError(f"init_process_group: world_size={world_size}, but there are {there}.")
    mine = communication.get_rank()
    if rank not in (-1, mine):
        raise ValueError(f"init_process_group: rank={rank}, but this process has rank {mine}.")


def destroy_process_group(group: str | None = None) -> None:
    """Forget a group; None: part from the other processes, which waits for all of them.

    Raises:
        ValueError: no group of that name.
    """
    if group is not None and group not in groups.WORLD_NAMES:
        groups.destroy(group)
    elif is_initialized():
        communication.release()


def _named(group: str | None, call: str) -> str:
    if group is not None and not isinstance(group, str):
        raise TypeError(f"{call}: group must be the name of a group or None, got {group!r}.")
    return groups.WORLD_NAMES[0] if group is None else group


def get_rank(group: str | None = None) -> int:
    """The rank of this process's first device in a group; -1 where it is not in it.

    Raises:
        ContextError: `init_process_group` was not called.
    """
    name = _named(group, "get_rank")
    if name not in groups.WORLD_NAMES and not _is_in(name):
        return -1
    return communication.get_rank(name)


def get_world_size(group: str | None = None) -> int:
    """How many devices are in a group; -1 where this process's first one is not.

    Raises:
        ContextError: `init_process_group` was not called.
    """
    name = _named(group, "get_world_size")
    if name not in groups.WORLD_NAMES and not _is_in(name):
        return -1
    return communication.get_group_size(name)


def _is_in(name: str) -> bool:
    return bool(name) and groups.group_of(name, management.first_rank()) is not None


def new_group(
    ranks: list[int] | None = None,
    timeout: object = None,
    backend: str | None = None,
    pg_options: object = None,
    use_local_synchronization: bool = False,
    group_desc: str | None = None,
) -> str:
    """The name of the group of some ranks (None: of all), which is made if it is new.

    The other arguments are of no effect.

    Returns:
        Its name; "" where this process is not in it, as in MindSpore.

    Raises:
        TypeError: not a list. ValueError: a rank that there is not.
    """
    if ranks is None:
        return groups.WORLD_NAMES[0]
    if not isinstance(ranks, list):
        raise TypeError(f"new_group: ranks must be a list of ranks or None, got {ranks!r}.")
    name = "ranks_" + "_".join(str(rank) for rank in sorted(ranks))
    if not groups.is_made(name):
        communication.create_group(name, sorted(ranks))
    return name if _is_in(name) else ""


def get_backend(group: str | None = None) -> str:
    """What JAX's collectives are: "nccl" on GPUs, "gloo" on CPUs."""
    _named(group, "get_backend")
    platform = jax.default_backend()
    return {"cpu": "gloo", "gpu": "nccl"}.get(platform, platform)


def get_global_rank(group: str | None, group_rank: int) -> int:
    """The rank among all of one of a group.

    Raises:
        TypeError, ValueError: no such group, or no such rank in it.
    """
    return communication.get_world_rank_from_group_rank(
        _named(group, "get_global_rank"), group_rank
    )


def get_group_rank(group: str | None, global_rank: int) -> int:
    """The place in a group of one of all ranks.

    Raises:
        TypeError, ValueError: no such group, or the rank is not in it.
    """
    return communication.get_group_rank_from_world_rank(
        global_rank, _named(group, "get_group_rank")
    )


def get_process_group_ranks(group: str | None = None) -> list[int]:
    """The ranks of a group that this process is in.

    Raises:
        ValueError: no such group, or this process is not in it.
    """
    name = _named(group, "get_process_group_ranks")
    found = groups.group_of(name, management.first_rank())
    if found is None:
        raise ValueError(f"get_process_group_ranks: this process is not in the group '{name}'.")
    return np.asarray(found).tolist()
