"""SequentialLR: several schedulers after each other."""

from __future__ import annotations

import bisect
from collections.abc import Sequence

import numpy as np

from paramesh.experimental.optim.group_optimizer import Optimizer
from paramesh.experimental.optim.lr_scheduler.base import (
    LRScheduler,
    rate_of,
)
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor


class SequentialLR:
    """Several schedulers after each other.

    Args:
        optimizer: that of the schedulers.
        schedulers: in their order.
        milestones: at which step each but the first begins, with its step 0.
        last_epoch: how many steps were made, less one.

    Raises:
        ValueError: a scheduler of another optimizer; not one milestone less than schedulers.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: list[int],
        last_epoch: int = -1,
    ) -> None:
        for i, scheduler in enumerate(schedulers):
            if scheduler.optimizer is not optimizer:
                raise ValueError(f"SequentialLR: schedulers[{i}] is of another optimizer.")
        if len(milestones) != len(schedulers) - 1:
            raise ValueError(
                f"SequentialLR: {len(schedulers)} schedulers need {len(schedulers) - 1} "
                f"milestones, got {len(milestones)}."
            )
        self.optimizer = optimizer
        self._schedulers = list(schedulers)
        self.milestones = list(milestones)
        start = np.float32(last_epoch + 1)
        self.last_epoch = Parameter(Tensor(start), name="last_epoch_SequentialLR")
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        for scheduler in self._schedulers:
            scheduler.last_epoch.assign(rate_of(scheduler._epoch() - 1))
        self._schedulers[0].step()
        self._last_lr = self._schedulers[0]._last_lr

    def step(self) -> None:
        """Give each group its next rate, by the scheduler whose turn it is."""
        now = int(self.last_epoch.asnumpy()) + 1
        self.last_epoch.assign(Tensor(np.float32(now)))
        i = bisect.bisect_right(self.milestones, now)
        if i and self.milestones[i - 1] == now:
            self._schedulers[i].step(0)
        else:
            self._schedulers[i].step()

    def get_last_lr(self) -> list[Tensor]:
        """The rate of each group now: Tensors of shape ()."""
        return [rate_of(rate) for rate in self._last_lr]
