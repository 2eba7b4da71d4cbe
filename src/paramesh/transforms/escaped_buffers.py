"""Arrays of states that somebody else may hold: they are copied before they are donated."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from operator import attrgetter

from paramesh.array_types import Array
from paramesh.dtype import is_64bit, x64_if
from paramesh.state import storage
from paramesh.state.storage import HasContents

#: The contents of a state; in C, so that a list of them is read without running Python code.
contents_of = attrgetter("_contents")


class _Slot:
    __slots__ = ("_contents",)


def _references(values: list[Array]) -> list[int]:
    return list(map(sys.getrefcount, values))


def _unshared_count() -> int:
    """The reference count that `_references` reads of an array that only its state holds."""
    slot = _Slot()
    slot._contents = object()
    return _references(list(map(contents_of, [slot])))[0]


_UNSHARED = _unshared_count()


def copy_shared(states: Sequence[HasContents], values: list[Array], escaped: bool) -> None:
    """Replace in `values` every array that somebody else may hold by a copy.

    Args:
        states: whose contents the values are.
        values: replaced in place.
        escaped: whether any state has an escaped buffer.
    """
    for i, count in enumerate(_references(values)):
        if count > _UNSHARED or (escaped and storage.has_escaped(states[i])):
            values[i] = copied(values[i])
            storage.returned(states[i])


def copied(value: Array) -> Array:
    """A copy, with 64 bits where the value has them."""
    with x64_if(is_64bit(value)):
        return value.copy()
