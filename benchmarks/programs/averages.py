"""Keep moving averages of the Parameters, in flax nnx."""

import jax
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
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
averages = nnx.clone(model)


@nnx.jit
def step(model, averages, optimizer, x, y):
    grads = nnx.grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    mixed = jax.tree.map(
        lambda a, p: 0.99 * a + 0.01 * p,
        nnx.state(averages, nnx.Param),
        nnx.state(model, nnx.Param),
    )
    nnx.update(averages, mixed)


for _ in range(20):
    step(model, averages, optimizer, x, y)
print(averages.layers[0].kernel.shape)
