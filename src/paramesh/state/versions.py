"""The version counter, and guards: whether a compiled program is still valid.

Glossary
    version counter   a number that increases whenever anything changes that programs depend on
    cache key         all of a Parameter, a pool or a Cell that is static in a trace
    guard             the cache keys of what one program depends on: it is valid while they hold
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Hashable, Iterable
from typing import Protocol

from paramesh.state import storage


class TraceStatic(Protocol):
    """Something with a part that is constant in a compiled program."""

    def _cache_key(self) -> Hashable: ...


class _VersionCounter:
    number = 0


_version_counter = _VersionCounter()
# Each number once, whichever thread asks: two concurrent changes must not become one.
_numbers = itertools.count(1)


def version() -> int:
    """Increases with every change of structure, train flags, requires_grad, shapes or dtypes."""
    return _version_counter.number


def bump_version() -> None:
    """Record a change of something that compiled programs may depend on."""
    _version_counter.number = next(_numbers)


def version_bump() -> storage.Change:
    """The same, as a part of a change: a program must not see the one without the other."""
    return _version_counter, "number", next(_numbers)


def _construct(cls: type) -> object | None:
    """The `construct` of a class of Cells; None for other classes."""
    found = getattr(cls, "construct", None)
    # A descriptor that makes another object each time says nothing.
    return found if found is getattr(cls, "construct", None) else None


class Guard:
    """What a program depends on; `holds()` while nothing of it has changed."""

    def __init__(self, parts: Iterable[TraceStatic], settings: Hashable) -> None:
        parts = list(parts)
        self._parts = [(weakref.ref(part), part._cache_key()) for part in parts]
        self._settings = settings
        # Of each class once: a network has many Cells of few classes.
        found = {cls: _construct(cls) for cls in map(type, parts)}
        self._constructs = [(cls, fn) for cls, fn in found.items() if fn is not None]

    def alive(self) -> bool:
        """False once something that the program used no longer exists."""
        return all(ref() is not None for ref, _ in self._parts)

    def same_code(self) -> bool:
        """Whether the classes of the Cells have the `construct` that was traced.

        No counter moves when a class gets another one, so this is asked at every step.
        """
        for cls, construct in self._constructs:
            if getattr(cls, "construct", None) is not construct:
                return False
        return True

    def differences(self, other: Guard) -> list[str]:
        """The names of what differs from another guard."""
        keys = {ref(): key for ref, key in other._parts}
        others = {(cls, fn) for cls, fn in other._constructs}
        return [
            getattr(part, "name", None) or f"a {type(part).__name__}"
            for part, key in ((ref(), key) for ref, key in self._parts)
            if part is not None and keys.get(part, key) != key
        ] + [f"{cls.__name__}.construct" for cls, fn in self._constructs if (cls, fn) not in others]

    def holds(self, settings: Hashable) -> bool:
        """Whether the program is still valid."""
        if settings != self._settings:
            return False
        for ref, key in self._parts:
            part = ref()
            if part is None or part._cache_key() != key:
                return False
        return True
