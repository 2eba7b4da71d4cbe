"""The networks as Cells, trained by value_and_grad and an nn optimizer under paramesh.jit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import paramesh
from networks import definitions
from networks.definitions import BLOCKS, EPSILON, HEADS, Array, Network
from paramesh import Tensor, nn, ops, value_and_grad

Step = Callable[[], Any]


class Stack(nn.Cell):
    """A: dense layers with tanh."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        width, count = definitions.WIDTH, len(network.weights) // 2
        self.layers = nn.CellList([nn.Dense(width, width) for _ in range(count)])

    def construct(self, x: Any) -> Any:
        """(n, width) -> (n, width)."""
        for layer in self.layers:
            x = layer(x).tanh()
        return x


class LeNet5(nn.Cell):
    """B: two convolutions and three dense layers."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, 5, pad_mode="valid", has_bias=True)
        self.conv2 = nn.Conv2d(6, 16, 5, pad_mode="valid", has_bias=True)
        self.pool = nn.MaxPool2d(kernel_size=2, stride=2)
        self.relu = nn.ReLU()
        self.flatten = nn.Flatten()
        self.fc1 = nn.Dense(16 * 5 * 5, 120)
        self.fc2 = nn.Dense(120, 84)
        self.fc3 = nn.Dense(84, definitions.CLASSES)

    def construct(self, x: Any) -> Any:
        """(n, 1, 32, 32) -> (n, 10)."""
        x = self.pool(self.relu(self.conv1(x)))
        x = self.pool(self.relu(self.conv2(x)))
        x = self.flatten(x)
        x = self.relu(self.fc1(x))
        x = self.relu(self.fc2(x))
        return self.fc3(x)


class Block(nn.Cell):
    """A layer of the transformer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm((width,), epsilon=EPSILON)
        self.qkv = nn.Dense(width, 3 * width)
        self.out = nn.Dense(width, width)
        self.norm2 = nn.LayerNorm((width,), epsilon=EPSILON)
        self.up = nn.Dense(width, definitions.FORWARD)
        self.down = nn.Dense(definitions.FORWARD, width)
        self.gelu = nn.GELU()
        length = definitions.LENGTH
        self.past = Tensor(np.tril(np.ones((length, length), bool)))

    def attend(self, x: Any) -> Any:
        """Causal attention, (n, length, width) -> (n, length, width)."""
        n, length, width = x.shape
        qkv = self.qkv(x).reshape(n, length, 3, HEADS, width // HEADS)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4)
        scores = ops.matmul(q, k.swapaxes(-1, -2)) / math.sqrt(width // HEADS)
        weights = ops.softmax(ops.where(self.past, scores, -1e9), -1)
        heard = ops.matmul(weights, v).transpose(0, 2, 1, 3).reshape(n, length, width)
        return self.out(heard)

    def construct(self, x: Any) -> Any:
        """(n, length, width) -> (n, length, width)."""
        x = x + self.attend(self.norm1(x))
        return x + self.down(self.gelu(self.up(self.norm2(x))))


class Transformer(nn.Cell):
    """C: a causal language model."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        width = definitions.MODEL
        self.token = nn.Embedding(definitions.VOCABULARY, width)
        self.place = nn.Embedding(definitions.LENGTH, width)
        self.blocks = nn.CellList([Block(width) for _ in range(BLOCKS)])
        self.norm = nn.LayerNorm((width,), epsilon=EPSILON)
        self.head = nn.Dense(width, definitions.VOCABULARY, has_bias=False)

    def construct(self, tokens: Any) -> Any:
        """(n, length) -> (n * length, vocabulary)."""
        x = self.token(tokens) + self.place.embedding_table
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x)).reshape(-1, definitions.VOCABULARY)


class Wide(nn.Cell):
    """D: wide dense layers with ReLU between."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        width, count = definitions.WIDE, len(network.weights) // 2
        self.layers = nn.CellList([nn.Dense(width, width) for _ in range(count)])
        self.relu = nn.ReLU()

    def construct(self, x: Any) -> Any:
        """(n, width) -> (n, width)."""
        last = len(self.layers) - 1
        for i, layer in enumerate(self.layers):
            x = layer(x) if i == last else self.relu(layer(x))
        return x


CELLS: dict[str, Callable[[Network], nn.Cell]] = {
    "A": Stack,
    "B": LeNet5,
    "C": Transformer,
    "D": Wide,
}


def optimizer(network: Network, params: Any) -> nn.Optimizer:
    """The network's optimizer."""
    if network.key == "A":
        return nn.Adam(params, network.rate)
    if network.key == "B":
        return nn.Momentum(params, network.rate, definitions.MOMENTUM)
    if network.key == "D":
        return nn.SGD(params, network.rate)
    return nn.AdamWeightDecay(
        params,
        network.rate,
        definitions.BETA1,
        definitions.BETA2,
        definitions.ADAM_EPSILON,
        definitions.DECAY,
    )


def loss_of(network: Network, net: nn.Cell) -> Callable[[Any, Any], Any]:
    """(x, y) -> the loss."""
    if network.key in "AD":
        return lambda x, y: ((net(x) - y) ** 2).mean()
    return lambda x, y: ops.cross_entropy(net(x), y.reshape(-1))


def filled(network: Network, start: Mapping[str, Array]) -> nn.Cell:
    """The network with the common first weights; the recipes of its own are never run."""
    net = CELLS[network.key](network)
    for name, param in net.parameters_dict().items():
        param.set_data(Tensor(start[name]))
    return net


def training(network: Network, net: nn.Cell, batch: tuple[Array, Array], rule: Any = None) -> Step:
    """One training step per call.

    Args:
        network: which one `net` is.
        net: the Cell.
        batch: inputs and targets.
        rule: the optimizer; None for the network's own.
    """
    params = net.trainable_params()
    update = rule or optimizer(network, params)
    x, y = map(Tensor, batch)
    gradients = value_and_grad(loss_of(network, net), None, params)

    @paramesh.jit
    def step(x: Any, y: Any) -> Any:
        loss, grads = gradients(x, y)
        update(grads)
        return loss

    def run() -> Any:
        return jax.block_until_ready(step(x, y))

    return run


def build(network: Network, start: Mapping[str, Array], batch: tuple[Array, Array]) -> Step:
    """One training step per call, from the common first weights."""
    return training(network, filled(network, start), batch)


def eager(network: Network, start: Mapping[str, Array], batch: tuple[Array, Array]) -> Step:
    """One forward and backward pass per call, in PyNative mode, for the whole process."""
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    net = filled(network, start)
    x, y = map(Tensor, batch)
    gradients = value_and_grad(loss_of(network, net), None, net.trainable_params())
    return lambda: jax.block_until_ready(gradients(x, y))


def eager_training(
    network: Network, start: Mapping[str, Array], batch: tuple[Array, Array]
) -> Step:
    """One training step per call, in PyNative mode; the loss is read."""
    paramesh.set_context(mode=paramesh.PYNATIVE_MODE)
    net = filled(network, start)
    params = net.trainable_params()
    update = optimizer(network, params)
    x, y = map(Tensor, batch)
    gradients = value_and_grad(loss_of(network, net), None, params)

    def run() -> Any:
        loss, grads = gradients(x, y)
        update(grads)
        net.block_until_ready()
        return loss.asnumpy(), None

    return run
