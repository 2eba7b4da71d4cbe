"""The networks as flax nnx modules, trained by nnx.Optimizer under nnx.jit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from networks import definitions
from networks.by_hand import attention, cross_entropy, mean_square, turned
from networks.definitions import EPSILON, MODEL, Array, Network
from networks.rules import optimizer

Step = Callable[[], Any]
_NAMES = {"weight": "kernel", "gamma": "scale", "beta": "bias", "embedding_table": "embedding"}


class Stack(nnx.Module):
    """A: dense layers with tanh."""

    def __init__(self, network: Network, rngs: nnx.Rngs) -> None:
        width, count = definitions.WIDTH, len(network.weights) // 2
        self.layers = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(count)])

    def __call__(self, x: Any) -> Any:
        """(n, width) -> (n, width)."""
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


class LeNet5(nnx.Module):
    """B: two convolutions and three dense layers."""

    def __init__(self, network: Network, rngs: nnx.Rngs) -> None:
        self.conv1 = nnx.Conv(1, 6, (5, 5), padding="VALID", rngs=rngs)
        self.conv2 = nnx.Conv(6, 16, (5, 5), padding="VALID", rngs=rngs)
        self.fc1 = nnx.Linear(400, 120, rngs=rngs)
        self.fc2 = nnx.Linear(120, 84, rngs=rngs)
        self.fc3 = nnx.Linear(84, definitions.CLASSES, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """(n, 1, 32, 32) -> (n, 10)."""
        x = x.transpose(0, 2, 3, 1)
        x = nnx.max_pool(nnx.relu(self.conv1(x)), (2, 2), (2, 2))
        x = nnx.max_pool(nnx.relu(self.conv2(x)), (2, 2), (2, 2))
        x = nnx.relu(self.fc1(x.reshape(x.shape[0], -1)))
        return self.fc3(nnx.relu(self.fc2(x)))


class Block(nnx.Module):
    """A layer of the transformer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm1 = nnx.LayerNorm(MODEL, epsilon=EPSILON, rngs=rngs)
        self.qkv = nnx.Linear(MODEL, 3 * MODEL, rngs=rngs)
        self.out = nnx.Linear(MODEL, MODEL, rngs=rngs)
        self.norm2 = nnx.LayerNorm(MODEL, epsilon=EPSILON, rngs=rngs)
        self.up = nnx.Linear(MODEL, definitions.FORWARD, rngs=rngs)
        self.down = nnx.Linear(definitions.FORWARD, MODEL, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        """(n, length, width) -> (n, length, width)."""
        x = x + self.out(attention(self.qkv(self.norm1(x))))
        return x + self.down(nnx.gelu(self.up(self.norm2(x)), approximate=True))


class Transformer(nnx.Module):
    """C: a causal language model."""

    def __init__(self, network: Network, rngs: nnx.Rngs) -> None:
        self.token = nnx.Embed(definitions.VOCABULARY, MODEL, rngs=rngs)
        self.place = nnx.Embed(definitions.LENGTH, MODEL, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(definitions.BLOCKS)])
        self.norm = nnx.LayerNorm(MODEL, epsilon=EPSILON, rngs=rngs)
        self.head = nnx.Linear(MODEL, definitions.VOCABULARY, use_bias=False, rngs=rngs)

    def __call__(self, tokens: Any) -> Any:
        """(n, length) -> (n, length, vocabulary)."""
        x = self.token(tokens) + self.place.embedding[...]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Wide(nnx.Module):
    """D: wide dense layers with ReLU between."""

    def __init__(self, network: Network, rngs: nnx.Rngs) -> None:
        width, count = definitions.WIDE, len(network.weights) // 2
        self.layers = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(count)])

    def __call__(self, x: Any) -> Any:
        """(n, width) -> (n, width)."""
        *hidden, last = self.layers
        for layer in hidden:
            x = nnx.relu(layer(x))
        return last(x)


MODULES: dict[str, Callable[[Network, nnx.Rngs], Any]] = {
    "A": Stack,
    "B": LeNet5,
    "C": Transformer,
    "D": Wide,
}


def filled(network: Network, start: Mapping[str, Array] | None) -> Any:
    """The module, with the common first weights if there are any."""
    module = MODULES[network.key](network, nnx.Rngs(0))
    for name, array in (start or {}).items():
        *path, leaf = name.split(".")
        owner: Any = module
        for part in path:
            owner = owner[int(part)] if part.isdigit() else getattr(owner, part)
        param = getattr(owner, _NAMES.get(leaf, leaf))
        param.set_value(jnp.array(turned(name, array)))
    return module


def build(
    network: Network,
    start: Mapping[str, Array] | None,
    batch: tuple[Array, Array],
    cached: bool,
) -> Step:
    """One training step per call.

    Args:
        network: which.
        start: the common first weights; None for flax's own.
        batch: inputs and targets.
        cached: by `nnx.cached_partial`, which looks through the module once, not at each call.
    """
    model = filled(network, start)
    rule = nnx.Optimizer(model, optimizer(network), wrt=nnx.Param)
    criterion = mean_square if network.key in "AD" else cross_entropy
    x, y = map(jnp.asarray, batch)

    def step(model: Any, rule: Any, x: Any, y: Any) -> Any:
        loss, grads = nnx.value_and_grad(lambda m: criterion(m(x), y))(model)
        rule.update(model, grads)
        return loss

    program: Any = nnx.jit(step, donate_argnums=(0, 1))
    call = nnx.cached_partial(program, model, rule) if cached else None

    def run() -> Any:
        loss = call(x, y) if call is not None else program(model, rule, x, y)
        return loss.block_until_ready()

    return run


def eager(network: Network, start: Mapping[str, Array], batch: tuple[Array, Array]) -> Step:
    """One forward and backward pass per call, operator by operator."""
    model = filled(network, start)
    criterion = mean_square if network.key in "AD" else cross_entropy
    x, y = map(jnp.asarray, batch)
    gradients = nnx.value_and_grad(lambda model: criterion(model(x), y))

    def run() -> Any:
        loss, grads = gradients(model)
        return jax.block_until_ready((loss, jax.tree.leaves(grads)))

    return run
