"""The operations by name: the seam through which `Dataset.batch` reaches the class that does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

_OPERATIONS: dict[str, Callable[..., Any]] = {}

C = TypeVar("C", bound=Callable[..., Any])


def operation(name: str) -> Callable[[C], C]:
    """Let a method of Dataset's make this class."""

    def register(cls: C) -> C:
        _OPERATIONS[name] = cls
        return cls

    return register


def make(name: str, *args: object, **kwargs: object) -> Any:
    """The operation of that name."""
    return _OPERATIONS[name](*args, **kwargs)
