"""Mixed precision: networks that compute in Float16, and their training Cells.

Source: MindSpore's `mindspore.amp` and `mindspore.train.amp`.
"""

from __future__ import annotations

import enum
from typing import Any

import jax.numpy as jnp

from paramesh.array_types import Tree
from paramesh.dtype import bfloat16, float16, float32, to_dtype
from paramesh.nn import normalization
from paramesh.nn.cell import Cell
from paramesh.nn.normalization import BatchNorm1d, BatchNorm2d, BatchNorm3d
from paramesh.optim import DynamicLossScaleManager, LossScaleManager, Optimizer
from paramesh.tensor.argument_types import DTypeLike, TensorFunction
from paramesh.tensor.base import Tensor, wrap
from paramesh.tensor.promotion import cast
from paramesh.tensor.trees import unpack
from paramesh.train import mixed_precision as precision_rules
from paramesh.train.cells import (
    Float32Outputs,
    TrainOneStepCell,
    TrainOneStepWithLossScaleCell,
    WithLossCell,
    is_finite,
)
from paramesh.train.pipeline_cell import micro_batches_of

__all__ = [
    "all_finite",
    "auto_mixed_precision",
    "build_train_network",
    "custom_mixed_precision",
    "get_black_list",
    "get_white_list",
    "mixed_precision",
]

_NORMALIZATIONS = (
    normalization._BatchNorm,
    normalization.BatchNorm3d,
    normalization.LayerNorm,
    normalization.GroupNorm,
    normalization._InstanceNorm,
)

LEVELS = ("O0", "O1", "O2", "O3", "auto")


def check_level(owner: str, argument: str, level: object) -> None:
    """Raise ValueError for an unknown level."""
    if level not in LEVELS:
        raise ValueError(f"{owner}: {argument} must be one of {LEVELS}, got {level!r}.")


def auto_mixed_precision(network: Cell, amp_level: str = "O0", dtype: DTypeLike = float16) -> Cell:
    """Have a network compute in Float16 or BFloat16; the Parameters stay as they are.

    Args:
        network: changed, and returned.
        amp_level: "O0": as it is. "O1": the Cells and operators of `get_white_list` in `dtype`, and
            what they give in Float32 again. "auto": the products and convolutions in `dtype`, what
            needs a wide range (exp, softmax, norms, losses) in Float32, the rest as it comes.
            "O2": all but BatchNorms in `dtype`. "O3": all of it. Of "O2" and "O3" the network's
            outputs are Float32.
        dtype: Float16 or BFloat16.

    Raises:
        TypeError: `network` is no Cell.
        ValueError: another level or element type.
    """
    _check("auto_mixed_precision", network, dtype)
    check_level("auto_mixed_precision", "amp_level", amp_level)
    kind = to_dtype(dtype)
    if amp_level == "O0":
        return network
    if amp_level == "O1":
        return precision_rules.by_white_list(network, get_white_list(), kind)
    if amp_level == "auto":
        return precision_rules.by_operators(network, kind)
    norms = (BatchNorm1d, BatchNorm2d, BatchNorm3d) if amp_level == "O2" else ()
    return precision_rules.all_but(network, norms, kind)


def custom_mixed_precision(
    network: Cell, *, white_list: Any = None, black_list: Any = None, dtype: DTypeLike = float16
) -> Cell:
    """Have chosen Cells and operators of a network compute in another element type.

    Args:
        network: changed, and returned.
        white_list: Cell and operator classes that compute in `dtype`; see `get_white_list`.
        black_list: or Cell classes that do not, whereas all others do; see `get_black_list`.
        dtype: Float16 or BFloat16.

    Raises:
        TypeError: `network` is no Cell, or a list holds something else.
        ValueError: both lists, or none; another element type.
    """
    _check("custom_mixed_precision", network, dtype)
    if (white_list is None) == (black_list is None):
        raise ValueError("custom_mixed_precision: give either white_list or black_list.")
    kind = to_dtype(dtype)
    if white_list is not None:
        return precision_rules.by_white_list(network, white_list, kind)
    return precision_rules.all_but(network, tuple(black_list), kind)


def get_white_list() -> list[Any]:
    """The Cells and class operators that compute in Float16 at "O1", in a new list."""
    return list(precision_rules.WHITE)


def get_black_list() -> list[Any]:
    """The Cells that stay in Float32 at "O2", and LayerNorm, in a new list."""
    return list(precision_rules.BLACK)


def _check(owner: str, network: Cell, dtype: DTypeLike) -> None:
    if not isinstance(network, Cell):
        raise TypeError(f"{owner}: network must be a Cell, got {type(network).__name__}.")
    if to_dtype(dtype) not in (float16, bfloat16):
        raise ValueError(f"{owner}: dtype must be float16 or bfloat16, got {dtype}.")


def mixed_precision(network: Cell, dtype: DTypeLike = bfloat16) -> Cell:
    """Have a network compute in a 16-bit type, with Parameters, gradients and outputs in Float32.

    Every layer casts its inputs and Parameters where it uses them. Normalizations compute in
    Float32, and what the network returns is cast to Float32, so that losses are, too. BFloat16 has
    the range of Float32, and needs no loss scale.

    Args:
        network: changed, and returned.
        dtype: bfloat16, or float16 (for which `Model` has loss scales).

    Raises:
        TypeError: `network` is no Cell. ValueError: another type.
    """
    if not isinstance(network, Cell):
        raise TypeError(f"mixed_precision: network must be a Cell, got {type(network).__name__}.")
    wanted = to_dtype(dtype)
    if wanted not in (bfloat16, float16):
        raise ValueError(
            f"mixed_precision: dtype must be bfloat16 or float16, got {wanted.long_name}."
        )
    for _, cell in network.cells_and_names():
        cell.to_float(float32 if isinstance(cell, _NORMALIZATIONS) else wanted)
    known = [hook for hook in network._forward_hooks if hook is _widen]
    if not known:
        network.register_forward_hook(_widen)
    return network


def _widen(cell: Cell, inputs: Tree, output: object) -> Any:
    arrays, nest = unpack(output)
    floats = [to_dtype(a.dtype).is_floating() for a in arrays]
    return nest.build([cast(a, float32) if f else a for a, f in zip(arrays, floats, strict=True)])


class ByLevel(enum.Enum):
    """What stands for an argument that was not given."""

    SCALE = "the loss scale of the level"


def build_train_network(
    network: Cell,
    optimizer: Optimizer,
    loss_fn: TensorFunction | None = None,
    level: str = "O0",
    boost_level: str = "O0",
    *,
    loss_scale_manager: LossScaleManager | ByLevel | None = ByLevel.SCALE,
    keep_batchnorm_fp32: bool | None = None,
) -> Cell:
    """A training Cell of a network, in mixed precision.

    Gradients of a network with a PipelineCell are divided by its `micro_size`, unless a loss scale
    moves.

    Args:
        network: the network; without `loss_fn`, it returns the loss.
        optimizer: updates its Parameters.
        loss_fn: takes (outputs, label).
        level: as `amp_level` of `auto_mixed_precision`.
        boost_level: MindSpore's; "O0".
        loss_scale_manager: None: no scale, at any level, as in MindSpore. Not given: a dynamic
            scale at "O2", otherwise none.
        keep_batchnorm_fp32: as of `Model`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: an unknown level.
    """
    check_level("build_train_network", "level", level)
    if boost_level != "O0":
        raise ValueError(f"build_train_network: boost_level must be 'O0', got {boost_level!r}.")
    auto_mixed_precision(network, level)
    if keep_batchnorm_fp32 is not None and level in ("O2", "O3"):
        keep_batchnorm(network, keep_batchnorm_fp32)
    if isinstance(loss_scale_manager, ByLevel):
        loss_scale_manager = DynamicLossScaleManager() if level == "O2" else None
    body = with_loss(network, loss_fn, level)
    # MindSpore 2.10's steps for stages and accumulation divide by the micro-batches, too.
    share = 1.0 / micro_batches_of(body)
    if loss_scale_manager is None:
        return TrainOneStepCell(body, optimizer, sens=share)
    update = loss_scale_manager.get_update_cell()
    if update is None:
        scale = loss_scale_manager.get_loss_scale()
        return TrainOneStepCell(body, optimizer, sens=scale * share)
    return TrainOneStepWithLossScaleCell(body, optimizer, update)


def keep_batchnorm(network: Cell, in_float32: bool) -> None:
    """Have the BatchNorms of a network of level "O2" or "O3" compute in Float32, or as the rest."""
    for _, cell in network.cells_and_names():
        if isinstance(cell, BatchNorm1d | BatchNorm2d | BatchNorm3d):
            cell.to_float(float32 if in_float32 else float16)


def with_loss(network: Cell, loss_fn: TensorFunction | None, level: str) -> Cell:
    """A network with its loss, which is computed in Float32."""
    if loss_fn is None:
        return network
    return WithLossCell(network if level == "O0" else Float32Outputs(network), loss_fn)


def all_finite(inputs: Tree) -> Tensor:
    """Whether all elements of a Tensor, or of a nest of Tensors, are finite: Bool, of shape ()."""
    return wrap(jnp.asarray(is_finite(inputs)))
