"""Give groups of Parameters their own rule, in flax nnx."""

from collections.abc import Hashable

import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)
y = x.sum(1, keepdims=True) / 2
loss = jnp.zeros(())
rules: dict[Hashable, optax.GradientTransformation]

# The program.

model = nnx.Sequential(nnx.Linear(8, 32, rngs=rngs), jnp.tanh, nnx.Linear(32, 1, rngs=rngs))


def label(path, _):
    return "bias" if path[-1] == "bias" else "rest"


rules = {
    "bias": optax.adam(1e-1),
    "rest": optax.chain(optax.add_decayed_weights(1e-4), optax.adam(1e-2)),
}
labels = nnx.map_state(label, nnx.state(model, nnx.Param))
optimizer = nnx.Optimizer(model, optax.multi_transform(rules, labels), wrt=nnx.Param)


@nnx.jit
def step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss


for _ in range(50):
    loss = step(model, optimizer, x, y)
print(float(loss) < 1.0)
