"""The click model in PyTorch, with local `EmbeddingBag`s; see `clicks`.

With "dense" as the second argument without tables: the rows are given.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

import torch
from clicks import (
    ACCUMULATOR,
    BATCH,
    BATCHES,
    BOTTOM,
    FIELDS,
    PAIRS,
    RATE,
    TOP,
    WIDTH,
    Compact,
    batch,
)
from driving import drive
from torch import nn


def layers(widths: tuple[int, ...], last: bool) -> nn.Sequential:
    found: list[nn.Module] = []
    for at, (inside, outside) in enumerate(itertools.pairwise(widths)):
        found.append(nn.Linear(inside, outside))
        if last or at < len(widths) - 2:
            found.append(nn.ReLU())
    return nn.Sequential(*found)


class Net(nn.Module):
    def __init__(self, rows: list[int]) -> None:
        super().__init__()
        self.tables = nn.ModuleList(
            nn.EmbeddingBag(mine, WIDTH, mode="sum", sparse=True) for mine in rows
        )
        self.bottom, self.top = layers(BOTTOM, True), layers(TOP, False)

    def forward(self, places: Any, numbers: Any) -> Any:
        vectors = [table(places[f][:, None]) for f, table in enumerate(self.tables)]
        return self.above(vectors, numbers)

    def above(self, vectors: Any, numbers: Any) -> Any:
        x = self.bottom(numbers)
        everything = torch.stack([x, *vectors], 1)
        products = everything @ everything.transpose(1, 2)
        return self.top(torch.cat([x, products[:, PAIRS[0], PAIRS[1]]], 1))[:, 0]


def main() -> None:
    torch.manual_seed(0)
    dense = sys.argv[2:] == ["dense"]
    compact = Compact()
    net = Net([] if dense else compact.rows)
    for table in net.tables:
        nn.init.normal_(table.weight, std=0.01)
    optimizer = torch.optim.Adagrad(net.parameters(), RATE, initial_accumulator_value=ACCUMULATOR)
    loss = nn.BCEWithLogitsLoss()
    inputs: list[Any] = []
    for number in range(BATCHES):
        ids, numbers, clicked = batch(number)
        inputs.append(tuple(map(torch.from_numpy, (compact.places(ids), numbers, clicked))))
    assert dense or len(net.tables) == FIELDS
    rows = (torch.randn(FIELDS, BATCH, WIDTH) * 0.01).requires_grad_()

    def run(at: int) -> float:
        places, numbers, clicked = inputs[at % BATCHES]
        optimizer.zero_grad(set_to_none=True)
        rows.grad = None
        found = net.above(list(rows), numbers) if dense else net(places, numbers)
        value = loss(found, clicked)
        value.backward()
        optimizer.step()
        return float(value.detach())

    drive(run)


if __name__ == "__main__":
    main()
