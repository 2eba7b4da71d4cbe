"""The click model with TorchRec's fused tables, local; see `clicks`.

The optimizer of the tables is fused into the backward pass (FBGEMM), and takes its sums from zero:
the losses are not those of the others. TorchRec's tables over several processes need GPUs, or a
process group, and are not compared.
"""

from __future__ import annotations

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
from clicks_of_torch import layers
from driving import drive
from torch import nn
from torchrec import EmbeddingBagConfig, KeyedJaggedTensor
from torchrec.modules.fused_embedding_modules import FusedEmbeddingBagCollection

NAMES = [f"field{f}" for f in range(FIELDS)]


class Net(nn.Module):
    def __init__(self, rows: list[int]) -> None:
        super().__init__()
        tables = [
            EmbeddingBagConfig(
                num_embeddings=mine, embedding_dim=WIDTH, name=f"table{f}", feature_names=[NAMES[f]]
            )
            for f, mine in enumerate(rows)
        ]
        self.tables = FusedEmbeddingBagCollection(
            tables, torch.optim.Adagrad, {"lr": RATE}, device=torch.device("cpu")
        )
        self.bottom, self.top = layers(BOTTOM, True), layers(TOP, False)

    def forward(self, places: Any, numbers: Any) -> Any:
        x = self.bottom(numbers)
        found = self.tables(places)
        vectors = [found[name] for name in NAMES]
        everything = torch.stack([x, *vectors], 1)
        products = everything @ everything.transpose(1, 2)
        return self.top(torch.cat([x, products[:, PAIRS[0], PAIRS[1]]], 1))[:, 0]


def main() -> None:
    torch.manual_seed(0)
    compact = Compact()
    net = Net(compact.rows)
    layered = [*net.bottom.parameters(), *net.top.parameters()]
    optimizer = torch.optim.Adagrad(layered, RATE, initial_accumulator_value=ACCUMULATOR)
    loss = nn.BCEWithLogitsLoss()
    lengths = torch.ones(FIELDS * BATCH, dtype=torch.int32)
    inputs: list[Any] = []
    for number in range(BATCHES):
        ids, numbers, clicked = batch(number)
        places = torch.from_numpy(compact.places(ids)).reshape(-1)
        jagged = KeyedJaggedTensor(keys=NAMES, values=places, lengths=lengths)
        inputs.append((jagged, torch.from_numpy(numbers), torch.from_numpy(clicked)))

    def run(at: int) -> float:
        places, numbers, clicked = inputs[at % BATCHES]
        optimizer.zero_grad(set_to_none=True)
        value = loss(net(places, numbers), clicked)
        value.backward()
        optimizer.step()
        return float(value.detach())

    drive(run)


if __name__ == "__main__":
    main()
