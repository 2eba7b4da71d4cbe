"""The click model of `server_clicks`: sizes and batches.

After DLRM (Naumov et al. 2019, arXiv:1906.00091), with the layers of its example for Criteo's
Kaggle data and tables of other sizes: 13 numbers and 26 categories for each example, rows of 16,
and the products of all pairs of the 27 vectors.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np

BATCH, FIELDS, NUMBERS, WIDTH = 4096, 26, 13, 16
BOTTOM = (NUMBERS, 512, 256, 64, WIDTH)
TOP = (WIDTH + (FIELDS + 1) * FIELDS // 2, 512, 256, 1)
RATE, ACCUMULATOR = 0.02, 0.1
#: Rows of each table.
ROWS = [int(rows) for rows in np.geomspace(1e6, 1e9, FIELDS)]
#: Batches that are met again and again.
BATCHES = 24
#: Of Zipf's law.
EXPONENT = 1.2
#: The pairs of vectors whose products are taken, as places among all of them.
PAIRS = np.tril_indices(FIELDS + 1, -1)

Array = np.ndarray[Any, Any]


def batch(number: int, rank: int = 0) -> tuple[Array, Array, Array]:
    """Ids (FIELDS, BATCH), numbers (BATCH, NUMBERS), and clicks (BATCH,)."""
    rng = np.random.default_rng([number % BATCHES, rank])
    ids = np.empty((FIELDS, BATCH), np.int64)
    for field, rows in enumerate(ROWS):
        # Zipf's law by its continuous form: the sums of its terms need no table of 10^9 numbers.
        end = rows ** (1 - EXPONENT)
        ranks = (1 + rng.random(BATCH) * (end - 1)) ** (1 / (1 - EXPONENT))
        ids[field] = np.minimum(ranks.astype(np.int64), rows - 1) * 7919 % rows
    numbers = rng.standard_normal((BATCH, NUMBERS)).astype(np.float32)
    return ids, numbers, (rng.random(BATCH) < 0.3).astype(np.float32)


def different_rows() -> float:
    """How many different rows a batch looks up."""
    return statistics.fmean(
        sum(len(np.unique(mine)) for mine in batch(number)[0]) for number in range(BATCHES)
    )


class Compact:
    """Local tables: of each the rows that the batches meet, and where they are in it.

    Nobody has 28 billion rows in memory. The contestants with local tables are given places
    instead of ids, for which they would need an index.
    """

    def __init__(self) -> None:
        found = [batch(number)[0] for number in range(BATCHES)]
        self._ids = [np.unique(np.stack([ids[f] for ids in found])) for f in range(FIELDS)]
        self.rows = [len(ids) for ids in self._ids]

    def places(self, ids: Array) -> Array:
        """Of each id its place in its table, (FIELDS, BATCH)."""
        return np.stack([np.searchsorted(mine, ids[field]) for field, mine in enumerate(self._ids)])
