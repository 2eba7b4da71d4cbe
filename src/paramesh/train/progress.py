"""Progress on stderr: a bar on a terminal and in notebooks, a line for each epoch elsewhere.

The bar never waits for a loss: it shows the newest one that is ready. In a notebook it is plain
HTML that is replaced from time to time; it needs no widgets.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from paramesh.tensor.base import Tensor
from paramesh.train.callbacks import Callback, Facts, RunContext, first_loss, loss_number
from paramesh.train.facts import Clock, duration, epoch_line, memory_text, rate_of

_EVERY = 20
#: Seconds between two changes of the bar in a notebook.
_BETWEEN = 0.5
#: So many lines of epochs that are done stay above it.
_MOST_LINES = 50


class ProgressLine(Callback):
    """Print `epoch 1/10: 120 steps in 4.2 s, loss 0.1234, val accuracy 0.97` after each epoch."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clock = Clock()

    def on_train_begin(self, run_context: RunContext) -> None:
        """Start the clock."""
        self._clock = Clock()

    def on_train_epoch_begin(self, run_context: RunContext) -> None:
        """Start the clock of the epoch."""
        self._clock.begin_epoch()

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Count."""
        self._clock.step()

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Print the line; waits for the epoch's last loss."""
        self._say(epoch_line(run_context.original_args(), self._clock))

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


class _Following(ProgressLine):
    """Keeps what a bar shows: the newest loss and rate that are known, and how far the run is."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._waiting: Any = None
        self._told: dict[str, str] = {}

    def on_train_epoch_begin(self, run_context: RunContext) -> None:
        """A loss of the last epoch is not waited for any more."""
        super().on_train_epoch_begin(run_context)
        self._waiting = None
        self._show(run_context.original_args(), 0)

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Move on, at most every few steps."""
        super().on_train_step_end(run_context)
        args = run_context.original_args()
        step = args.cur_step_in_epoch
        if step % _EVERY and step != 1 and not self._due():
            return
        if self._waiting is None:
            self._waiting = first_loss(args.net_outputs)
        if _ready(self._waiting):
            self._told["loss"] = f"loss {loss_number(self._waiting):.4f}"
            self._waiting = None
        left = self._clock.left(args)
        if left is not None:
            self._told["left"] = f"{duration(left)} left"
        self._show(args, step)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Print the line, and take the rate, which is known now."""
        args = run_context.original_args()
        super().on_train_epoch_end(run_context)
        rate = rate_of(args)
        memory = memory_text()
        if rate is not None:
            self._told["rate"] = f"rate {rate:.3g}"
        if memory is not None:
            self._told["memory"] = memory

    def _text(self) -> str:
        order = ("loss", "rate", "left", "memory")
        return "  ".join(self._told[key] for key in order if key in self._told)

    def _due(self) -> bool:
        """Whether it is time to show something, however few the steps."""
        return False

    def _show(self, args: Facts, step: int) -> None:
        raise NotImplementedError


class ProgressBar(_Following):
    """A bar for the running epoch on a terminal, and a line for each that is done."""

    def __init__(self, console: Console) -> None:
        super().__init__(console)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            console=console,
            transient=True,
            refresh_per_second=4,
        )
        self._task: Any = None

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def on_train_begin(self, run_context: RunContext) -> None:
        """Show the bar."""
        super().on_train_begin(run_context)
        self._bar.start()

    def on_train_end(self, run_context: RunContext) -> None:
        """Take the bar away."""
        self._bar.stop()

    def _show(self, args: Facts, step: int) -> None:
        if step == 0:
            if self._task is not None:
                self._bar.remove_task(self._task)
            name = f"epoch {args.cur_epoch_num}/{args.epoch_num}"
            self._task = self._bar.add_task(name, total=args.batch_num, told=self._text())
            return
        self._bar.update(self._task, completed=step, told=self._text())


class NotebookBar(_Following):
    """A bar and the last lines in the output of a notebook's cell."""

    def __init__(self, display: Any) -> None:
        super().__init__(Console(stderr=True))
        self._display = display
        self._lines: list[str] = []
        self._handle: Any = None
        self._shown_at = 0.0

    def on_train_end(self, run_context: RunContext) -> None:
        """Leave the lines, without the bar."""
        self._put("")

    def _say(self, line: str) -> None:
        self._lines.append(line)
        self._put("")

    def _due(self) -> bool:
        return time.monotonic() - self._shown_at >= _BETWEEN

    def _show(self, args: Facts, step: int) -> None:
        if step and not self._due():
            return
        total = args.batch_num
        bar = "" if total is None else f'<progress max="{total}" value="{step}"></progress> '
        of = f"{step}" if total is None else f"{step}/{total}"
        self._put(f"epoch {args.cur_epoch_num}/{args.epoch_num} {bar}{of} {self._text()}")

    def _put(self, bar: str) -> None:
        from html import escape

        left_out = len(self._lines) - _MOST_LINES
        first = [f"… {left_out} epochs"] if left_out > 0 else []
        lines = [escape(line) for line in (*first, *self._lines[-_MOST_LINES:])]
        page = "<br>".join([*lines, *([bar] if bar else [])])
        page = f'<div style="font-family:monospace;font-size:12px">{page}</div>'
        self._shown_at = time.monotonic()
        data = {"text/html": page, "text/plain": "\n".join(self._lines)}
        if self._handle is None:
            self._handle = self._display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def progress_callback(wanted: bool) -> list[Callback]:
    """A bar on a terminal or in a notebook, lines elsewhere, nothing if it is not wanted."""
    if not wanted:
        return []
    display = notebook_display()
    if display is not None:
        return [NotebookBar(display)]
    console = Console(stderr=True)
    return [ProgressBar(console) if console.is_terminal else ProgressLine(console)]


def notebook_display() -> Any:
    """IPython's `display` in a notebook; None elsewhere. IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or type(shell).__name__ != "ZMQInteractiveShell":
        return None
    return sys.modules["IPython.display"].display


def _ready(loss: object) -> bool:
    value: Any = loss._get() if isinstance(loss, Tensor) else loss
    return not hasattr(value, "is_ready") or value.is_ready()
