"""Progress on stderr: a bar on a terminal, a line for each epoch elsewhere.

The bar never waits for a loss: it shows the newest one that is ready.
"""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from paramesh.tensor.base import Tensor
from paramesh.train.callbacks import Callback, Facts, RunContext, first_loss, loss_number

_EVERY = 20


class ProgressLine(Callback):
    """Print `epoch 1/10: 120 steps, loss 0.1234, accuracy 0.97` on stderr after each epoch."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Print the line; waits for the epoch's last loss."""
        args = run_context.original_args()
        self._console.print(summary_line(args), highlight=False, markup=False, soft_wrap=True)


class ProgressBar(ProgressLine):
    """A bar for the running epoch, and a line for each that is done."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._task: TaskID | None = None
        self._waiting: Any = None

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def on_train_begin(self, run_context: RunContext) -> None:
        """Show the bar."""
        self._bar.start()

    def on_train_epoch_begin(self, run_context: RunContext) -> None:
        """Start at 0."""
        args = run_context.original_args()
        if self._task is not None:
            self._bar.remove_task(self._task)
        name = f"epoch {args.cur_epoch_num}/{args.epoch_num}"
        self._task = self._bar.add_task(name, total=args.batch_num, loss="")
        self._waiting = None

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Move on, at most every few steps."""
        args = run_context.original_args()
        step = args.cur_step_in_epoch
        task = self._task
        if task is None or (step % _EVERY and step != 1):
            return
        if self._waiting is None:
            self._waiting = first_loss(args.net_outputs)
        if _ready(self._waiting):
            self._bar.update(task, loss=f"loss {loss_number(self._waiting):.4f}")
            self._waiting = None
        self._bar.update(task, completed=step)

    def on_train_end(self, run_context: RunContext) -> None:
        """Take the bar away."""
        self._bar.stop()


def progress_callback(wanted: bool) -> list[Callback]:
    """A bar on a terminal, lines elsewhere, nothing if it is not wanted."""
    if not wanted:
        return []
    console = Console(stderr=True)
    return [ProgressBar(console) if console.is_terminal else ProgressLine(console)]


def summary_line(args: Facts) -> str:
    """What is said of an epoch that is done."""
    parts = [f"{args.cur_step_in_epoch} steps", f"loss {loss_number(args.net_outputs):.4f}"]
    parts += [f"{name} {value:.4g}" for name, value in (args.eval_results or {}).items()]
    return f"epoch {args.cur_epoch_num}/{args.epoch_num}: {', '.join(parts)}"


def _ready(loss: Any) -> bool:
    value: Any = loss._get() if isinstance(loss, Tensor) else loss
    return not hasattr(value, "is_ready") or value.is_ready()
