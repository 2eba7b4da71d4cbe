"""What is said of a running training: loss, learning rate, time left, memory.

Everything here is asked for at the end of an epoch, or when a step is known to be done, so that
nothing waits for the device that would not have waited anyway.
"""

from __future__ import annotations

import os
import time

import jax
import numpy as np

from paramesh.errors import OptimizerError
from paramesh.parallel.modes.layout_table import byte_text
from paramesh.parameter import Parameter
from paramesh.train.callbacks import Facts, loss_number, shown_results

#: Seconds below which tenths are shown.
_SHORT = 10.0


class Clock:
    """The time that a run takes, and what is left of it.

    Steps of the first epoch are slow while programs are compiled, so the first one does not count.
    """

    def __init__(self) -> None:
        self._epoch = self._first = time.monotonic()
        self._steps = 0

    def begin_epoch(self) -> None:
        """An epoch begins."""
        self._epoch = time.monotonic()

    def step(self) -> None:
        """A step was dispatched."""
        self._steps += 1
        if self._steps == 1:
            self._first = time.monotonic()

    @property
    def epoch(self) -> float:
        """Seconds since the epoch began."""
        return time.monotonic() - self._epoch

    def left(self, args: Facts) -> float | None:
        """Seconds that the rest of the run will take; None while it is not known.

        Args:
            args: the facts of the run.
        """
        of_epoch = args.batch_num or (args.cur_step_num if args.cur_epoch_num == 1 else None)
        if self._steps < 2 or not of_epoch:
            return None
        pace = (time.monotonic() - self._first) / (self._steps - 1)
        epochs = args.epoch_num - args.cur_epoch_num
        return pace * max(0, epochs * of_epoch + of_epoch - args.cur_step_in_epoch)


def rate_of(args: Facts) -> float | None:
    """The learning rate, if it is one number that is known here."""
    optimizer = args.optimizer
    if optimizer is None or getattr(optimizer, "is_group_lr", True):
        return None
    try:
        found = optimizer.get_lr()
    except OptimizerError:  # it is inside an optax transformation
        return None
    if isinstance(found, Parameter) and (found.is_param_ps or found.has_init):
        return None
    values = np.asarray(found.asnumpy())
    return float(values.reshape(())) if values.size == 1 else None


def memory_text() -> str | None:
    """The memory in use, for people."""
    found = memory_bytes()
    return None if found is None else byte_text(found)


def memory_bytes() -> int | None:
    """The memory in use: of the first device if it says so, otherwise of this process."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_in_use" in stats:
        return stats["bytes_in_use"]
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):  # not on this system
        return None


def duration(seconds: float) -> str:
    """A time for people: `0.4 s`, `42 s`, `3:05`, `2:03:05`."""
    if seconds < _SHORT:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def epoch_line(args: Facts, clock: Clock) -> str:
    """What is said of an epoch that is done; waits for its last loss."""
    loss = loss_number(args.net_outputs)
    steps = args.cur_step_in_epoch
    parts = [
        f"{steps} {'step' if steps == 1 else 'steps'} in {duration(clock.epoch)}",
        f"loss {loss:.4f}",
    ]
    rate = rate_of(args)
    if rate is not None:
        parts.append(f"rate {rate:.3g}")
    for name, value in shown_results(args).items():
        parts.append(f"val {name} {short(value)}")
    left = clock.left(args)
    if left is not None and args.cur_epoch_num < args.epoch_num:
        parts.append(f"{duration(left)} left")
    memory = memory_text()
    if memory is not None:
        parts.append(memory)
    return f"epoch {args.cur_epoch_num}/{args.epoch_num}: {', '.join(parts)}"


def short(value: object) -> str:
    """A result for people: four digits, or as it says itself."""
    try:
        return f"{value:.4g}"
    except (TypeError, ValueError):  # a metric with several numbers
        return str(value)
