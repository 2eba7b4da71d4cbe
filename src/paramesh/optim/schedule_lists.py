"""Learning rates as lists: one number for each step, computed before training.

MindSpore's functions by their names. All but `piecewise_constant_lr` count in epochs: step i is in
epoch `i // step_per_epoch`, and the rate changes from epoch to epoch. Give the list to an
optimizer as `learning_rate`; the schedules of `schedules.py` do the same without a list.

All raise TypeError for a rate that is not a float or a count that is not an int, and ValueError for
one out of range.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from paramesh.optim import checks
from paramesh.optim.schedules import check_cosine, check_decay, check_polynomial


def piecewise_constant_lr(milestone: list[int], learning_rates: list[float]) -> list[float]:
    """The i-th rate up to (and without) the i-th milestone; as long as the last milestone.

    Args:
        milestone: step numbers, none below the one before it.
        learning_rates: as many rates.
    """
    name = "piecewise_constant_lr"
    for what, given in (("milestone", milestone), ("learning_rates", learning_rates)):
        if not isinstance(given, list | tuple):
            raise TypeError(f"{name}: {what} must be a list, got {type(given).__name__}.")
    if len(milestone) != len(learning_rates):
        raise ValueError(
            f"{name}: milestone and learning_rates must be equally long, "
            f"got {len(milestone)} and {len(learning_rates)}."
        )
    if not milestone:
        raise ValueError(f"{name}: milestone is empty; give at least one step number.")
    rates: list[float] = []
    for i, (end, rate) in enumerate(zip(milestone, learning_rates, strict=True)):
        checks.integer(name, f"milestone[{i}]", end, 1)
        checks.positive(name, f"learning_rates[{i}]", rate)
        if end < len(rates):
            raise ValueError(
                f"{name}: milestone[{i}] must not be below the one before it, got {milestone}."
            )
        rates += [rate] * (end - len(rates))
    return rates


def _by_epoch(
    name: str, total_step: object, step_per_epoch: object, rate_at: Callable[[int], float]
) -> list[float]:
    total = checks.integer(name, "total_step", total_step, 1)
    per_epoch = checks.integer(name, "step_per_epoch", step_per_epoch, 1)
    return [rate_at(step // per_epoch) for step in range(total)]


def exponential_decay_lr(
    learning_rate: float,
    decay_rate: float,
    total_step: int,
    step_per_epoch: int,
    decay_epoch: int,
    is_stair: bool = False,
) -> list[float]:
    """`learning_rate * decay_rate ** (epoch / decay_epoch)`; rounded down if `is_stair`."""
    name = "exponential_decay_lr"
    check_decay(name, learning_rate, decay_rate, "decay_epoch", decay_epoch, is_stair)

    def rate(epoch: int) -> float:
        periods = epoch // decay_epoch if is_stair else epoch / decay_epoch
        return learning_rate * decay_rate**periods

    return _by_epoch(name, total_step, step_per_epoch, rate)


def natural_exp_decay_lr(
    learning_rate: float,
    decay_rate: float,
    total_step: int,
    step_per_epoch: int,
    decay_epoch: int,
    is_stair: bool = False,
) -> list[float]:
    """`learning_rate * exp(-decay_rate * epoch)`.

    With `is_stair`, epochs count in multiples of `decay_epoch`, which otherwise has no
    effect, as in MindSpore.
    """
    name = "natural_exp_decay_lr"
    check_decay(name, learning_rate, decay_rate, "decay_epoch", decay_epoch, is_stair)

    def rate(epoch: int) -> float:
        counted = epoch // decay_epoch * decay_epoch if is_stair else epoch
        return learning_rate * math.exp(-decay_rate * counted)

    return _by_epoch(name, total_step, step_per_epoch, rate)


def inverse_decay_lr(
    learning_rate: float,
    decay_rate: float,
    total_step: int,
    step_per_epoch: int,
    decay_epoch: int,
    is_stair: bool = False,
) -> list[float]:
    """`learning_rate / (1 + decay_rate * epoch / decay_epoch)`; rounded down if `is_stair`."""
    name = "inverse_decay_lr"
    check_decay(name, learning_rate, decay_rate, "decay_epoch", decay_epoch, is_stair)

    def rate(epoch: int) -> float:
        periods = epoch // decay_epoch if is_stair else epoch / decay_epoch
        return learning_rate / (1 + decay_rate * periods)

    return _by_epoch(name, total_step, step_per_epoch, rate)


def cosine_decay_lr(
    min_lr: float, max_lr: float, total_step: int, step_per_epoch: int, decay_epoch: int
) -> list[float]:
    """From `max_lr` to `min_lr` along half a cosine over `decay_epoch` epochs, then `min_lr`."""
    name = "cosine_decay_lr"
    check_cosine(name, min_lr, max_lr, "decay_epoch", decay_epoch)

    def rate(epoch: int) -> float:
        done = min(epoch, decay_epoch) / decay_epoch
        return min_lr + 0.5 * (max_lr - min_lr) * (1 + math.cos(math.pi * done))

    return _by_epoch(name, total_step, step_per_epoch, rate)


def polynomial_decay_lr(
    learning_rate: float,
    end_learning_rate: float,
    total_step: int,
    step_per_epoch: int,
    decay_epoch: int,
    power: float,
    update_decay_epoch: bool = False,
) -> list[float]:
    """From `learning_rate` to `end_learning_rate` along a power of the epochs that remain.

    With `update_decay_epoch`, `decay_epoch` is replaced by its next multiple that is not below the
    epoch.
    """
    name = "polynomial_decay_lr"
    check_polynomial(
        name,
        learning_rate,
        end_learning_rate,
        power,
        ("decay_epoch", decay_epoch),
        ("update_decay_epoch", update_decay_epoch),
    )

    def rate(epoch: int) -> float:
        span = decay_epoch
        if update_decay_epoch:
            span *= max(math.ceil(epoch / decay_epoch), 1)
        left = 1 - min(epoch, span) / span
        return (learning_rate - end_learning_rate) * left**power + end_learning_rate

    return _by_epoch(name, total_step, step_per_epoch, rate)


def warmup_lr(
    learning_rate: float, total_step: int, step_per_epoch: int, warmup_epoch: int
) -> list[float]:
    """From 0 to `learning_rate` in a straight line over `warmup_epoch` epochs, then constant."""
    name = "warmup_lr"
    checks.positive(name, "learning_rate", learning_rate)
    checks.integer(name, "warmup_epoch", warmup_epoch, 1)

    def rate(epoch: int) -> float:
        return learning_rate / warmup_epoch * min(epoch, warmup_epoch)

    return _by_epoch(name, total_step, step_per_epoch, rate)
