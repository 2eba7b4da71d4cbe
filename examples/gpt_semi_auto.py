"""A small GPT over several devices: one program text, and strategies that say how it is cut.

python examples/gpt_semi_auto.py [steps [data parts [model parts]]]

It learns a text by heart, character by character, and says it. With 2 data parts and 4 model parts
each device computes half of the batch and a quarter of every large layer. On a CPU, eight virtual
devices stand in for eight real ones.
"""

from __future__ import annotations

import os
import sys

os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=8")

import numpy as np

import paramesh
from paramesh import Parameter, ParameterTuple, Tensor, nn, ops
from paramesh.initializer import initializer

TEXT = (
    "A recipe, not an array. Weightless until used. Parameters are the state of compiled programs. "
    "One word for where a parameter lives: its placement. At rest, a name. "
)
LETTERS = sorted(set(TEXT))
#: Rows of the table of letters: a multiple of what the model parts may be.
VOCABULARY = 64
LENGTH, WIDTH, HEADS = 32, 64, 8


class Attention(nn.Cell):
    """Every position looks at itself and at those before it; the heads are cut by `mp`."""

    def __init__(self, dp, mp):
        super().__init__()
        self.query, self.key, self.value, self.out = (
            nn.Dense(WIDTH, WIDTH, has_bias=False) for _ in range(4)
        )
        for dense in (self.query, self.key, self.value):
            dense.matmul.shard(((dp, 1), (mp, 1)))  # each device computes some heads
        self.out.matmul.shard(((dp, mp), (1, mp)))  # and its share of the sum over heads
        heads = (dp, mp, 1, 1)
        self.scores = ops.BatchMatMul(transpose_b=True).shard((heads, heads))
        self.softmax = ops.Softmax(-1).shard((heads,))
        self.mix = ops.BatchMatMul().shard((heads, heads))
        self.hidden = Tensor(np.triu(np.full((LENGTH, LENGTH), -1e9, np.float32), 1))

    def construct(self, x):
        """(n, length, width) -> the same."""
        n, length, _ = x.shape
        query, key, value = (
            dense(x).reshape((n, length, HEADS, WIDTH // HEADS)).transpose((0, 2, 1, 3))
            for dense in (self.query, self.key, self.value)
        )
        scores = self.scores(query, key) / (WIDTH // HEADS) ** 0.5
        weights = self.softmax(scores + self.hidden[:length, :length])
        mixed = self.mix(weights, value).transpose((0, 2, 1, 3))
        return self.out(mixed.reshape((n, length, WIDTH)))


class Block(nn.Cell):
    """Attention, and two dense layers of which the first is cut by columns, the second by rows."""

    def __init__(self, dp, mp):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm([WIDTH]), nn.LayerNorm([WIDTH])
        self.attention = Attention(dp, mp)
        self.up, self.down = nn.Dense(WIDTH, 4 * WIDTH), nn.Dense(4 * WIDTH, WIDTH)
        self.up.matmul.shard(((dp, 1), (mp, 1)))
        self.up.bias_add.shard(((dp, mp), (mp,)))
        self.down.matmul.shard(((dp, mp), (1, mp)))

    def construct(self, x):
        """(n, length, width) -> the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.down(ops.gelu(self.up(self.norm2(x))))


class GPT(nn.Cell):
    """Letters to the logits of the next letters; one table reads and writes them."""

    def __init__(self, dp, mp, blocks=2):
        super().__init__()
        self.table = Parameter(initializer("normal", (VOCABULARY, WIDTH)), name="table")
        self.places = Parameter(initializer("normal", (LENGTH, WIDTH)), name="places")
        self.blocks = nn.SequentialCell(*(Block(dp, mp) for _ in range(blocks)))
        self.norm = nn.LayerNorm([WIDTH])
        self.gather = ops.Gather().shard(((mp, 1), (dp, 1)))
        self.head = ops.MatMul(transpose_b=True).shard(((dp, 1), (mp, 1)))

    def construct(self, letters):
        """(n, length) integers -> (n * length, letters)."""
        x = self.gather(self.table, letters, 0) + self.places[: letters.shape[1]]
        x = self.norm(self.blocks(x))
        return self.head(x.reshape((-1, WIDTH)), self.table)


def main(steps: int = 400, dp: int = 2, mp: int = 4) -> None:
    paramesh.set_auto_parallel_context(
        parallel_mode="semi_auto_parallel",
        device_num=dp * mp,
        dataset_strategy=((dp, 1), (dp, 1)),
        enable_parallel_optimizer=True,
    )
    paramesh.set_seed(1)
    net = GPT(dp, mp)
    optimizer = nn.Adam(net.trainable_params(), learning_rate=3e-3)
    gradients = paramesh.value_and_grad(
        lambda letters, following: ops.cross_entropy(net(letters), following.reshape((-1,))),
        None,
        ParameterTuple(net.trainable_params()),
    )

    @paramesh.jit
    def step(letters, following):
        loss, grads = gradients(letters, following)
        optimizer(grads)
        return loss

    numbers = np.array([LETTERS.index(letter) for letter in TEXT * 2], np.int32)
    draw = np.random.default_rng(1)
    for at in range(1, steps + 1):
        starts = draw.integers(0, len(TEXT), size=16)
        rows = np.stack([numbers[start : start + LENGTH + 1] for start in starts])
        loss = step(Tensor(rows[:, :-1]), Tensor(rows[:, 1:]))
        if at % 50 == 0 or at == steps:
            print(f"step {at:4d}  loss {float(loss):.3f}")
    print()
    print(net.layout_table())

    said = numbers[:LENGTH].copy()
    for _ in range(len(TEXT) - LENGTH):
        logits = net(Tensor(np.tile(said[-LENGTH:], (dp, 1)))).asnumpy()[LENGTH - 1]
        said = np.append(said, np.int32(logits.argmax()))
    print("".join(LETTERS[number] for number in said))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
