"""ReduceLROnPlateau: the rate by what became of a metric."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paramesh.array_types import Array
from paramesh.experimental.optim.group_optimizer import Optimizer
from paramesh.experimental.optim.lr_scheduler.base import (
    checked_optimizer,
    number,
    of_each,
    rate_of,
    xp,
)
from paramesh.optim import checks
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import Tensor, raw, wrap


class ReduceLROnPlateau:
    """The rate times `factor` where a metric has stopped to get better.

    Args:
        optimizer: one with parameter groups.
        mode: "min" or "max": which way is better.
        factor: below 1.
        patience: how many steps without improvement are waited for.
        threshold: what counts as an improvement.
        threshold_mode: "rel": a share of the best; "abs": a difference from it.
        cooldown: steps after a reduction in which nothing is counted.
        min_lr: the lowest rate, or one for each group.
        eps: a smaller change of the rate is not made.

    Raises:
        TypeError: another optimizer. ValueError: `factor` is not below 1, another mode, or another
            number of lowest rates than of groups.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceLROnPlateau"
        self.factor = checks.real(name, "factor", factor, high=1, open_high=True)
        checked_optimizer(name, optimizer)
        self.optimizer = optimizer
        self.min_lrs = of_each(name, "min_lr", min_lr, optimizer)
        if mode not in ("min", "max"):
            raise ValueError(f"{name}: mode must be 'min' or 'max', got {mode!r}.")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"{name}: threshold_mode must be 'rel' or 'abs', "
                             f"got {threshold_mode!r}.")  # fmt: skip
        self.mode, self.threshold_mode = mode, threshold_mode
        self.patience, self.cooldown, self.eps = patience, cooldown, eps
        self.threshold = checks.real(name, "threshold", threshold)
        worst = np.float32(np.inf if mode == "min" else -np.inf)
        self.last_epoch = Parameter(Tensor(np.int32(0)), name=f"last_epoch_{name}")
        self.best = Parameter(Tensor(worst), name="best")
        self.cooldown_counter = Parameter(Tensor(np.float32(0)), name="cooldown_counter")
        self.wait = Parameter(Tensor(np.float32(0)), name="wait")
        self._last_lr = list(optimizer.lrs)

    def step(self, metrics: NumberLike) -> bool:
        """Take a metric (a number or a Tensor of shape ()), and lower the rates if it is time."""
        value, best = number(metrics), number(self.best)
        better = self._is_improvement(value, best)
        wait = xp().where(better, 0.0, number(self.wait) + 1)
        cooldown = number(self.cooldown_counter)
        wait = xp().where(cooldown > 0, 0.0, wait)
        cooldown = xp().maximum(cooldown - 1, 0.0)
        due = wait > self.patience
        self.last_epoch.assign(wrap(raw(self.last_epoch) + 1))
        self.best.assign(rate_of(xp().where(better, value, best)))
        for param, low in zip(self._last_lr, self.min_lrs, strict=True):
            old = number(param)
            new = xp().maximum(old * self.factor, number(low))
            param.assign(rate_of(xp().where(due & (old > new + self.eps), new, old)))
        self.cooldown_counter.assign(rate_of(xp().where(due, float(self.cooldown), cooldown)))
        self.wait.assign(rate_of(xp().where(due, 0.0, wait)))
        return True

    def in_cooldown(self) -> Tensor:
        """Whether steps are not counted at present: a Bool Tensor of shape ()."""
        return self.cooldown_counter > 0

    def _is_improvement(self, value: Array, best: Array) -> Array:
        sign = 1.0 if self.mode == "max" else -1.0
        if self.threshold_mode == "rel":
            bound = best * (1.0 + sign * self.threshold)
        else:
            bound = best + sign * self.threshold
        return value > bound if self.mode == "max" else value < bound

    def get_last_lr(self) -> list[Tensor]:
        """The rate of each group now: Tensors of shape ()."""
        return [rate_of(rate) for rate in self._last_lr]
