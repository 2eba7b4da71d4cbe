"""`mint.distributed`: the processes that there are, by torch's names."""

from __future__ import annotations

import jax

from paramesh.parallel import communication

__all__ = [
    "barrier",
    "destroy_process_group",
    "get_rank",
    "get_world_size",
    "init_process_group",
    "is_available",
    "is_initialized",
]


def is_available() -> bool:
    """True."""
    return True


def is_initialized() -> bool:
    """Whether there are several processes."""
    return jax.process_count() > 1


def init_process_group(backend: str = "", **settings: object) -> None:
    """Join the other processes, as `communication.init`."""
    communication.init()


def destroy_process_group(group: str | None = None) -> None:
    """Does nothing: the processes part at their end."""


def get_rank(group: str | None = None) -> int:
    """The number of this process's first device."""
    return communication.get_rank()


def get_world_size(group: str | None = None) -> int:
    """How many devices there are."""
    return communication.get_group_size()


def barrier(group: str | None = None) -> None:
    """Wait for what the devices are doing."""
    jax.effects_barrier()
