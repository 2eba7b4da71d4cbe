"""Decode with a cache of keys and values, in flax nnx."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)

# The program.


class Attention(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(10, 8, rngs=rngs)
        self.qkv = nnx.Linear(8, 24, rngs=rngs)
        self.head = nnx.Linear(8, 10, rngs=rngs)
        self.keys = nnx.Cache(jnp.zeros((1, 16, 8)))
        self.values = nnx.Cache(jnp.zeros((1, 16, 8)))
        self.index = nnx.Cache(jnp.array(0))

    def __call__(self, token):
        q, k, v = jnp.split(self.qkv(self.embed(token)), 3, -1)
        i = self.index[...]
        self.keys[...] = jax.lax.dynamic_update_slice(self.keys[...], k, (0, i, 0))
        self.values[...] = jax.lax.dynamic_update_slice(self.values[...], v, (0, i, 0))
        self.index[...] = i + 1
        mask = jnp.arange(16) <= i
        scores = jnp.where(mask, q @ self.keys[...].transpose(0, 2, 1), -1e9)
        return self.head(nnx.softmax(scores) @ self.values[...]).argmax(-1)


model = Attention(rngs)


@nnx.jit
def generate(model, token):
    @nnx.scan(
        length=12, in_axes=(nnx.StateAxes({...: nnx.Carry}), nnx.Carry), out_axes=(nnx.Carry, 0)
    )
    def turn(model, token):
        token = model(token)
        return token, token

    return turn(model, token)[1]


print(generate(model, jnp.array([[1]])).shape)
