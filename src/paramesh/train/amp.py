"""Mixed precision: networks that compute in Float16, and their training Cells.

Source: MindSpore's `mindspore.amp` and `mindspore.train.amp`.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from paramesh.dtype import float16, float32
from paramesh.nn.cell import Cell
from paramesh.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d
from paramesh.optim import DynamicLossScaleManager, LossScaleManager, Optimizer
from paramesh.tensor.argument_types import TensorFunction
from paramesh.tensor.base import Tensor, wrap
from paramesh.train.cells import (
    Float32Outputs,
    TrainOneStepCell,
    TrainOneStepWithLossScaleCell,
    WithLossCell,
    is_finite,
)

__all__ = ["all_finite", "auto_mixed_precision", "build_train_network"]

LEVELS = ("O0", "O2", "O3")


def check_level(owner: str, argument: str, level: object) -> None:
    """Raise ValueError for an unknown level."""
    if level not in LEVELS:
        raise ValueError(f"{owner}: {argument} must be one of {LEVELS}, got {level!r}.")


def auto_mixed_precision(network: Cell, amp_level: str = "O0") -> Cell:
    """Have a network compute in Float16; the Parameters stay as they are.

    Args:
        network: changed, and returned.
        amp_level: "O0": as it is. "O2": all but BatchNorms in Float16. "O3": all of it.

    Raises:
        TypeError: `network` is not a Cell.
        ValueError: an unknown level.
    """
    if not isinstance(network, Cell):
        raise TypeError(
            f"auto_mixed_precision: network must be a Cell, got {type(network).__name__}."
        )
    check_level("auto_mixed_precision", "amp_level", amp_level)
    if amp_level == "O0":
        return network
    norms = (BatchNorm1d, BatchNorm2d, BatchNorm3d) if amp_level == "O2" else ()
    # Each Cell is set: the one after a BatchNorm has to cast its output.
    for _, cell in network.cells_and_names():
        cell.to_float(float32 if isinstance(cell, norms) else float16)
    return network


def build_train_network(
    network: Cell,
    optimizer: Optimizer,
    loss_fn: TensorFunction | None = None,
    level: str = "O0",
    boost_level: str = "O0",
    *,
    loss_scale_manager: LossScaleManager | None = None,
) -> Cell:
    """A training Cell of a network, in mixed precision.

    Args:
        network: the network; without `loss_fn`, it returns the loss.
        optimizer: updates its Parameters.
        loss_fn: takes (outputs, label).
        level: as `amp_level` of `auto_mixed_precision`.
        boost_level: MindSpore's; "O0".
        loss_scale_manager: None: a dynamic scale at "O2", otherwise none.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an unknown level.
    """
    check_level("build_train_network", "level", level)
    if boost_level != "O0":
        raise ValueError(f"build_train_network: boost_level must be 'O0', got {boost_level!r}.")
    auto_mixed_precision(network, level)
    if level == "O2" and loss_scale_manager is None:
        loss_scale_manager = DynamicLossScaleManager()
    body = with_loss(network, loss_fn, level)
    if loss_scale_manager is None:
        return TrainOneStepCell(body, optimizer)
    update = loss_scale_manager.get_update_cell()
    if update is None:
        return TrainOneStepCell(body, optimizer, sens=loss_scale_manager.get_loss_scale())
    return TrainOneStepWithLossScaleCell(body, optimizer, update)


def with_loss(network: Cell, loss_fn: TensorFunction | None, level: str) -> Cell:
    """A network with its loss, which is computed in Float32."""
    if loss_fn is None:
        return network
    return WithLossCell(network if level == "O0" else Float32Outputs(network), loss_fn)


def all_finite(inputs: Any) -> Tensor:
    """Whether all elements of a Tensor, or of a nest of Tensors, are finite: Bool, of shape ()."""
    return wrap(jnp.asarray(is_finite(inputs)))
