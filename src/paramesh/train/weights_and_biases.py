"""WandbLogger: a callback that logs a run to Weights & Biases (extra `wandb`)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from paramesh.train.callbacks import Callback, RunContext, loss_number, shown_results
from paramesh.train.facts import rate_of


class WandbLogger(Callback):
    """Log the loss, the learning rate and the results of validations.

    A run that exists (`wandb.init` was called) is used and left open; otherwise one is begun, and
    finished at the end of the training. WANDB_MODE=offline, or `mode="offline"`, writes a folder
    that `wandb sync` uploads later.

    Args:
        project: of the new run; None: what wandb's own settings say.
        every: loss and rate are logged every so many steps. Reading a loss waits for its step.
        config: hyperparameters to keep with the run.
        **options: of `wandb.init`, such as `mode`, `name` and `dir`.

    Raises:
        ValueError: `every` is no int from 1.
        ImportError: when training begins, wandb is not installed.
    """

    def __init__(
        self,
        project: str | None = None,
        every: int = 10,
        config: Mapping[str, Any] | None = None,
        **options: object,
    ) -> None:
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise ValueError(f"WandbLogger: every must be an int from 1, got {every!r}.")
        self._every = every
        self._options = options | {"project": project, "config": dict(config or {})}
        self._run: Any = None
        self._mine = False

    def __exit__(self, *error: object) -> None:
        self._close(1 if error and error[0] is not None else 0)

    def on_train_begin(self, run_context: RunContext) -> None:
        """Begin a run, if there is none."""
        try:
            library = importlib.import_module("wandb")
        except ImportError as error:
            raise ImportError(
                "WandbLogger needs wandb, which is not installed: pip install 'paramesh[wandb]'."
            ) from error
        self._run, self._mine = library.run, library.run is None
        if self._mine:
            self._run = library.init(**self._options)

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Log what is due."""
        args = run_context.original_args()
        if args.cur_step_num % self._every:
            return
        facts = {"loss": loss_number(args.net_outputs), "epoch": args.cur_epoch_num}
        rate = rate_of(args)
        if rate is not None:
            facts["rate"] = rate
        self._run.log(facts, step=args.cur_step_num)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Log the results of a validation."""
        args = run_context.original_args()
        found = {f"val/{name}": value for name, value in shown_results(args).items()}
        if found:
            self._run.log(found, step=args.cur_step_num)

    def on_train_end(self, run_context: RunContext) -> None:
        """Finish the run, if it was begun here."""
        self._close(0)

    def _close(self, code: int) -> None:
        if self._run is not None and self._mine:
            self._run.finish(exit_code=code)
        self._run = None
