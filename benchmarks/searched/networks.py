"""The networks of the benchmark of the search, in plain JAX.

Glossary
    kind        a name for what an activation is, such as "resid" for the residual stream; layouts
                that are written by hand pin activations by their kind
    layout      for each dimension None, or over what it is cut: "all" devices, "dp" or "tp"
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp

Weights = dict[str, Any]
Layout = tuple[str | None, ...]
#: (kind, activation) -> the activation, pinned.
Pin = Callable[[str, Any], Any]


@dataclass(frozen=True)
class ByHand:
    """A layout that people give one kind of network.

    Attributes:
        weights: last part of a name -> layout of the Parameter and of its states; the others are
            whole.
        pins: kind -> layout of the activation.
        batch: over what the rows of the batch are cut.
    """

    weights: Mapping[str, Layout]
    pins: Mapping[str, Layout]
    batch: str = "all"


@dataclass(frozen=True)
class Network:
    """A loss of weights and a batch, and what is known of how to cut it.

    Attributes:
        loss: (weights, batch, pin) -> the loss.
        weights, batch: their shapes.
        kinds: kind -> the dimension of the rows of the batch, and the rank.
        by_hand: name -> layout.
    """

    loss: Callable[[Weights, Any, Pin], Any]
    weights: Weights
    batch: Any
    kinds: Mapping[str, tuple[int, int]]
    by_hand: Mapping[str, ByHand] = field(default_factory=dict)


def f32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def i32(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def normed(x: Any, scale: Any) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    return centred * jax.lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * scale


def cross_entropy(logits: Any, labels: Any) -> Any:
    hit = jnp.where(labels[..., None] == jnp.arange(logits.shape[-1]), logits, 0.0).sum(-1)
    return jnp.mean(jax.nn.logsumexp(logits, axis=-1) - hit)


def taken(table: Any, ids: Any) -> Any:
    return jnp.take(table, ids, axis=0, mode="clip")


# Products.


def mlp(rows: int = 1024, sizes: tuple[int, ...] = (1024, 4096, 1024, 4096, 1024)) -> Network:
    weights = {f"w{n}": f32(a, b) for n, (a, b) in enumerate(itertools.pairwise(sizes))}
    last = len(sizes) - 2

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, y = batch
        for n in range(last + 1):
            x = pin("hidden" if n % 2 == 0 else "resid", x @ weights[f"w{n}"])
            x = jax.nn.relu(x) if n < last else x
        return jnp.mean((x - y) ** 2)

    megatron = ByHand(
        {f"w{n}": (None, "tp") if n % 2 == 0 else ("tp", None) for n in range(last + 1)},
        {"hidden": ("dp", "tp"), "resid": ("dp", None)},
        "dp",
    )
    parallel = ByHand(megatron.weights, {"hidden": ("dp", "tp"), "resid": ("dp", "tp")}, "dp")
    return Network(
        loss,
        weights,
        (f32(rows, sizes[0]), f32(rows, sizes[-1])),
        {"hidden": (0, 2), "resid": (0, 2)},
        {"Megatron": megatron, "Megatron, columns between": parallel},
    )


# Transformers.


def _block(width: int) -> Weights:
    return {
        "n1": f32(width),
        "n2": f32(width),
        "qkv": f32(width, 3 * width),
        "o": f32(width, width),
        "up": f32(width, 4 * width),
        "down": f32(4 * width, width),
    }


def _attended(w: Weights, x: Any, heads: int, pin: Pin) -> Any:
    """A pre-norm block; the products of queries, keys and values are one, head by head."""
    rows, length, width = x.shape
    mixed = (pin("normed", normed(x, w["n1"])) @ w["qkv"]).reshape(rows, length, heads, 3, -1)
    q, k, v = (pin("heads", mixed[:, :, :, n].transpose(0, 2, 1, 3)) for n in range(3))
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) * (width // heads) ** -0.5
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    mixed = pin("heads", jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, -1), v))
    x = pin("resid", x + mixed.transpose(0, 2, 1, 3).reshape(rows, length, width) @ w["o"])
    inner = pin("inner", pin("normed", normed(x, w["n2"])) @ w["up"])
    return pin("resid", x + jax.nn.gelu(inner) @ w["down"])


def gpt(
    layers: int,
    width: int = 1024,
    heads: int = 16,
    words: int = 32768,
    rows: int = 16,
    length: int = 512,
    scanned: bool = False,
) -> Network:
    """Pre-norm blocks, tied embeddings; optionally all layers in one scan."""
    block = _block(width)
    weights: Weights = {"words": f32(words, width), "places": f32(length, width)}
    if scanned:
        weights["blocks"] = {name: f32(layers, *w.shape) for name, w in block.items()}
    else:
        weights["blocks"] = [dict(block) for _ in range(layers)]

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        tokens, labels = batch
        x = pin("resid", taken(weights["words"], tokens) + weights["places"])
        if scanned:

            def turn(x: Any, w: Weights) -> tuple[Any, None]:
                return _attended(w, x, heads, pin), None

            x, _ = jax.lax.scan(turn, x, weights["blocks"])
        else:
            for w in weights["blocks"]:
                x = _attended(w, x, heads, pin)
        return cross_entropy(pin("logits", pin("normed", x) @ weights["words"].T), labels)

    front: Layout = (None,) if scanned else ()
    columns, rows_cut = (*front, None, "tp"), (*front, "tp", None)
    cut: dict[str, Layout] = {
        **{"qkv": columns, "up": columns, "o": rows_cut, "down": rows_cut},
        "words": ("tp", None),
    }
    pins: dict[str, Layout] = {
        "resid": ("dp", None, None),
        "normed": ("dp", None, None),
        "heads": ("dp", "tp", None, None),
        "inner": ("dp", None, "tp"),
        "logits": ("dp", None, "tp"),
    }
    sequence = {**pins, "resid": ("dp", "tp", None)}
    return Network(
        loss,
        weights,
        (i32(rows, length), i32(rows, length)),
        {name: (0, len(own)) for name, own in pins.items()},
        {
            "Megatron": ByHand(cut, pins, "dp"),
            "Megatron, sequence parallel": ByHand(cut, sequence, "dp"),
        },
    )


def moe(
    layers: int = 2,
    width: int = 1024,
    inner: int = 4096,
    experts: int = 16,
    rows: int = 16,
    length: int = 512,
) -> Network:
    """Layers of experts, one for each token, with places for twice the even share (GShard)."""
    places = 2 * length // experts
    layer = {
        "norm": f32(width),
        "gate": f32(width, experts),
        "up": f32(experts, width, inner),
        "down": f32(experts, inner, width),
    }

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, y = batch
        for w in weights["layers"]:
            h = pin("resid", normed(x, w["norm"]))
            shares = jax.nn.softmax(h @ w["gate"], -1)
            chosen = jax.nn.one_hot(jnp.argmax(shares, -1), experts, dtype=jnp.float32)
            place = jnp.cumsum(chosen, 1) * chosen - 1.0
            mask = jax.nn.one_hot(place.astype(jnp.int32), places, dtype=jnp.float32)
            mask = jax.lax.stop_gradient(mask * chosen[..., None])
            sent = pin("experts", jnp.einsum("bsec,bsd->ebcd", mask, h))
            out = jax.nn.gelu(jnp.einsum("ebcd,edh->ebch", sent, w["up"]))
            out = pin("experts", jnp.einsum("ebch,ehd->ebcd", out, w["down"]))
            weighed = mask * (shares * chosen).sum(-1)[..., None, None]
            x = pin("resid", x + jnp.einsum("bsec,ebcd->bsd", weighed, out))
        return jnp.mean((x - y) ** 2)

    by_experts = ByHand(
        {"up": ("all", None, None), "down": ("all", None, None)},
        {"resid": ("all", None, None), "experts": ("all", None, None, None)},
    )
    return Network(
        loss,
        {"layers": [dict(layer) for _ in range(layers)]},
        (f32(rows, length, width), f32(rows, length, width)),
        {"resid": (0, 3), "experts": (1, 4)},
        {"experts": by_experts},
    )


# Tables.


def wide_and_deep(
    rows: tuple[int, ...] = (1_000_000, 262_144, 262_144, 262_144),
    width: int = 64,
    batch: int = 8192,
    hidden: tuple[int, int] = (1024, 256),
) -> Network:
    dims = (len(rows) * width, *hidden, 1)
    weights: Weights = {
        "deep": {f"deep{n}": f32(size, width) for n, size in enumerate(rows)},
        "wide": {f"wide{n}": f32(size, 1) for n, size in enumerate(rows)},
        "layers": [f32(a, b) for a, b in itertools.pairwise(dims)],
    }

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        ids, y = batch
        deep = [taken(weights["deep"][f"deep{n}"], ids[:, n]) for n in range(len(rows))]
        x = pin("hidden", jnp.concatenate(deep, -1))
        for n, w in enumerate(weights["layers"]):
            x = pin("hidden", jax.nn.relu(x @ w) if n < 2 else x @ w)
        x += sum(taken(weights["wide"][f"wide{n}"], ids[:, n]) for n in range(len(rows)))
        x = x[:, 0]
        return jnp.mean(jnp.maximum(x, 0) - x * y + jnp.log1p(jnp.exp(-jnp.abs(x))))

    numbers = range(len(rows))
    wide: dict[str, Layout] = {f"wide{n}": ("all", None) for n in numbers}
    pins: dict[str, Layout] = {"hidden": ("all", None)}
    return Network(
        loss,
        weights,
        (i32(batch, len(rows)), f32(batch)),
        {"hidden": (0, 2)},
        {
            "rows of tables": ByHand(
                {**wide, **{f"deep{n}": ("all", None) for n in numbers}}, pins
            ),
            "columns of tables": ByHand(
                {**wide, **{f"deep{n}": (None, "all") for n in numbers}}, pins
            ),
        },
    )


# Convolutions.


def _conv(x: Any, kernel: Any, stride: int = 1, spread: int = 1) -> Any:
    """Stride and upsampling are over both dimensions; the size is kept, but for these."""
    numbers = ("NHWC", "HWIO", "NHWC")
    own = kernel.shape[0]
    pad = "SAME" if spread == 1 else ((own // 2, own - 1 - own // 2 + spread - 1),) * 2
    return jax.lax.conv_general_dilated(
        x, kernel, (stride,) * 2, pad, (spread,) * 2, dimension_numbers=numbers
    )


def _by_channel(x: Any, scale: Any) -> Any:
    centred = x - x.mean((0, 1, 2))
    return centred * jax.lax.rsqrt((centred * centred).mean((0, 1, 2)) + 1e-5) * scale


def resnet(
    batch: int = 256,
    size: int = 56,
    widths: tuple[int, ...] = (64, 128, 256, 512),
    blocks: int = 2,
    classes: int = 1024,
    wide: int = 4096,
) -> Network:
    """Basic blocks with batch normalization, and two products at the end."""
    weights: Weights = {"stem": f32(3, 3, 3, widths[0]), "stages": []}
    channels = widths[0]
    for width in widths:
        stage: list[Weights] = []
        for _ in range(blocks):
            one = {"a": f32(3, 3, channels, width), "b": f32(3, 3, width, width)}
            one |= {"na": f32(width), "nb": f32(width)}
            if channels != width:
                one["skip"] = f32(1, 1, channels, width)
            stage.append(one)
            channels = width
        weights["stages"].append(stage)
    weights |= {"fc1": f32(channels, wide), "fc2": f32(wide, classes)}

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, labels = batch
        x = pin("images", jax.nn.relu(_conv(x, weights["stem"])))
        for number, stage in enumerate(weights["stages"]):
            for place, w in enumerate(stage):
                stride = 2 if number and not place else 1
                h = pin("images", _conv(x, w["a"], stride))
                h = pin("images", _conv(jax.nn.relu(_by_channel(h, w["na"])), w["b"]))
                h = _by_channel(h, w["nb"])
                x = pin(
                    "images", jax.nn.relu((_conv(x, w["skip"], stride) if "skip" in w else x) + h)
                )
        x = pin("resid", x.mean((1, 2)))
        x = pin("hidden", jax.nn.relu(x @ weights["fc1"]))
        return cross_entropy(pin("resid", x @ weights["fc2"]), labels)

    trick = ByHand(
        {"fc1": (None, "all"), "fc2": ("all", None)},
        {"images": ("all", None, None, None), "hidden": (None, "all")},
    )
    return Network(
        loss,
        weights,
        (f32(batch, size, size, 3), i32(batch)),
        {"images": (0, 4), "resid": (0, 2), "hidden": (0, 2)},
        {"products by columns": trick},
    )


def unet(batch: int = 32, size: int = 64, widths: tuple[int, ...] = (64, 128, 256, 512)) -> Network:
    """Convolutions down and up again, with what is on the way down joined to the way up."""
    weights: Weights = {"out": f32(1, 1, widths[0], 8)}
    channels = 8
    for n, width in enumerate(widths):
        weights[f"down{n}"] = {"a": f32(3, 3, channels, width), "b": f32(3, 3, width, width)}
        channels = width
    for n in reversed(range(len(widths) - 1)):
        width = widths[n]
        weights[f"up{n}"] = {
            "grown": f32(2, 2, channels, width),
            "a": f32(3, 3, 2 * width, width),
            "b": f32(3, 3, width, width),
        }
        channels = width

    def twice(w: Weights, x: Any, pin: Pin) -> Any:
        x = pin("images", jax.nn.relu(_conv(x, w["a"])))
        return pin("images", jax.nn.relu(_conv(x, w["b"])))

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        x, y = batch
        kept: list[Any] = []
        for n in range(len(widths)):
            if n:
                kept.append(x)
                rows, height, length, own = x.shape
                x = x.reshape(rows, height // 2, 2, length // 2, 2, own).max((2, 4))
            x = twice(weights[f"down{n}"], pin("images", x), pin)
        for n in reversed(range(len(widths) - 1)):
            w = weights[f"up{n}"]
            x = pin("images", _conv(x, w["grown"], spread=2))
            x = twice(w, pin("images", jnp.concatenate([kept.pop(), x], -1)), pin)
        return jnp.mean((pin("images", _conv(x, weights["out"])) - y) ** 2)

    images = f32(batch, size, size, 8)
    return Network(loss, weights, (images, images), {"images": (0, 4)})


# Recurrence.


def lstm(
    words: int = 32768, width: int = 1024, layers: int = 2, rows: int = 128, length: int = 64
) -> Network:
    """A language model: layers of long short-term memory, each a scan over time."""
    layer = {"x": f32(width, 4 * width), "h": f32(width, 4 * width), "bias": f32(4 * width)}
    weights: Weights = {
        "words": f32(words, width),
        "layers": [dict(layer) for _ in range(layers)],
        "out": f32(width, words),
    }

    def loss(weights: Weights, batch: Any, pin: Pin) -> Any:
        tokens, labels = batch
        x = pin("steps", taken(weights["words"], tokens))
        for w in weights["layers"]:
            entering = pin("steps", x @ w["x"] + w["bias"])

            def turn(state: Any, entry: Any, w: Weights = w) -> Any:
                h, c = state
                gates = (entry + h @ w["h"]).reshape(rows, 4, width)
                i, f, g, o = (gates[:, n] for n in range(4))
                c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
                h = pin("state", jax.nn.sigmoid(o) * jnp.tanh(c))
                return (h, pin("state", c)), h

            start = jnp.zeros((rows, width))
            _, x = jax.lax.scan(turn, (start, start), entering)
            x = pin("steps", x)
        return cross_entropy(pin("steps", x @ weights["out"]), labels)

    return Network(
        loss,
        weights,
        (i32(length, rows), i32(length, rows)),
        {"steps": (1, 3), "state": (0, 2)},
    )


#: Name -> the network as it is searched.
NETWORKS: dict[str, Callable[[], Network]] = {
    "mlp": mlp,
    "gpt-1024": lambda: gpt(2),
    "gpt-4096": lambda: gpt(2, 4096, 32),
    "gpt-scan": lambda: gpt(12, scanned=True),
    "wide-deep": wide_and_deep,
    "resnet": resnet,
    "moe": moe,
    "unet": unet,
    "lstm": lstm,
}
#: Some of them, so that a step takes some tens of milliseconds on a few cores.
MEDIUM: dict[str, Callable[[], Network]] = {
    "mlp": lambda: mlp(256, (512, 2048, 512, 2048, 512)),
    "gpt-1024": lambda: gpt(2, 256, 8, 4096, 8, 128),
    "wide-deep": lambda: wide_and_deep((100_000, 32_768, 32_768, 32_768), 32, 1024, (256, 64)),
    "moe": lambda: moe(1, 128, 512, 8, 8, 128),
    "lstm": lambda: lstm(4096, 256, 1, 32, 16),
}
