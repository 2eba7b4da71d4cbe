"""Save and load everything, in flax nnx."""

import tempfile
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
from flax import nnx

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)
y = x.sum(1, keepdims=True) / 2
folder = Path(tempfile.mkdtemp())

# The program.


def training():
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(8, 32, rngs=rngs), jnp.tanh, nnx.Linear(32, 1, rngs=rngs))
    return model, nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


@nnx.jit
def step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss


run = training()
step(*run, x, y)
with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(folder / "run", nnx.state(run))
    checkpointer.wait_until_finished()
    graph, empty = nnx.split(nnx.eval_shape(training))
    model, optimizer = nnx.merge(graph, checkpointer.restore(folder / "run", empty))
print(float(step(model, optimizer, x, y)) == float(step(*run, x, y)))
