"""Three small networks with strategies, and their training: what parallel modes have to repeat.

Without strategies, they are for modes that need none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import paramesh
from paramesh import Parameter, Tensor, nn, ops
from paramesh.initializer import initializer
from paramesh.parallel import Layout
from paramesh.train.cells import TrainOneStepCell, WithLossCell

DRAW = np.random.default_rng(0)
X = DRAW.normal(size=(16, 8)).astype(np.float32)
Y = DRAW.normal(size=(16, 8)).astype(np.float32)
IMAGES = DRAW.normal(size=(8, 1, 12, 12)).astype(np.float32)
DIGITS = DRAW.integers(0, 8, size=8).astype(np.int32)
TEXT = DRAW.integers(0, 16, size=(8, 5)).astype(np.int32)
STEPS = 20


class MLP(nn.Cell):
    """8 -> 32 -> 8, with strategies for its two matrix products."""

    def __init__(self, first: Any = None, second: Any = None) -> None:
        super().__init__()
        self.first, self.second = nn.Dense(8, 32), nn.Dense(32, 8)
        self.first.matmul.shard(first)
        self.second.matmul.shard(second)
        if first is not None and not isinstance(first[0], Layout):
            (m, _), (n, _) = first
            self.first.bias_add.shard(((m, n), (n,)))

    def construct(self, x: Any) -> Any:
        return self.second(ops.tanh(self.first(x)))


class LeNet(nn.Cell):
    """Two convolutions and a dense layer; `batch` and `out` shard the batch and the channels."""

    def __init__(self, batch: int = 0, out: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.conv2 = nn.Conv2d(8, 16, 3, has_bias=True)
        self.pool = nn.MaxPool2d(3, 3)
        self.fc = nn.Dense(16, 8)
        if batch:
            image = ((batch, 1, 1, 1),)
            for conv in (self.conv1, self.conv2):
                conv.shard(image, ((batch, out, 1, 1),), {"weight": (out, 1, 1, 1)})
            self.fc.matmul.shard(((batch, 1), (out, 1)))

    def construct(self, x: Any) -> Any:
        x = self.pool(ops.relu(self.conv1(x)))
        x = self.pool(ops.relu(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


class Transformer(nn.Cell):
    """One block that predicts tokens, with tied embeddings: the table has two users."""

    def __init__(self, dp: int = 0, mp: int = 0) -> None:
        super().__init__()
        self.table = Parameter(initializer("normal", (16, 16)), name="table")
        self.norm1, self.norm2 = nn.LayerNorm([16]), nn.LayerNorm([16])
        self.q, self.k, self.v, self.out = (nn.Dense(16, 16, has_bias=False) for _ in range(4))
        self.up, self.down = nn.Dense(16, 32), nn.Dense(32, 16)
        self.gather, self.head = ops.Gather(), ops.MatMul(transpose_b=True)
        self.scores, self.mix = ops.BatchMatMul(transpose_b=True), ops.BatchMatMul()
        self.softmax = ops.Softmax(-1)
        if dp:
            column, row = ((dp, 1), (mp, 1)), ((dp, mp), (1, mp))
            for layer in (self.q, self.k, self.v, self.up):
                layer.matmul.shard(column)
            self.up.bias_add.shard(((dp, mp), (mp,)))
            for layer in (self.out, self.down):
                layer.matmul.shard(row)
            heads = (dp, mp, 1, 1)
            self.scores.shard((heads, heads))
            self.softmax.shard((heads,))
            self.mix.shard((heads, heads))
            self.gather.shard(((mp, 1), (dp, 1)))
            self.head.shard(((dp, 1), (mp, 1)))

    def attend(self, x: Any) -> Any:
        n, length, _ = x.shape
        q, k, v = (
            layer(x).reshape((n, length, 8, 2)).transpose((0, 2, 1, 3))
            for layer in (self.q, self.k, self.v)
        )
        mixed = self.mix(self.softmax(self.scores(q, k)), v)
        return self.out(mixed.transpose((0, 2, 1, 3)).reshape((n, length, 16)))

    def construct(self, tokens: Any) -> Any:
        x = self.gather(self.table, tokens, 0)
        x = x + self.attend(self.norm1(x))
        x = x + self.down(ops.relu(self.up(self.norm2(x))))
        return self.head(x.reshape((-1, 16)), self.table)


def next_token(net: Any) -> nn.Cell:
    class Loss(nn.Cell):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def construct(self, tokens: Any, labels: Any) -> Any:
            return ops.cross_entropy(self.net(tokens), labels.reshape((-1,)))

    return Loss()


def mlp_step(*strategies: Any) -> TrainOneStepCell:
    net = MLP(*strategies)
    return TrainOneStepCell(WithLossCell(net, nn.MSELoss()), nn.Adam(net.trainable_params(), 0.01))


def lenet_step(*shards: int) -> TrainOneStepCell:
    net = LeNet(*shards)
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")
    return TrainOneStepCell(WithLossCell(net, loss), nn.Momentum(net.trainable_params(), 0.05, 0.9))


def transformer_step(*shards: int) -> TrainOneStepCell:
    net = next_token(Transformer(*shards))
    return TrainOneStepCell(net, nn.Adam(net.trainable_params(), 0.01))


def run(
    make: Callable[..., Any], strategy: tuple[Any, ...], *inputs: Any, steps: int = STEPS
) -> Any:
    """(losses, {name: value}, the step) of a training with seed 1."""
    paramesh.set_seed(1)
    step = make(*strategy)
    losses = [float(step(*map(Tensor, inputs))) for _ in range(steps)]
    return losses, {name: p.asnumpy() for name, p in step.parameters_dict().items()}, step


def assert_same(here: Any, there: Any) -> None:
    np.testing.assert_allclose(here[0], there[0], rtol=2e-4, atol=1e-6)
    assert here[1].keys() == there[1].keys()
    for name, value in there[1].items():
        np.testing.assert_allclose(here[1][name], value, rtol=2e-3, atol=2e-5, err_msg=name)
