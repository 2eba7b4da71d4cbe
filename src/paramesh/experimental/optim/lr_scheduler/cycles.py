"""Schedulers whose rates go down and up again."""

from __future__ import annotations

import math
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
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import Tensor


class CosineAnnealingLR(LRScheduler):
    """The rate falls to `eta_min` in `T_max` epochs along a cosine, and rises again.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        T_max: an int, half of a period.
        eta_min: a number.

    Raises:
        TypeError: of another type.
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = checks.integer("CosineAnnealingLR", "T_max", T_max, 1)
        self.eta_min = checks.real("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        epoch, half, low = self._epoch(), self.T_max, self.eta_min
        turn = (epoch - 1 - half) % (2 * half) == 0
        before = 1 + xp().cos(math.pi * (epoch - 1) / half)
        ratio = (1 + xp().cos(math.pi * epoch / half)) / xp().where(turn, 1.0, before)
        rates: list[Tensor] = []
        for base, param in zip(self.base_lrs, self._last_lr, strict=True):
            rate = number(param)
            risen = rate + (number(base) - low) * (1 - xp().cos(np.float32(math.pi / half))) / 2
            moved = xp().where(turn, risen, ratio * (rate - low) + low)
            rates.append(rate_of(xp().where(epoch == 0, rate, moved)))
        return rates

    def _get_closed_form_lr(self) -> list[Tensor]:
        share = (1 + xp().cos(math.pi * self._epoch() / self.T_max)) / 2
        low = self.eta_min
        return [rate_of(low + (number(base) - low) * share) for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """The rate falls along a cosine to `eta_min`, and starts anew, after longer and longer periods.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        T_0: epochs of the first period, an int above 0.
        T_mult: by what each period is longer than the one before, an int of at least 1.
        eta_min: a number.

    Raises:
        ValueError: not an int, or out of range. TypeError: `eta_min` is not a number.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0,
        last_epoch: int = -1,
    ) -> None:
        for name, value in (("T_0", T_0), ("T_mult", T_mult)):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f"CosineAnnealingWarmRestarts: {name} must be an int of at least 1, "
                    f"got {value!r}."
                )
        self.T_mult = T_mult
        self.eta_min = checks.real("CosineAnnealingWarmRestarts", "eta_min", eta_min)
        self.T_0 = T_0
        self.T_i = Parameter(Tensor(np.float32(T_0)), name="T_i")
        self.T_cur = Parameter(Tensor(np.float32(last_epoch)), name="T_cur")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        share = (1 + xp().cos(math.pi * number(self.T_cur) / number(self.T_i))) / 2
        low = self.eta_min
        return [rate_of(low + (number(base) - low) * share) for base in self.base_lrs]

    def step(self, epoch: NumberLike | None = None) -> bool:
        """Give each group its next rate; or, with `epoch`, that of some other (part of an) epoch.

        Raises:
            ValueError: an epoch below 0.
        """
        if epoch is not None:
            self._place(float(number(epoch)))
        else:
            current, period = number(self.T_cur) + 1, number(self.T_i)
            ended = current >= period
            self.T_cur.assign(rate_of(xp().where(ended, current - period, current)))
            self.T_i.assign(rate_of(xp().where(ended, period * self.T_mult, period)))
            self.last_epoch.assign(rate_of(xp().floor(self._epoch() + 1)))
        for param, rate in zip(self._last_lr, self.get_lr(), strict=True):
            param.assign(rate)
        return True

    def _place(self, epoch: float) -> None:
        if epoch < 0:
            raise ValueError(f"{type(self).__name__}: epoch must be at least 0, got {epoch}.")
        current, period = epoch, float(self.T_0)
        if self.T_mult == 1:
            current = epoch % self.T_0
        else:
            while current >= period:
                current, period = current - period, period * self.T_mult
        self.T_cur.assign(Tensor(np.float32(current)))
        self.T_i.assign(Tensor(np.float32(period)))
        self.last_epoch.assign(Tensor(np.float32(math.floor(epoch))))


class CyclicLR(LRScheduler):
    """The rate goes up and down between two bounds.

    Args:
        optimizer, last_epoch: see `LRScheduler`.
        base_lr: the lower bound, or one for each group.
        max_lr: the upper bound, or one for each group.
        step_size_up: steps on the way up.
        step_size_down: steps on the way down; None: as many.
        mode: "triangular", "triangular2" (half the height in each cycle) or "exp_range" (the height
            times `gamma` in each step).
        gamma: of "exp_range".
        scale_fn: a function that the height is multiplied by, in place of a mode.
        scale_mode: what `scale_fn` is given: "cycle" or "iterations".

    Raises:
        ValueError: another mode without `scale_fn`; another number of bounds than of groups.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: float | Sequence[float],
        max_lr: float | Sequence[float],
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[Any], Any] | None = None,
        scale_mode: str = "cycle",
        last_epoch: int = -1,
    ) -> None:
        checked_optimizer("CyclicLR", optimizer)
        low = of_each("CyclicLR", "base_lr", base_lr, optimizer)
        self.max_lrs = of_each("CyclicLR", "max_lr", max_lr, optimizer)
        modes = ("triangular", "triangular2", "exp_range")
        if scale_fn is None and mode not in modes:
            raise ValueError(f"CyclicLR: mode must be one of {', '.join(modes)}, got {mode!r}.")
        up = checks.positive("CyclicLR", "step_size_up", step_size_up, allow_int=True)
        down = up if step_size_down is None else step_size_down
        self.total_step_size = up + checks.positive("CyclicLR", "step_size_down", down, True)
        self.step_up_ratio = up / self.total_step_size
        self.mode, self.gamma = mode, checks.real("CyclicLR", "gamma", gamma)
        self._scale = scale_fn
        self.scale_mode = scale_mode
        if scale_fn is None:
            self.scale_mode = "iterations" if mode == "exp_range" else "cycle"
        if last_epoch == -1:
            for rate, group in zip(low, optimizer.param_groups, strict=True):
                group["lr"] = rate
        super().__init__(optimizer, last_epoch)
        self.base_lrs = [Tensor(np.float32(rate)) for rate in low]

    def scale_fn(self, x: float) -> Any:
        """What the height is multiplied by, in cycle (or step) x."""
        if self._scale is not None:
            return self._scale(rate_of(x))
        if self.mode == "triangular2":
            return 1 / 2.0 ** (x - 1)
        return self.gamma**x if self.mode == "exp_range" else 1.0

    def get_lr(self) -> list[Tensor]:
        """As in `LRScheduler`."""
        epoch, up = self._epoch(), self.step_up_ratio
        cycle = xp().floor(1 + epoch / self.total_step_size)
        x = 1.0 + epoch / self.total_step_size - cycle
        height = xp().where(x <= up, x / up, (x - 1) / (up - 1))
        scale = number(self.scale_fn(cycle if self.scale_mode == "cycle" else epoch))
        return [
            rate_of(number(low) + (number(high) - number(low)) * height * scale)
            for low, high in zip(self.base_lrs, self.max_lrs, strict=True)
        ]
