"""The networks as equinox modules of one example each, trained with optax under eqx.filter_jit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import nn

from networks import definitions
from networks.by_hand import attention, cross_entropy, mean_square
from networks.definitions import EPSILON, MODEL, Array, Network
from networks.rules import optimizer

Step = Callable[[], Any]
_NAMES = {"gamma": "weight", "beta": "bias", "embedding_table": "weight"}


class Stack(eqx.Module):
    """A: dense layers with tanh."""

    layers: list[nn.Linear]

    def __init__(self, network: Network, key: Any) -> None:
        width, count = definitions.WIDTH, len(network.weights) // 2
        self.layers = [nn.Linear(width, width, key=k) for k in jax.random.split(key, count)]

    def __call__(self, x: Any) -> Any:
        """(width,) -> (width,)."""
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


class LeNet5(eqx.Module):
    """B: two convolutions and three dense layers."""

    conv1: nn.Conv2d
    conv2: nn.Conv2d
    pool: nn.MaxPool2d
    fc1: nn.Linear
    fc2: nn.Linear
    fc3: nn.Linear

    def __init__(self, network: Network, key: Any) -> None:
        keys = jax.random.split(key, 5)
        self.conv1 = nn.Conv2d(1, 6, 5, key=keys[0])
        self.conv2 = nn.Conv2d(6, 16, 5, key=keys[1])
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(400, 120, key=keys[2])
        self.fc2 = nn.Linear(120, 84, key=keys[3])
        self.fc3 = nn.Linear(84, definitions.CLASSES, key=keys[4])

    def __call__(self, x: Any) -> Any:
        """(1, 32, 32) -> (10,)."""
        x = self.pool(jax.nn.relu(self.conv1(x)))
        x = self.pool(jax.nn.relu(self.conv2(x))).reshape(-1)
        x = jax.nn.relu(self.fc1(x))
        return self.fc3(jax.nn.relu(self.fc2(x)))


class Block(eqx.Module):
    """A layer of the transformer."""

    norm1: nn.LayerNorm
    qkv: nn.Linear
    out: nn.Linear
    norm2: nn.LayerNorm
    up: nn.Linear
    down: nn.Linear

    def __init__(self, key: Any) -> None:
        keys = jax.random.split(key, 4)
        self.norm1 = nn.LayerNorm(MODEL, eps=EPSILON)
        self.qkv = nn.Linear(MODEL, 3 * MODEL, key=keys[0])
        self.out = nn.Linear(MODEL, MODEL, key=keys[1])
        self.norm2 = nn.LayerNorm(MODEL, eps=EPSILON)
        self.up = nn.Linear(MODEL, definitions.FORWARD, key=keys[2])
        self.down = nn.Linear(definitions.FORWARD, MODEL, key=keys[3])

    def __call__(self, x: Any) -> Any:
        """(length, width) -> (length, width)."""
        qkv = jax.vmap(lambda t: self.qkv(self.norm1(t)))(x)
        x = x + jax.vmap(self.out)(attention(qkv[None])[0])
        return x + jax.vmap(self._feed)(x)

    def _feed(self, token: Any) -> Any:
        return self.down(jax.nn.gelu(self.up(self.norm2(token)), approximate=True))


class Transformer(eqx.Module):
    """C: a causal language model."""

    token: nn.Embedding
    place: nn.Embedding
    blocks: list[Block]
    norm: nn.LayerNorm
    head: nn.Linear

    def __init__(self, network: Network, key: Any) -> None:
        first, second, last, *keys = jax.random.split(key, 3 + definitions.BLOCKS)
        self.token = nn.Embedding(definitions.VOCABULARY, MODEL, key=first)
        self.place = nn.Embedding(definitions.LENGTH, MODEL, key=second)
        self.blocks = [Block(k) for k in keys]
        self.norm = nn.LayerNorm(MODEL, eps=EPSILON)
        self.head = nn.Linear(MODEL, definitions.VOCABULARY, use_bias=False, key=last)

    def __call__(self, tokens: Any) -> Any:
        """(length,) -> (length, vocabulary)."""
        x = jax.vmap(self.token)(tokens) + self.place.weight
        for block in self.blocks:
            x = block(x)
        return jax.vmap(lambda t: self.head(self.norm(t)))(x)


class Wide(eqx.Module):
    """D: wide dense layers with ReLU between."""

    layers: list[nn.Linear]

    def __init__(self, network: Network, key: Any) -> None:
        width, count = definitions.WIDE, len(network.weights) // 2
        self.layers = [nn.Linear(width, width, key=k) for k in jax.random.split(key, count)]

    def __call__(self, x: Any) -> Any:
        """(width,) -> (width,)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = jax.nn.relu(layer(x))
        return last(x)


MODULES: dict[str, Callable[[Network, Any], Any]] = {
    "A": Stack,
    "B": LeNet5,
    "C": Transformer,
    "D": Wide,
}


def _weight(module: Any, name: str) -> Any:
    *path, leaf = name.split(".")
    for part in path:
        module = module[int(part)] if part.isdigit() else getattr(module, part)
    return getattr(module, _NAMES.get(leaf, leaf))


def filled(network: Network, start: Mapping[str, Array] | None) -> Any:
    """The module, with the common first weights if there are any."""
    module = MODULES[network.key](network, jax.random.key(0))
    if start is None:
        return module
    old = [_weight(module, name) for name in start]
    new = [jnp.array(a).reshape(o.shape) for o, a in zip(old, start.values(), strict=True)]
    return eqx.tree_at(lambda m: [_weight(m, name) for name in start], module, new)


def build(network: Network, start: Mapping[str, Array] | None, batch: tuple[Array, Array]) -> Step:
    """One training step per call.

    Args:
        network: which.
        start: the common first weights; None for equinox's own.
        batch: inputs and targets.
    """
    model = filled(network, start)
    rule = optimizer(network)
    state = rule.init(eqx.filter(model, eqx.is_inexact_array))
    criterion = mean_square if network.key in "AD" else cross_entropy
    x, y = map(jnp.asarray, batch)

    @eqx.filter_jit(donate="all-except-first")
    def step(batch: Any, model: Any, state: Any) -> Any:
        x, y = batch
        loss, grads = eqx.filter_value_and_grad(lambda m: criterion(jax.vmap(m)(x), y))(model)
        updates, state = rule.update(grads, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    held = [model, state]

    def run() -> Any:
        held[0], held[1], loss = step((x, y), held[0], held[1])
        return loss.block_until_ready()

    return run


def eager(network: Network, start: Mapping[str, Array], batch: tuple[Array, Array]) -> Step:
    """One forward and backward pass per call, operator by operator."""
    model = filled(network, start)
    criterion = mean_square if network.key in "AD" else cross_entropy
    x, y = map(jnp.asarray, batch)
    gradients = eqx.filter_value_and_grad(lambda model: criterion(jax.vmap(model)(x), y))

    def run() -> Any:
        loss, grads = gradients(model)
        return jax.block_until_ready((loss, jax.tree.leaves(grads)))

    return run
