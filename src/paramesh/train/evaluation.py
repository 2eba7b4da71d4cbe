"""One pass of a dataset through an evaluation network, by itself or within a training.

Glossary
    within      of an evaluation: between two epochs of a training, whose callbacks follow it

Source: MindSpore's `Model.eval` and `Model.fit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from paramesh.array_types import Tree
from paramesh.nn.cell import Cell
from paramesh.tensor.base import Tensor
from paramesh.train import batches
from paramesh.train.batches import Dataset
from paramesh.train.callbacks import Callback, Facts, RunContext
from paramesh.train.metrics import Loss, Metric, MetricInput

#: The facts that an evaluation has of its own.
_OWN = ("mode", "batch_num", "cur_step_num", "cur_step_in_epoch", "net_outputs")


class Pass:
    """What it takes to evaluate.

    Args:
        network: the evaluation network.
        metrics: {name: Metric}.
        indexes: where (loss, outputs, label) are in what the network returns.
        check: is called with each batch, and refuses what does not fit.
    """

    def __init__(
        self,
        network: Cell,
        metrics: Mapping[str, Metric],
        indexes: Sequence[int],
        check: Callable[[tuple[Any, ...]], None],
    ) -> None:
        self._network, self._metrics, self._indexes = network, metrics, indexes
        self._check = check

    def run(self, args: Facts, dataset: Dataset, notify: Callable[[str, RunContext], None]) -> None:
        """Evaluate; afterwards the facts have the results.

        Args:
            args: the facts.
            dataset: of one pass.
            notify: is called with the name of each moment.
        """
        run = RunContext(args)
        for metric in self._metrics.values():
            metric.clear()
        self._network.set_train(False)
        notify("on_eval_begin", run)
        notify("on_eval_epoch_begin", run)
        for inputs in batches.batches(dataset, "valid_dataset"):
            self._check(inputs)
            args.cur_step_num += 1
            args.cur_step_in_epoch += 1
            notify("on_eval_step_begin", run)
            args.net_outputs = self._network(*inputs)
            self._update(args.net_outputs)
            notify("on_eval_step_end", run)
            if run.get_stop_requested():
                break
        notify("on_eval_epoch_end", run)
        args.eval_results = {name: metric.eval() for name, metric in self._metrics.items()}
        notify("on_eval_end", run)

    def run_within(self, args: Facts, dataset: Dataset, callbacks: Sequence[Callback]) -> None:
        """Evaluate within a training; its facts, but for the results, are as before."""
        kept = {name: args[name] for name in _OWN}
        args.update(mode="eval", batch_num=batches.count(dataset))
        args.update(cur_step_num=0, cur_step_in_epoch=0)
        try:
            self.run(args, dataset, partial(_notify_written, callbacks))
        finally:
            args.update(kept)

    def _update(self, outputs: Tree) -> None:
        listed = outputs if isinstance(outputs, tuple | list) else (outputs,)
        host: dict[int, Any] = {}

        def output(i: int) -> Any:
            if not -len(listed) <= i < len(listed):
                raise ValueError(
                    f"Model.eval: a metric wants output {i} of the evaluation network, which "
                    f"returned {len(listed)}. Set eval_indexes, or the metric's set_indexes."
                )
            if i not in host:
                host[i] = np.asarray(listed[i]) if isinstance(listed[i], Tensor) else listed[i]
            return host[i]

        for metric in self._metrics.values():
            wanted = self._indexes_of(metric)
            if metric.indexes is not None and hasattr(type(metric).update, "rearranges"):
                for i in wanted:
                    output(i)
                wanted = range(len(listed))  # `update` picks from all of them
            metric.update(*map(output, wanted))

    def _indexes_of(self, metric: Metric) -> Sequence[int]:
        if metric.indexes is not None:
            return metric.indexes
        loss, outputs, label = self._indexes
        return [loss] if metric.takes_loss else [outputs, label]


class _MeanLoss(Loss):
    """The mean of all losses, of which a batch may have several."""

    def update(self, *inputs: MetricInput) -> None:
        """Count one batch."""
        super().update(*(np.mean(np.asarray(each), dtype=np.float64) for each in inputs))


def with_mean_loss(metrics: Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics, and `eval_loss`, which evaluations within a training have in MindSpore, too."""
    return {**metrics, "eval_loss": _MeanLoss()}


def _notify_written(callbacks: Iterable[Callback], moment: str, run: RunContext) -> None:
    """Those of a training that say themselves what they do at a moment of its evaluations.

    The method that `Callback` has calls `begin` and so on, by which they follow the training.
    """
    for callback in callbacks:
        method = getattr(callback, moment)
        if getattr(method, "__func__", None) is not getattr(Callback, moment):
            method(run)
