"""Who takes part in a collective operator: groups of devices, by name."""

from __future__ import annotations

from dataclasses import dataclass

#: The name of the group of all devices, and its other name.
WORLD, OTHER_WORLD = "hccl_world_group", "nccl_world_group"


@dataclass(frozen=True)
class Participants:
    """The devices that a collective operator runs over.

    Attributes:
        axis: the name of the axis over all devices of the running program; None if it is one
            device's alone.
        parts: the ranks of the group, or of each of the groups, with that name.
        count: how many devices run the program.
    """

    axis: str | None
    parts: tuple[tuple[int, ...], ...]
    count: int
