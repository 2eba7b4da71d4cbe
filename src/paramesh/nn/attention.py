"""Attention: MultiheadAttention and the encoder layer of a transformer (Vaswani et al. 2017)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paramesh.dtype import float32, x64
from paramesh.nn import arguments
from paramesh.nn.activation import get_activation
from paramesh.nn.basic import Dense
from paramesh.nn.cell import Cell
from paramesh.nn.dropout import Dropout
from paramesh.nn.normalization import LayerNorm
from paramesh.ops.random_ops import dropout
from paramesh.parameter import Parameter
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap
from paramesh.tensor.kept_calls import as_one
from paramesh.tensor.promotion import broadcasting


class MultiheadAttention(Cell):
    """Attention with several heads: softmax(q k.T / sqrt(d)) v for each, and a Dense over all.

    Args:
        embed_dim: size of the queries and of the output.
        num_heads: number of heads, which `embed_dim` divides into.
        dropout: probability of a zero in the weights in training, in [0, 1).
        has_bias: whether the projections have biases.
        add_bias_kv: whether a trained key and value are added.
        add_zero_attn: whether a key and value of zeros are added.
        kdim: size of the keys; None: `embed_dim`.
        vdim: size of the values; None: `embed_dim`.
        batch_first: whether inputs are (n, length, size); otherwise (length, n, size).
        dtype: element type of the Parameters.

    Weights:
        in_proj_weight: (3 embed_dim, embed_dim), of queries, keys and values; where the sizes
            differ q_proj_weight, k_proj_weight (embed_dim, kdim), v_proj_weight instead.
        in_proj_bias: (3 embed_dim,), zeros at first.
        bias_k, bias_v: (1, 1, embed_dim), with `add_bias_kv`.
        out_proj: a `Dense`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range, or `embed_dim` does not divide into heads.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        has_bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        owner = "MultiheadAttention"
        self.embed_dim = arguments.integer(owner, "embed_dim", embed_dim)
        self.num_heads = arguments.integer(owner, "num_heads", num_heads)
        if embed_dim % num_heads:
            raise ValueError(
                f"{owner}: embed_dim={embed_dim} does not divide into num_heads={num_heads} heads."
            )
        self.head_dim = embed_dim // num_heads
        self.dropout = arguments.number(owner, "dropout", dropout, 0, 1, open_end=True)
        self.kdim = embed_dim if kdim is None else arguments.integer(owner, "kdim", kdim)
        self.vdim = embed_dim if vdim is None else arguments.integer(owner, "vdim", vdim)
        self.batch_first = arguments.flag(owner, "batch_first", batch_first)
        self.add_zero_attn = arguments.flag(owner, "add_zero_attn", add_zero_attn)
        arguments.flag(owner, "has_bias", has_bias)
        self._joined = self.kdim == self.vdim == embed_dim

        def weight(*shape: int) -> Parameter:
            return arguments.weight(owner, "weight", None, shape, dtype, default="xavier_uniform")

        if self._joined:
            self.in_proj_weight = weight(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight = weight(embed_dim, embed_dim)
            self.k_proj_weight = weight(embed_dim, self.kdim)
            self.v_proj_weight = weight(embed_dim, self.vdim)
        self.in_proj_bias = None
        if has_bias:
            self.in_proj_bias = arguments.weight(owner, "bias", None, (3 * embed_dim,), dtype)
        self.out_proj = Dense(embed_dim, embed_dim, has_bias=has_bias, dtype=dtype)
        self.bias_k = self.bias_v = None
        if arguments.flag(owner, "add_bias_kv", add_bias_kv):
            start = "xavier_normal"
            shape = (1, 1, embed_dim)
            self.bias_k = arguments.weight(owner, "bias_k", None, shape, dtype, default=start)
            self.bias_v = arguments.weight(owner, "bias_v", None, shape, dtype, default=start)

    def construct(
        self,
        query: TensorLike,
        key: TensorLike,
        value: TensorLike,
        key_padding_mask: TensorLike | None = None,
        need_weights: bool = True,
        attn_mask: TensorLike | None = None,
        average_attn_weights: bool = True,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from every query to every key.

        Args:
            query: (l, n, embed_dim), (n, l, embed_dim) with `batch_first`, or (l, embed_dim).
            key: (s, n, kdim), or as the query.
            value: (s, n, vdim), or as the query.
            key_padding_mask: (n, s) or (s,): Bool, True for keys that do not count; or numbers
                that are added to the products.
            need_weights: whether the weights are returned.
            attn_mask: (l, s) or (n * num_heads, l, s): Bool, True where a query does not attend; or
                numbers that are added to the products.
            average_attn_weights: whether the weights are the mean over the heads.

        Returns:
            (output, weights): the output in the form of the query; the weights (n, l, s), or
            (n, num_heads, l, s) of each head, also without n; None if they are not needed.

        Raises:
            ValueError: shapes that do not fit.
        """
        given = [arguments.tensor("MultiheadAttention", t) for t in (query, key, value)]
        self._check(given)
        batched = given[0].ndim == 3
        q, k, v = (raw(t) if batched else raw(t)[:, None] for t in given)
        with x64(q):
            if batched and self.batch_first:
                q, k, v = (t.swapaxes(0, 1) for t in (q, k, v))
            q, k, v = self._projected(q, k, v)
            masks = self._masks(key_padding_mask, attn_mask, q, k)
            out, weights = self._attended(q, k, v, masks)
        out = self.out_proj(wrap(out))
        if not batched:
            out = out.squeeze(1)
        elif self.batch_first:
            out = out.swapaxes(0, 1)
        if not need_weights:
            return out, None
        shown = wrap(weights).mean(1) if average_attn_weights else wrap(weights)
        return out, shown if batched else shown.squeeze(0)

    def _check(self, given: list[Tensor]) -> None:
        sizes = (self.embed_dim, self.kdim, self.vdim)
        shapes = [t.shape for t in given]
        fits = all(
            len(s) == len(shapes[0]) in (2, 3) and s[-1] == size
            for s, size in zip(shapes, sizes, strict=True)
        )
        batch = 0 if self.batch_first else 1
        length = 1 - batch if len(shapes[0]) == 3 else 0
        if fits and len(shapes[0]) == 3:
            fits = len({s[batch] for s in shapes}) == 1
        if not fits or shapes[1][length] != shapes[2][length]:
            raise ValueError(
                f"MultiheadAttention: expected a query, key and value of sizes {sizes} with one "
                f"batch (batch_first={self.batch_first}) and as many keys as values, got {shapes}."
            )

    def _projected(self, q: Array, k: Array, v: Array) -> tuple[Array, Array, Array]:
        if self._joined:
            weights = [self.in_proj_weight]
        else:
            weights = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        beside = (self.in_proj_bias, self.bias_k, self.bias_v)
        named = {f"weight{i}": raw(weight) for i, weight in enumerate(weights)}
        bias, bias_k, bias_v = (None if b is None else raw(b) for b in beside)
        return as_one(_projected, q, k, v, bias, bias_k, bias_v, self.add_zero_attn, **named)

    def _masks(
        self,
        key_padding_mask: TensorLike | None,
        attn_mask: TensorLike | None,
        q: Array,
        k: Array,
    ) -> list[Array]:
        """What is added to the products (n, heads, l, s): each mask as numbers of their type."""
        (queries, n), keys = q.shape[:2], k.shape[0]
        given = keys - (self.bias_k is not None) - self.add_zero_attn
        of_keys: _Shapes = {(n, given): (n, 1, 1, given), (given,): (1, 1, 1, given)}
        of_pairs: _Shapes = {
            (queries, given): (1, 1, queries, given),
            (n * self.num_heads, queries, given): (n, self.num_heads, queries, given),
        }
        return [
            jnp.pad(_mask(name, mask, shapes, q.dtype), [(0, 0)] * 3 + [(0, keys - given)])
            for name, mask, shapes in (
                ("key_padding_mask", key_padding_mask, of_keys),
                ("attn_mask", attn_mask, of_pairs),
            )
            if mask is not None
        ]

    def _attended(self, q: Array, k: Array, v: Array, masks: list[Array]) -> tuple[Array, Array]:
        """(l, n, embed_dim) and the weights (n, heads, l, s)."""
        named = {f"mask{i}": mask for i, mask in enumerate(masks)}
        if not self.training or not self.dropout:
            return as_one(_attended, q, k, v, self.num_heads, **named)
        weights = as_one(_weights, q, k, self.num_heads, **named)
        weights = raw(dropout(wrap(weights), self.dropout))
        return as_one(_summed, weights, v), weights


# Over raw values, each one compiled call outside of programs.


def _projected(
    q: Array,
    k: Array,
    v: Array,
    bias: Array | None,
    bias_k: Array | None,
    bias_v: Array | None,
    zero: bool,
    **weights: Array,
) -> tuple[Array, Array, Array]:
    parts = list(weights.values())
    parts = parts if len(parts) == 3 else jnp.split(parts[0], 3)
    q, k, v = (x @ w.T for x, w in zip((q, k, v), parts, strict=True))
    if bias is not None:
        with broadcasting():
            q, k, v = (x + b for x, b in zip((q, k, v), jnp.split(bias, 3), strict=True))
    if bias_k is not None and bias_v is not None:
        k, v = _longer(k, bias_k), _longer(v, bias_v)
    if zero:
        row = jnp.zeros((1, 1, k.shape[-1]), k.dtype)
        k, v = _longer(k, row), _longer(v, row)
    return q, k, v


def _longer(x: Array, row: Array) -> Array:
    return jnp.concatenate([x, jnp.broadcast_to(row, (1, *x.shape[1:]))])


def _by_heads(x: Array, heads: int) -> Array:
    return x.reshape(*x.shape[:2], heads, x.shape[-1] // heads)


def _weights(q: Array, k: Array, heads: int, **masks: Array) -> Array:
    q, k = (_by_heads(x, heads) for x in (q, k))
    products = jnp.einsum("lnhd,snhd->nhls", q / math.sqrt(q.shape[-1]), k)
    for mask in masks.values():
        products = products + mask
    return jax.nn.softmax(products, -1)


def _summed(weights: Array, v: Array) -> Array:
    out = jnp.einsum("nhls,snhd->lnhd", weights, _by_heads(v, weights.shape[1]))
    return out.reshape(*out.shape[:2], v.shape[-1])


def _attended(q: Array, k: Array, v: Array, heads: int, **masks: Array) -> tuple[Array, Array]:
    weights = _weights(q, k, heads, **masks)
    return _summed(weights, v), weights


_Shapes = dict[tuple[int, ...], tuple[int, ...]]


def _mask(name: str, mask: TensorLike, shapes: _Shapes, dtype: np.dtype[Any]) -> Array:
    """A mask as numbers to add, of the shape that its own shape stands for."""
    value = raw(arguments.tensor("MultiheadAttention", mask))
    if tuple(value.shape) not in shapes:
        raise ValueError(
            f"MultiheadAttention({name}): expected the shape {' or '.join(map(str, shapes))}, "
            f"got {tuple(value.shape)}."
        )
    if value.dtype == jnp.bool_:
        value = jnp.where(value, jnp.asarray(-jnp.inf, dtype), jnp.zeros((), dtype))
    return value.astype(dtype).reshape(shapes[tuple(value.shape)])


class TransformerEncoderLayer(Cell):
    """Attention of a sequence to itself, and a Dense network, each with a residual and LayerNorm.

    Args:
        d_model: size of an element of the sequence.
        nhead: number of heads.
        dim_feedforward: size inside the Dense network.
        dropout: probability of a zero in training, in [0, 1).
        activation: `relu`, `gelu`, a Cell or a function of a Tensor.
        layer_norm_eps: epsilon of the LayerNorms.
        batch_first: whether sequences are (n, length, d_model); otherwise (length, n, d_model).
        norm_first: whether LayerNorm comes before attention and the Dense network instead of after
            the residuals.
        dtype: element type of the Parameters.

    Weights:
        self_attn (a `MultiheadAttention`), dense1, dense2 (`Dense`), norm1, norm2 (`LayerNorm`).

    Raises:
        TypeError: an argument of the wrong type; ValueError: a number out of range.
        KeyError: no activation of that name.
    """

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Cell | Callable[[Any], Any] = "relu",
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        dtype: DTypeLike = float32,
    ) -> None:
        super().__init__()
        owner = "TransformerEncoderLayer"
        self.self_attn = MultiheadAttention(
            d_model, nhead, dropout, batch_first=batch_first, dtype=dtype
        )
        self.dense1 = Dense(d_model, dim_feedforward, dtype=dtype)
        self.dropout = Dropout(p=dropout)
        self.dense2 = Dense(dim_feedforward, d_model, dtype=dtype)
        self.norm_first = arguments.flag(owner, "norm_first", norm_first)
        self.norm1 = LayerNorm((d_model,), epsilon=layer_norm_eps, dtype=dtype)
        self.norm2 = LayerNorm((d_model,), epsilon=layer_norm_eps, dtype=dtype)
        self.dropout1 = Dropout(p=dropout)
        self.dropout2 = Dropout(p=dropout)
        if isinstance(activation, str):
            activation = get_activation(activation, owner) or activation
        if not callable(activation):
            raise TypeError(
                f"{owner}(activation): expected a name, a Cell or a function, got {activation!r}."
            )
        self.activation = activation

    def construct(
        self,
        src: TensorLike,
        src_mask: TensorLike | None = None,
        src_key_padding_mask: TensorLike | None = None,
    ) -> Tensor:
        """Encode sequences.

        Args:
            src: (l, n, d_model), (n, l, d_model) with `batch_first`, or (l, d_model).
            src_mask: (l, l) or (n * nhead, l, l), as `attn_mask` of `MultiheadAttention`.
            src_key_padding_mask: (n, l), as `key_padding_mask` of `MultiheadAttention`.

        Returns:
            of the shape of `src`.
        """
        x = arguments.tensor("TransformerEncoderLayer", src)
        if self.norm_first:
            x = x + self._attend(self.norm1(x), src_mask, src_key_padding_mask)
            return x + self._feed_forward(self.norm2(x))
        x = self.norm1(x + self._attend(x, src_mask, src_key_padding_mask))
        return self.norm2(x + self._feed_forward(x))

    def _attend(self, x: Tensor, mask: TensorLike | None, padding: TensorLike | None) -> Tensor:
        out, _ = self.self_attn(
            x, x, x, key_padding_mask=padding, need_weights=False, attn_mask=mask
        )
        return self.dropout1(out)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.dropout2(self.dense2(self.dropout(self.activation(self.dense1(x)))))
