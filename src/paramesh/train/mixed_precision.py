"""How the levels of mixed precision are set on a network: by Cells, by operators, or all of it.

Source: MindSpore 2.10's levels and lists.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from paramesh import nn, ops
from paramesh.array_types import Array, Tree
from paramesh.dtype import DType, float32
from paramesh.nn.cell import Cell
from paramesh.ops.autocast import Rule
from paramesh.ops.table import Primitive
from paramesh.tensor.base import raw, wrap
from paramesh.tensor.promotion import cast
from paramesh.tensor.trees import unpack

#: What computes in the narrow type at "O1".
WHITE: tuple[Any, ...] = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Conv1dTranspose, nn.Conv2dTranspose, nn.Conv3dTranspose,
    nn.Dense, nn.LSTMCell, nn.RNNCell, nn.GRUCell, ops.Conv2D, ops.Conv3D, ops.Conv2DTranspose,
    ops.Conv3DTranspose, ops.Conv2DBackpropInput, ops.MatMul, ops.BatchMatMul, ops.PReLU, ops.ReLU,
    ops.Ger,
)  # fmt: skip
BLACK: tuple[Any, ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.LayerNorm)

#: Operators that "auto" computes in the narrow type, and in Float32.
_NARROW = """
    conv1d conv2d conv2d_transpose conv3d conv3d_transpose conv_transpose2d matmul dense linear
    baddbmm addbmm addmm addmv addr mv einsum einsum_of prelu
"""
_WIDE = """
    exp expm1 log log1p log10 log2 pow reciprocal rsqrt acos acosh asin cosh erfinv sinh tan
    softplus softmax log_softmax softmin layer_norm layer_norm_with_statistics group_norm batch_norm
    batch_norm_with_statistics norm cdist renorm cumsum cumprod sum prod l2_normalize
    binary_cross_entropy_with_logits cross_entropy nll_loss nll_loss_with_weight mse_loss l1_loss
    smooth_l1_loss huber_loss kl_div cosine_similarity softmax_cross_entropy_with_logits
    sparse_softmax_cross_entropy_with_logits sigmoid_cross_entropy_with_logits
"""


@dataclass(frozen=True)
class Mixed:
    """What a Cell with mixed precision does besides.

    Args:
        rule: for the operators inside; None: none.
        widened: whether floating outputs are cast to Float32.
    """

    rule: Rule | None = None
    widened: bool = False

    def leaving(self, out: Tree) -> Any:
        """Outputs as the Cell gives them."""
        if not self.widened:
            return out
        leaves, nest = unpack(wrap(out) if not _is_nest(out) else out)
        return nest.build([_wide(raw(leaf)) for leaf in leaves])


def _is_nest(out: Tree) -> bool:
    return out is None or not hasattr(out, "aval")


def _wide(value: Array) -> Any:
    narrow = value.dtype.kind in ("f", "V") and value.dtype.itemsize < 4
    return cast(value, float32) if narrow else value


def _set(cell: Cell, mixed: Mixed) -> None:
    cell.__dict__["_mixed_precision"] = mixed
    cell._changed()


def all_but(network: Cell, kept: tuple[type, ...], dtype: DType) -> Cell:
    """Every Cell computes in a type but those of some classes; the outputs are Float32."""
    for each in kept:
        if not (isinstance(each, type) and issubclass(each, Cell)):
            raise TypeError(f"mixed precision: a black list holds Cell classes, got {each!r}.")
    # Every Cell for itself: the one behind a BatchNorm has to cast what comes out of it.
    for _, cell in network.cells_and_names():
        cell.to_float(float32 if isinstance(cell, kept) else dtype)
    _set(network, Mixed(widened=True))
    return network


def by_white_list(network: Cell, listed: Iterable[Any], dtype: DType) -> Cell:
    """Cells and operators of these classes compute in a type, and give Float32."""
    cells: list[type[Cell]] = []
    names: set[str] = set()
    for each in listed:
        if isinstance(each, type) and issubclass(each, Cell):
            cells.append(each)
        elif isinstance(each, type) and issubclass(each, Primitive):
            names.add(each.operator.name)
        else:
            raise TypeError(
                f"mixed precision: a white list holds classes of Cells and operators, got {each!r}."
            )
    for _, cell in network.cells_and_names():
        if isinstance(cell, tuple(cells)):
            cell.to_float(dtype)
            _set(cell, Mixed(widened=True))
    if names:
        found = network.__dict__.get("_mixed_precision")
        widened = found is not None and found.widened
        _set(network, Mixed(Rule(dtype, frozenset(names), widen=True), widened))
    return network


def by_operators(network: Cell, dtype: DType) -> Cell:
    """Operators compute in a type, or in Float32, by what they need; the rest as it comes."""
    rule = Rule(dtype, frozenset(_NARROW.split()), frozenset(_WIDE.split()))
    _set(network, Mixed(rule))
    return network
