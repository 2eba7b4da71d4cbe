"""Train two networks against each other, in flax nnx."""

import numpy as np
import optax
from flax import nnx

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)

# The program.


def network(n, m):
    return nnx.Sequential(nnx.Linear(n, 32, rngs=rngs), nnx.relu, nnx.Linear(32, m, rngs=rngs))


maker, judge = network(4, 8), network(8, 1)
makes = nnx.Optimizer(maker, optax.adam(1e-3), wrt=nnx.Param)
judges = nnx.Optimizer(judge, optax.adam(1e-3), wrt=nnx.Param)


def judged(judge, maker, x, noise):
    return nnx.softplus(-judge(x)).mean() + nnx.softplus(judge(maker(noise))).mean()


def made(maker, judge, noise):
    return nnx.softplus(-judge(maker(noise))).mean()


@nnx.jit
def step(maker, judge, makes, judges, x, noise):
    judges.update(judge, nnx.grad(judged)(judge, maker, x, noise))
    makes.update(maker, nnx.grad(made)(maker, judge, noise))


for _ in range(10):
    step(maker, judge, makes, judges, x, rngs.normal((16, 4)))
print(maker(rngs.normal((2, 4))).shape)
