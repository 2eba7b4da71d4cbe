"""LRScheduler: the base of the schedulers, and how they compute.

Glossary
    epoch       how many steps a scheduler made, in its Parameter `last_epoch`; the first is made
                by the constructor
    base rates  those of the groups before any scheduler, `group["initial_lr"]`
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from paramesh.experimental.optim.group_optimizer import Optimizer
from paramesh.optim import checks
from paramesh.parameter import Parameter
from paramesh.state import tracing
from paramesh.tensor.argument_types import NumberLike
from paramesh.tensor.base import Tensor, raw, wrap

#: What a group's rate may be computed as.
Rates = Sequence[NumberLike]


def xp() -> Any:
    """What computes: NumPy outside of programs, where JAX would compile each operation."""
    return np if tracing.current() is None else jnp


def number(value: NumberLike) -> Any:
    """A number or Tensor as a Float32 scalar of `xp()`."""
    return xp().asarray(raw(value), np.float32).reshape(())


def rate_of(value: NumberLike) -> Tensor:
    """A number as a Float32 Tensor of shape ()."""
    return wrap(jnp.asarray(raw(value), jnp.float32).reshape(()))


def checked_optimizer(owner: str, optimizer: object) -> None:
    """Refuse what has no parameter groups, with a TypeError."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(
            f"{owner}: optimizer must be one with parameter groups, of mint.optim or "
            f"experimental.optim; got {type(optimizer).__name__}."
        )


def of_each(owner: str, name: str, given: object, optimizer: Optimizer) -> list[Any]:
    """A value for each group, from one or from a list of them."""
    count = len(optimizer.param_groups)
    if not isinstance(given, list | tuple):
        return [given] * count
    if len(given) != count:
        raise ValueError(f"{owner}: {name} has {len(given)} values for {count} groups.")
    return list(given)


class LRScheduler:
    """Base of the schedulers. A subclass has `get_lr`, which gives a rate for each group.

    There it finds `last_epoch`, the number of this step, in `_last_lr` the Parameters with the
    present rates, and `base_lrs`.

    Args:
        optimizer: one with parameter groups.
        last_epoch: -1 at the beginning of a training; when it goes on, the number of steps that
            were made, and the groups have their `initial_lr`.

    Raises:
        TypeError: another optimizer. ValueError: `last_epoch` below -1.
        KeyError: a group without `initial_lr` although `last_epoch` is given.
    """

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        name = type(self).__name__
        checked_optimizer(name, optimizer)
        checks.integer(name, "last_epoch", last_epoch, -1)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", Tensor(group["lr"].asnumpy()))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"{name}: param_groups[{i}] has no 'initial_lr', the rate of its first step, "
                    f"which a training that goes on at last_epoch={last_epoch} needs."
                )
        self.optimizer = optimizer
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self._last_lr = list(optimizer.lrs)
        self.groups_num = len(self._last_lr)
        self.last_epoch = Parameter(Tensor(np.float32(last_epoch)), name=f"last_epoch_{name}")
        self.step()

    def get_lr(self) -> Any:
        """A rate for each group, at the present `last_epoch`."""
        raise NotImplementedError(f"{type(self).__name__} has no get_lr().")

    def get_last_lr(self) -> list[Tensor]:
        """The rate of each group now: Tensors of shape ()."""
        return [rate_of(rate) for rate in self._last_lr]

    def step(self, epoch: NumberLike | None = None) -> bool:
        """Give each group its next rate; or, with `epoch`, that of some other epoch."""
        if epoch is None:
            self.last_epoch.assign(rate_of(self._epoch() + 1))
            rates = self.get_lr()
        else:
            self.last_epoch.assign(rate_of(number(epoch)))
            closed = getattr(self, "_get_closed_form_lr", None)
            rates = self.get_lr() if closed is None else closed()
        for param, rate in zip(self._last_lr, rates, strict=True):
            param.assign(rate_of(number(rate)))
        return True

    def _epoch(self) -> Any:
        return number(self.last_epoch)

    def _times(self, factor: NumberLike) -> list[Tensor]:
        """The present rates, times a number."""
        return [rate_of(number(rate) * factor) for rate in self._last_lr]

    def _base_times(self, factor: NumberLike) -> list[Tensor]:
        """The base rates, times a number."""
        return [rate_of(number(rate) * factor) for rate in self.base_lrs]
