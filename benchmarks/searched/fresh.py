"""Networks written after the prediction of memory for GPUs was, to see how far it is off.

Nothing of how GPUs are predicted for was looked for on these. They mix positions by products, cross
embeddings with each other, predict masked words with tied tables, normalize batches, convolve
without normalization, and share keys among heads without a loop. `benchmarks/search.py --fresh`
takes them all.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from searched.networks import Network, Pin, Weights, f32, i32, taken
from searched.unseen import attended, dense, labelled, layer_norm


def _norm(width: int) -> Weights:
    return {"scale": f32(width), "shift": f32(width)}


def _dense(a: int, b: int) -> Weights:
    return {"w": f32(a, b), "b": f32(b)}


def mixer(
    layers: int = 4,
    width: int = 512,
    tokens: int = 196,
    between: tuple[int, int] = (256, 2048),
    rows: int = 64,
    classes: int = 1000,
) -> Network:
    """Products over the positions and over the channels in turns (Tolstikhin et al. 2021)."""
    layer = {
        "n1": _norm(width),
        "t1": _dense(tokens, between[0]),
        "t2": _dense(between[0], tokens),
        "n2": _norm(width),
        "c1": _dense(width, between[1]),
        "c2": _dense(between[1], width),
    }
    weights = {
        "patch": _dense(768, width),
        "layers": [dict(layer) for _ in range(layers)],
        "norm": _norm(width),
        "head": _dense(width, classes),
    }

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        patches, labels = batch
        x = pin("resid", dense(patches, weights["patch"]))
        for w in weights["layers"]:
            h = layer_norm(x, w["n1"]).swapaxes(1, 2)
            x = pin("resid", x + dense(jax.nn.gelu(dense(h, w["t1"])), w["t2"]).swapaxes(1, 2))
            h = jax.nn.gelu(dense(layer_norm(x, w["n2"]), w["c1"]))
            x = pin("resid", x + dense(h, w["c2"]))
        return labelled(dense(layer_norm(x, weights["norm"]).mean(1), weights["head"]), labels)

    return Network(loss, weights, (f32(rows, tokens, 768), i32(rows)), {"resid": (0, 3)})


def dlrm(
    tables: tuple[int, ...] = (400_000, 200_000, 100_000, 50_000, 20_000, 8_000),
    width: int = 64,
    numbers: int = 16,
    rows: int = 8192,
) -> Network:
    """Embeddings and numbers, whose products with each other go on (Naumov et al. 2019)."""
    count = len(tables) + 1
    top = (count * (count - 1) // 2 + width, 1024, 512, 1)
    weights = {
        "tables": {f"t{n}": f32(size, width) for n, size in enumerate(tables)},
        "bottom": [_dense(a, b) for a, b in itertools.pairwise((numbers, 512, 256, width))],
        "top": [_dense(a, b) for a, b in itertools.pairwise(top)],
    }
    first, second = zip(*itertools.combinations(range(count), 2), strict=True)

    def up(layers: list[Weights], x: Any) -> Any:
        for n, w in enumerate(layers):
            x = jax.nn.relu(dense(x, w)) if n < len(layers) - 1 else dense(x, w)
        return x

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, ids, y = batch
        x = pin("hidden", jax.nn.relu(up(weights["bottom"], x)))
        found = [taken(weights["tables"][f"t{n}"], ids[:, n]) for n in range(len(tables))]
        every = jnp.stack([x, *found], 1)
        crossed = jnp.einsum("bid,bjd->bij", every, every)[:, jnp.array(first), jnp.array(second)]
        z = up(weights["top"], jnp.concatenate([x, crossed], 1))[:, 0]
        return jnp.mean(jnp.maximum(z, 0) - z * y + jnp.log1p(jnp.exp(-jnp.abs(z))))

    batch = (f32(rows, numbers), i32(rows, len(tables)), f32(rows))
    return Network(loss, weights, batch, {"hidden": (0, 2)})


def bert(
    layers: int = 3,
    width: int = 768,
    heads: int = 12,
    inner: int = 3072,
    words: int = 16384,
    rows: int = 32,
    length: int = 128,
    masked: int = 20,
) -> Network:
    """An encoder that predicts the words at some places, with one table (Devlin et al. 2019)."""
    layer = {
        "a": {name: _dense(width, width) for name in ("q", "k", "v", "o")},
        "n1": _norm(width),
        "up": _dense(width, inner),
        "down": _dense(inner, width),
        "n2": _norm(width),
    }
    weights = {
        "words": f32(words, width),
        "places": f32(length, width),
        "norm": _norm(width),
        "layers": [dict(layer) for _ in range(layers)],
        "turn": _dense(width, width),
        "last": _norm(width),
        "bias": f32(words),
    }

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        ids, places, labels = batch
        x = layer_norm(taken(weights["words"], ids) + weights["places"], weights["norm"])
        for w in weights["layers"]:
            x = pin("resid", layer_norm(x + attended(w["a"], x, x, heads), w["n1"]))
            h = dense(jax.nn.gelu(dense(x, w["up"])), w["down"])
            x = pin("resid", layer_norm(x + h, w["n2"]))
        x = jnp.take_along_axis(x, places[..., None], 1)
        x = layer_norm(jax.nn.gelu(dense(x, weights["turn"])), weights["last"])
        return labelled(x @ weights["words"].T + weights["bias"], labels)

    batch = (i32(rows, length), i32(rows, masked), i32(rows, masked))
    return Network(loss, weights, batch, {"resid": (0, 3)})


def autoencoder(sizes: tuple[int, ...] = (4096, 2048, 1024, 256), rows: int = 4096) -> Network:
    """Products down and up again, with normalized batches in between."""
    every = (*sizes, *reversed(sizes[:-1]))
    weights = {"layers": [{**_dense(a, b), **_norm(b)} for a, b in itertools.pairwise(every)]}

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        (x,) = batch
        own = x
        for n, w in enumerate(weights["layers"]):
            x = pin("hidden", dense(x, w))
            if n < len(weights["layers"]) - 1:
                mean = x.mean(0)
                variance = ((x - mean) ** 2).mean(0)
                x = (x - mean) * jax.lax.rsqrt(variance + 1e-5) * w["scale"] + w["shift"]
                x = jnp.tanh(x)
        return jnp.mean((x - own) ** 2)

    return Network(loss, weights, (f32(rows, sizes[0]),), {"hidden": (0, 2)})


def vgg(
    rows: int = 128,
    size: int = 64,
    widths: tuple[int, ...] = (64, 128, 256),
    classes: int = 512,
    wide: int = 2048,
) -> Network:
    """Pairs of convolutions without normalization, halved in between (Simonyan et al. 2015)."""
    kernels: list[Weights] = []
    channels = 3
    for width in widths:
        kernels += [
            {"w": f32(3, 3, channels, width), "b": f32(width)},
            {"w": f32(3, 3, width, width), "b": f32(width)},
        ]
        channels = width
    side = size // 2 ** len(widths)
    weights = {
        "kernels": kernels,
        "up": _dense(side * side * channels, wide),
        "out": _dense(wide, classes),
    }

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, labels = batch
        for n, w in enumerate(weights["kernels"]):
            numbers = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, w["w"], (1, 1), "SAME", dimension_numbers=numbers)
            x = pin("images", jax.nn.relu(x + w["b"]))
            if n % 2:
                own = x.shape
                x = x.reshape(own[0], own[1] // 2, 2, own[2] // 2, 2, own[3]).max((2, 4))
        x = jax.nn.relu(dense(x.reshape(rows, -1), weights["up"]))
        return labelled(dense(x, weights["out"]), labels)

    return Network(loss, weights, (f32(rows, size, size, 3), i32(rows)), {"images": (0, 4)})


def shared_keys(
    layers: int = 3,
    width: int = 1024,
    heads: int = 16,
    shared: int = 4,
    inner: int = 3584,
    words: int = 32768,
    rows: int = 8,
    length: int = 512,
) -> Network:
    """A decoder whose heads share keys and values, with gated products (Ainslie et al. 2023)."""
    each = width // heads
    layer = {
        "n1": f32(width),
        "q": f32(width, width),
        "k": f32(width, shared * each),
        "v": f32(width, shared * each),
        "o": f32(width, width),
        "n2": f32(width),
        "gate": f32(width, inner),
        "up": f32(width, inner),
        "down": f32(inner, width),
    }
    weights = {
        "words": f32(words, width),
        "layers": [dict(layer) for _ in range(layers)],
        "norm": f32(width),
        "out": f32(width, words),
    }

    def normed(x: Any, scale: Any) -> Any:
        return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6) * scale

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        ids, labels = batch
        mask = jnp.tril(jnp.ones((length, length), bool))
        x = pin("resid", taken(weights["words"], ids))
        for w in weights["layers"]:
            h = normed(x, w["n1"])
            q = (h @ w["q"]).reshape(rows, length, shared, heads // shared, each)
            k, v = ((h @ w[name]).reshape(rows, length, shared, each) for name in "kv")
            scores = jnp.einsum("bqgnd,bkgd->bgnqk", q, k) * each**-0.5
            mixed = jax.nn.softmax(jnp.where(mask, scores, -1e9))
            mixed = jnp.einsum("bgnqk,bkgd->bqgnd", mixed, v).reshape(x.shape)
            x = pin("resid", x + mixed @ w["o"])
            h = normed(x, w["n2"])
            x = pin("resid", x + (jax.nn.silu(h @ w["gate"]) * (h @ w["up"])) @ w["down"])
        return labelled(normed(x, weights["norm"]) @ weights["out"], labels)

    return Network(loss, weights, (i32(rows, length), i32(rows, length)), {"resid": (0, 3)})


#: Name -> the network as it is searched.
FRESH: dict[str, Callable[[], Network]] = {
    "mixer": mixer,
    "dlrm": dlrm,
    "bert": bert,
    "autoencoder": autoencoder,
    "vgg": vgg,
    "shared-keys": shared_keys,
}
