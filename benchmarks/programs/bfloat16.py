"""Compute in bfloat16, in flax nnx."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)
y = x.sum(1, keepdims=True) / 2
loss = jnp.zeros(())

# The program.


def linear(n, m):
    return nnx.Linear(n, m, dtype=jnp.bfloat16, rngs=rngs)


model = nnx.Sequential(linear(8, 32), jnp.tanh, linear(32, 1), lambda x: x.astype(jnp.float32))
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


@nnx.jit
def step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss


for _ in range(50):
    loss = step(model, optimizer, x, y)
print(model.layers[0].kernel.dtype, loss.dtype)
