"""Transformers of encoder and decoder layers (Vaswani et al. 2017)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from paramesh.dtype import float32
from paramesh.initializer import XavierUniform, initializer
from paramesh.nn import arguments
from paramesh.nn.activation import get_activation
from paramesh.nn.attention import MultiheadAttention, TransformerEncoderLayer
from paramesh.nn.basic import Dense
from paramesh.nn.cell import Cell
from paramesh.nn.containers import CellList
from paramesh.nn.dropout import Dropout
from paramesh.nn.normalization import LayerNorm
from paramesh.tensor.argument_types import DTypeLike, TensorLike

Activation = str | Cell | Callable[[Any], Any]


class TransformerDecoderLayer(Cell):
    """Attention of a sequence to itself, attention to an encoded one, and a Dense network.

    Each has a residual and a LayerNorm.

    Args:
        d_model: size of an element of the sequences.
        nhead: number of heads.
        dim_feedforward: size inside the Dense network.
        dropout: probability of a zero in training, in [0, 1).
        activation: `relu`, `gelu`, a Cell or a function of a Tensor.
        layer_norm_eps: epsilon of the LayerNorms.
        batch_first: whether sequences are (n, length, d_model); otherwise (length, n, d_model).
        norm_first: whether LayerNorm comes before the parts instead of after the residuals.
        dtype: element type of the Parameters.

    Weights:
        self_attn, multihead_attn (`MultiheadAttention`), dense1, dense2 (`Dense`), norm1, norm2,
        norm3 (`LayerNorm`).

    Raises:
        TypeError: an argument of the wrong kind; ValueError: a number out of range.
        KeyError: no activation of that name.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        owner = "TransformerDecoderLayer"

        def attention() -> MultiheadAttention:
            return MultiheadAttention(d_model, nhead, dropout, batch_first=batch_first, dtype=dtype)

        def norm() -> LayerNorm:
            return LayerNorm((d_model,), epsilon=layer_norm_eps, dtype=dtype)

        self.self_attn = attention()
        self.multihead_attn = attention()
        self.dense1 = Dense(d_model, dim_feedforward, dtype=dtype)
        self.dropout = Dropout(p=dropout)
        self.dense2 = Dense(dim_feedforward, d_model, dtype=dtype)
        self.norm_first = arguments.flag(owner, "norm_first", norm_first)
        self.norm1, self.norm2, self.norm3 = norm(), norm(), norm()
        self.dropout1, self.dropout2 = Dropout(p=dropout), Dropout(p=dropout)
        self.dropout3 = Dropout(p=dropout)
        if isinstance(activation, str):
            activation = get_activation(activation, owner) or activation
        if not callable(activation):
            raise TypeError(
                f"{owner}(activation): expected a name, a Cell or a function, got {activation!r}."
            )
        self.activation = activation

    def construct(
        self,
        tgt: TensorLike,
        memory: TensorLike,
        tgt_mask: TensorLike | None = None,
        memory_mask: TensorLike | None = None,
        tgt_key_padding_mask: TensorLike | None = None,
        memory_key_padding_mask: TensorLike | None = None,
    ) -> Any:
        """Decode sequences.

        Args:
            tgt: (l, n, d_model), (n, l, d_model) with `batch_first`, or (l, d_model).
            memory: (s, n, d_model), or as `tgt`: what an encoder gave.
            tgt_mask: (l, l), as `attn_mask` of `MultiheadAttention`.
            memory_mask: (l, s), likewise.
            tgt_key_padding_mask: (n, l), as `key_padding_mask` of `MultiheadAttention`.
            memory_key_padding_mask: (n, s), likewise.

        Returns:
            of the shape of `tgt`.
        """
        x = arguments.tensor("TransformerDecoderLayer", tgt)
        mine = tgt_mask, tgt_key_padding_mask
        theirs = memory_mask, memory_key_padding_mask
        if self.norm_first:
            x = x + self._to_itself(self.norm1(x), *mine)
            x = x + self._to_memory(self.norm2(x), memory, *theirs)
            return x + self._feed_forward(self.norm3(x))
        x = self.norm1(x + self._to_itself(x, *mine))
        x = self.norm2(x + self._to_memory(x, memory, *theirs))
        return self.norm3(x + self._feed_forward(x))

    def _to_itself(self, x: TensorLike, mask: TensorLike | None, padding: TensorLike | None) -> Any:
        out, _ = self.self_attn(
            x, x, x, key_padding_mask=padding, need_weights=False, attn_mask=mask
        )
        return self.dropout1(out)

    def _to_memory(
        self, x: TensorLike, memory: TensorLike, mask: TensorLike | None, padding: TensorLike | None
    ) -> Any:
        out, _ = self.multihead_attn(
            x, memory, memory, key_padding_mask=padding, need_weights=False, attn_mask=mask
        )
        return self.dropout2(out)

    def _feed_forward(self, x: TensorLike) -> Any:
        return self.dropout3(self.dense2(self.dropout(self.activation(self.dense1(x)))))


def _copies(owner: str, layer: object, count: int) -> CellList:
    if not isinstance(layer, Cell):
        raise TypeError(f"{owner}: expected a layer, a Cell, got {type(layer).__name__}.")
    arguments.integer(owner, "num_layers", count)
    return CellList([copy.deepcopy(layer) for _ in range(count)])


class TransformerEncoder(Cell):
    """Several encoder layers, one after another.

    Args:
        encoder_layer: a `TransformerEncoderLayer`; each layer is a copy of it, with the same start.
        num_layers: how many.
        norm: a Cell behind the last, or None.

    Raises:
        TypeError: `encoder_layer` is no Cell; ValueError: a number below 1.
    """

    def __init__(self, encoder_layer: Cell, num_layers: int, norm: Cell | None = None) -> None:
        super().__init__()
        self.layers = _copies("TransformerEncoder", encoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def construct(
        self,
        src: TensorLike,
        src_mask: TensorLike | None = None,
        src_key_padding_mask: TensorLike | None = None,
    ) -> Any:
        """Encode sequences; arguments as those of the layer."""
        x = src
        for layer in self.layers:
            x = layer(x, src_mask=src_mask, src_key_padding_mask=src_key_padding_mask)
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Cell):
    """Several decoder layers, one after another.

    Args:
        decoder_layer: a `TransformerDecoderLayer`; each layer is a copy of it, with the same start.
        num_layers: how many.
        norm: a Cell behind the last, or None.

    Raises:
        TypeError: `decoder_layer` is no Cell; ValueError: a number below 1.
    """

    def __init__(self, decoder_layer: Cell, num_layers: int, norm: Cell | None = None) -> None:
        super().__init__()
        self.layers = _copies("TransformerDecoder", decoder_layer, num_layers)
        self.num_layers = num_layers
        self.norm = norm

    def construct(
        self,
        tgt: TensorLike,
        memory: TensorLike,
        tgt_mask: TensorLike | None = None,
        memory_mask: TensorLike | None = None,
        tgt_key_padding_mask: TensorLike | None = None,
        memory_key_padding_mask: TensorLike | None = None,
    ) -> Any:
        """Decode sequences; arguments as those of the layer."""
        x = tgt
        for layer in self.layers:
            x = layer(
                x,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
            )
        return x if self.norm is None else self.norm(x)


class Transformer(Cell):
    """An encoder and a decoder, each with a LayerNorm behind it.

    Args:
        d_model: size of an element of the sequences.
        nhead: number of heads.
        num_encoder_layers: layers of the encoder.
        num_decoder_layers: layers of the decoder.
        dim_feedforward: size inside the Dense networks.
        dropout: probability of a zero in training, in [0, 1).
        activation: `relu`, `gelu`, a Cell or a function of a Tensor.
        custom_encoder: another encoder, or None.
        custom_decoder: another decoder, or None.
        layer_norm_eps: epsilon of the LayerNorms.
        batch_first: whether sequences are (n, length, d_model); otherwise (length, n, d_model).
        norm_first: whether LayerNorm comes before the parts instead of after the residuals.
        dtype: element type of the Parameters.

    Raises:
        TypeError: an argument of the wrong kind; ValueError: a number out of range.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = "relu",
        custom_encoder: Cell | None = None,
        custom_decoder: Cell | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        settings = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps)
        flags = (batch_first, norm_first, dtype)

        def norm() -> LayerNorm:
            return LayerNorm((d_model,), epsilon=layer_norm_eps, dtype=dtype)

        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*settings, *flags), num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*settings, *flags), num_decoder_layers, norm()
        )
        for param in self.get_parameters():
            if len(param.shape) > 1:
                param.set_data(initializer(XavierUniform(), param.shape, param.dtype))
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def construct(
        self,
        src: TensorLike,
        tgt: TensorLike,
        src_mask: TensorLike | None = None,
        tgt_mask: TensorLike | None = None,
        memory_mask: TensorLike | None = None,
        src_key_padding_mask: TensorLike | None = None,
        tgt_key_padding_mask: TensorLike | None = None,
        memory_key_padding_mask: TensorLike | None = None,
    ) -> Any:
        """Encode `src`, and decode `tgt` with it; masks as those of the layers.

        Raises:
            ValueError: batches or sizes that differ.
        """
        batch = 0 if self.batch_first else 1
        if len(src.shape) == 3 and src.shape[batch] != tgt.shape[batch]:
            raise ValueError(
                f"Transformer: src {src.shape} and tgt {tgt.shape} must have one batch."
            )
        if src.shape[-1] != self.d_model or tgt.shape[-1] != self.d_model:
            raise ValueError(
                f"Transformer: the last axes of src {src.shape} and tgt {tgt.shape} must be "
                f"d_model={self.d_model}."
            )
        memory = self.encoder(src, src_mask=src_mask, src_key_padding_mask=src_key_padding_mask)
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
        )
