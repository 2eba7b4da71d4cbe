"""A table and a network cut by hand over several devices: hybrid_parallel.

python examples/hybrid_embedding.py [steps [devices]]

Of the embedding each device has some rows, of the network behind it some columns and rows of the
two matrices; they are `layerwise_parallel`. The batch is cut too, so devices meet before and after:
an all-gather brings everybody's inputs, a reduce-scatter adds up and takes everybody's outputs
home. The same text on one device is the uncut network; both are trained here, and the losses are
the same. On a CPU, eight virtual devices stand in for eight real ones.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import numpy as np

import paramesh
from paramesh import Parameter, Tensor, communication, nn, ops
from paramesh.initializer import Normal, initializer
from paramesh.parallel import set_slices

WORDS, WIDTH, HIDDEN, CLASSES = 1024, 16, 64, 4
BATCH, LENGTH = 64, 5


def slice_of(name, shape, axis, scale):
    """A Parameter of which each device has its slice along `axis`, cut from one recipe."""
    here = list(shape)
    here[axis] //= communication.get_group_size()
    param = Parameter(initializer("zeros", here), name=name, layerwise_parallel=True)
    set_slices(param, initializer(Normal(scale), shape), axis)
    return param


class Embedding(nn.Cell):
    """(n, length) word numbers -> (n, WIDTH), the sum of their vectors; rows are cut."""

    def __init__(self):
        super().__init__()
        self.table = slice_of("table", (WORDS, WIDTH), 0, 0.5)
        self.gather, self.scatter = ops.AllGather(), ops.ReduceScatter()

    def construct(self, words):
        """Each device looks up what it has, for the words of all."""
        rows = self.table.shape[0]
        words = self.gather(words) - communication.get_rank() * rows
        inside = (words >= 0) & (words < rows)
        found = ops.gather(self.table, words.clamp(0, rows - 1), 0)
        return self.scatter((found * inside.expand_dims(-1).astype(found.dtype)).sum(1))


class MLP(nn.Cell):
    """(n, WIDTH) -> (n, CLASSES); the first matrix is cut by columns, the second by rows."""

    def __init__(self):
        super().__init__()
        self.up = slice_of("up", (HIDDEN, WIDTH), 0, 0.3)
        self.up_bias = slice_of("up_bias", (HIDDEN,), 0, 0.01)
        self.down = slice_of("down", (CLASSES, HIDDEN), 1, 0.2)
        self.bias = Parameter(initializer("zeros", (CLASSES,)), name="bias")
        self.product = ops.MatMul(transpose_b=True)
        self.gather, self.scatter = ops.AllGather(), ops.ReduceScatter()

    def construct(self, x):
        """Each device computes its hidden features for all, and its share of every output."""
        hidden = ops.relu(self.product(self.gather(x), self.up) + self.up_bias)
        return self.scatter(self.product(hidden, self.down)) + self.bias


def batches(steps):
    """Sentences; the class is the one that most of the words belong to."""
    draw = np.random.default_rng(0)
    for _ in range(steps):
        words = draw.integers(0, WORDS, (BATCH, LENGTH)).astype(np.int32)
        counts = np.stack([(words % CLASSES == c).sum(1) for c in range(CLASSES)], 1)
        yield Tensor(words), Tensor(counts.argmax(1).astype(np.int32))


def train(devices, steps):
    """Train on so many devices; the losses, and the trained network."""
    paramesh.set_seed(1)
    paramesh.set_auto_parallel_context(parallel_mode="hybrid_parallel", device_num=devices)
    net = nn.SequentialCell(Embedding(), MLP())
    loss = nn.WithLossCell(net, nn.CrossEntropyLoss())
    # The loss of the batch is the mean over the devices, so each one's gradient starts from its
    # share. Gradients of `bias`, which all have, are summed; those of slices are complete already.
    step = nn.TrainOneStepCell(loss, nn.Adam(net.trainable_params(), 0.01), sens=1.0 / devices)
    return [float(step(*batch)) for batch in batches(steps)], net


def main():
    steps, devices = [*map(int, sys.argv[1:]), *(200, 8)[len(sys.argv) - 1 :]]
    communication.init()
    alone, _ = train(1, steps)
    losses, net = train(devices, steps)
    for i in range(0, steps, max(1, steps // 5)):
        print(f"step {i + 1:4}  loss {losses[i]:.4f}  on one device {alone[i]:.4f}")
    print(f"largest difference: {max(abs(a - b) for a, b in zip(alone, losses, strict=True)):.1e}")
    for param in net.get_parameters():
        cut = f"a slice on each of {devices} devices" if param.layerwise_parallel else "on all"
        print(f"{param.name:10} {param.shape!s:10} {cut}")


if __name__ == "__main__":
    main()
