"""Networks with random numbers: dropout after products, in attention and after convolutions.

`benchmarks/search.py --dropped` takes them all. Their batch has the words of a key with it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from searched.networks import Network, Pin, Weights, f32, i32
from searched.unseen import dense, labelled, layer_norm

_KEPT = 0.9


def _dense(a: int, b: int) -> Weights:
    return {"w": f32(a, b), "b": f32(b)}


def _words() -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((2,), jnp.uint32)


class _Keys:
    """A key for each dropout of a network, from the words of one."""

    def __init__(self, words: Any) -> None:
        self._key = jax.random.wrap_key_data(words)

    def dropped(self, x: Any) -> Any:
        self._key, own = jax.random.split(self._key)
        return jnp.where(jax.random.bernoulli(own, _KEPT, x.shape), x / _KEPT, 0.0)


def dropped_mlp(width: int = 1024, inner: int = 4096, layers: int = 2, rows: int = 8192) -> Network:
    """Products up and down again, with what is between them dropped."""
    layer = {"up": _dense(width, inner), "down": _dense(inner, width)}
    weights = {"layers": [dict(layer) for _ in range(layers)]}

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, words = batch
        keys, own = _Keys(words), x
        for w in weights["layers"]:
            h = pin("hidden", keys.dropped(jax.nn.relu(dense(x, w["up"]))))
            x = pin("hidden", x + keys.dropped(dense(h, w["down"])))
        return jnp.mean((x - 2 * own) ** 2)

    return Network(loss, weights, (f32(rows, width), _words()), {"hidden": (0, 2)})


def dropped_bert(
    layers: int = 3,
    width: int = 512,
    heads: int = 8,
    inner: int = 2048,
    rows: int = 32,
    length: int = 128,
    classes: int = 1000,
) -> Network:
    """An encoder with dropout, on the scores of attention too (Devlin et al. 2019)."""
    layer = {
        "a": {name: _dense(width, width) for name in ("q", "k", "v", "o")},
        "n1": {"scale": f32(width), "shift": f32(width)},
        "up": _dense(width, inner),
        "down": _dense(inner, width),
        "n2": {"scale": f32(width), "shift": f32(width)},
    }
    weights = {"layers": [dict(layer) for _ in range(layers)], "head": _dense(width, classes)}
    each = width // heads

    def attended(w: Weights, x: Any, keys: _Keys) -> Any:
        q, k, v = (dense(x, w[n]).reshape(rows, length, heads, each) for n in "qkv")
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * each**-0.5
        mixed = jnp.einsum("bhqk,bkhd->bqhd", keys.dropped(jax.nn.softmax(scores)), v)
        return dense(mixed.reshape(rows, length, width), w["o"])

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, labels, words = batch
        keys = _Keys(words)
        for w in weights["layers"]:
            x = pin("resid", layer_norm(x + keys.dropped(attended(w["a"], x, keys)), w["n1"]))
            h = dense(jax.nn.gelu(dense(x, w["up"])), w["down"])
            x = pin("resid", layer_norm(x + keys.dropped(h), w["n2"]))
        return labelled(dense(x.mean(1), weights["head"]), labels)

    batch = (f32(rows, length, width), i32(rows), _words())
    return Network(loss, weights, batch, {"resid": (0, 3)})


def dropped_convolutions(
    rows: int = 64, size: int = 32, widths: tuple[int, ...] = (64, 128, 128), classes: int = 512
) -> Network:
    """Convolutions, with numbers of their images dropped."""
    kernels: list[Weights] = []
    channels = 3
    for width in widths:
        kernels.append({"w": f32(3, 3, channels, width), "b": f32(width)})
        channels = width
    weights = {"kernels": kernels, "out": _dense(channels, classes)}

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, labels, words = batch
        keys = _Keys(words)
        for w in weights["kernels"]:
            numbers = ("NHWC", "HWIO", "NHWC")
            x = jax.lax.conv_general_dilated(x, w["w"], (1, 1), "SAME", dimension_numbers=numbers)
            x = pin("images", keys.dropped(jax.nn.relu(x + w["b"])))
        return labelled(dense(x.mean((1, 2)), weights["out"]), labels)

    batch = (f32(rows, size, size, 3), i32(rows), _words())
    return Network(loss, weights, batch, {"images": (0, 4)})


#: Name -> the network as it is searched.
DROPPED: dict[str, Callable[[], Network]] = {
    "d-mlp": dropped_mlp,
    "d-bert": dropped_bert,
    "d-conv": dropped_convolutions,
}
