"""`Model.train` without an optimizer, of a network that does not update its Parameters itself."""

from __future__ import annotations

import warnings

from paramesh import context
from paramesh.errors import UntrainedWarning
from paramesh.nn.cell import Cell
from paramesh.optim import Optimizer
from paramesh.state import trace_scope


def warn_without_optimizer(network: Cell, has_loss: bool) -> None:
    """Warn if a step that was made without an optimizer changed no trainable Parameter.

    Args:
        network: the training Cell.
        has_loss: whether `Model` was given a loss function, and so is not meant to have a training
            Cell. In PyNative mode only such a one is judged: what others write is not known.

    Emits:
        UntrainedWarning: the step trained nothing.
    """
    params = network.trainable_params()
    if not params or any(isinstance(cell, Optimizer) for _, cell in network.cells_and_names()):
        return
    graph = context.get_context("mode") == context.GRAPH_MODE
    written = network._program().written() if graph else set() if has_loss else None
    if written is None or not written.isdisjoint(params):
        return
    instead = "Model(network, loss_fn, optimizer)" if has_loss else "a training Cell that has one"
    warnings.warn(
        f"Model.train: there is no optimizer, and {type(network).__name__} changed none of its "
        f"{len(params)} trainable Parameters ('{params[0].name}', …): nothing is trained. Use "
        f"{instead}.",
        UntrainedWarning,
        stacklevel=trace_scope.stacklevel(),
    )
