"""Callbacks that watch a value: EarlyStopping, ReduceLROnPlateau, History.

The value is the loss, or a result of the validation that `Model.fit` or `valid_dataset` makes.

Source: MindSpore's callbacks of these names.
"""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np

from paramesh.nn.cell import Cell
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor
from paramesh.train.callbacks import Callback, Facts, RunContext, evaluates, loss_number

_logger = logging.getLogger("paramesh")
_MODES = ("auto", "min", "max")
_GROWS = (
    "acc",
    "accuracy",
    "precision",
    "recall",
    "f1",
    "dice",
    "top_1_accuracy",
    "top_5_accuracy",
)


class _Watching(Callback):
    """What both share: the value, and whether it is better than before."""

    def _watch(self, monitor: str, mode: str, min_delta: float, patience: int) -> None:
        name = type(self).__name__
        if not isinstance(monitor, str):
            raise TypeError(f"{name}: monitor must be a str, got {monitor!r}.")
        if mode not in _MODES:
            raise ValueError(f"{name}: mode must be one of {_MODES}, got {mode!r}.")
        if not isinstance(patience, int) or isinstance(patience, bool) or patience < 0:
            raise ValueError(f"{name}: patience must be an int from 0, got {patience!r}.")
        self.monitor, self.patience = monitor, patience
        self.min_delta = abs(min_delta)
        plain = monitor.removeprefix("eval_")
        self._grows = mode == "max" or (mode == "auto" and plain in _GROWS)

    def _worst(self) -> float:
        return -math.inf if self._grows else math.inf

    def _better(self, value: float, best: float) -> bool:
        if self._grows:
            return value - self.min_delta > best
        return value + self.min_delta < best

    def _value(self, args: Facts) -> float | None:
        """The value of this epoch; None if there is none, which the log says."""
        name = self.monitor.removeprefix("eval_")
        results = args.get("eval_results") or {}
        if self.monitor == "loss" or (name == "loss" and not results):
            return loss_number(args.net_outputs)
        for key in (self.monitor, name):
            if key in results:
                return float(np.asarray(results[key]))
        _logger.warning(
            "%s: there is no %r in the results %s of this epoch; give Model.train a valid_dataset "
            "and a metric of that name.",
            type(self).__name__,
            self.monitor,
            sorted(results),
        )
        return None


class EarlyStopping(_Watching):
    """Stop the training when a value gets no better.

    Args:
        monitor: the value: "loss", or the name of a metric, also with `eval_` before it.
        min_delta: by how much it has to get better to count.
        patience: for how many epochs it may get no better.
        verbose: print when it stops.
        mode: "min" or "max": in which direction it gets better; "auto": by the name.
        baseline: it has to be better than this, too.
        restore_best_weights: at the end, the network's Parameters are those of the best epoch.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range.
    """

    def __init__(
        self,
        monitor: str = "eval_loss",
        min_delta: float = 0,
        patience: int = 0,
        verbose: bool = False,
        mode: str = "auto",
        baseline: float | None = None,
        restore_best_weights: bool = False,
    ) -> None:
        self._watch(monitor, mode, min_delta, patience)
        self.verbose, self.baseline = verbose, baseline
        self.restore_best_weights = restore_best_weights

    def on_train_begin(self, run_context: RunContext) -> None:
        """Forget an earlier run."""
        self.wait, self.stopped_epoch = 0, 0
        self.best = self._worst()
        self._kept: dict[Parameter, Tensor] = {}

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Look at the value, and ask for the stop."""
        args = run_context.original_args()
        value = self._value(args)
        if value is None:
            return
        network = args.train_network
        if self.restore_best_weights and not self._kept:
            self._keep(network)
        self.wait += 1
        if self._better(value, self.best):
            self.best = value
            if self.restore_best_weights:
                self._keep(network)
            if self.baseline is None or self._better(value, self.baseline):
                self.wait = 0
        if self.wait >= self.patience and args.cur_epoch_num > 1:
            self.stopped_epoch = args.cur_epoch_num
            run_context.request_stop()
            for param, kept in self._kept.items():
                param.set_data(kept)

    def on_train_end(self, run_context: RunContext) -> None:
        """Say when it stopped."""
        if self.stopped_epoch and self.verbose:
            print(f"Epoch {self.stopped_epoch}: early stopping.", flush=True)

    def _keep(self, network: Cell) -> None:
        self._kept = {p: Tensor(p.asnumpy()) for p in network.get_parameters()}


class ReduceLROnPlateau(_Watching):
    """Lower the learning rate when a value gets no better.

    Args:
        monitor: the value, as that of `EarlyStopping`.
        factor: what the rate is multiplied by, below 1.
        patience: for how many epochs the value may get no better.
        verbose: print when the rate is lowered.
        mode: "min", "max" or "auto".
        min_delta: by how much the value has to get better to count.
        cooldown: epochs after a change in which nothing is counted.
        min_lr: the least rate.

    Raises:
        TypeError, ValueError: an argument of another kind or out of range; in training, an
            optimizer whose rate is no Parameter.
    """

    def __init__(
        self,
        monitor: str = "eval_loss",
        factor: float = 0.1,
        patience: int = 10,
        verbose: bool = False,
        mode: str = "auto",
        min_delta: float = 1e-4,
        cooldown: int = 0,
        min_lr: float = 0,
    ) -> None:
        self._watch(monitor, mode, min_delta, patience)
        if not 0 <= factor < 1:
            raise ValueError(f"ReduceLROnPlateau: factor must be in [0, 1), got {factor!r}.")
        self.factor, self.verbose = factor, verbose
        self.cooldown, self.min_lr = cooldown, min_lr

    def on_train_begin(self, run_context: RunContext) -> None:
        """Forget an earlier run."""
        self.wait, self.cooldown_counter = 0, 0
        self.best = self._worst()

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Look at the value, and write the rate."""
        args = run_context.original_args()
        value = self._value(args)
        if value is None:
            return
        param = args.optimizer.learning_rate
        if not isinstance(param, Parameter):
            raise TypeError(
                "ReduceLROnPlateau needs an optimizer whose learning_rate is one number; "
                f"{type(args.optimizer).__name__} computes its own."
            )
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._better(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooldown_counter <= 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._lower(param, args.cur_epoch_num)

    def _lower(self, param: Parameter, epoch: int) -> None:
        rate = float(np.asarray(param.asnumpy()).reshape(-1)[0])
        if rate <= self.min_lr:
            return
        following = max(rate * self.factor, self.min_lr)
        param.set_data(Tensor(np.full(param.shape, following, np.float32)))
        if self.verbose:
            print(f"Epoch {epoch}: the learning rate becomes {following:.7g}.", flush=True)
        self.cooldown_counter, self.wait = self.cooldown, 0


class History(Callback):
    """Keep the loss and the results of each epoch, in `epoch` and `history`."""

    def __init__(self) -> None:
        self.epoch: dict[str, list[int]] = {"epoch": []}
        self.history: dict[str, list[Any]] = {}

    def begin(self, run_context: RunContext) -> None:
        """Begin anew, with a training."""
        if not evaluates(run_context):
            self.epoch, self.history = {"epoch": []}, {}

    def epoch_end(self, run_context: RunContext) -> None:
        """Keep what the epoch of a training gave."""
        if evaluates(run_context):
            return
        args = run_context.original_args()
        self.epoch["epoch"].append(args.cur_epoch_num)
        found = {"net_output": loss_number(args.net_outputs), **(args.get("eval_results") or {})}
        for name, value in found.items():
            self.history.setdefault(name, []).append(value)
