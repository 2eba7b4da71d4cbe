"""What the networks of the benchmarks are: sizes, laws of the first weights, batches, rates.

This file needs numpy alone (and scikit-learn for the pictures of B), so that a process which
measures one library loads no other. Weights are named as the Cells in `of_paramesh.py` name their
Parameters, with the shapes that they have there: a dense weight is (out, in), a convolution's
(out, in, height, width).

    A   200 x (Dense 32x32 + tanh), batch 32, mean square, Adam: many small arrays
    B   LeNet-5 on handwritten digits, batch 32, cross entropy, Momentum: the small network of demos
    C   transformer, 4 layers, width 256, batch 8 x 64 tokens, cross entropy, AdamWeightDecay
    D   3 x Dense 2048x2048 with ReLU between, batch 64, mean square, SGD: few large arrays
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

LAYERS, WIDTH, BATCH = 200, 32, 32
CLASSES = 10
MOMENTUM = 0.9
# C: pre-norm, causal; GELU by tanh; the weights of norms do not decay; no dropout.
BLOCKS, MODEL, HEADS, FORWARD = 4, 256, 4, 1024
VOCABULARY, LENGTH, SENTENCES = 512, 64, 8
EPSILON = 1e-5
BETA1, BETA2, ADAM_EPSILON, DECAY = 0.9, 0.999, 1e-6, 0.01
WIDE, WIDE_BATCH, WIDE_LAYERS = 2048, 64, 3


@dataclass(frozen=True)
class Weight:
    """An array of first values: uniform on +-size, normal with deviation size, or all of size."""

    shape: tuple[int, ...]
    law: str
    size: float


@dataclass(frozen=True)
class Network:
    """One of the networks: `weights` in the order of the network, `rate` of learning."""

    key: str
    title: str
    rate: float
    weights: Mapping[str, Weight]

    @property
    def bytes(self) -> int:
        """Of all weights in float32."""
        return sum(4 * math.prod(weight.shape) for weight in self.weights.values())


def _layer(name: str, shape: tuple[int, ...], bias: bool = True) -> dict[str, Weight]:
    size = 1 / math.sqrt(math.prod(shape[1:]))
    weights = {f"{name}.weight": Weight(shape, "uniform", size)}
    if bias:
        weights[f"{name}.bias"] = Weight(shape[:1], "uniform", size)
    return weights


def _norm(name: str) -> dict[str, Weight]:
    one, zero = Weight((MODEL,), "constant", 1.0), Weight((MODEL,), "constant", 0.0)
    return {f"{name}.gamma": one, f"{name}.beta": zero}


def _stack(layers: int, width: int) -> dict[str, Weight]:
    weights: dict[str, Weight] = {}
    for i in range(layers):
        weights |= _layer(f"layers.{i}", (width, width))
    return weights


def _lenet() -> dict[str, Weight]:
    return {
        **_layer("conv1", (6, 1, 5, 5)),
        **_layer("conv2", (16, 6, 5, 5)),
        **_layer("fc1", (120, 400)),
        **_layer("fc2", (84, 120)),
        **_layer("fc3", (CLASSES, 84)),
    }


def _transformer() -> dict[str, Weight]:
    weights = {
        "token.embedding_table": Weight((VOCABULARY, MODEL), "normal", 0.01),
        "place.embedding_table": Weight((LENGTH, MODEL), "normal", 0.01),
    }
    for i in range(BLOCKS):
        name = f"blocks.{i}"
        weights |= _norm(f"{name}.norm1") | _layer(f"{name}.qkv", (3 * MODEL, MODEL))
        weights |= _layer(f"{name}.out", (MODEL, MODEL)) | _norm(f"{name}.norm2")
        weights |= _layer(f"{name}.up", (FORWARD, MODEL))
        weights |= _layer(f"{name}.down", (MODEL, FORWARD))
    return weights | _norm("norm") | _layer("head", (VOCABULARY, MODEL), bias=False)


def wide(layers: int) -> Network:
    """D with another number of layers."""
    title = f"{layers} x Dense {WIDE}x{WIDE}, SGD, batch {WIDE_BATCH}"
    return Network("D", title, 1e-2, _stack(layers, WIDE))


_ALL = (
    Network(
        "A",
        f"{LAYERS} x (Dense {WIDTH}x{WIDTH} + tanh), Adam, batch {BATCH}",
        1e-3,
        _stack(LAYERS, WIDTH),
    ),
    Network("B", f"LeNet-5, Momentum, batch {BATCH}", 1e-2, _lenet()),
    Network(
        "C",
        f"transformer, {BLOCKS} layers, width {MODEL}, AdamWeightDecay, "
        f"batch {SENTENCES} x {LENGTH}",
        1e-3,
        _transformer(),
    ),
    wide(WIDE_LAYERS),
)
NETWORKS: dict[str, Network] = {network.key: network for network in _ALL}


def start_values(network: Network) -> dict[str, Array]:
    """The first weights, always the same, drawn by numpy."""
    rng = np.random.default_rng(0)

    def draw(weight: Weight) -> Array:
        if weight.law == "uniform":
            return rng.uniform(-weight.size, weight.size, weight.shape).astype(np.float32)
        if weight.law == "normal":
            return rng.normal(0.0, weight.size, weight.shape).astype(np.float32)
        return np.full(weight.shape, weight.size, np.float32)

    return {name: draw(weight) for name, weight in network.weights.items()}


def batch(network: Network) -> tuple[Array, Array]:
    """The one batch that is trained on: float32 or int32 inputs, float32 or int32 targets."""
    rng = np.random.default_rng(1)
    if network.key == "B":
        return _digits()
    if network.key == "C":
        tokens = rng.integers(0, VOCABULARY, (SENTENCES, LENGTH + 1), dtype=np.int32)
        return tokens[:, :-1].copy(), tokens[:, 1:].copy()
    shape = (BATCH, WIDTH) if network.key == "A" else (WIDE_BATCH, WIDE)
    x, y = rng.normal(size=(2, *shape)).astype(np.float32)
    return x, y


def _digits() -> tuple[Array, Array]:
    from paramesh.cli.digits import scikit_digits

    digits = scikit_digits(0)
    return digits.train_images[:BATCH], digits.train_labels[:BATCH]


def write(network: Network, path: Path, start: bool = True) -> None:
    """The batch, and the first weights, for a process that has neither paramesh nor the pictures.

    Args:
        network: which.
        path: of an .npz file with `x`, `y` and the weights by name.
        start: False leaves the weights out, for a process that draws its own.
    """
    x, y = batch(network)
    np.savez(path, allow_pickle=False, x=x, y=y, **(start_values(network) if start else {}))


def read(path: Path) -> tuple[dict[str, Array], tuple[Array, Array]]:
    """(weights, batch) of a file that `write` has written."""
    with np.load(path) as found:
        arrays = dict(found)
    x, y = arrays.pop("x"), arrays.pop("y")
    return arrays, (x, y)
