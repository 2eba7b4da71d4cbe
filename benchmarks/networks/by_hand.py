"""The networks in JAX alone, as somebody writes them who wants them fast.

Weights are a pytree of arrays: pairs in a list where all layers are alike (a list is cheaper to
take apart at each call than a dict), a dict by name elsewhere. Dense weights are (in, out), images
are (n, height, width, channels): XLA's own preferences. One jitted function makes the whole step
and is given its weights and its state to overwrite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from networks.definitions import BLOCKS, EPSILON, HEADS, Array, Network
from networks.rules import optimizer

Tree = Any
Step = Callable[[], Any]


def turned(name: str, array: Any) -> Any:
    """A weight as this file keeps it, from (out, in) or (out, in, height, width)."""
    if not name.endswith(".weight"):
        return array
    if array.ndim == 4:
        return array.transpose(2, 3, 1, 0)
    if name == "fc1.weight":  # reads (channel, height, width) flattened; here channels are last
        return array.reshape(-1, 16, 5, 5).transpose(2, 3, 1, 0).reshape(400, -1)
    return array.T


def tree(network: Network, arrays: Mapping[str, Any]) -> Tree:
    """The pytree of arrays by name."""
    arrays = {name: turned(name, array) for name, array in arrays.items()}
    if network.key in "AD":
        count = len(arrays) // 2
        return [(arrays[f"layers.{i}.weight"], arrays[f"layers.{i}.bias"]) for i in range(count)]
    return arrays


def mean_square(outputs: Any, y: Any) -> Any:
    return jnp.mean((outputs - y) ** 2)


def cross_entropy(logits: Any, labels: Any) -> Any:
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def _stack(weights: Tree, x: Any) -> Any:
    for w, b in weights:
        x = jnp.tanh(x @ w + b)
    return x


def _wide(weights: Tree, x: Any) -> Any:
    *hidden, (last, bias) = weights
    for w, b in hidden:
        x = jax.nn.relu(x @ w + b)
    return x @ last + bias


def _lenet(w: Tree, x: Any) -> Any:
    x = x.transpose(0, 2, 3, 1)
    for name in ("conv1", "conv2"):
        kernel = w[f"{name}.weight"]
        x = lax.conv_general_dilated(
            x, kernel, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        x = jax.nn.relu(x + w[f"{name}.bias"])
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = x.reshape(x.shape[0], -1)
    x = jax.nn.relu(x @ w["fc1.weight"] + w["fc1.bias"])
    x = jax.nn.relu(x @ w["fc2.weight"] + w["fc2.bias"])
    return x @ w["fc3.weight"] + w["fc3.bias"]


def normed(x: Any, gamma: Any, beta: Any) -> Any:
    """Layer normalisation over the last axis."""
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * lax.rsqrt(variance + EPSILON) * gamma + beta


def attention(qkv: Any) -> Any:
    """Causal attention of the joined queries, keys and values (n, length, 3 * width)."""
    n, length, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    q, k, v = qkv.reshape(n, length, 3, HEADS, width // HEADS).transpose(2, 0, 3, 1, 4)
    scores = q @ k.swapaxes(-1, -2) / math.sqrt(width // HEADS)
    scores = jnp.where(jnp.tril(jnp.ones((length, length), bool)), scores, -1e9)
    out = jax.nn.softmax(scores, -1) @ v
    return out.transpose(0, 2, 1, 3).reshape(n, length, width)


def _transformer(w: Tree, tokens: Any) -> Any:
    def dense(name: str, x: Any) -> Any:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    def norm(name: str, x: Any) -> Any:
        return normed(x, w[f"{name}.gamma"], w[f"{name}.beta"])

    x = w["token.embedding_table"][tokens] + w["place.embedding_table"]
    for i in range(BLOCKS):
        block = f"blocks.{i}"
        heard = attention(dense(f"{block}.qkv", norm(f"{block}.norm1", x)))
        x = x + dense(f"{block}.out", heard)
        wide = jax.nn.gelu(dense(f"{block}.up", norm(f"{block}.norm2", x)), approximate=True)
        x = x + dense(f"{block}.down", wide)
    return norm("norm", x) @ w["head.weight"]


FORWARD: dict[str, tuple[Callable[[Tree, Any], Any], Callable[[Any, Any], Any]]] = {
    "A": (_stack, mean_square),
    "B": (_lenet, cross_entropy),
    "C": (_transformer, cross_entropy),
    "D": (_wide, mean_square),
}


def loss_of(network: Network) -> Callable[[Tree, Any, Any], Any]:
    """(weights, x, y) -> the loss."""
    forward, criterion = FORWARD[network.key]
    return lambda weights, x, y: criterion(forward(weights, x), y)


def program(network: Network) -> tuple[Any, optax.GradientTransformation]:
    """(the jitted step, the optimizer): (weights, state, x, y) -> (weights, state, loss)."""
    rule = optimizer(network)
    gradients = jax.value_and_grad(loss_of(network))

    def step(weights: Tree, state: Tree, x: Any, y: Any) -> tuple[Tree, Tree, Any]:
        loss, grads = gradients(weights, x, y)
        updates, state = rule.update(grads, state, weights)
        return optax.apply_updates(weights, updates), state, loss

    return jax.jit(step, donate_argnums=(0, 1)), rule


def training(network: Network, weights: Tree, batch: tuple[Array, Array]) -> Step:
    """One training step per call, with these weights, which are used up."""
    x, y = map(jnp.asarray, batch)
    step, rule = program(network)
    held = [weights, jax.jit(rule.init)(weights)]

    def run() -> Any:
        held[0], held[1], loss = step(held[0], held[1], x, y)
        return loss.block_until_ready()

    return run


def build(network: Network, start: Mapping[str, Array], batch: tuple[Array, Array]) -> Step:
    """One training step per call, from the common first weights."""
    weights = jax.tree.map(lambda a: jnp.array(a), tree(network, start))
    return training(network, weights, batch)


def _draw(name: str, network: Network, key: Any) -> Any:
    weight = network.weights[name]
    if weight.law == "uniform":
        return jax.random.uniform(key, weight.shape, jnp.float32, -weight.size, weight.size)
    if weight.law == "normal":
        return weight.size * jax.random.normal(key, weight.shape, jnp.float32)
    return jnp.full(weight.shape, weight.size, jnp.float32)


def drawn_together(network: Network) -> Tree:
    """First weights from jax.random, all drawn by one jitted function."""

    def draw(key: Any) -> Tree:
        keys = jax.random.split(key, len(network.weights))
        pairs = zip(network.weights, keys, strict=True)
        return tree(network, {name: _draw(name, network, key) for name, key in pairs})

    return jax.jit(draw)(jax.random.key(0))


def drawn_singly(network: Network) -> Tree:
    """First weights from jax.random, one call for each, as networks are mostly written."""
    keys = jax.random.split(jax.random.key(0), len(network.weights))
    pairs = zip(network.weights, keys, strict=True)
    return tree(network, {name: _draw(name, network, key) for name, key in pairs})


def eager(network: Network, start: Mapping[str, Array], batch: tuple[Array, Array]) -> Step:
    """One forward and backward pass per call, operator by operator."""
    weights = jax.tree.map(lambda a: jnp.array(a), tree(network, start))
    x, y = map(jnp.asarray, batch)
    gradients = jax.value_and_grad(loss_of(network))
    return lambda: jax.block_until_ready(gradients(weights, x, y))


def eager_training(
    network: Network, start: Mapping[str, Array], batch: tuple[Array, Array]
) -> Step:
    """One training step per call, operator by operator; the loss is read."""
    rule = optimizer(network)
    weights = jax.tree.map(lambda a: jnp.array(a), tree(network, start))
    held = [weights, rule.init(weights)]
    x, y = map(jnp.asarray, batch)
    gradients = jax.value_and_grad(loss_of(network))

    def run() -> Any:
        loss, grads = gradients(held[0], x, y)
        updates, held[1] = rule.update(grads, held[1], held[0])
        held[0] = optax.apply_updates(held[0], updates)
        jax.block_until_ready(held)
        return np.asarray(loss), None

    return run
