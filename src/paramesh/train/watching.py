"""What a training tells `paramesh watch`: its steps, from `Model.train` or from `report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import numpy as np
from jax.core import Tracer

from paramesh.telemetry import report as reports
from paramesh.telemetry.recorder import is_ready
from paramesh.tensor.base import Tensor
from paramesh.train.callbacks import Callback, Facts, RunContext, first_loss, shown_results
from paramesh.train.facts import Clock, memory_bytes, rate_of, short

if TYPE_CHECKING:
    from jax.typing import ArrayLike

    from paramesh.telemetry.recorder import Number


class Pending:
    """A number that a device may still be computing: the mean of an array."""

    __slots__ = ("_array",)

    def __init__(self, array: jax.Array | np.ndarray) -> None:
        self._array = array

    def is_ready(self) -> bool:
        """Whether reading it waits for nothing."""
        return is_ready(self._array)

    def __float__(self) -> float:
        return float(np.mean(np.asarray(self._array), dtype=np.float64))


def report(
    loss: Tensor | ArrayLike | None = None,
    *,
    examples: int = 0,
    **numbers: Tensor | ArrayLike,
) -> None:
    """Count one step of a training loop of your own, for `paramesh watch`.

    The loss is never waited for: about once a second the newest one that is computed is taken.
    `Model.train` reports its steps by itself. With `PARAMESH_WATCH=0` in the environment this does
    nothing.

    Args:
        loss: of the step, of any shape; its mean is shown. None: the loop has none.
        examples: how many examples the step had, for the rate of examples.
        numbers: other numbers by name, for example `rate=0.1`.

    Raises:
        TypeError: the loss or a number is not numeric; `examples` is not an int.
        ValueError: `examples` is negative.
    """
    if not isinstance(examples, int) or isinstance(examples, bool):
        raise TypeError(f"report: examples must be an int, got {type(examples).__name__}.")
    if examples < 0:
        raise ValueError(f"report: examples must not be negative, got {examples}.")
    shown = {name: _pending(name, value) for name, value in numbers.items()}
    recorder = reports.begin()
    if recorder is not None:
        recorder.ask = _memory
        recorder.step(None if loss is None else _pending("loss", loss), examples, shown)


def _memory() -> dict[str, Number]:
    found = memory_bytes()
    return {} if found is None else {"memory": found}


def _pending(name: str, value: Tensor | ArrayLike) -> Number:
    found = value._get() if isinstance(value, Tensor) else value
    if isinstance(found, int | float):
        return found
    if isinstance(found, Tracer):
        raise TypeError(
            f"report: {name} is a traced value: report the step outside of the compiled function."
        )
    if isinstance(found, jax.Array | np.ndarray | np.generic) and found.dtype.kind not in "OSUmM":
        return Pending(found if isinstance(found, jax.Array) else np.asarray(found))
    raise TypeError(f"report: {name} must be a number or an array, got {type(found).__name__}.")


class Watching(Callback):
    """Reports the steps of `Model.train`."""

    def __init__(self) -> None:
        self._recorder = reports.begin()
        self._clock = Clock()
        self._args: Facts | None = None
        self._rate: float | None = None
        #: How many examples the running step has; set by `Model`.
        self.examples = 0

    def __exit__(self, *error: object) -> None:
        if self._recorder is not None:
            if error and isinstance(error[0], type):
                self._recorder.event(f"stopped by {error[0].__name__}")
            reports.end()

    def on_train_begin(self, run_context: RunContext) -> None:
        """Start the clock."""
        self._clock = Clock()
        self._args = run_context.original_args()
        if self._recorder is not None:
            self._recorder.ask = self._numbers

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Count."""
        recorder = self._recorder
        if recorder is None:
            return
        self._clock.step()
        loss = first_loss(run_context.original_args().net_outputs)
        value = loss._get() if isinstance(loss, Tensor) else loss
        pending = Pending(value) if isinstance(value, jax.Array | np.ndarray) else None
        recorder.step(pending, self.examples)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Say that the epoch is done, and with which results."""
        recorder = self._recorder
        if recorder is None:
            return
        args = run_context.original_args()
        self._rate = rate_of(args)  # waits, as whoever prints the line of the epoch does
        results = "".join(f", val {n} {short(v)}" for n, v in shown_results(args).items())
        recorder.event(f"epoch {args.cur_epoch_num}/{args.epoch_num} done{results}")

    def _numbers(self) -> dict[str, Number]:
        args = self._args
        if args is None:
            return {}
        known: dict[str, float | None] = {
            "epoch": args.cur_epoch_num,
            "epochs": args.epoch_num,
            "step_in_epoch": args.cur_step_in_epoch,
            "batches": args.batch_num,
            "left": self._clock.left(args),
            "rate": self._rate,
            "memory": memory_bytes(),
        }
        return {name: value for name, value in known.items() if value is not None}


def examples_of(inputs: Sequence[object]) -> int:
    """How many examples a batch has: the first axis of its first array; 0: nobody knows."""
    shape = getattr(inputs[0], "shape", ()) if inputs else ()
    return int(shape[0]) if shape else 0


def _devices() -> str:
    found = jax.local_devices()
    return f"{len(found)} x {found[0].device_kind}" if len(found) > 1 else found[0].device_kind


reports.devices = _devices
