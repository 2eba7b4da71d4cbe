"""Resharding the arrays of states for a program, without making readers wait.

With several processes, resharding may wait for the others. So it is done without the lock that
readers take, and stored afterwards, unless the state was written in the meantime. Programs that
share states wait for each other's resharding: how often it happens, which all processes have to
agree on, must not depend on which thread comes first.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramesh.array_types import Array
from paramesh.state import storage
from paramesh.state.placement import Placement
from paramesh.state.protocols import State
from paramesh.transforms.escaped_buffers import contents_of


def relocate(place: Placement, states: Sequence[State]) -> None:
    """Reshard the arrays of states for programs; no lock of theirs may be held.

    States to which another thread has given a recipe or another array in the meantime are left as
    they are: the caller checks again with the lock.
    """
    groups: dict[storage.Domain, list[State]] = {}
    for state in states:
        groups.setdefault(storage.domain_of(state), []).append(state)
    # One domain after another: threads of two networks that share a random generator would
    # otherwise wait for each other, across processes.
    for domain, group in groups.items():
        with domain.resharding:
            before = storage.still(group, contents_of)
            if not storage.UNREADY.isdisjoint(map(type, before)):
                continue
            # While these references exist, a step of another thread donates copies.
            after = list(before)
            place.reshard(group, after)
            moved = [
                (state, old, new)
                for state, old, new in zip(group, before, after, strict=True)
                if new is not old
            ]
            if moved:
                storage.inside(group[0], storage.relocate, moved)


def placed_arrays(place: Placement, states: Sequence[State]) -> list[Array]:
    """The arrays of states, in the shardings that programs need."""
    while states:
        for state in states:
            state._concrete()
        relocate(place, states)
        arrays = storage.still(states, contents_of)
        if storage.UNREADY.isdisjoint(map(type, arrays)) and place.is_placed(states, arrays):
            return arrays
    return []
