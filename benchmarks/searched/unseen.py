"""Networks that the cost model and the prediction of memory were not fitted to.

What is predicted was worked out on the networks of `networks.py`. These have other operators and
other shapes: separate products for queries, keys and values, biases, sequences that eight does not
divide, tables that are looked up several times for each row, rotary positions, groups of channels,
convolutions over time, and gates that a scan carries. `benchmarks/search.py --unseen` takes them
all, and `--networks …` some by name.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from searched.networks import Network, Pin, Weights, cross_entropy, f32, i32, taken


def layer_norm(x: Any, w: Weights) -> Any:
    mean = x.mean(-1, keepdims=True)
    variance = jnp.var(x, -1, keepdims=True)
    return (x - mean) / jnp.sqrt(variance + 1e-5) * w["scale"] + w["shift"]


def group_norm(x: Any, w: Weights, groups: int) -> Any:
    """Over the positions, if there are some, and the channels of each group."""
    split = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean = split.mean((1, 3), keepdims=True)
    variance = ((split - mean) ** 2).mean((1, 3), keepdims=True)
    split = (split - mean) * jax.lax.rsqrt(variance + 1e-5)
    return split.reshape(x.shape) * w["scale"] + w["shift"]


def _norm(width: int) -> Weights:
    return {"scale": f32(width), "shift": f32(width)}


def _dense(a: int, b: int) -> Weights:
    return {"w": f32(a, b), "b": f32(b)}


def dense(x: Any, w: Weights) -> Any:
    return x @ w["w"] + w["b"]


def labelled(logits: Any, labels: Any) -> Any:
    """The cross entropy, with the logit of the label looked up."""
    scores = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(scores, labels[..., None], -1))


# Transformers.


def _attention(width: int) -> Weights:
    return {name: _dense(width, width) for name in ("q", "k", "v", "o")}


def _split(x: Any, heads: int) -> Any:
    return x.reshape(*x.shape[:2], heads, -1)


def attended(w: Weights, x: Any, memory: Any, heads: int, mask: Any = None) -> Any:
    q = _split(dense(x, w["q"]), heads)
    k, v = (_split(dense(memory, w[name]), heads) for name in "kv")
    scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / jnp.sqrt(q.shape[-1])
    if mask is not None:
        scores = jnp.where(mask, scores, -1e9)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)
    return dense(mixed.reshape(x.shape), w["o"])


def translator(
    layers: int = 2,
    width: int = 512,
    heads: int = 8,
    inner: int = 2048,
    words: int = 16384,
    rows: int = 32,
    lengths: tuple[int, int] = (128, 96),
) -> Network:
    """An encoder and a decoder with normalization after each block (Vaswani et al. 2017)."""

    def layer(attentions: int) -> Weights:
        return {
            **{f"a{n}": _attention(width) for n in range(attentions)},
            **{f"n{n}": _norm(width) for n in range(attentions + 1)},
            "up": _dense(width, inner),
            "down": _dense(inner, width),
        }

    weights = {
        "source": f32(words, width),
        "target": f32(words, width),
        "places": f32(max(lengths), width),
        "encoder": [layer(1) for _ in range(layers)],
        "decoder": [layer(2) for _ in range(layers)],
        "out": _dense(width, words),
    }

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        source, target, labels = batch

        def entered(table: Any, ids: Any) -> Any:
            return pin("resid", taken(table, ids) + weights["places"][: ids.shape[1]])

        def fed(w: Weights, x: Any) -> Any:
            return dense(jax.nn.relu(dense(x, w["up"])), w["down"])

        x = entered(weights["source"], source)
        for w in weights["encoder"]:
            x = layer_norm(x + attended(w["a0"], x, x, heads), w["n0"])
            x = pin("resid", layer_norm(x + fed(w, x), w["n1"]))
        memory, x = x, entered(weights["target"], target)
        mask = jnp.tril(jnp.ones((lengths[1],) * 2, bool))
        for w in weights["decoder"]:
            x = layer_norm(x + attended(w["a0"], x, x, heads, mask), w["n0"])
            x = layer_norm(x + attended(w["a1"], x, memory, heads), w["n1"])
            x = pin("resid", layer_norm(x + fed(w, x), w["n2"]))
        return labelled(dense(x, weights["out"]), labels)

    batch = (i32(rows, lengths[0]), i32(rows, lengths[1]), i32(rows, lengths[1]))
    return Network(loss, weights, batch, {"resid": (0, 3)})


def vit(
    layers: int = 2,
    width: int = 768,
    heads: int = 12,
    rows: int = 64,
    size: int = 224,
    patch: int = 16,
    classes: int = 1000,
) -> Network:
    """A vision transformer: 196 patches and a token for the class (Dosovitskiy et al. 2021)."""
    side = size // patch
    layer = {
        "n1": _norm(width),
        "a": _attention(width),
        "n2": _norm(width),
        "up": _dense(width, 4 * width),
        "down": _dense(4 * width, width),
    }
    weights = {
        "patch": _dense(patch * patch * 3, width),
        "class": f32(1, 1, width),
        "places": f32(side * side + 1, width),
        "layers": [layer for _ in range(layers)],
        "norm": _norm(width),
        "head": _dense(width, classes),
    }

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        images, labels = batch
        x = images.reshape(rows, side, patch, side, patch, 3).transpose(0, 1, 3, 2, 4, 5)
        x = dense(x.reshape(rows, side * side, -1), weights["patch"])
        first = jnp.broadcast_to(weights["class"], (rows, 1, width))
        x = pin("resid", jnp.concatenate([first, x], 1) + weights["places"])
        for w in weights["layers"]:
            inner = layer_norm(x, w["n1"])
            x = pin("resid", x + attended(w["a"], inner, inner, heads))
            inner = jax.nn.gelu(dense(layer_norm(x, w["n2"]), w["up"]))
            x = pin("resid", x + dense(inner, w["down"]))
        return labelled(dense(layer_norm(x[:, 0], weights["norm"]), weights["head"]), labels)

    return Network(loss, weights, (f32(rows, size, size, 3), i32(rows)), {"resid": (0, 3)})


def rotated(x: Any) -> Any:
    """Rotary positions (Su et al. 2021): x is (rows, length, heads, 2 n)."""
    half = x.shape[-1] // 2
    turns = jnp.arange(x.shape[1])[:, None] * 10000.0 ** (-jnp.arange(half) / half)
    cos, sin = jnp.cos(turns)[:, None], jnp.sin(turns)[:, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


def llama(
    layers: int = 4,
    width: int = 1024,
    heads: int = 16,
    shared: int = 4,
    inner: int = 2816,
    words: int = 16384,
    rows: int = 16,
    length: int = 256,
) -> Network:
    """Grouped queries and gated products in a scan that computes its layers again backwards.

    Rotary positions, root mean square normalization (Touvron et al. 2023); each key and value head
    serves `heads // shared` heads of queries.
    """
    each = width // heads
    block = {
        "n1": f32(layers, width),
        "q": f32(layers, width, width),
        "kv": f32(layers, width, 2 * shared * each),
        "o": f32(layers, width, width),
        "n2": f32(layers, width),
        "gate": f32(layers, width, inner),
        "up": f32(layers, width, inner),
        "down": f32(layers, inner, width),
    }
    weights = {"words": f32(words, width), "blocks": block, "out": f32(width, words)}

    def normed(x: Any, scale: Any) -> Any:
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        tokens, labels = batch

        def turn(x: Any, w: Weights) -> tuple[Any, None]:
            h = normed(x, w["n1"])
            q = rotated((h @ w["q"]).reshape(rows, length, heads, each))
            k, v = jnp.split((h @ w["kv"]).reshape(rows, length, 2 * shared, each), 2, 2)
            q = q.reshape(rows, length, shared, heads // shared, each)
            scores = jnp.einsum("bqgnd,bkgd->bgnqk", q, rotated(k)) * each**-0.5
            scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -jnp.inf)
            mixed = jnp.einsum("bgnqk,bkgd->bqgnd", jax.nn.softmax(scores), v)
            x = pin("resid", x + mixed.reshape(x.shape) @ w["o"])
            h = normed(x, w["n2"])
            return pin("resid", x + (jax.nn.silu(h @ w["gate"]) * (h @ w["up"])) @ w["down"]), None

        x = pin("resid", taken(weights["words"], tokens))
        x, _ = jax.lax.scan(jax.checkpoint(turn), x, weights["blocks"])
        return cross_entropy(x @ weights["out"], labels)

    return Network(loss, weights, (i32(rows, length), i32(rows, length)), {"resid": (0, 3)})


# Tables.


def two_towers(
    users: int = 500_000,
    items: int = 200_000,
    width: int = 64,
    rows: int = 4096,
    history: int = 16,
    hidden: tuple[int, ...] = (512, 256, 128),
) -> Network:
    """A recommender: a tower for users and one for items, whose outputs are compared in the batch.

    The tower of users reads a row of its own and the mean of the items that were clicked before.
    The other items of the batch are the negatives (Yi et al. 2019).
    """

    def tower(first: int) -> list[Weights]:
        return [_dense(a, b) for a, b in itertools.pairwise((first, *hidden))]

    weights = {
        "users": f32(users, width),
        "items": f32(items, width),
        "user": tower(2 * width),
        "item": tower(width),
    }

    def up(layers: list[Weights], x: Any, pin: Pin) -> Any:
        for n, w in enumerate(layers):
            x = pin("hidden", dense(x, w))
            x = jax.nn.relu(x) if n < len(layers) - 1 else x
        return x / jnp.sqrt((x * x).sum(-1, keepdims=True) + 1e-6)

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        user, clicked, item = batch
        before = taken(weights["items"], clicked).mean(1)
        x = jnp.concatenate([taken(weights["users"], user), before], -1)
        x = up(weights["user"], x, pin)
        y = up(weights["item"], taken(weights["items"], item), pin)
        return labelled(20.0 * x @ y.T, jnp.arange(rows))

    batch = (i32(rows), i32(rows, history), i32(rows))
    return Network(loss, weights, batch, {"hidden": (0, 2)})


# Others.


def group_mlp(
    layers: int = 6, width: int = 2048, inner: int = 4096, groups: int = 32, rows: int = 2048
) -> Network:
    """A residual network of products with GroupNorm before each pair."""
    block = {"norm": _norm(width), "up": _dense(width, inner), "down": _dense(inner, width)}
    weights = {"blocks": [block for _ in range(layers)], "head": _dense(width, 64)}

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, labels = batch
        for w in weights["blocks"]:
            inner = jax.nn.silu(dense(group_norm(x, w["norm"], groups), w["up"]))
            x = pin("resid", x + dense(inner, w["down"]))
        return labelled(dense(x, weights["head"]), labels)

    return Network(loss, weights, (f32(rows, width), i32(rows)), {"resid": (0, 2)})


def speech(
    rows: int = 64,
    length: int = 200,
    bands: int = 80,
    channels: tuple[int, int] = (256, 512),
    width: int = 512,
    symbols: int = 64,
) -> Network:
    """Two convolutions over time, and a gated recurrent unit that goes over what they give."""
    kernels = {
        f"conv{n}": {"w": f32(5, a, b), "b": f32(b)}
        for n, (a, b) in enumerate(itertools.pairwise((bands, *channels)))
    }
    gru = {"x": _dense(channels[-1], 3 * width), "h": _dense(width, 3 * width)}
    weights = {**kernels, "gru": gru, "out": _dense(width, symbols)}
    steps = -(-length // 2)

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, labels = batch
        for n, stride in enumerate((1, 2)):
            w = weights[f"conv{n}"]
            numbers = ("NHC", "HIO", "NHC")
            x = jax.lax.conv_general_dilated(
                x, w["w"], (stride,), "SAME", dimension_numbers=numbers
            )
            x = pin("steps", jax.nn.relu(x + w["b"]))
        entering = dense(x, weights["gru"]["x"]).transpose(1, 0, 2)

        def turn(h: Any, entry: Any) -> tuple[Any, Any]:
            own = dense(h, weights["gru"]["h"])
            (r, z, n), (hr, hz, hn) = jnp.split(entry, 3, -1), jnp.split(own, 3, -1)
            z = jax.nn.sigmoid(z + hz)
            h = (1 - z) * jnp.tanh(n + jax.nn.sigmoid(r + hr) * hn) + z * h
            return h, h

        _, states = jax.lax.scan(turn, jnp.zeros((rows, width)), entering)
        return labelled(dense(states, weights["out"]), labels.T)

    return Network(loss, weights, (f32(rows, length, bands), i32(rows, steps)), {"steps": (0, 3)})


#: Name -> the network as it is searched.
UNSEEN: dict[str, Callable[[], Network]] = {
    "translator": translator,
    "vit": vit,
    "llama": llama,
    "two-towers": two_towers,
    "group-mlp": group_mlp,
    "speech": speech,
}
