"""Read sequences, in flax nnx."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)
y = x.sum(1, keepdims=True) / 2
sequences = rng.normal(size=(16, 5, 8)).astype(np.float32)

# The program.


class Reader(nnx.Module):
    def __init__(self, rngs):
        self.rnn = nnx.RNN(nnx.GRUCell(8, 16, rngs=rngs))
        self.head = nnx.Linear(16, 1, rngs=rngs)

    def __call__(self, x):
        return self.head(self.rnn(x)[:, -1])


model = Reader(rngs)
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


@nnx.jit
def step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss


for _ in range(20):
    loss = step(model, optimizer, sequences, y)
print(model(sequences).shape)
