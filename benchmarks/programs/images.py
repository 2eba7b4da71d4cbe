"""Convolutions with batch statistics and dropout, in flax nnx."""

import numpy as np
import optax
from flax import nnx

rng = np.random.default_rng(0)
rngs = nnx.Rngs(0)
x = rng.normal(size=(16, 8)).astype(np.float32)
labels = rng.integers(0, 2, 16)
images = (rng.normal(size=(16, 8, 8, 1)) + labels[:, None, None, None]).astype(np.float32)

# The program.


class CNN(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 8, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.head = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x))).mean((1, 2))
        return self.head(self.dropout(x))


model = CNN(rngs)
optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)


@nnx.jit
def step(model, optimizer, images, labels):
    def loss_fn(model):
        logits = model(images)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    grads = nnx.grad(loss_fn)(model)
    optimizer.update(model, grads)


model.train()
for _ in range(20):
    step(model, optimizer, images, labels)
model.eval()
accuracy = nnx.MultiMetric(accuracy=nnx.metrics.Accuracy())
accuracy.update(logits=model(images), labels=labels)
print(accuracy.compute()["accuracy"] > 0.6)
