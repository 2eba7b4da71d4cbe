"""Checks of the arguments that optimizers and schedules take, with MindSpore's error classes.

A number of the wrong type is a TypeError, one out of range a ValueError; both name the optimizer,
the argument, what was given and what was expected.
"""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np


def real(
    owner: str,
    name: str,
    value: object,
    low: float | None = None,
    high: float | None = None,
    *,
    open_low: bool = False,
    open_high: bool = False,
    allow_int: bool = True,
) -> float:
    """`value` as a float.

    Args:
        owner: the class or function that was called.
        name: the argument.
        value: what was given.
        low: the lower end of the range; None: unbounded.
        high: the upper end.
        open_low: whether `low` itself is out of range.
        open_high: whether `high` itself is.
        allow_int: whether an int is accepted, too.

    Raises:
        TypeError: not a float (or int).
        ValueError: out of range, or not finite.
    """
    kinds = (numbers.Real, np.number) if allow_int else (float, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds):
        wanted = "a float or an int" if allow_int else "a float"
        raise TypeError(
            f"{owner}: {name} must be {wanted}, got {type(value).__name__} ({value!r})."
        )
    number = float(value)
    below = low is not None and (number <= low if open_low else number < low)
    above = high is not None and (number >= high if open_high else number > high)
    if below or above or not math.isfinite(number):
        raise ValueError(
            f"{owner}: {name} must be {_range(low, high, open_low, open_high)}, got {value!r}."
        )
    return number


def _range(low: float | None, high: float | None, open_low: bool, open_high: bool) -> str:
    if low is None and high is None:
        return "a finite number"
    if high is None:
        return f"{'above' if open_low else 'at least'} {low:g}"
    if low is None:
        return f"{'below' if open_high else 'at most'} {high:g}"
    left, right = "(" if open_low else "[", ")" if open_high else "]"
    return f"in {left}{low:g}, {high:g}{right}"


def fraction(owner: str, name: str, value: object) -> float:
    """A float strictly between 0 and 1, such as Adam's betas."""
    return real(owner, name, value, 0, 1, open_low=True, open_high=True, allow_int=False)


def positive(owner: str, name: str, value: object, allow_int: bool = False) -> float:
    """A float above 0."""
    return real(owner, name, value, 0, open_low=True, allow_int=allow_int)


def not_negative(owner: str, name: str, value: object, allow_int: bool = True) -> float:
    """A number of at least 0."""
    return real(owner, name, value, 0, allow_int=allow_int)


def boolean(owner: str, name: str, value: object) -> bool:
    """A bool; other values are refused, whatever their truth value.

    Raises:
        TypeError: not a bool.
    """
    if not isinstance(value, bool):
        raise TypeError(
            f"{owner}: {name} must be True or False, got {type(value).__name__} ({value!r})."
        )
    return value


def integer(owner: str, name: str, value: object, low: int) -> int:
    """An int of at least `low`; a bool is refused.

    Raises:
        TypeError: not an int.
        ValueError: below `low`.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{owner}: {name} must be an int, got {type(value).__name__} ({value!r}).")
    if value < low:
        raise ValueError(f"{owner}: {name} must be at least {low}, got {value}.")
    return int(value)


def pair(owner: str, name: str, value: object) -> tuple[Any, Any]:
    """A tuple of two.

    Raises:
        TypeError: not a tuple.
        ValueError: not two of them.
    """
    if not isinstance(value, tuple):
        raise TypeError(f"{owner}: {name} must be a tuple, got {type(value).__name__} ({value!r}).")
    if len(value) != 2:
        raise ValueError(f"{owner}: {name} must have 2 elements, got {len(value)}: {value!r}.")
    return value
