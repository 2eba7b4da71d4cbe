"""StopAtNaN: end a training whose loss is no number any more, and say which Parameters are not."""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh.array_types import Tree
from paramesh.errors import NotFiniteError
from paramesh.nn.cell import Cell
from paramesh.tensor.base import Tensor
from paramesh.train.callbacks import Callback, RunContext
from paramesh.transforms.not_finite import names_of_not_finite

_SHOWN = 8


class StopAtNaN(Callback):
    """End `Model.train` with an error when the loss is NaN or infinite.

    The error says at which step, and which Parameters of the network hold such numbers; a
    `ModelCheckpoint` with `exception_save` saves what there is. Looking at the loss waits for the
    step, so by default not every step is looked at.

    Args:
        every: look at the loss of every so many steps, and of the last of each epoch.

    Raises:
        TypeError: `every` is no int. ValueError: it is below 1.
    """

    def __init__(self, every: int = 10) -> None:
        if isinstance(every, bool) or not isinstance(every, int):
            raise TypeError(f"StopAtNaN: every must be an int, got {every!r}.")
        if every < 1:
            raise ValueError(f"StopAtNaN: every must be at least 1, got {every}.")
        self._every = every

    def on_train_step_end(self, run_context: RunContext) -> None:
        """Look at the loss.

        Raises:
            NotFiniteError: it is NaN or infinite.
        """
        if run_context.original_args().cur_step_num % self._every == 0:
            self._look(run_context)

    def on_train_epoch_end(self, run_context: RunContext) -> None:
        """Look at the last loss of the epoch.

        Raises:
            NotFiniteError: it is NaN or infinite.
        """
        self._look(run_context)

    def _look(self, run_context: RunContext) -> None:
        args = run_context.original_args()
        loss = _loss_of(args.net_outputs)
        if loss is None or bool(np.isfinite(loss).all()):
            return
        network: Cell = args.train_network
        params = list(network.get_parameters())
        lines = names_of_not_finite(params)
        told = "\n".join(f"  Parameter {line}" for line in lines[:_SHOWN])
        more = f"\n  and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
        where = f"step {args.cur_step_num} (epoch {args.cur_epoch_num})"
        error = NotFiniteError(
            f"StopAtNaN: the loss of {where} is {float(np.ravel(loss)[0])}. "
            + (
                f"Not finite are:\n{told}{more}"
                if lines
                else "All Parameters are finite, so the data or this step's forward pass is not."
            )
            + "\nTo find the operator, run that step with "
            "jax.config.update('jax_debug_nans', True)."
        )
        error.parameters = [p.name for p in params if names_of_not_finite([p])]
        raise error


def _loss_of(outputs: Tree) -> Any:
    first = outputs[0] if isinstance(outputs, tuple | list) and outputs else outputs
    return np.asarray(first.asnumpy(), np.float64) if isinstance(first, Tensor) else None
