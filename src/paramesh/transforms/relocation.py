"""How the arrays of states come to where programs want them, while nobody else has to wait.

In several processes such a move may wait for the others. So it is made without the lock that
readers take, and put into its place afterwards, unless somebody has written meanwhile. Programs
that share states wait for each other's moves: how many moves there are, which all processes have to
agree about, must not depend on which thread comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from paramesh.state import storage
from paramesh.state.placement import Placement

_contents = attrgetter("_contents")


def relocate(place: Placement, states: Sequence[Any]) -> None:
    """Bring the arrays of states to where programs want them; no lock of theirs may be held.

    States that another thread has given a recipe, or an array from elsewhere, meanwhile are left as
    they are: whoever needs them looks again with the lock.
    """
    groups: dict[storage.Domain, list[Any]] = {}
    for state in states:
        groups.setdefault(storage.domain_of(state), []).append(state)
    # One after the other: threads of two networks that share a random generator would otherwise
    # wait for each other, across processes.
    for domain, members in groups.items():
        with domain.settling:
            before = storage.still(members, _contents)
            if not storage.UNREADY.isdisjoint(map(type, before)):
                continue
            # While these are referred to here, a step of another thread hands over copies.
            after = list(before)
            place.reshard(members, after)
            moved = [
                (state, old, new)
                for state, old, new in zip(members, before, after, strict=True)
                if new is not old
            ]
            if moved:
                storage.inside(members[0], storage.relocate, moved)


def settled_arrays(place: Placement, states: Sequence[Any]) -> list[Any]:
    """The arrays of states, where programs want them."""
    while states:
        for state in states:
            state._concrete()
        relocate(place, states)
        arrays = storage.still(states, _contents)
        if storage.UNREADY.isdisjoint(map(type, arrays)) and place.settled(states, arrays):
            return arrays
    return []
