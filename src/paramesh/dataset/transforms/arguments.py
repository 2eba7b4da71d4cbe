"""Checks of the arguments of transforms: the error classes are MindSpore's.

Every function takes the name of the argument as `Class.argument`, and raises an error that says
what was given and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard, TypeVar

T = TypeVar("T")

#: The largest integer whose neighbours are float32, MindSpore's bound for most arguments.
LARGEST = 16777216
INT32_MAX = 2147483647


def _kinds(types: tuple[type, ...]) -> str:
    return " or ".join(t.__name__ for t in types)


def of_type(value: object, types: type[T] | tuple[type[T], ...], name: str) -> T:
    """The value, if it is of one of `types`. A bool is no number.

    Raises:
        TypeError: it is of none.
    """
    return _of_kinds(value, (types,) if isinstance(types, type) else types, name)


def _of_kinds(value: object, kinds: tuple[type[T], ...], name: str) -> T:
    stray = isinstance(value, bool) and bool not in kinds and int in kinds
    if stray or not isinstance(value, kinds):
        raise TypeError(
            f"{name}: expected {_kinds(kinds)}, got {value!r} ({type(value).__name__})."
        )
    return value


def number(value: object, name: str) -> None:
    """Raise a TypeError unless `value` is an int or a float.

    Raises:
        TypeError: it is neither.
    """
    of_type(value, (int, float), name)


def within(
    value: float, low: float, high: float, name: str, *, above: bool = False, below: bool = False
) -> None:
    """Raise a ValueError unless `low <= value <= high`.

    Args:
        value: a number.
        low: the bound below.
        high: the bound above.
        name: of the argument.
        above: `low` itself is excluded.
        below: `high` itself is excluded.

    Raises:
        ValueError: it is outside.
    """
    if not (
        (low < value if above else low <= value) and (value < high if below else value <= high)
    ):
        raise ValueError(
            f"{name}: expected a value in {'(' if above else '['}{low}, {high}"
            f"{')' if below else ']'}, got {value!r}."
        )


def positive(value: float, name: str) -> None:
    """Raise a ValueError unless `value > 0`.

    Raises:
        ValueError: it is 0 or negative.
    """
    if value <= 0:
        raise ValueError(f"{name}: expected a value above 0, got {value!r}.")


def positive_int(value: int, name: str) -> None:
    """Raise unless `value` is an int from 1 to 2**31 - 1.

    Raises:
        TypeError: it is no int.
        ValueError: it is outside.
    """
    of_type(value, int, name)
    within(value, 1, INT32_MAX, name)


def natural(value: int, name: str) -> None:
    """Raise unless `value` is an int from 0 to 2**31 - 1.

    Raises:
        TypeError: it is no int.
        ValueError: it is outside.
    """
    of_type(value, int, name)
    within(value, 0, INT32_MAX, name)


def natural_float(value: float, name: str) -> None:
    """Raise unless `value` is a number from 0 to 2**24.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """
    number(value, name)
    within(value, 0, LARGEST, name)


def probability(value: float, name: str) -> None:
    """Raise unless `value` is a number from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """
    number(value, name)
    within(value, 0.0, 1.0, name)


def flag(value: object, name: str) -> None:
    """Raise a TypeError unless `value` is a bool.

    Raises:
        TypeError: it is none.
    """
    of_type(value, bool, name)


def numbers_of(value: object, name: str, types: type | tuple[type, ...] = (int, float)) -> None:
    """Raise a TypeError unless `value` is a list or tuple of numbers.

    Raises:
        TypeError: it is none, or one of its elements is not of `types`.
    """
    for i, element in enumerate(of_type(value, (list, tuple), name)):
        of_type(element, types, f"{name}[{i}]")


def pair(
    value: object, name: str, error: type[Exception] = TypeError
) -> list[Any] | tuple[Any, ...]:
    """The value, if it is a list or tuple of two.

    Raises:
        TypeError: it is no list or tuple.
        error: it has another length.
    """
    listed = of_type(value, (list, tuple), name)
    if len(listed) != 2:
        raise error(f"{name}: expected two elements, got {len(listed)}: {listed!r}.")
    return listed


def ordered(value: Sequence[float], name: str) -> None:
    """Raise a ValueError unless `value[0] <= value[1]`.

    Raises:
        ValueError: the first is larger.
    """
    if value[0] > value[1]:
        raise ValueError(f"{name}: expected (min, max), got {tuple(value)!r}.")


def span(value: object, low: float, high: float, name: str) -> None:
    """Raise unless `value` is two ordered numbers between `low` and `high`.

    Raises:
        TypeError: no list or tuple of two.
        ValueError: not ordered, or outside.
    """
    first, last = ends = pair(value, name)
    ordered(ends, name)
    within(first, low, high, f"{name}[0]")
    within(last, low, high, f"{name}[1]")


def callables(
    value: object,
    name: str,
    kinds: tuple[type[list[Any]] | type[tuple[Any, ...]], ...] = (list,),
) -> None:
    """Raise unless `value` is a list of transforms that is not empty.

    Raises:
        TypeError: it is no list, or an element cannot be called.
        ValueError: it is empty, or an element is a class (its parentheses are missing).
    """
    listed = of_type(value, kinds, name)
    if not listed:
        raise ValueError(
            f"{name}: expected at least one transform, got an empty {type(listed).__name__}."
        )
    for i, element in enumerate(listed):
        transform(element, f"{name}[{i}]")


def transform(value: object, name: str) -> None:
    """Raise unless `value` is a transform or a function.

    Raises:
        TypeError: it cannot be called.
        ValueError: it is a class (its parentheses are missing).
    """
    if isinstance(value, type):
        raise ValueError(
            f"{name}: expected a transform, got the class {value.__name__}. Write "
            f"{value.__name__}(...)."
        )
    if not callable(value):
        raise TypeError(f"{name}: expected a transform or a function, got {value!r}.")


def choice(value: object, valid: Sequence[object], name: str) -> None:
    """Raise a ValueError unless `value` is one of `valid`.

    Raises:
        ValueError: it is none of them.
    """
    if value not in valid:
        raise ValueError(f"{name}: expected one of {', '.join(map(repr, valid))}, got {value!r}.")


def each(value: Sequence[Any], check: Callable[[Any, str], None], name: str) -> None:
    """Run `check` over the elements."""
    for i, element in enumerate(value):
        check(element, f"{name}[{i}]")


def is_whole(value: object) -> TypeGuard[int]:
    """True for an int; a bool is none."""
    return isinstance(value, int) and not isinstance(value, bool)
