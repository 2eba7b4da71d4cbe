"""The network of `server_peers` as Ray's guide to parameter servers has it: actors and a driver.

Its arguments are where to connect to (see `driving`), and the numbers of the run, as JSON.
"""

from __future__ import annotations

import itertools
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import ray
from driving import drive
from ray.actor import ActorHandle

widths, batch, rate, workers, _ = json.loads(sys.argv[2])


def loss(weights, x, y):
    for i, (w, b) in enumerate(weights):
        x = x @ w + b
        if i < len(weights) - 1:
            x = jax.nn.relu(x)
    return jnp.mean((x - y) ** 2)


class Server:
    def __init__(self):
        rng = np.random.default_rng(0)
        self.weights = [
            (0.03 * rng.standard_normal((i, o)).astype(np.float32), np.zeros(o, np.float32))
            for i, o in itertools.pairwise(widths)
        ]

    def apply(self, *gradients):
        mean = jax.tree.map(lambda *g: np.mean(g, axis=0), *gradients)
        self.weights = jax.tree.map(lambda w, g: w - np.float32(rate) * g, self.weights, mean)
        return self.weights

    def get(self):
        return self.weights


class Worker:
    def __init__(self, rank):
        rng = np.random.default_rng(rank)
        self.x = rng.standard_normal((batch, widths[0])).astype(np.float32)
        self.y = rng.standard_normal((batch, 1)).astype(np.float32)
        self.grad = jax.jit(jax.grad(loss))

    def gradients(self, weights):
        return jax.tree.map(np.asarray, self.grad(weights, self.x, self.y))


def actor(kind: type[Server] | type[Worker], *arguments: int) -> ActorHandle:
    made = ray.remote(kind).options(num_cpus=0).remote(*arguments)
    assert isinstance(made, ActorHandle)
    return made


ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
server = actor(Server)
team = [actor(Worker, rank) for rank in range(workers)]
weights = server.get.remote()


def step(_: int) -> float:
    global weights
    weights = server.apply.remote(*[worker.gradients.remote(weights) for worker in team])
    ray.wait([weights])
    return 0.0


drive(step)
ray.shutdown()
