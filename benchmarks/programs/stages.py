"""Look at a program before it runs, in flax nnx."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)


def flops(compiled: jax.stages.Compiled) -> float:
    cost = compiled.cost_analysis()
    assert cost is not None
    return cost["flops"]


# The program.

model = nnx.Sequential(nnx.Linear(8, 32, rngs=rngs), jnp.tanh, nnx.Linear(32, 1, rngs=rngs))
graph, state = nnx.split(model)
compiled = jax.jit(lambda state, x: nnx.merge(graph, state)(x)).lower(state, x).compile()
print(flops(compiled) > 0, compiled(state, x).shape)
