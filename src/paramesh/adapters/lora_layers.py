"""Dense layers and embeddings with a low-rank term beside their weight.

Source: E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022.

A layer with the term is made from one without, and has that one's very Parameters under the same
attributes: names, paths and checkpoints of the network stay as they are.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, ClassVar

from paramesh import ops
from paramesh.dtype import DType, float32
from paramesh.initializer import HeUniform, Normal, initializer
from paramesh.nn import arguments
from paramesh.nn.basic import Dense
from paramesh.nn.cell import Cell
from paramesh.nn.dropout import Dropout
from paramesh.nn.embedding import Embedding
from paramesh.parameter import Parameter
from paramesh.state import trace_scope
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import raw, wrap
from paramesh.tensor.promotion import cast

A, B = "lora_A", "lora_B"


class _Lora(Cell):
    """What layers with a term have in common; the attributes of the layer are copied into it."""

    #: The attribute of the weight.
    weighted: ClassVar[str]

    scaling: float
    merged: bool

    @classmethod
    def around(cls, base: Cell, dropout: float, scaling: float) -> Any:
        """The layer with a term, of which `lora_A` and `lora_B` are still missing."""
        made = object.__new__(cls)
        trace_scope.created(made)
        fields = made.__dict__
        fields.update(base.__dict__)
        fields["_params"] = OrderedDict(base._params.items())
        if not isinstance(base._params, OrderedDict):  # of the template of a stack
            fields["_params"] = base._params
        fields["_cells"] = OrderedDict(base._cells)
        fields["_compiled"] = None
        fields.pop("_paramesh_programs", None)
        made.lora_dropout = Dropout(p=dropout)
        made.lora_dropout.set_train(base.training)
        made.scaling, made.merged = scaling, False
        return made

    def _side(self, name: str, dtype: Any) -> Any:
        return wrap(cast(raw(self._params[name]), dtype))

    def extend_repr(self) -> str:
        """The layer's settings, and the rank."""
        term = self._params[A]
        rank = "none" if term is None else term.shape[0]
        return f"{super().extend_repr()}, rank={rank}, scaling={self.scaling:g}"


class LoraDense(_Lora, Dense):
    """A Dense layer with x @ A.T @ B.T * scaling beside x @ weight.T.

    Weights:
        lora_A: (rank, in_channels), uniform as PyTorch's dense layers.
        lora_B: (out_channels, rank), zeros: at first the layer computes what it did.
    """

    weighted = "weight"

    def _product(self, x: Any) -> Any:
        out = super()._product(x)
        if self.merged:
            return out
        low = ops.dense(self.lora_dropout(x), self._side(A, x.dtype))
        return out + ops.dense(low, self._side(B, x.dtype)) * self.scaling


class LoraEmbedding(_Lora, Embedding):
    """An Embedding with (B @ A).T * scaling beside its table.

    Weights:
        lora_A: (rank, vocab_size), zeros.
        lora_B: (embedding_size, rank), normal.
    """

    weighted = "embedding_table"

    def construct(self, ids: TensorLike) -> Any:
        """(...) integers -> (..., embedding_size)."""
        out = super().construct(ids)
        if self.merged:
            return out
        low = ops.nn_ops.embedding(ids, self._side(A, out.dtype).T)
        return out + ops.dense(low, self._side(B, out.dtype)) * self.scaling


#: {class of a layer: the class with a term}.
KINDS: dict[type[Cell], Any] = {Dense: LoraDense, Embedding: LoraEmbedding}


def terms(base: Cell, rank: int, name: str) -> list[Parameter]:
    """`lora_A` and `lora_B` of a layer; in float32 if the layer has fewer bits."""
    if isinstance(base, Embedding):
        wide, high = base.vocab_size, base.embedding_size
        starts: Any = ("zeros", Normal(1.0))
    else:
        assert isinstance(base, Dense)
        wide, high = base.in_channels, base.out_channels
        starts = (HeUniform(math.sqrt(5)), "zeros")
    dtype: DType = getattr(base, KINDS[type(base)].weighted).dtype
    dtype = float32 if dtype.itemsize < 4 else dtype
    shapes = ((rank, wide), (high, rank))
    return [
        Parameter(initializer(start, shape, dtype), name=f"{name}{term}")
        for term, start, shape in zip((A, B), starts, shapes, strict=True)
    ]


def check_dropout(value: object) -> float:
    """The probability of a zero.

    Raises:
        TypeError, ValueError: as `nn.Dropout`.
    """
    return arguments.number("lora", "dropout", value, 0, 1, open_end=True)
