"""Train an ensemble, in flax nnx."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)
y = x.sum(1, keepdims=True) / 2

# The program.


class MLP(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(8, 32, rngs=rngs)
        self.last = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x):
        return self.last(jnp.tanh(self.first(x)))


@nnx.split_rngs(splits=5)
@nnx.vmap(in_axes=0, out_axes=0)
def create(rngs):
    return MLP(rngs)


@nnx.vmap(in_axes=(0, None), out_axes=0)
def forward(model, x):
    return model(x)


ensemble = create(rngs)
optimizer = nnx.Optimizer(ensemble, optax.adam(1e-2), wrt=nnx.Param)


@nnx.jit
def step(ensemble, optimizer, x, y):
    grads = nnx.grad(lambda e: ((forward(e, x) - y) ** 2).mean((1, 2)).sum())(ensemble)
    optimizer.update(ensemble, grads)


for _ in range(50):
    step(ensemble, optimizer, x, y)
predictions = forward(ensemble, x)
print(predictions.shape, bool(predictions.std(0).mean() > 0))
