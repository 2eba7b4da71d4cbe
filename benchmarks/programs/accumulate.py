"""Accumulate gradients, with a schedule, in flax nnx."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)
y = x.sum(1, keepdims=True) / 2

# The program.

model = nnx.Sequential(nnx.Linear(8, 32, rngs=rngs), jnp.tanh, nnx.Linear(32, 1, rngs=rngs))
rule = optax.MultiSteps(optax.adam(optax.cosine_decay_schedule(1e-2, 100)), 4)
optimizer = nnx.Optimizer(model, rule, wrt=nnx.Param)


@nnx.jit
def step(model, optimizer, x, y):
    grads = nnx.grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)


for _ in range(50):
    step(model, optimizer, x, y)
print(float(jnp.mean((model(x) - y) ** 2)) < 2.0)
