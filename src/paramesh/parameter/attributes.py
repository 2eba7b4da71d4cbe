"""The attributes of a Parameter, each listed once: its type, its default, and who takes it over.

`Parameter` declares them in its class body with the descriptors here. What a new Parameter starts
with, what a copy and a clone take over and what a pickle holds follows from these declarations
(`attributes_of`).

Flags take only what they mean: real bools, small ints. numpy bools, 0 and 1 are refused as in
MindSpore, so that a flag read back is what was set.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Generic, TypeVar, cast, overload

from paramesh.state import tracing, trained

T = TypeVar("T")

_LARGEST = 2**31 - 1


class Attribute(Generic[T]):
    """A plain attribute.

    Args:
        default: makes the value of a new Parameter.
        copied: `copy.copy` takes the value over; otherwise the copy starts with the default.
        cloned: `Parameter.clone` takes it over as well.
    """

    pickled = False

    def __init__(self, default: Callable[[], T], copied: bool = True, cloned: bool = True) -> None:
        self.default, self.copied, self.cloned = default, copied, cloned and copied

    def __set_name__(self, owner: type, name: str) -> None:
        self.slot = name


def attribute(default: Callable[[], T], copied: bool = True, cloned: bool = True) -> T:
    """An `Attribute`, for type checkers a value of its type (as `dataclasses.field` is)."""
    return cast(T, Attribute(default, copied, cloned))


class Flag:
    """A True-or-False attribute; pickles hold it.

    Args:
        default: the value of a new Parameter.
        trace_static: compiled programs depend on it, so setting it moves the version counter.
        state: says what happened to a Parameter: a clone starts with the default, and pickles do
            not hold it.
    """

    def __init__(self, default: bool, trace_static: bool = False, state: bool = False) -> None:
        self._default = default
        self._trace_static = trace_static
        self.copied, self.cloned, self.pickled = True, not state, not state

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self.slot = "_" + name

    def default(self) -> bool:
        """The value of a new Parameter."""
        return self._default

    @overload
    def __get__(self, param: None, owner: type | None = None) -> Flag: ...
    @overload
    def __get__(self, param: object, owner: type | None = None) -> bool: ...
    def __get__(self, param: object | None, owner: type | None = None) -> Flag | bool:
        return self if param is None else getattr(param, self.slot)

    def __set__(self, param: object, value: bool) -> None:
        if not isinstance(value, bool):
            raise TypeError(
                f"Parameter '{_name_of(param)}': {self._name} must be True or False, "
                f"got {type(value).__name__} ({value!r})."
            )
        setattr(param, self.slot, value)
        if self._trace_static:
            tracing.bump_version()


class TrainedFlag(Flag):
    """The Flag `requires_grad`, which notes when a frozen Parameter is to be trained again."""

    def __set__(self, param: object, value: bool) -> None:
        before = getattr(param, self.slot)
        super().__set__(param, value)
        if value and not before:
            trained.unfrozen(cast(trained.Trainable, param))


class IntAttribute:
    """An attribute that is a 32-bit int; pickles hold it.

    Args:
        default: the value of a new Parameter.
        low: the smallest value; with one, a bool is refused too.
    """

    copied = cloned = pickled = True

    def __init__(self, default: int, low: int | None = None) -> None:
        self._default = default
        self._low = low

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name
        self.slot = "_" + name

    def default(self) -> int:
        """The value of a new Parameter."""
        return self._default

    @overload
    def __get__(self, param: None, owner: type | None = None) -> IntAttribute: ...
    @overload
    def __get__(self, param: object, owner: type | None = None) -> int: ...
    def __get__(self, param: object | None, owner: type | None = None) -> IntAttribute | int:
        return self if param is None else getattr(param, self.slot)

    def __set__(self, param: object, value: int) -> None:
        wrong_bool = isinstance(value, bool) and self._low is not None
        if not isinstance(value, int) or wrong_bool or abs(value) > _LARGEST:
            raise TypeError(
                f"Parameter '{_name_of(param)}': {self._name} must be a 32-bit int, got {value!r}."
            )
        if self._low is not None and value < self._low:
            raise ValueError(
                f"Parameter '{_name_of(param)}': {self._name} must be at least {self._low}, got "
                f"{value}."
            )
        setattr(param, self.slot, int(value))


@functools.cache
def attributes_of(cls: type) -> dict[str, Attribute[object] | Flag | IntAttribute]:
    """{the attribute's name in `__dict__`: its declaration}, of a class and its bases."""
    declared: dict[str, Attribute[object] | Flag | IntAttribute] = {}
    for base in reversed(cls.__mro__):
        for value in vars(base).values():
            if isinstance(value, Attribute | Flag | IntAttribute):
                declared[value.slot] = value
    return declared


def _name_of(param: object) -> str:
    return getattr(param, "name", "")
