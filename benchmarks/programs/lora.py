"""Fine-tune with LoRA, in flax nnx."""

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

model = nnx.Sequential(
    nnx.LoRALinear(8, 32, lora_rank=2, rngs=rngs),
    jnp.tanh,
    nnx.LoRALinear(32, 1, lora_rank=2, rngs=rngs),
)
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.LoRAParam)


@nnx.jit
def step(model, optimizer, x, y):
    loss, grads = nnx.value_and_grad(
        lambda model: jnp.mean((model(x) - y) ** 2), argnums=nnx.DiffState(0, nnx.LoRAParam)
    )(model)
    optimizer.update(model, grads)
    return loss


for _ in range(50):
    loss = step(model, optimizer, x, y)
for layer in (model.layers[0], model.layers[2]):
    layer.kernel[...] += layer.lora.lora_a[...] @ layer.lora.lora_b[...]
    layer.lora.lora_b[...] *= 0
print(float(loss) < 1.0)
