"""Small programs to be searched: training steps in plain JAX, and how they are set up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.parallel.search.clusters import put_into_clusters
from paramesh.parallel.search.graph import graph_of
from paramesh.parallel.search.machine import Target, machine
from paramesh.parallel.search.plan import Program
from paramesh.parallel.search.problem import Problem

#: No latency, so that small tensors are worth cutting.
FAST = Target("fast", 2e14, 4e12, 3e11, 5e10, 1e-9)
DEVICES = tuple(range(8))


def draw(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 0.1


def mlp(weights: Any, x: Any) -> Any:
    return jnp.mean((jax.nn.relu(x @ weights["a"] + weights["c"]) @ weights["b"]) ** 2)


def tied(weights: Any, x: Any) -> Any:
    return jnp.sum(((x @ weights["a"].T) @ weights["a"]) ** 2)


def attention(weights: Any, x: Any) -> Any:
    q, k, v = ((x @ weights[n]).reshape(*x.shape[:2], 8, -1).transpose(0, 2, 1, 3) for n in "qkv")
    scores = jax.nn.softmax(jnp.einsum("bhqd,bhkd->bhqk", q, k), -1)
    mixed = jnp.einsum("bhqk,bhkd->bhqd", scores, v).transpose(0, 2, 1, 3).reshape(x.shape)
    return jnp.mean((x + mixed @ weights["o"]) ** 2)


def table(weights: Any, ids: Any) -> Any:
    return jnp.mean(jnp.take(weights["t"], ids, axis=0, mode="clip") ** 2)


def layers(weights: Any, x: Any) -> Any:
    def layer(x: Any, w: Any) -> Any:
        return x + jnp.tanh(x @ w), None

    return jnp.mean(jax.lax.scan(jax.checkpoint(layer), x, weights["w"])[0] ** 2)


def images(weights: Any, x: Any) -> Any:
    numbers = ("NHWC", "HWIO", "NHWC")
    for name in ("a", "b"):
        x = jax.lax.conv_general_dilated(
            x, weights[name], (1, 1), "SAME", dimension_numbers=numbers
        )
        x = jax.nn.relu(x - x.mean((0, 1, 2)))
    return jnp.mean(x.mean((1, 2)) ** 2)


#: (loss, weights, input).
NETWORKS: dict[str, tuple[Callable[..., Any], Any, Any]] = {
    "mlp": (mlp, {"a": draw(32, 64), "b": draw(64, 32), "c": draw(64)}, draw(64, 32)),
    "attention": (
        attention,
        {n: draw(64, 64, seed=i) for i, n in enumerate("qkvo")},
        draw(8, 16, 64),
    ),
    "tied": (tied, {"a": draw(64, 32)}, draw(64, 32)),
    "table": (
        table,
        {"t": draw(512, 16)},
        np.random.default_rng(0).integers(0, 512, 64).astype(np.int32),
    ),
    "layers in a scan": (layers, {"w": draw(4, 32, 32)}, draw(16, 32)),
    "images": (images, {"a": draw(3, 3, 8, 16), "b": draw(3, 3, 16, 16)}, draw(8, 8, 8, 8)),
}


def step_of(loss: Callable[..., Any]) -> Callable[..., Any]:
    """(weights, momenta, input) -> (loss, weights, momenta)."""

    def step(weights: Any, momenta: Any, x: Any) -> Any:
        value, grads = jax.value_and_grad(loss)(weights, x)
        momenta = jax.tree.map(lambda m, g: 0.9 * m + g, momenta, grads)
        return value, jax.tree.map(lambda w, m: w - 0.1 * m, weights, momenta), momenta

    return step


def arguments(name: str) -> list[Any]:
    """The flat arguments of a network's step."""
    _, weights, x = NETWORKS[name]
    return jax.tree.leaves((weights, jax.tree.map(np.zeros_like, weights), x))


def program(name: str) -> Program:
    """The step of a network, ready to be searched."""
    loss, weights, x = NETWORKS[name]
    closed = jax.make_jaxpr(step_of(loss))(weights, jax.tree.map(np.zeros_like, weights), x)
    states = 2 * len(weights)
    names = tuple(f"state{n}" for n in range(states))
    return Program(closed, (*names, ""), {n + 1: n for n in range(states)}, {}, DEVICES)


def problem(
    closed: Any, sizes: tuple[int, ...], target: Target = FAST, tied: Any = None
) -> Problem:
    """A program on a mesh, with nothing given."""
    names = [f"x{n}" for n in range(len(closed.jaxpr.invars))]
    graph = graph_of(closed, names)
    put_into_clusters(graph)
    return Problem(graph, machine(sizes, target), {}, tied or {}, DEVICES)
