"""Clicks on advertisements: a click model on tables that take any 64-bit id, with a known best.

The data is like Criteo's, and made here: 13 numbers and 26 categories for each impression, the
categories as hashes of 64 bits, frequent ones and rare ones, and the ids of the pages that a user
has seen, none or several. A logistic teacher decides about clicks by chance. So the best possible
AUC is known: that of the teacher's own probabilities. The program ends with both.

    python examples/clicks_ps.py

needs no other package and has the tables in this process. `--servers 2` (with `paramesh[ps]`) puts
them on two servers in processes of their own. The network is a wide and a deep part: a number for
each category, and a small perceptron over rows of width 4.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

import paramesh
from paramesh import Tensor, context, nn, ops, ps

NUMBERS, CATEGORIES, PAGES = 13, 26, 60
BATCH, LONGEST = 2000, 6
NAMES = [f"c{at}" for at in range(CATEGORIES)]

Array = np.ndarray[Any, Any]


class Batch(NamedTuple):
    """Impressions: what the network reads, the teacher's probabilities, and what happened."""

    features: dict[str, Any]
    numbers: Array
    chance: Array
    clicked: Array


class Teacher:
    """A logistic model with known weights, and impressions that it decides about.

    Args:
        seed: of everything.
    """

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.rng = rng
        sizes = rng.integers(5, 40, CATEGORIES)
        self.weights = [rng.normal(0, 0.45, size) for size in sizes]
        self.ids = [rng.integers(-(2**63) + 1, 2**63, size) for size in sizes]
        # Few categories are frequent, and most are rare.
        self.shares = [1 / np.arange(1, size + 1) ** 1.1 for size in sizes]
        self.shares = [share / share.sum() for share in self.shares]
        self.page_weights = rng.normal(0, 0.8, PAGES)
        self.page_ids = rng.integers(-(2**63) + 1, 2**63, PAGES)
        self.slopes = rng.normal(0, 0.2, NUMBERS)

    def batch(self, count: int = BATCH) -> Batch:
        """The next impressions."""
        rng = self.rng
        numbers = rng.standard_normal((count, NUMBERS))
        logit = -1.5 + numbers @ self.slopes
        features: dict[str, Any] = {}
        for name, weights, ids, share in zip(
            NAMES, self.weights, self.ids, self.shares, strict=True
        ):
            which = rng.choice(len(ids), count, p=share)
            logit += weights[which]
            features[name] = ids[which]
        lengths = rng.integers(0, LONGEST + 1, count)
        # Padded to one length, so that the network is compiled once.
        seen = rng.integers(0, PAGES, count * LONGEST)
        owner = np.repeat(np.arange(count), lengths)
        total = np.bincount(owner, self.page_weights[seen[: len(owner)]], count)
        logit += total / np.maximum(lengths, 1)
        features["seen"] = (self.page_ids[seen], lengths)
        chance = 1 / (1 + np.exp(-logit))
        clicked = (rng.random(count) < chance).astype(np.float32)
        return Batch(features, numbers.astype(np.float32), chance, clicked)


def lookups(width: int, **table: Any) -> list[ps.Feature]:
    """A table of rows of this width for each category, and one for the pages."""
    pages = ps.feature_group(["seen"], None, width, combiner="mean", **table)
    return ps.feature_group(NAMES, None, width, **table) + pages


class Clicks(nn.Cell):
    """Wide and deep.

    Args:
        wide_rates: the learning rates of the wide tables, by step.
    """

    def __init__(self, wide_rates: list[float]) -> None:
        super().__init__()
        self.wide = ps.Features(lookups(1, init="zeros", lr=wide_rates), joined=True)
        self.deep = ps.Features(lookups(4), joined=True)
        self.hidden = nn.Dense(4 * (CATEGORIES + 1) + NUMBERS, 16)
        self.out = nn.Dense(16, 1, weight_init="zeros")
        self.linear = nn.Dense(NUMBERS, 1)

    def construct(self, features: Any, numbers: Any) -> Any:
        """The logits, (batch,)."""
        x = ops.concat((self.deep(features), numbers), 1)
        deep = self.out(ops.relu(self.hidden(x)))
        return (deep + self.linear(numbers)).squeeze(1) + self.wide(features).sum(1)


class Loss(nn.Cell):
    """The mean logistic loss."""

    def __init__(self, network: Clicks) -> None:
        super().__init__()
        self.network = network
        self.loss = nn.BCEWithLogitsLoss()

    def construct(self, features: Any, numbers: Any, clicked: Any) -> Any:
        """The loss of a batch."""
        return self.loss(self.network(features, numbers), clicked)


def auc(scores: Array, chance: Array) -> float:
    """The AUC of scores, expected over clicks that happen with these probabilities.

    The part of pairs, of a click and of none, in which the click has the higher score.
    """
    order = np.argsort(scores, kind="stable")
    scores, chance = scores[order], chance[order]
    below = np.concatenate([[0.0], np.cumsum(1 - chance)])
    first = np.searchsorted(scores, scores, "left")
    after = np.searchsorted(scores, scores, "right")
    others = (below[after] - below[first]) - (1 - chance)  # of equal scores half are right
    right = (chance * (below[first] + others / 2)).sum()
    pairs = chance.sum() * (1 - chance).sum() - (chance * (1 - chance)).sum()
    return float(right / pairs)


def inputs(batch: Batch) -> tuple[dict[str, Any], Tensor]:
    """What the network reads, as Tensors."""
    features = {
        name: tuple(map(Tensor, ids)) if isinstance(ids, tuple) else Tensor(ids)
        for name, ids in batch.features.items()
    }
    return features, Tensor(batch.numbers)


def rates(highest: float, steps: int) -> list[float]:
    """One rate for each step: even, then falling, so that chance is averaged out."""
    return [highest * min(1.0, 2 * (steps - at) / steps) for at in range(steps)]


def train(steps: int, teacher: Teacher, *, quiet: bool = False) -> tuple[float, float, Clicks]:
    """Train on impressions that each are seen once.

    Returns:
        The AUC of the network and of the teacher, on impressions that no step has seen.
    """
    network = Clicks(rates(0.2, steps))
    network.wide.put_on_servers()
    network.deep.put_on_servers()
    groups = network.wide.optimizer_groups(network.trainable_params())
    optimizer = nn.Adagrad(groups, accum=1e-9, learning_rate=rates(0.01, steps))
    step = nn.TrainOneStepCell(Loss(network), optimizer)
    began = time.perf_counter()
    for at, batch in enumerate(batches(teacher, steps), 1):
        loss = step(*inputs(batch), Tensor(batch.clicked))
        if not quiet and at % max(1, steps // 10) == 0:
            rate = at * BATCH / (time.perf_counter() - began)
            print(f"step {at:4}  loss {float(loss):.4f}  {rate:,.0f} impressions a second")
    scores: list[Array] = []
    chances: list[Array] = []
    for batch in batches(teacher, 25):
        scores.append(network(*inputs(batch)).asnumpy())
        chances.append(batch.chance)
    chance = np.concatenate(chances)
    return auc(np.concatenate(scores), chance), auc(chance, chance), network


def batches(teacher: Teacher, count: int) -> Iterator[Batch]:
    """The teacher's next batches."""
    return (teacher.batch() for _ in range(count))


def main(arguments: list[str] | None = None) -> None:
    """Train, and compare with the best."""
    parser = argparse.ArgumentParser(description="A click model with a known best AUC.")
    parser.add_argument("--steps", type=int, default=300, help="batches of 2000 (default 300)")
    parser.add_argument("--servers", type=int, default=0, help="processes with the tables")
    chosen = parser.parse_args(arguments)
    paramesh.set_seed(0)
    context.set_ps_context(enable_ps=True, server_num=chosen.servers)
    try:
        mine, best, network = train(chosen.steps, Teacher())
        rows = sum(len(ids) for ids, _ in network.deep.tables["c0"].items())
        print(f"rows of the first table: {rows}")
        print(f"AUC {mine:.4f}, the best possible {best:.4f}, {best - mine:.4f} less")
    finally:
        context.reset_ps_context()


if __name__ == "__main__":
    main()
