"""Attention and normalisation as the single operators that language models use.

MindSpore has them on Ascend alone; here XLA fuses what they are made of, on any device.

Source: MindSpore's operators of these names; `rms_norm` as in Zhang and Sennrich (2019), rotary
positions as in Su et al. (2021), `swiglu` as in Shazeer (2020).
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.ops.random_ops import dropout
from paramesh.ops.table import Array, Floating, function, primitive, tuple_function
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import raw, wrap

# fmt: off
__all__ = [
    "flash_attention_score", "flash_attention_score_with_sums", "FlashAttentionScore", "rms_norm",
    "RmsNorm",
    "rotary_position_embedding", "apply_rotary_pos_emb", "ApplyRotaryPosEmb", "swiglu",
]
# fmt: on

_LAYOUTS = ("BSH", "SBH", "BNSD", "BSND")
_EVERYTHING = 2147483647


def _heads(x: jax.Array, heads: int, layout: str) -> Any:
    """(b, heads, s, d) of any layout."""
    if layout == "BNSD":
        return x
    if layout == "BSND":
        return x.swapaxes(1, 2)
    if layout == "SBH":
        x = x.swapaxes(0, 1)
    b, s, h = x.shape
    return x.reshape(b, s, heads, h // heads).swapaxes(1, 2)


def _back(x: jax.Array, layout: str) -> Any:
    if layout == "BNSD":
        return x
    x = x.swapaxes(1, 2)
    if layout == "BSND":
        return x
    x = x.reshape(*x.shape[:2], -1)
    return x.swapaxes(0, 1) if layout == "SBH" else x


def _hidden(
    rows: int, columns: int, sparse_mode: int, before: int, after: int, mask: jax.Array | None
) -> Any:
    """Bool that fits (b, heads, rows, columns): what is not attended to; None: nothing."""
    i, j = jnp.arange(rows)[:, None], jnp.arange(columns)
    if sparse_mode == 2:
        return j > i
    if sparse_mode == 3:
        return j > i + columns - rows
    if sparse_mode not in (0, 1, 4):
        raise ValueError(f"sparse_mode must be 0, 1, 2, 3 or 4, got {sparse_mode}.")
    hidden = None if mask is None or sparse_mode == 4 else mask.astype(bool)
    if sparse_mode == 1:
        return hidden
    shift = columns - rows if sparse_mode == 4 else 0
    if before < columns + rows or after < columns + rows:
        outside = (j < i + shift - before) | (j > i + shift + after)
        hidden = outside if hidden is None else hidden | outside
    return hidden


@tuple_function
def flash_attention_score_with_sums(
    query: Floating,
    key: Floating,
    value: Floating,
    real_shift: Array = None,
    drop_mask: Array = None,
    padding_mask: TensorLike | None = None,
    attn_mask: Array = None,
    prefix: TensorLike | Sequence[int] | None = None,
    actual_seq_qlen: TensorLike | Sequence[int] | None = None,
    actual_seq_kvlen: TensorLike | Sequence[int] | None = None,
    head_num: int = 1,
    keep_prob: float = 1.0,
    scale_value: float = 1.0,
    pre_tokens: int = _EVERYTHING,
    next_tokens: int = _EVERYTHING,
    input_layout: str = "BSH",
    sparse_mode: int = 0,
) -> Any:
    """Attention, with the largest product and the sum of each row.

    Args:
        query: in `input_layout`: (b, s, heads * d), (s, b, heads * d), (b, heads, s, d) or
            (b, s, heads, d).
        key: likewise; with fewer heads each serves several of the query's.
        value: as the key.
        real_shift: added to the products.
        drop_mask: which weights are kept; None: by chance, with `keep_prob` below 1.
        padding_mask: not offered.
        attn_mask: true or 1 where a query does not attend; fits (b, heads, s, t).
        prefix: not offered.
        actual_seq_qlen: not offered.
        actual_seq_kvlen: not offered.
        head_num: heads of the query.
        keep_prob: share of the weights that are kept.
        scale_value: what the products are multiplied by.
        pre_tokens: how far back a query attends (`sparse_mode` 0 and 4).
        next_tokens: how far ahead.
        input_layout: BSH, SBH, BNSD or BSND.
        sparse_mode: 0: by the mask and the two numbers above; 1: by the mask; 2: back from the
            upper left corner; 3: back from the lower right one; 4: by the two numbers, from there.

    Returns:
        (largest products, sums of the rows, both (b, heads, s, 8) in Float32; an empty Tensor; the
        output in the layout of the query).

    Raises:
        ValueError: another layout or mode, or an argument that is not offered.
    """
    if input_layout not in _LAYOUTS:
        raise ValueError(f"input_layout must be one of {_LAYOUTS}, got {input_layout!r}.")
    absent = dict(padding_mask=padding_mask, prefix=prefix, actual_seq_qlen=actual_seq_qlen,
                  actual_seq_kvlen=actual_seq_kvlen)  # fmt: skip
    for name, given in absent.items():
        if given is not None:
            raise ValueError(f"{name} is not offered: give attn_mask.")
    q = _heads(query, head_num, input_layout)
    size = q.shape[-1]
    of_keys = (
        key.shape[1 if input_layout == "BNSD" else 2] if key.ndim == 4 else key.shape[2] // size
    )
    k, v = (_heads(x, of_keys, input_layout) for x in (key, value))
    if of_keys != head_num:
        k, v = (jnp.repeat(x, head_num // of_keys, 1) for x in (k, v))
    products = jnp.einsum("bnsd,bntd->bnst", q, k, preferred_element_type=jnp.float32)
    products = products * scale_value
    if real_shift is not None:
        products = products + real_shift
    rows, columns = products.shape[2:]
    hidden = _hidden(rows, columns, sparse_mode, pre_tokens, next_tokens, attn_mask)
    if hidden is not None:
        products = jnp.where(hidden, jnp.float32(-jnp.finfo(jnp.float32).max / 2), products)
    highest = products.max(-1, keepdims=True)
    powers = jnp.exp(products - highest)
    total = powers.sum(-1, keepdims=True)
    weights = (powers / total).astype(v.dtype)
    if drop_mask is not None:
        weights = weights * drop_mask.astype(v.dtype) / keep_prob
    elif keep_prob < 1:
        weights = raw(dropout(wrap(weights), 1 - keep_prob))
    out = jnp.einsum("bnst,bntd->bnsd", weights, v)
    kept = [jnp.broadcast_to(x, (*x.shape[:3], 8)) for x in (highest, total)]
    return (*kept, jnp.zeros((0,), query.dtype), _back(out, input_layout))


FlashAttentionScore = primitive(
    "FlashAttentionScore",
    flash_attention_score_with_sums,
    lambda head_num, keep_prob=1.0, scale_value=1.0, pre_tokens=_EVERYTHING,
    next_tokens=_EVERYTHING,
    inner_precise=0, input_layout="BSH", sparse_mode=0: dict(
        head_num=head_num,
        keep_prob=keep_prob,
        scale_value=scale_value,
        pre_tokens=pre_tokens,
        next_tokens=next_tokens,
        input_layout=input_layout,
        sparse_mode=sparse_mode,
    ),
)  # fmt: skip


def flash_attention_score(
    query: TensorLike,
    key: TensorLike,
    value: TensorLike,
    head_num: int,
    real_shift: TensorLike | None = None,
    drop_mask: TensorLike | None = None,
    padding_mask: TensorLike | None = None,
    attn_mask: TensorLike | None = None,
    prefix: TensorLike | Sequence[int] | None = None,
    actual_seq_qlen: TensorLike | Sequence[int] | None = None,
    actual_seq_kvlen: TensorLike | Sequence[int] | None = None,
    keep_prob: float = 1.0,
    scalar_value: float = 1.0,
    pre_tokens: int = _EVERYTHING,
    next_tokens: int = _EVERYTHING,
    inner_precise: int = 0,
    input_layout: str = "BSH",
    sparse_mode: int = 0,
) -> Any:
    """Attention; arguments as those of `flash_attention_score_with_sums`.

    Returns:
        The output, in the layout of the query.
    """
    return flash_attention_score_with_sums(
        query, key, value, real_shift, drop_mask, padding_mask, attn_mask, prefix, actual_seq_qlen,
        actual_seq_kvlen, head_num=head_num, keep_prob=keep_prob, scale_value=scalar_value,
        pre_tokens=pre_tokens, next_tokens=next_tokens, input_layout=input_layout,
        sparse_mode=sparse_mode,
    )[3]  # fmt: skip


@tuple_function
def rms_norm(x: Floating, gamma: Floating, epsilon: float = 1e-6) -> Any:
    """(x / root of the mean of its squares * gamma, 1 / that root), over gamma's axes."""
    axes = tuple(range(x.ndim - gamma.ndim, x.ndim))
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    scale = jax.lax.rsqrt(jnp.mean(wide * wide, axes, keepdims=True) + epsilon)
    return (wide * scale).astype(x.dtype) * gamma, scale


RmsNorm = primitive("RmsNorm", rms_norm, lambda epsilon=1e-6: {"epsilon": epsilon})


def _turned(x: jax.Array, mode: int) -> Any:
    if mode == 0:
        first, second = jnp.split(x, 2, -1)
        return jnp.concatenate([-second, first], -1)
    pairs = x.reshape(*x.shape[:-1], -1, 2)
    return jnp.stack([-pairs[..., 1], pairs[..., 0]], -1).reshape(x.shape)


@function
def rotary_position_embedding(x: Floating, cos: Floating, sin: Floating, mode: int = 0) -> Any:
    """X * cos + x turned by a right angle * sin.

    Args:
        x: (..., d), d even.
        cos: fits x.
        sin: fits x.
        mode: 0: halves are turned against each other; 1: neighbours.

    Raises:
        ValueError: another mode.
    """
    if mode not in (0, 1):
        raise ValueError(f"mode must be 0 or 1, got {mode}.")
    return x * cos + _turned(x, mode) * sin


@tuple_function
def apply_rotary_pos_emb(
    query: Floating,
    key: Floating,
    cos: Floating,
    sin: Floating,
    position_ids: Array,
    heads: int | None = None,
) -> Any:
    """(query, key) with rotary positions: (b, s, heads * d) each, of tables (positions, d).

    Args:
        query: (b, s, heads * d).
        key: (b, s, heads * d).
        cos: (positions, d), or (b * s, d).
        sin: likewise.
        position_ids: (b,) or (b, s): the position of each element, or the number of them.
        heads: without effect.
    """
    size = cos.shape[-1]
    b, s = query.shape[:2]
    ids = position_ids.reshape(b, -1)
    at = ids if ids.shape[1] == s else jnp.arange(s)[None]
    rows = [table.reshape(-1, size)[at][:, :, None] for table in (cos, sin)]

    def turn(x: jax.Array) -> Any:
        parts = x.reshape(b, s, -1, size)
        out = parts * rows[0] + _turned(parts, 0) * rows[1]
        return out.reshape(x.shape).astype(x.dtype)

    return turn(query), turn(key)


ApplyRotaryPosEmb = primitive("ApplyRotaryPosEmb", apply_rotary_pos_emb, lambda cos_format=0: {})


@function
def swiglu(input: Floating, dim: int = -1) -> Any:
    """silu(first half) * second half along an axis."""
    first, second = jnp.split(input, 2, dim)
    return jax.nn.silu(first) * second
