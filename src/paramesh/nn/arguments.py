"""Checks of the arguments of layers, and the Parameters that layers make from them.

Every check takes the layer's name and the argument's, for the message, and returns the argument in
the form that the layer keeps. A value of the wrong type is a TypeError, one out of range a
ValueError.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable

import jax
import numpy as np

from paramesh.dtype import DType, to_dtype
from paramesh.initializer.factory import initializer
from paramesh.parameter import DEFAULT_NAME, Parameter
from paramesh.sampling.recipe import Initializer
from paramesh.tensor.argument_types import DTypeLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.method_errors import shown

Init = Tensor | Initializer | str | int | float | Callable[..., jax.Array] | None


def _kind(value: object) -> str:
    return f"{shown(value)} ({type(value).__name__})"


def integer(owner: str, name: str, value: object, low: int = 1) -> int:
    """An int of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{owner}({name}): expected an int, got {_kind(value)}.")
    if value < low:
        raise ValueError(f"{owner}({name}): expected an int of at least {low}, got {value}.")
    return int(value)


def integers(owner: str, name: str, value: object, n: int, low: int = 1) -> tuple[int, ...]:
    """One int for all of `n` axes, or a tuple or list of `n`; always a tuple of `n`."""
    if not isinstance(value, tuple | list):
        return (integer(owner, name, value, low),) * n
    if len(value) != n:
        raise TypeError(f"{owner}({name}): expected an int or {n} ints, got {value!r}.")
    return tuple(integer(owner, name, v, low) for v in value)


def flag(owner: str, name: str, value: object, wrong: type[Exception] = TypeError) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise wrong(f"{owner}({name}): expected True or False, got {_kind(value)}.")
    return value


def number(
    owner: str,
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    open_end: bool = False,
) -> float:
    """A number from `low` to `high` (below `high`, if `open_end`)."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{owner}({name}): expected a number, got {_kind(value)}.")
    value = float(value)
    if not (low <= value < high if open_end else low <= value <= high):
        end = "below" if open_end else "to"
        raise ValueError(
            f"{owner}({name}): expected a number from {low} {end} {high}, got {value}."
        )
    return value


def positive(owner: str, name: str, value: object) -> float:
    """A number above 0."""
    checked = number(owner, name, value, low=0)
    if checked == 0:
        raise ValueError(f"{owner}({name}): expected a number above 0, got {value}.")
    return checked


def choice(owner: str, name: str, value: object, choices: tuple[str, ...]) -> str:
    """One of some strings."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{owner}({name}): expected one of {choices}, got {_kind(value)}.")
    return value


def axes(owner: str, name: str, value: object) -> int | tuple[int, ...]:
    """An axis or a tuple of axes."""
    if isinstance(value, tuple | list):
        return tuple(integer(owner, name, v, -(2**31)) for v in value)
    return integer(owner, name, value, -(2**31))


def tensor(owner: str, value: object) -> Tensor:
    """An input as a Tensor: one as it is, other arrays wrapped."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, jax.Array | np.ndarray):
        return wrap(raw(value))
    raise TypeError(f"{owner}: expected a Tensor or an array, got {_kind(value)}.")


def weight(
    owner: str,
    argument: str,
    init: Init,
    shape: tuple[int, ...],
    dtype: DTypeLike,
    *,
    default: Initializer | str = "zeros",
    name: str = DEFAULT_NAME,
    requires_grad: bool = True,
) -> Parameter:
    """A layer's Parameter, weightless unless a Tensor with data was given.

    Args:
        owner: the layer.
        argument: the layer's argument that `init` is.
        init: what the user gave; None for the default.
        shape: the Parameter's shape.
        dtype: its element type; a Tensor keeps its own.
        default: its initial value if nothing was given.
        name: its name, if not that of the attribute it will be.
        requires_grad: whether it is trained.

    Raises:
        ValueError: a Tensor of another shape; an unknown name of an initializer; a shape that the
            initializer has no numbers for.
        TypeError: `init` is not a Tensor, an Initializer, a name or a number.
    """
    start = default if init is None else init
    if isinstance(start, Tensor) and tuple(start.shape) != shape:
        raise ValueError(
            f"{owner}({argument}): the Tensor has shape {tuple(start.shape)}, but the Parameter "
            f"has shape {shape}."
        )
    try:
        tensor = initializer(start, shape, element_type(owner, dtype))
    except (TypeError, ValueError) as error:
        raise type(error)(f"{owner}({argument}): {error}") from None
    return Parameter(tensor, name=name, requires_grad=requires_grad)


def element_type(owner: str, dtype: DTypeLike) -> DType:
    """The element type of a layer's Parameters."""
    try:
        return to_dtype(dtype)
    except TypeError as error:
        raise TypeError(f"{owner}(dtype): {error}") from None
