"""Networks with pipeline stages, and runs of them on one device and on several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import paramesh
from paramesh import Parameter, Tensor, nn, ops
from paramesh.initializer import initializer
from paramesh.train import PipelineCell, TrainOneStepCell, WithLossCell

WIDTH, WORDS, LENGTH, ROWS = 16, 32, 8, 16


class MLP(nn.Cell):
    """Dense layers, with the stage of each."""

    def __init__(self, *stages: int) -> None:
        super().__init__()
        self.layers = nn.CellList([nn.Dense(WIDTH, WIDTH) for _ in stages])
        for layer, stage in zip(self.layers, stages, strict=True):
            layer.pipeline_stage = stage

    def construct(self, x: Tensor) -> Any:
        for layer in self.layers:
            x = ops.tanh(layer(x))
        return x


class Normed(nn.Cell):
    """A layer with moving averages and random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.dense = nn.Dense(WIDTH, WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.dropout = nn.Dropout(p=0.25)

    def construct(self, x: Tensor) -> Any:
        return self.dropout(ops.relu(self.norm(self.dense(x))))


class NormedNet(nn.Cell):
    """Two of them, in two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Normed(), Normed()
        self.first.pipeline_stage, self.second.pipeline_stage = 0, 1

    def construct(self, x: Tensor) -> Any:
        return self.second(self.first(x))


class Embed(nn.Cell):
    """Words and their places."""

    def __init__(self, table: Parameter) -> None:
        super().__init__()
        self.table = table
        self.place = Parameter(initializer("normal", [LENGTH, WIDTH]), name="place")

    def construct(self, ids: Tensor) -> Any:
        return ops.gather(self.table, ids, 0) + self.place


class Block(nn.Cell):
    """Attention and two products, each with a norm before and a sum after."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm((WIDTH,)), nn.LayerNorm((WIDTH,))
        self.qkv, self.proj = nn.Dense(WIDTH, 3 * WIDTH), nn.Dense(WIDTH, WIDTH)
        self.up, self.down = nn.Dense(WIDTH, 2 * WIDTH), nn.Dense(2 * WIDTH, WIDTH)

    def construct(self, x: Tensor, mask: Tensor) -> Any:
        query, key, value = ops.split(self.qkv(self.norm1(x)), WIDTH, -1)
        scores = ops.matmul(query, key.swapaxes(-1, -2)) / 4.0 + mask
        x = x + self.proj(ops.matmul(ops.softmax(scores, -1), value))
        return x + self.down(ops.gelu(self.up(self.norm2(x))))


class Head(nn.Cell):
    """Logits, by the table of the words."""

    def __init__(self, table: Parameter) -> None:
        super().__init__()
        self.norm = nn.LayerNorm((WIDTH,))
        self.table = table

    def construct(self, x: Tensor) -> Any:
        return ops.matmul(self.norm(x), self.table.T)


class Transformer(nn.Cell):
    """A transformer whose first and last layer share a table."""

    def __init__(self, stages: int, blocks: int = 2, recompute: bool = False) -> None:
        super().__init__()
        table = Parameter(initializer("normal", [WORDS, WIDTH]), name="table")
        self.embed, self.head = Embed(table), Head(table)
        self.blocks = nn.CellList([Block() for _ in range(blocks)])
        self.embed.pipeline_stage, self.head.pipeline_stage = 0, stages - 1
        for at, block in enumerate(self.blocks):
            block.pipeline_stage = at * stages // blocks
            if recompute:
                block.recompute()

    def construct(self, ids: Tensor) -> Any:
        mask = Tensor(np.triu(np.full((LENGTH, LENGTH), -1e9, np.float32), 1))
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(x).reshape((-1, WORDS))


class WordLoss(nn.Cell):
    """The loss of words that are given as (rows, words)."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = nn.CrossEntropyLoss()

    def construct(self, logits: Tensor, words: Tensor) -> Any:
        return self.loss(logits, words.reshape((-1,)))


def rows(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A batch for `MLP` and `NormedNet`."""
    rng = np.random.default_rng(seed)
    return (
        Tensor(rng.normal(size=(ROWS, WIDTH)).astype(np.float32)),
        Tensor(rng.uniform(-1, 1, size=(ROWS, WIDTH)).astype(np.float32)),
    )


def words(seed: int = 0) -> tuple[Tensor, Tensor]:
    """A batch for `Transformer`."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, WORDS, (ROWS, LENGTH + 1)).astype(np.int32)
    return Tensor(ids[:, :-1]), Tensor(ids[:, 1:])


def with_stages(stages: int, mode: str = "semi_auto_parallel", **settings: object) -> None:
    """Set the parallel mode; one stage stands for a single device."""
    paramesh.reset_auto_parallel_context()
    if stages > 1:
        paramesh.set_auto_parallel_context(
            parallel_mode=mode, device_num=8, pipeline_stages=stages, **settings
        )


def step_of(
    network: nn.Cell,
    loss: nn.Cell,
    micro_size: int = 4,
    optimizer: Callable[..., Any] = lambda params: nn.Adam(params, learning_rate=0.01),
) -> TrainOneStepCell:
    """A training step in micro-batches."""
    network.set_train()
    cell = PipelineCell(WithLossCell(network, loss), micro_size)
    return TrainOneStepCell(cell, optimizer(network.trainable_params()))


def trained(
    make: Callable[[], nn.Cell],
    batch: Callable[[int], tuple[Tensor, ...]],
    steps: int = 3,
    seed: int = 5,
) -> tuple[list[float], dict[str, np.ndarray[Any, Any]], nn.Cell]:
    """(losses, Parameters with all state, the step) of some steps under the present settings."""
    paramesh.set_seed(seed)
    step = make()
    outputs = [step(*batch(at)) for at in range(steps)]
    losses = [float(out[0] if isinstance(out, tuple) else out) for out in outputs]
    return losses, {p.name: p.asnumpy() for p in step.get_parameters()}, step
