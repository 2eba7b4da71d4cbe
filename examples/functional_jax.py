"""Parameters in a training loop of one's own, written as in JAX, with an optimizer of optax.

A function reads Parameters by name, `value_and_grad` finds their gradients, `from_optax` makes a
paramesh optimizer of any optax transformation, and `jit` compiles all three into one program.
No parameters are threaded through: they are the state of the program.

    python examples/functional_jax.py [steps]
"""

from __future__ import annotations

import sys
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax

import paramesh
from paramesh import Parameter, from_optax
from paramesh.initializer import initializer


def spirals(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (count, 2) on two spirals, and which one (count,) they lie on."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 2, count)
    turn = random.uniform(0.5, 2.0, count)
    angle = 2 * np.pi * turn + np.pi * label
    points = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1)
    points += random.normal(0, 0.05, points.shape)
    return points.astype(np.float32), label.astype(np.int32)


def main(steps: int = 1000) -> float:
    paramesh.set_seed(1)
    sizes = [2, 32, 32, 2]
    weights = [
        Parameter(initializer("he_normal", (outputs, inputs)), name=f"layer{i}.weight")
        for i, (inputs, outputs) in enumerate(pairwise(sizes))
    ]
    biases = [
        Parameter(initializer("zeros", (outputs,)), name=f"layer{i}.bias")
        for i, outputs in enumerate(sizes[1:])
    ]
    params = [*weights, *biases]

    def logits(x):
        for w, b in zip(weights[:-1], biases[:-1], strict=True):
            x = jax.nn.silu(jnp.asarray(x) @ jnp.asarray(w).T + jnp.asarray(b))
        return x @ jnp.asarray(weights[-1]).T + jnp.asarray(biases[-1])

    def loss_fn(x, y):
        losses = optax.softmax_cross_entropy_with_integer_labels(logits(x), jnp.asarray(y))
        return losses.mean()

    optimizer = from_optax(
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2, weight_decay=1e-4)), params
    )
    gradients = paramesh.value_and_grad(loss_fn, None, params)

    @paramesh.jit
    def train_step(x, y):
        loss, grads = gradients(x, y)
        optimizer(grads)
        return loss

    x, y = spirals(512, seed=0)
    for step in range(1, steps + 1):
        loss = train_step(x, y)
        if step == 1 or step % 200 == 0 or step == steps:
            print(f"step {step:4d}  loss {float(loss):.4f}")
    x, y = spirals(512, seed=1)
    accuracy = float((np.asarray(paramesh.jit(logits)(x)).argmax(axis=1) == y).mean())
    print(f"accuracy on other points: {accuracy:.1%}")
    print("state:", ", ".join(p.name for p in optimizer.state[:3]), "…")
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
