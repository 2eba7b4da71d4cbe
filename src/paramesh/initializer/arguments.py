"""Checks of the arguments of initializers."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

import numpy as np

from paramesh.sampling.recipe import Initializer

Shape = tuple[int, ...]
Axes = int | Sequence[int]


def real_number(owner: str, name: str, value: object, wrong: type[Exception] = TypeError) -> float:
    """An argument as a finite float.

    Raises:
        TypeError (or `wrong`): it is not a number.
        ValueError: it is infinite or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real | np.number):
        raise wrong(f"{owner}({name}): expected a number, got {value!r} ({type(value).__name__}).")
    value = float(value)
    if not math.isfinite(value):
        raise ValueError(f"{owner}({name}): expected a finite number, got {value}.")
    return value


def not_negative(owner: str, name: str, value: object) -> float:
    """An argument as a finite float >= 0.

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative, infinite or NaN.
    """
    value = real_number(owner, name, value)
    if value < 0:
        raise ValueError(f"{owner}({name}): expected a number >= 0, got {value}.")
    return value


def choice(owner: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """An argument that is one of several strings.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{owner}({name}): expected one of {', '.join(choices)}; got {value!r}.")
    return value


def axes_given(owner: str, name: str, axes: Axes | None) -> tuple[int, ...]:
    """Axes as a tuple; () for none.

    Raises:
        TypeError: they are not ints.
    """
    if axes is None:
        return ()
    listed = (axes,) if isinstance(axes, int) else axes
    if not isinstance(listed, list | tuple) or not all(type(axis) is int for axis in listed):
        raise TypeError(f"{owner}({name}): expected an int or several, got {axes!r}.")
    return tuple(listed)


def layer_axes(init: Initializer, shape: Shape, batch: tuple[int, ...]) -> list[int]:
    """The axes of one layer, in order: all but those along which layers are stacked.

    Raises:
        ValueError: an axis that the shape does not have, or the same axis twice.
    """
    return [axis for axis in range(len(shape)) if axis not in axis_positions(init, shape, batch)]


def axis_positions(init: Initializer, shape: Shape, axes: tuple[int, ...]) -> list[int]:
    """Axes of a shape, counted from 0.

    Raises:
        ValueError: an axis that the shape does not have, or the same axis twice.
    """
    for axis in axes:
        if not -len(shape) <= axis < len(shape):
            raise ValueError(f"{init!r}: there is no axis {axis} in the shape {shape}.")
    places = [axis % len(shape) for axis in axes]
    if len(set(places)) < len(places):
        raise ValueError(f"{init!r}: an axis is named twice for the shape {shape}.")
    return places
