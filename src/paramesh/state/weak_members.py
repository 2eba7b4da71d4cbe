"""The members of a weak set, while other threads add some."""

from __future__ import annotations

import weakref
from typing import TypeVar

T = TypeVar("T")


def members(found: weakref.WeakSet[T]) -> list[T]:
    """Those that exist now."""
    while True:
        try:
            return list(found)
        except RuntimeError:  # another thread has added one in the meantime
            continue
