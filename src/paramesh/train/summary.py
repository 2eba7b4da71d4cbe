"""Summary: a callback that writes files for TensorBoard, through tensorboardX (extra `summary`)."""

from __future__ import annotations

import importlib
import os
from typing import Any

from paramesh.train.callbacks import Callback, RunContext, loss_number, shown_results
from paramesh.train.summary_record import SummaryRecord, write_histogram

__all__ = ["Summary", "SummaryRecord"]

#: MindSpore has modules below this one (see `compat`).
__path__: list[str] = []


class Summary(Callback):
    """Write the loss, the results of validations, and histograms of the Parameters.

    Args:
        log_dir: the folder for TensorBoard.
        scalars_every: the loss is written every so many steps.
        histograms_every: histograms of all trained Parameters, every so many steps; 0: none.

    Raises:
        ValueError: a negative number, or `scalars_every` 0.
        ImportError: when training begins, tensorboardX is not installed.
    """

    def __init__(
        self,
        log_dir: str | os.PathLike[str],
        scalars_every: int = 10,
        histograms_every: int = 0,
    ) -> None:
        for name, number, low in (
            ("scalars_every", scalars_every, 1),
            ("histograms_every", histograms_every, 0),
        ):
            if not isinstance(number, int) or isinstance(number, bool) or number < low:
                raise ValueError(f"Summary: {name} must be an int from {low}, got {number!r}.")
        self.log_dir = os.path.realpath(log_dir)
        self._scalars, self._histograms = scalars_every, histograms_every
        self._writer: Any = None

    def __exit__(self, *error: object) -> None:
        self._close()

    def on_train_begin(self, run_context: RunContext) -> None:
        """Open a file."""
        try:
            library = importlib.import_module("tensorboardX")
        except ImportError as error:
            raise ImportError(
                "Summary writes through tensorboardX, which is not installed: "
                "pip install 'paramesh[summary]'."
            ) from error
        self._writer = library.SummaryWriter(logdir=self.log_dir)

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Write what is due."""
        args = run_context.original_args()
        step = args.cur_step_num
        if step % self._scalars == 0:
            self._writer.add_scalar("loss", loss_number(args.net_outputs), step)
        if self._histograms and step % self._histograms == 0:
            for param in args.optimizer.parameters:
                write_histogram(self._writer, param.name, param.asnumpy(), step)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Write the results of a validation."""
        args = run_context.original_args()
        for name, value in shown_results(args).items():
            self._writer.add_scalar(f"valid/{name}", float(value), args.cur_step_num)
        self._writer.flush()

    def on_train_end(self, run_context: RunContext) -> None:
        """Close the file."""
        self._close()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None
