"""Small networks without one layout, as somebody writes them for one device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paramesh import Tensor, nn, ops, stack
from paramesh.train.cells import TrainOneStepCell, WithLossCell

DRAW = np.random.default_rng(3)


def _floats(*shape: int) -> np.ndarray[Any, Any]:
    return DRAW.normal(size=shape).astype(np.float32)


def _numbers(high: int, *shape: int) -> np.ndarray[Any, Any]:
    return DRAW.integers(0, high, shape).astype(np.int32)


class MLP(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Dense(32, 128), nn.Dense(128, 32)

    def construct(self, x: Any) -> Any:
        return self.second(ops.relu(self.first(x)))


class Block(nn.Cell):
    """A pre-norm layer of a transformer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.width, self.heads = width, heads
        self.norm1, self.norm2 = nn.LayerNorm([width]), nn.LayerNorm([width])
        self.query, self.key, self.value = (nn.Dense(width, width) for _ in range(3))
        self.mixed = nn.Dense(width, width)
        self.up, self.down = nn.Dense(width, 4 * width), nn.Dense(4 * width, width)

    def _by_heads(self, x: Any) -> Any:
        shape = (x.shape[0], x.shape[1], self.heads, self.width // self.heads)
        return ops.transpose(ops.reshape(x, shape), (0, 2, 1, 3))

    def construct(self, x: Any) -> Any:
        h = self.norm1(x)
        q, k, v = (self._by_heads(layer(h)) for layer in (self.query, self.key, self.value))
        scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * (self.width // self.heads) ** -0.5
        mixed = ops.transpose(ops.matmul(ops.softmax(scores), v), (0, 2, 1, 3))
        x = x + self.mixed(ops.reshape(mixed, x.shape))
        return x + self.down(ops.gelu(self.up(self.norm2(x))))


class GPT(nn.Cell):
    def __init__(self, width: int = 32, scanned: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(64, width)
        if scanned:
            self.blocks = stack(lambda: Block(width, 4), 3)
        else:
            self.blocks = nn.SequentialCell(Block(width, 4), Block(width, 4))
        self.out = nn.Dense(width, 64)

    def construct(self, tokens: Any) -> Any:
        return ops.reshape(self.out(self.blocks(self.words(tokens))), (-1, 64))


class WideAndDeep(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.wide, self.deep = nn.Embedding(512, 1), nn.Embedding(512, 16)
        self.layers = nn.SequentialCell(nn.Dense(64, 64), nn.ReLU(), nn.Dense(64, 1))

    def construct(self, ids: Any) -> Any:
        deep = ops.reshape(self.deep(ids), (ids.shape[0], 64))
        return self.layers(deep) + self.wide(ids).sum(1)


class Residual(nn.Cell):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(before, after, 3), nn.Conv2d(after, after, 3)
        self.norm1, self.norm2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.skip = nn.Conv2d(before, after, 1)

    def construct(self, x: Any) -> Any:
        h = self.norm2(self.second(ops.relu(self.norm1(self.first(x)))))
        return ops.relu(self.skip(x) + h)


class ResNet(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.SequentialCell(Residual(3, 8), Residual(8, 16))
        self.out = nn.Dense(16, 8)

    def construct(self, x: Any) -> Any:
        return self.out(self.stages(x).mean((2, 3)))


class MoE(nn.Cell):
    """Experts that weigh in by a softmax; each is a pair of products."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Dense(32, 8)
        self.up, self.down = nn.Dense(32, 8 * 16), nn.Dense(16, 8 * 32)

    def construct(self, x: Any) -> Any:
        shares = ops.softmax(self.gate(x))
        inner = ops.reshape(ops.relu(self.up(x)), (x.shape[0], 8, 16))
        kernels = ops.reshape(self.down.weight, (8, 32, 16))
        return ops.einsum("be,beh,eoh->bo", shares, inner, kernels)


class UNet(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.enter, self.low = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 16, 3)
        self.grown, self.leave = nn.Conv2dTranspose(16, 8, 2, 2), nn.Conv2d(16, 8, 3)
        self.pool = nn.MaxPool2d(2, 2)

    def construct(self, x: Any) -> Any:
        high = ops.relu(self.enter(x))
        low = ops.relu(self.low(self.pool(high)))
        return self.leave(ops.concat((high, self.grown(low)), 1))


class Recurrent(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.lstm = nn.Embedding(64, 32), nn.LSTM(32, 32)
        self.out = nn.Dense(32, 64)

    def construct(self, tokens: Any) -> Any:
        hidden, _ = self.lstm(self.words(tokens))
        return ops.reshape(self.out(hidden), (-1, 64))


def _crossed() -> nn.Cell:
    return nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean")


_ROWS = _floats(16, 32), _floats(16, 32)
_TEXT = _numbers(64, 8, 16), _numbers(64, 8 * 16)
_IMAGES = _floats(8, 8, 8, 8), _floats(8, 8, 8, 8)

#: Name -> (network, loss, input, label).
NETWORKS: dict[str, tuple[Callable[[], nn.Cell], Callable[[], nn.Cell], Any, Any]] = {
    "MLP": (MLP, nn.MSELoss, *_ROWS),
    "GPT": (GPT, _crossed, *_TEXT),
    "a wider GPT": (lambda: GPT(64), _crossed, *_TEXT),
    "GPT in a scan": (lambda: GPT(scanned=True), _crossed, *_TEXT),
    "wide and deep": (WideAndDeep, nn.MSELoss, _numbers(512, 32, 4), _floats(32, 1)),
    "ResNet": (ResNet, _crossed, _floats(8, 3, 8, 8), _numbers(8, 8)),
    "MoE": (MoE, nn.MSELoss, *_ROWS),
    "U-Net": (UNet, nn.MSELoss, *_IMAGES),
    "LSTM": (Recurrent, _crossed, _TEXT[0], _TEXT[1]),
}


def step_of(name: str) -> TrainOneStepCell:
    """A training step with momentum, whose updates are as smooth as the gradients."""
    network, loss, _, _ = NETWORKS[name]
    net = network()
    optimizer = nn.Momentum(net.trainable_params(), 0.01, 0.9)
    return TrainOneStepCell(WithLossCell(net, loss()), optimizer)


def batch_of(name: str) -> tuple[Tensor, Tensor]:
    _, _, x, y = NETWORKS[name]
    return Tensor(x), Tensor(y)
