"""Where an optimizer's learning rate comes from: a number, a list, a Tensor, or a schedule.

A number becomes a Parameter named `learning_rate` (`learning_rate_group_i` for the i-th group that
has its own), which can be changed between steps without compiling anything again. Everything that
moves with the step becomes a schedule.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np

from paramesh.dtype import float32
from paramesh.nn.cell import Cell
from paramesh.optim.schedules import LearningRateSchedule
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import Tensor, raw, wrap

Rate = Parameter | Cell

#: What a user gives for one: see `Optimizer`.
LearningRate = float | Iterable[float] | Tensor | Cell | Callable[[Any], Any]

_KINDS = "a number, a list of numbers, a Tensor of shape () or (steps,), a LearningRateSchedule"


class ListedLR(LearningRateSchedule):
    """One rate for each step, kept in the Parameter `learning_rate` of shape (steps,).

    Inside a program that another function compiled, steps beyond the list take its last rate; the
    optimizer refuses them where it is called itself.
    """

    def __init__(self, rates: np.ndarray[Any, Any], name: str) -> None:
        super().__init__()
        self.learning_rate = Parameter(Tensor(rates), name=name)

    def construct(self, global_step: NumberLike) -> Tensor:
        """The rate at a step."""
        step = jnp.asarray(raw(global_step), jnp.int32)
        return wrap(jnp.take(raw(self.learning_rate), step, mode="clip"))

    def steps(self) -> int:
        """How many steps it has rates for."""
        return self.learning_rate.shape[0]


class ConstantLR(LearningRateSchedule):
    """A rate that does not move, beside groups whose rates do."""

    def __init__(self, rate: Parameter) -> None:
        super().__init__()
        self.learning_rate = rate

    def construct(self, global_step: NumberLike) -> Tensor:
        """The rate."""
        return wrap(raw(self.learning_rate))


class FunctionLR(LearningRateSchedule):
    """A function of the step, such as an optax schedule: called with an Int32 scalar."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        super().__init__()
        self.function = function

    def construct(self, global_step: NumberLike) -> Tensor:
        """The rate at a step."""
        step = jnp.asarray(raw(global_step), jnp.int32).reshape(())
        return wrap(jnp.asarray(raw(self.function(step)), jnp.float32))


def make_rate(owner: str, rate: object, name: str) -> Rate:
    """A learning rate as given to an optimizer -> the Parameter or schedule that holds it.

    Raises:
        TypeError: None, or nothing that a rate can be made of.
        ValueError: a rate below 0, no rates at all, a Tensor of more than one axis, a string.
    """
    if isinstance(rate, Cell):
        return rate
    if isinstance(rate, bool | numbers.Real | np.number):
        return Parameter(float(_checked(owner, name, np.asarray(rate, np.float64))), name=name)
    if isinstance(rate, Tensor):
        values = np.asarray(rate).astype(np.float32)
        if values.ndim == 0:
            return Parameter(Tensor(_checked(owner, name, values)), name=name)
        if values.ndim == 1:
            return ListedLR(_listed(owner, name, values), name)
        raise ValueError(
            f"{owner}: {name} is a Tensor of shape {rate.shape}; give shape () for one rate, or "
            "(steps,) for a rate for each step."
        )
    if isinstance(rate, str):
        raise ValueError(f"{owner}: {name} must be {_KINDS}; got the str {rate!r}.")
    if callable(rate):
        return FunctionLR(rate)
    if isinstance(rate, Iterable):
        return ListedLR(_listed(owner, name, _floats(owner, name, rate)), name)
    raise TypeError(f"{owner}: {name} must be {_KINDS}; got {type(rate).__name__} ({rate!r}).")


def _floats(owner: str, name: str, rates: Iterable[Any]) -> np.ndarray[Any, Any]:
    items = list(rates)
    for i, item in enumerate(items):
        if isinstance(item, bool) or not isinstance(item, numbers.Real | np.number):
            raise ValueError(f"{owner}: {name}[{i}] must be a number, got {item!r}.")
    return np.asarray(items, np.float32)


def _listed(owner: str, name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    if not values.size:
        raise ValueError(f"{owner}: {name} is an empty list; give a rate for each step.")
    return _checked(owner, name, values).astype(float32.np_dtype)


def _checked(owner: str, name: str, values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    wrong = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
    if wrong.size:
        where = f"[{wrong[0]}]" if np.ndim(values) else ""
        number = np.ravel(values)[wrong[0]]
        raise ValueError(f"{owner}: {name}{where} must be at least 0 and finite, got {number}.")
    return values
