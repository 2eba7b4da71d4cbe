"""Attention against a plain loop over heads and queries in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from layer_cases import make, numbers
from paramesh import context, nn
from paramesh.nn import attention
from paramesh.tensor import Tensor, kept_calls
from type_checks import present

HEADS, SIZE = 2, 6
QUERIES, KEYS, BATCH = 3, 5, 2
NO_WAY = np.triu(np.ones((QUERIES, KEYS), bool), 2)
PADDING = np.array([[False] * 5, [False, False, True, True, True]])


X3 = Tensor(np.random.default_rng(5).normal(size=(2, 3, 4)).astype(np.float32))


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def reference(
    net: Any, query: np.ndarray, key: np.ndarray, value: np.ndarray, added: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(length, n, size) inputs and what is added to the products, (n, heads, l, s)."""
    params = {n: p.asnumpy().astype(np.float64) for n, p in net.parameters_and_names()}
    if "in_proj_weight" in params:
        wq, wk, wv = np.split(params["in_proj_weight"], 3)
    else:
        wq, wk, wv = (params[f"{n}_proj_weight"] for n in "qkv")
    bq, bk, bv = np.split(params.get("in_proj_bias", np.zeros(3 * SIZE)), 3)
    q, k, v = query @ wq.T + bq, key @ wk.T + bk, value @ wv.T + bv
    d = SIZE // HEADS
    out = np.zeros((len(q), BATCH, SIZE))
    weights = np.zeros((BATCH, HEADS, len(q), len(k)))
    for b in range(BATCH):
        for h in range(HEADS):
            at = slice(h * d, (h + 1) * d)
            for i in range(len(q)):
                products = k[:, b, at] @ q[i, b, at] / np.sqrt(d) + added[b, h, i]
                weights[b, h, i] = softmax(products)
                out[i, b, at] = weights[b, h, i] @ v[:, b, at]
    out = out @ params["out_proj.weight"].T + params.get("out_proj.bias", 0)
    return out, weights


def inputs(kdim: int = SIZE, vdim: int = SIZE) -> tuple[np.ndarray, ...]:
    return (
        numbers(QUERIES, BATCH, SIZE),
        numbers(KEYS, BATCH, kdim, seed=1),
        numbers(KEYS, BATCH, vdim, seed=2),
    )


@pytest.mark.parametrize(
    ("code", "masked"),
    [
        ("nn.MultiheadAttention(6, 2)", ()),
        ("nn.MultiheadAttention(6, 2)", ("attn_mask", "key_padding_mask")),
        ("nn.MultiheadAttention(6, 2, has_bias=False, kdim=4, vdim=3)", ("attn_mask",)),
    ],
)
def test_attention(code: str, masked: tuple[str, ...]) -> None:
    net = make(code)
    sizes = (4, 3) if "kdim" in code else ()
    query, key, value = inputs(*sizes)
    added = np.zeros((BATCH, HEADS, QUERIES, KEYS))
    masks = {}
    if "attn_mask" in masked:
        masks["attn_mask"] = Tensor(NO_WAY)
        added = added + np.where(NO_WAY, -np.inf, 0)
    if "key_padding_mask" in masked:
        masks["key_padding_mask"] = Tensor(PADDING)
        added = added + np.where(PADDING, -np.inf, 0)[:, None, None]
    out, weights = net(Tensor(query), Tensor(key), Tensor(value), **masks)
    wanted, of_heads = reference(net, query, key, value, added)
    np.testing.assert_allclose(out.asnumpy(), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weights.asnumpy(), of_heads.mean(1), rtol=1e-5, atol=1e-6)


def test_numbers_as_a_mask_for_each_head() -> None:
    net = make("nn.MultiheadAttention(6, 2)")
    query, key, value = inputs()
    mask = numbers(BATCH * HEADS, QUERIES, KEYS, seed=3)
    out, weights = net(query, key, value, attn_mask=mask, average_attn_weights=False)
    added = mask.reshape(BATCH, HEADS, QUERIES, KEYS)
    wanted, of_heads = reference(net, query, key, value, added)
    np.testing.assert_allclose(out.asnumpy(), wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(weights.asnumpy(), of_heads, rtol=1e-5, atol=1e-6)


def test_arrangements_of_the_axes() -> None:
    net = make("nn.MultiheadAttention(6, 2)")
    query, key, value = inputs()
    out, weights = net(query, key, value)
    first = make("nn.MultiheadAttention(6, 2, batch_first=True)")
    first.load_state_dict({n: p.value() for n, p in net.parameters_and_names()})
    turned, none = first(*(x.swapaxes(0, 1) for x in (query, key, value)), need_weights=False)
    assert none is None
    np.testing.assert_allclose(turned.asnumpy().swapaxes(0, 1), out.asnumpy(), atol=1e-6)
    alone, its_weights = net(query[:, 0], key[:, 0], value[:, 0])
    np.testing.assert_allclose(alone.asnumpy(), out.asnumpy()[:, 0], atol=1e-6)
    np.testing.assert_allclose(its_weights.asnumpy(), weights.asnumpy()[0], atol=1e-6)


def test_added_keys_and_values() -> None:
    net = make("nn.MultiheadAttention(6, 2, add_bias_kv=True, add_zero_attn=True)")
    assert [(n, p.shape) for n, p in net.parameters_and_names()][2:4] == [
        ("bias_k", (1, 1, 6)),
        ("bias_v", (1, 1, 6)),
    ]
    query, key, value = inputs()
    # The mask is of the keys that are given; the added ones always count.
    mask = Tensor(np.ones((QUERIES, KEYS), bool))
    out, weights = net(query, key, value, attn_mask=mask)
    assert weights.shape == (BATCH, QUERIES, KEYS + 2)
    assert not weights.asnumpy()[..., :KEYS].any()
    np.testing.assert_allclose(weights.asnumpy().sum(-1), 1, rtol=1e-5)
    assert np.isfinite(out.asnumpy()).all()


@pytest.mark.parametrize("norm_first", [False, True])
def test_encoder_layer(norm_first: bool) -> None:
    net = nn.TransformerEncoderLayer(6, 2, 8, norm_first=norm_first)
    x = numbers(QUERIES, BATCH, SIZE)

    def norm(which: Any, t: np.ndarray) -> np.ndarray:
        centred = t - t.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * which.gamma.asnumpy() + which.beta.asnumpy()

    def attend(t: np.ndarray) -> np.ndarray:
        return reference(net.self_attn, t, t, t, np.zeros((BATCH, HEADS, QUERIES, QUERIES)))[0]

    def dense(which: Any, t: np.ndarray) -> np.ndarray:
        return t @ which.weight.asnumpy().T + which.bias.asnumpy()

    def feed(t: np.ndarray) -> np.ndarray:
        return dense(net.dense2, np.maximum(dense(net.dense1, t), 0))

    if norm_first:
        wanted = x + attend(norm(net.norm1, x))
        wanted = wanted + feed(norm(net.norm2, wanted))
    else:
        wanted = norm(net.norm1, x + attend(x))
        wanted = norm(net.norm2, wanted + feed(wanted))
    np.testing.assert_allclose(net(x).asnumpy(), wanted, rtol=1e-4, atol=1e-5)


def test_outside_of_programs_it_is_few_compiled_calls() -> None:
    context.set_context(mode=context.PYNATIVE_MODE)
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    layer(X3, X3, X3)
    before = kept_calls.as_one
    seen: list[str] = []

    def counted(fn: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(fn.__name__)
        return before(fn, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "as_one", counted)
        out, weights = layer(X3, X3, X3)
    assert seen == ["_projected", "_attended"]
    for name in seen:
        made = kept_calls._calls[vars(attention)[name]].made()
        assert [call.traces for call in made] == [1] * len(made) != []
    context.set_context(mode=context.GRAPH_MODE)
    compiled, shown = layer(X3, X3, X3)
    np.testing.assert_allclose(out.asnumpy(), compiled.asnumpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(present(weights).asnumpy(), present(shown).asnumpy(), rtol=1e-5)


@pytest.mark.parametrize("mode", [context.PYNATIVE_MODE, context.GRAPH_MODE])
def test_a_batch_of_none(mode: int) -> None:
    context.set_context(mode=mode)
    none = X3[:0]
    out, weights = nn.MultiheadAttention(4, 2, batch_first=True)(none, none, none)
    assert out.shape == (0, *X3.shape[1:])
    assert present(weights).shape == (0, X3.shape[1], X3.shape[1])
