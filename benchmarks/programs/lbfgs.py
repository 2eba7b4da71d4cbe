"""Minimize with a line search, in flax nnx."""

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

model = nnx.Sequential(nnx.Linear(8, 32, rngs=rngs), jnp.tanh, nnx.Linear(32, 1, rngs=rngs))
optimizer = nnx.Optimizer(model, optax.lbfgs(), wrt=nnx.Param)


def loss_fn(model):
    return jnp.mean((model(x) - y) ** 2)


@nnx.jit
def step(model, optimizer):
    graph, _, rest = nnx.split(model, nnx.Param, ...)
    loss, grads = nnx.value_and_grad(loss_fn)(model)

    def value_fn(params):
        return loss_fn(nnx.merge(graph, params, rest))

    optimizer.update(model, grads, grad=grads, value=loss, value_fn=value_fn)
    return loss


for _ in range(10):
    loss = step(model, optimizer)
print(float(loss) < 0.5)
