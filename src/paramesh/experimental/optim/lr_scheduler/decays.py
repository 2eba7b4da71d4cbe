"""Schedulers whose rates fall (or rise) by a formula of the epoch."""

from __future__ import annotations

import collections
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paramesh.experimental.optim.group_optimizer import Optimizer
from paramesh.experimental.optim.lr_scheduler.base import (
    LRScheduler,
    checked_optimizer,
    number,
    of_each,
    rate_of,
    xp,
)
from paramesh.optim import checks
from paramesh.tensor.base import Tensor


class StepLR(LRScheduler):
    """The rate times `gamma` every `step_size` epochs.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        step_size: a number of epochs, an int.
        gamma: a float.

    Raises:
        TypeError: `step_size` is not an int or `gamma` not a float.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = checks.integer("StepLR", "step_size", step_size, 1)
        self.gamma = checks.real("StepLR", "gamma", gamma, allow_int=False)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        epoch = self._epoch()
        due = (epoch != 0) & (epoch % self.step_size == 0)
        return self._times(xp().where(due, self.gamma, 1.0))

    def _get_closed_form_lr(self) -> list[Tensor]:
        return self._base_times(self.gamma ** (self._epoch() // self.step_size))


class MultiStepLR(LRScheduler):
    """The rate times `gamma` at each of some epochs.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        milestones: a list of ints; one that is there twice counts twice.
        gamma: a number.

    Raises:
        TypeError: `milestones` is not a list of ints, `gamma` not a number.
    """

    def __init__(
        self, optimizer: Optimizer, milestones: list[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        if not isinstance(milestones, list):
            raise TypeError(f"MultiStepLR: milestones must be a list of ints, got {milestones!r}.")
        for i, milestone in enumerate(milestones):
            checks.integer("MultiStepLR", f"milestones[{i}]", milestone, 0)
        self.milestones = collections.Counter(milestones)
        self.gamma = checks.real("MultiStepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        factor = xp().ones((), np.float32)
        for milestone, times in self.milestones.items():
            factor = xp().where(self._epoch() == milestone, self.gamma**times, factor)
        return self._times(factor)

    def _get_closed_form_lr(self) -> list[Tensor]:
        reached = sum(
            (self._epoch() >= milestone) * times for milestone, times in self.milestones.items()
        )
        return self._base_times(self.gamma ** xp().asarray(reached, np.float32))


class ConstantLR(LRScheduler):
    """The rate times `factor` for the first `total_iters` epochs.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        factor: in [0, 1].
        total_iters: an int.

    Raises:
        TypeError, ValueError: of another type, or out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.factor = checks.real("ConstantLR", "factor", factor, 0, 1)
        self.total_iters = checks.integer("ConstantLR", "total_iters", total_iters, 0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        epoch = self._epoch()
        back = xp().where(epoch == self.total_iters, 1 / np.float32(self.factor), 1.0)
        return self._times(xp().where(epoch == 0, self.factor, back))

    def _get_closed_form_lr(self) -> list[Tensor]:
        ended = self._epoch() >= self.total_iters
        return self._base_times(self.factor + ended * (1 - self.factor))


class LinearLR(LRScheduler):
    """The rate times a factor that goes in `total_iters` epochs from one number to another.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        start_factor: the factor at the beginning, in (0, 1].
        end_factor: the factor at the end, in [0, 1].
        total_iters: an int.

    Raises:
        TypeError, ValueError: of another type, or out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = checks.real(
            "LinearLR", "start_factor", start_factor, 0, 1, open_low=True
        )
        self.end_factor = checks.real("LinearLR", "end_factor", end_factor, 0, 1)
        self.total_iters = checks.integer("LinearLR", "total_iters", total_iters, 1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        epoch, rise = self._epoch(), self.end_factor - self.start_factor
        before = self.total_iters * self.start_factor + (epoch - 1) * rise
        inside = (epoch > 0) & (epoch <= self.total_iters)
        factor = xp().where(inside, 1.0 + rise / xp().where(inside, before, 1.0), 1.0)
        return self._times(xp().where(epoch == 0, self.start_factor, factor))

    def _get_closed_form_lr(self) -> list[Tensor]:
        share = xp().minimum(self._epoch(), self.total_iters) / self.total_iters
        return self._base_times(self.start_factor + (self.end_factor - self.start_factor) * share)


class ExponentialLR(LRScheduler):
    """The rate times `gamma` in each epoch.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        gamma: a float.

    Raises:
        TypeError: `gamma` is not a float.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = checks.real("ExponentialLR", "gamma", gamma, allow_int=False)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        return self._times(xp().where(self._epoch() == 0, 1.0, self.gamma))

    def _get_closed_form_lr(self) -> list[Tensor]:
        return self._base_times(self.gamma ** self._epoch())


class PolynomialLR(LRScheduler):
    """The rate falls to 0 in `total_iters` epochs, as a power of the share that is left.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        total_iters: an int.
        power: a float of at least 0.

    Raises:
        TypeError, ValueError: of another type, or out of range.
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = checks.integer("PolynomialLR", "total_iters", total_iters, 1)
        self.power = checks.not_negative("PolynomialLR", "power", power, allow_int=False)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        epoch, total = self._epoch(), self.total_iters
        inside = (epoch > 0) & (epoch <= total)
        before = xp().where(inside, 1.0 - (epoch - 1) / total, 1.0)
        factor = ((1.0 - epoch / total) / before) ** self.power
        return self._times(xp().where(inside, factor, 1.0))

    def _get_closed_form_lr(self) -> list[Tensor]:
        share = xp().minimum(self._epoch(), self.total_iters) / self.total_iters
        return self._base_times((1.0 - share) ** self.power)


class LambdaLR(LRScheduler):
    """The base rate times a function of the epoch.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        lr_lambda: a function of the epoch (a Parameter of shape ()), or one for each group.

    Raises:
        ValueError: another number of functions than of groups.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[Any], Any] | Sequence[Callable[[Any], Any]],
        last_epoch: int = -1,
    ) -> None:
        checked_optimizer("LambdaLR", optimizer)
        self.lr_lambdas = of_each("LambdaLR", "lr_lambda", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        return [
            rate_of(number(base) * number(factor(self.last_epoch)))
            for factor, base in zip(self.lr_lambdas, self.base_lrs, strict=True)
        ]


class MultiplicativeLR(LRScheduler):
    """The present rate times a function of the epoch.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        lr_lambda: a function of the epoch (a Parameter of shape ()), or one for each group.

    Raises:
        ValueError: another number of functions than of groups.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[Any], Any] | Sequence[Callable[[Any], Any]],
        last_epoch: int = -1,
    ) -> None:
        checked_optimizer("MultiplicativeLR", optimizer)
        self.lr_lambdas = of_each("MultiplicativeLR", "lr_lambda", lr_lambda, optimizer)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        epoch = self._epoch()
        return [
            rate_of(number(rate) * xp().where(epoch > 0, number(factor(self.last_epoch)), 1.0))
            for factor, rate in zip(self.lr_lambdas, self._last_lr, strict=True)
        ]
