"""Learning-rate schedules: Cells that compute a rate from the step, as MindSpore's do.

A schedule can stand for a learning rate or a weight decay of any optimizer, or of one parameter
group. It gets the number of updates made so far (0 at the first one) and is compiled into the
program of the optimizer. For one of your own, subclass `LearningRateSchedule`:

    class HalfEvery(LearningRateSchedule):
        def __init__(self, start, steps):
            super().__init__()
            self.start, self.steps = start, steps

        def construct(self, global_step):
            return self.start * 0.5 ** (global_step // self.steps)

Any function of the step, such as an optax schedule, can be given to an optimizer as it is.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.nn.cell import Cell
from paramesh.optim import checks
from paramesh.tensor.argument_types import NumberLike, RawNumber
from paramesh.tensor.base import Tensor, raw, wrap


class LearningRateSchedule(Cell):
    """Base of all schedules: `construct(global_step)` returns the rate of that step.

    `global_step` is an Int32 Tensor of shape (1,) or (), or an int; the rate has its shape.
    """

    def construct(self, global_step: NumberLike) -> Any:
        """The rate at a step; to be written by every subclass."""
        raise NotImplementedError(
            f"{type(self).__name__} has no construct(self, global_step): write it to return the "
            "rate at that step."
        )


def step_of(global_step: NumberLike) -> jax.Array:
    """A step as Float32, whatever kind of number it came as."""
    value = raw(global_step)
    return jnp.asarray(value, jnp.float32)


class _Decay(LearningRateSchedule):
    """What the schedules with (learning_rate, decay_rate, decay_steps, is_stair) share."""

    def __init__(
        self, learning_rate: float, decay_rate: float, decay_steps: int, is_stair: bool = False
    ) -> None:
        super().__init__()
        name = type(self).__name__
        check_decay(name, learning_rate, decay_rate, "decay_steps", decay_steps, is_stair)
        self.learning_rate, self.decay_rate = float(learning_rate), float(decay_rate)
        self.decay_steps, self.is_stair = int(decay_steps), is_stair

    def _periods(self, global_step: NumberLike) -> jax.Array:
        periods = step_of(global_step) / self.decay_steps
        return jnp.floor(periods) if self.is_stair else periods

    def extend_repr(self) -> str:
        """The arguments."""
        return (
            f"learning_rate={self.learning_rate}, decay_rate={self.decay_rate}, "
            f"decay_steps={self.decay_steps}, is_stair={self.is_stair}"
        )


class ExponentialDecayLR(_Decay):
    """`learning_rate * decay_rate ** (step / decay_steps)`.

    Args:
        learning_rate: the rate at step 0.
        decay_rate: the factor for every `decay_steps` steps.
        decay_steps: steps for one such factor.
        is_stair: round the exponent down, so that the rate falls in steps.

    Raises:
        TypeError: a rate that is not a float, steps that are not an int, or an `is_stair` that is
            not a bool.
        ValueError: a number that is not above 0.
    """

    def construct(self, global_step: NumberLike) -> Tensor:
        """The rate at a step."""
        base = jnp.float32(self.decay_rate)
        return wrap(self.learning_rate * jnp.power(base, self._periods(global_step)))


class NaturalExpDecayLR(_Decay):
    """`learning_rate * exp(-decay_rate * step)`.

    With `is_stair`, the step counts in multiples of `decay_steps`. Without, `decay_steps`
    has no effect, as in MindSpore. Arguments as in `ExponentialDecayLR`.
    """

    def construct(self, global_step: NumberLike) -> Tensor:
        """The rate at a step."""
        step = step_of(global_step)
        if self.is_stair:
            step = self._periods(global_step) * self.decay_steps
        return wrap(self.learning_rate * jnp.exp(-self.decay_rate * step))


class InverseDecayLR(_Decay):
    """`learning_rate / (1 + decay_rate * step / decay_steps)`.

    With `is_stair`, `step / decay_steps` is rounded down. Arguments as in `ExponentialDecayLR`.
    """

    def construct(self, global_step: NumberLike) -> Tensor:
        """The rate at a step."""
        return wrap(self.learning_rate / (1.0 + self.decay_rate * self._periods(global_step)))


class CosineDecayLR(LearningRateSchedule):
    """From `max_lr` to `min_lr` along half a cosine over `decay_steps` steps, then `min_lr`.

    Args:
        min_lr: the last rate, at least 0.
        max_lr: the first rate, above `min_lr`.
        decay_steps: steps from one to the other.

    Raises:
        TypeError: a rate that is not a float, steps that are not an int.
        ValueError: a number out of range, or `min_lr` not below `max_lr`.
    """

    def __init__(self, min_lr: float, max_lr: float, decay_steps: int) -> None:
        super().__init__()
        check_cosine(type(self).__name__, min_lr, max_lr, "decay_steps", decay_steps)
        self.min_lr, self.max_lr, self.decay_steps = float(min_lr), float(max_lr), int(decay_steps)

    def construct(self, global_step: NumberLike) -> Tensor:
        """The rate at a step."""
        done = jnp.minimum(step_of(global_step) / self.decay_steps, 1.0)
        half = 0.5 * (self.max_lr - self.min_lr)
        return wrap(self.min_lr + half * (1.0 + jnp.cos(math.pi * done)))

    def extend_repr(self) -> str:
        """The arguments."""
        return f"min_lr={self.min_lr}, max_lr={self.max_lr}, decay_steps={self.decay_steps}"


class PolynomialDecayLR(LearningRateSchedule):
    """From `learning_rate` to `end_learning_rate` along a power of the steps that remain.

    `(learning_rate - end_learning_rate) * (1 - step / decay_steps) ** power + end_learning_rate`;
    from `decay_steps` on the rate stays at its end, or, with `update_decay_steps`, `decay_steps`
    is replaced by its next multiple that is not below the step.

    Args:
        learning_rate: the first rate.
        end_learning_rate: the last rate, at least 0.
        decay_steps: steps from one to the other.
        power: the exponent, above 0.
        update_decay_steps: start over at each multiple of `decay_steps`.

    Raises:
        TypeError: a rate or power that is not a float, steps that are not an int, or a flag that is
            not a bool.
        ValueError: a number out of range.
    """

    def __init__(
        self,
        learning_rate: float,
        end_learning_rate: float,
        decay_steps: int,
        power: float,
        update_decay_steps: bool = False,
    ) -> None:
        super().__init__()
        rates = (learning_rate, end_learning_rate, power)
        name = type(self).__name__
        check_polynomial(
            name, *rates, ("decay_steps", decay_steps), ("update_decay_steps", update_decay_steps)
        )
        self.learning_rate, self.end_learning_rate, self.power = map(float, rates)
        self.decay_steps, self.update_decay_steps = int(decay_steps), update_decay_steps

    def construct(self, global_step: NumberLike) -> Tensor:
        """The rate at a step."""
        step = step_of(global_step)
        span: RawNumber = jnp.float32(self.decay_steps)
        if self.update_decay_steps:
            span = span * jnp.maximum(jnp.ceil(step / span), 1.0)
        left = 1.0 - jnp.minimum(step / span, 1.0)
        width = self.learning_rate - self.end_learning_rate
        return wrap(width * jnp.power(left, jnp.float32(self.power)) + self.end_learning_rate)

    def extend_repr(self) -> str:
        """The arguments."""
        return (
            f"learning_rate={self.learning_rate}, end_learning_rate={self.end_learning_rate}, "
            f"decay_steps={self.decay_steps}, power={self.power}, "
            f"update_decay_steps={self.update_decay_steps}"
        )


class WarmUpLR(LearningRateSchedule):
    """From 0 to `learning_rate` in a straight line over `warmup_steps` steps, then constant.

    Args:
        learning_rate: the rate after the warm-up.
        warmup_steps: steps to reach it.

    Raises:
        TypeError: a rate that is not a float, steps that are not an int.
        ValueError: a number that is not above 0.
    """

    def __init__(self, learning_rate: float, warmup_steps: int) -> None:
        super().__init__()
        name = type(self).__name__
        self.learning_rate = checks.positive(name, "learning_rate", learning_rate)
        self.warmup_steps = checks.integer(name, "warmup_steps", warmup_steps, 1)

    def construct(self, global_step: NumberLike) -> Tensor:
        """The rate at a step."""
        done = jnp.minimum(step_of(global_step) / self.warmup_steps, 1.0)
        return wrap(self.learning_rate * done)

    def extend_repr(self) -> str:
        """The arguments."""
        return f"learning_rate={self.learning_rate}, warmup_steps={self.warmup_steps}"


# The checks that schedules share with the lists of rates (`schedule_lists`), which count epochs
# where schedules count steps.


def check_decay(
    owner: str, rate: float, decay_rate: float, count_name: str, count: int, is_stair: bool
) -> None:
    """Check the arguments of the exponential and the inverse decay.

    Raises:
        TypeError, ValueError: as the schedules.
    """
    checks.positive(owner, "learning_rate", rate)
    checks.positive(owner, "decay_rate", decay_rate)
    checks.integer(owner, count_name, count, 1)
    checks.boolean(owner, "is_stair", is_stair)


def check_cosine(owner: str, min_lr: float, max_lr: float, count_name: str, count: int) -> None:
    """Check the arguments of the cosine decay.

    Raises:
        TypeError, ValueError: as the schedules.
    """
    checks.not_negative(owner, "min_lr", min_lr, allow_int=False)
    checks.positive(owner, "max_lr", max_lr)
    checks.integer(owner, count_name, count, 1)
    if min_lr >= max_lr:
        raise ValueError(
            f"{owner}: min_lr must be below max_lr, got min_lr={min_lr} and max_lr={max_lr}."
        )


def check_polynomial(
    owner: str,
    rate: float,
    end_rate: float,
    power: float,
    count: tuple[str, int],
    update: tuple[str, bool],
) -> None:
    """Check the arguments of the polynomial decay; `count` and `update` as (name, value).

    Raises:
        TypeError, ValueError: as the schedules.
    """
    checks.positive(owner, "learning_rate", rate)
    checks.not_negative(owner, "end_learning_rate", end_rate, allow_int=False)
    checks.integer(owner, *count, 1)
    checks.positive(owner, "power", power)
    checks.boolean(owner, *update)
