"""Train on many devices, in flax nnx."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)
y = x.sum(1, keepdims=True) / 2
loss = jnp.zeros(())

# The program.

mesh = Mesh(np.array(jax.devices()[:4]).reshape(2, 2), ("data", "model"))


@nnx.jit
def create():
    init = nnx.with_partitioning(nnx.initializers.lecun_normal(), (None, "model"))
    zeros = nnx.with_partitioning(nnx.initializers.zeros, ("model",))
    model = nnx.Sequential(
        nnx.Linear(8, 32, kernel_init=init, bias_init=zeros, rngs=nnx.Rngs(0)),
        jnp.tanh,
        nnx.Linear(32, 1, rngs=nnx.Rngs(1)),
    )
    state = nnx.state(model)
    nnx.update(model, jax.lax.with_sharding_constraint(state, nnx.get_partition_spec(state)))
    return model


@nnx.jit
def step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(lambda model: jnp.mean((model(x) - y) ** 2))(model)
    optimizer.update(model, grads)
    return loss


with jax.set_mesh(mesh):
    model = create()
    optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
    batch = jax.device_put((x, y), NamedSharding(mesh, P("data")))
    for _ in range(50):
        loss = step(model, optimizer, *batch)
print(model.layers[0].kernel[...].sharding.spec, float(loss) < 1.0)
