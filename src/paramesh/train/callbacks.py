"""Callbacks: what a training run does besides training.

A callback's methods are called with a `RunContext`, whose `original_args()` are the facts of the
run. `net_outputs` is a Tensor that may still be being computed: reading it waits for the step, so
a callback that reads it every step slows training down.

Source: MindSpore's callbacks of these names; the `on_train_…` names are those of MindSpore 2.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from paramesh import lazy_names
from paramesh.array_types import Tree
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor


class Facts(dict[str, Any]):
    """The facts of a run, as attributes and as a dictionary, as in MindSpore."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            text = lazy_names.missing("The facts of a run", name, self.keys)
            raise AttributeError(text, name=name) from None

    def __setattr__(self, name: str, value: object) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]


class RunContext:
    """The facts of a run, and the way to stop it.

    `original_args()` has: mode ("train" or "eval"), network, train_network, eval_network, loss_fn,
    optimizer, metrics, epoch_num, batch_num (None if the dataset does not know it),
    cur_epoch_num and cur_step_num (from 1, steps over all epochs), cur_step_in_epoch (at the
    begin of a step that step's), train_dataset, valid_dataset, dataset_sink_mode (as `train` was
    given it), net_outputs, eval_results, list_callback.
    """

    def __init__(self, original_args: Facts) -> None:
        if not isinstance(original_args, Facts):
            raise TypeError(
                "RunContext: original_args must be the facts of a run, got "
                f"{type(original_args).__name__}."
            )
        self._args = original_args
        self._stop = False

    def original_args(self) -> Facts:
        """The facts, as attributes and as a dictionary; a callback may add its own."""
        return self._args

    def request_stop(self) -> None:
        """Stop after the running step; `end` is still called."""
        self._stop = True

    def get_stop_requested(self) -> bool:
        """Whether a stop was requested."""
        return self._stop


class Callback:
    """Base of all callbacks: write the methods that are needed.

    Each moment has two names: `step_end`, say, is called in training and evaluation;
    `on_train_step_end` and `on_eval_step_end` in one of them, and call `step_end` by default.
    A callback may be used with `with`, which Model does.
    """

    def __enter__(self) -> Callback:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin(self, run_context: RunContext) -> None:
        """Before the first epoch."""

    def epoch_begin(self, run_context: RunContext) -> None:
        """Before each epoch."""

    def step_begin(self, run_context: RunContext) -> None:
        """Before each step."""

    def step_end(self, run_context: RunContext) -> None:
        """After each step."""

    def epoch_end(self, run_context: RunContext) -> None:
        """After each epoch."""

    def end(self, run_context: RunContext) -> None:
        """After the last epoch."""

    def on_train_begin(self, run_context: RunContext) -> None:
        """Before the first epoch of a training."""
        self.begin(run_context)

    def on_train_epoch_begin(self, run_context: RunContext) -> None:
        """Before each epoch of a training."""
        self.epoch_begin(run_context)

    def on_train_step_begin(self, run_context: RunContext) -> None:
        """Before each training step."""
        self.step_begin(run_context)

    def on_train_step_end(self, run_context: RunContext) -> None:
        """After each training step."""
        self.step_end(run_context)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """After each epoch of a training."""
        self.epoch_end(run_context)

    def on_train_end(self, run_context: RunContext) -> None:
        """After the last epoch of a training."""
        self.end(run_context)

    def on_eval_begin(self, run_context: RunContext) -> None:
        """Before the first batch of an evaluation."""
        self.begin(run_context)

    def on_eval_epoch_begin(self, run_context: RunContext) -> None:
        """Before the pass of an evaluation."""
        self.epoch_begin(run_context)

    def on_eval_step_begin(self, run_context: RunContext) -> None:
        """Before each batch of an evaluation."""
        self.step_begin(run_context)

    def on_eval_step_end(self, run_context: RunContext) -> None:
        """After each batch of an evaluation."""
        self.step_end(run_context)

    def on_eval_epoch_end(self, run_context: RunContext) -> None:
        """After the pass of an evaluation."""
        self.epoch_end(run_context)

    def on_eval_end(self, run_context: RunContext) -> None:
        """After an evaluation; its results are there."""
        self.end(run_context)


#: What a run takes: a callback, or several.
Callbacks = Callback | Iterable[Callback]


def as_callbacks(callbacks: object) -> list[Callback]:
    """None, a callback or several, as a list.

    Raises:
        TypeError: something else.
    """
    if callbacks is None:
        return []
    listed: list[Any] = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
    for callback in listed:
        if not isinstance(callback, Callback):
            raise TypeError(
                f"callbacks must be Callbacks, got {type(callback).__name__}"
                + (": give an instance, not the class." if isinstance(callback, type) else ".")
            )
    return listed


def first_loss(outputs: Tree) -> Any:
    """The loss among what a training Cell returned: it alone, or the first of several."""
    return outputs[0] if isinstance(outputs, tuple | list) and outputs else outputs


def step_in_epoch(args: Facts) -> int:
    """The number of the step in its epoch, from 1; from the other numbers where it is not given."""
    if "cur_step_in_epoch" in args:
        return args.cur_step_in_epoch
    return (args.cur_step_num - 1) % args.batch_num + 1


def evaluates(run_context: RunContext) -> bool:
    """Whether a run is an evaluation: those that watch a training do nothing in it."""
    return run_context.original_args().get("mode") == "eval"


def shown_results(args: Facts) -> dict[str, Any]:
    """The results of the last evaluation, without `eval_loss` where `loss` says the same."""
    results = dict(args.get("eval_results") or {})
    loss = results.pop("eval_loss", None)
    if loss is not None:
        results.setdefault("loss", loss)
    return results


def loss_number(outputs: Tree) -> float:
    """The loss as a python number (the mean of several); waits for it."""
    return float(np.mean(np.asarray(first_loss(outputs)), dtype=np.float64))


class LossMonitor(Callback):
    """Print the loss, and stop with an error when it is not finite.

    Args:
        per_print_times: every so many steps; 0: never. Only these steps are looked at.

    Raises:
        ValueError: `per_print_times` is not an int of at least 0; in training, a loss that is NaN
            or infinite.
    """

    def __init__(self, per_print_times: int = 1) -> None:
        self._every = _count("LossMonitor", "per_print_times", per_print_times, 0)

    def step_end(self, run_context: RunContext) -> None:
        """Print every `per_print_times` steps."""
        args = run_context.original_args()
        if evaluates(run_context) or not self._every or args.cur_step_num % self._every:
            return
        loss = loss_number(args.net_outputs)
        where = f"epoch: {args.cur_epoch_num} step: {step_in_epoch(args)}"
        if not math.isfinite(loss):
            raise ValueError(
                f"{where}: the loss is {loss}. Try a smaller learning rate, or a loss scale."
            )
        print(f"{where}, loss is {loss:.7g}", flush=True)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Print what a validation found."""
        results = shown_results(run_context.original_args())
        if self._every and results:
            print("Eval result: " + ", ".join(f"{k} {v:.7g}" for k, v in results.items()))


class TimeMonitor(Callback):
    """Print how long each epoch and its steps took.

    Args:
        data_size: steps of an epoch; None: as counted.
        data_time: also print how long a step waited for its batch, on average.

    Raises:
        ValueError: `data_size` is not an int of at least 1. TypeError: `data_time` is not a bool.
    """

    def __init__(self, data_size: int | None = None, data_time: bool = False) -> None:
        if data_size is not None:
            _count("TimeMonitor", "data_size", data_size, 1)
        if not isinstance(data_time, bool):
            raise TypeError(f"TimeMonitor: data_time must be a bool, got {data_time!r}.")
        self._steps, self._data_time = data_size, data_time
        self._start, self._seen = 0.0, 0
        self._waits_since, self._waited = 0.0, 0.0

    def epoch_begin(self, run_context: RunContext) -> None:
        """Start the clock."""
        self._seen = run_context.original_args().get("cur_step_in_epoch", 0)
        self._start = self._waits_since = time.perf_counter()
        self._waited = 0.0

    def step_begin(self, run_context: RunContext) -> None:
        """The batch is there."""
        self._waited += time.perf_counter() - self._waits_since

    def step_end(self, run_context: RunContext) -> None:
        """The next batch is asked for."""
        self._waits_since = time.perf_counter()

    def epoch_end(self, run_context: RunContext) -> None:
        """Wait for the last step, stop the clock and print."""
        if evaluates(run_context):
            return
        args = run_context.original_args()
        loss_number(args.net_outputs)
        milliseconds = 1e3 * (time.perf_counter() - self._start)
        steps = self._steps or step_in_epoch(args) - self._seen
        line = f"Train epoch time: {milliseconds:5.3f} ms, per step time: "
        line += f"{milliseconds / steps:5.3f} ms"
        if self._data_time:
            line += f" (data time: {1e3 * self._waited / steps:5.3f} ms)"
        print(line, flush=True)


class LambdaCallback(Callback):
    """Functions of a RunContext as a callback: `LambdaCallback(on_train_step_end=print)`."""

    def __init__(self, **functions: Callable[[RunContext], Any]) -> None:
        for name, function in functions.items():
            if not hasattr(Callback, name) or name.startswith("__"):
                raise ValueError(f"LambdaCallback: callbacks have no method '{name}'.")
            setattr(self, name, function)


class LearningRateScheduler(Callback):
    """Set the learning rate after each step.

    Args:
        learning_rate_function: takes (learning rate, number of the step from 1), returns the next
            rate.

    Raises:
        TypeError: it is not callable; in training, the optimizer's rate is a schedule or belongs
            to groups.
    """

    def __init__(self, learning_rate_function: Callable[[float, int], float]) -> None:
        if not callable(learning_rate_function):
            raise TypeError(
                "LearningRateScheduler takes a function, "
                f"got {type(learning_rate_function).__name__}."
            )
        self._function = learning_rate_function

    def step_end(self, run_context: RunContext) -> None:
        """Ask the function, and write the rate if it is another."""
        if evaluates(run_context):
            return
        args = run_context.original_args()
        param = args.optimizer.learning_rate
        if not isinstance(param, Parameter):
            raise TypeError(
                "LearningRateScheduler needs an optimizer whose learning_rate is one number; "
                f"{type(args.optimizer).__name__} computes its own."
            )
        rate = float(np.asarray(param.asnumpy()).reshape(()))
        following = float(self._function(rate, args.cur_step_num))
        if not math.isclose(rate, following, rel_tol=1e-10):
            param.set_data(Tensor(np.full(param.shape, following, np.float32)))


def _count(owner: str, argument: str, value: object, low: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(f"{owner}: {argument} must be an int from {low}, got {value!r}.")
    return value


def say(text: str) -> None:
    """Print a line on stderr."""
    print(text, file=sys.stderr, flush=True)
