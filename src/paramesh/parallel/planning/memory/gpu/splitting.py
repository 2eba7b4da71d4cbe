"""Products that a compiler of GPUs computes in parts, each over a part of the sum.

Where a product has too few tiles for all processors of a GPU, XLA splits the dimension that is
added up, computes that many products as one, and adds them where the result is used. So an array of
all parts is in memory in place of the result, as long as somebody uses it.

Glossary
    parts       how many products over a part of the sum there are
"""

from __future__ import annotations

import math
from typing import NamedTuple

#: Rows and columns of what a processor computes at once.
_TILE = 128
_CANDIDATES = tuple(2**n for n in range(12))


class Weights(NamedTuple):
    """What XLA multiplies the work of a product with, to compare numbers of parts.

    Attributes:
        processors: of the device.
        compute: for each operation of those that run one after the other.
        memory: for each byte that the product reads and writes.
        adding: for each byte that adding the parts up reads and writes.
        launching: of the kernel that adds them up.
    """

    processors: int
    compute: float
    memory: float
    adding: float
    launching: float


#: By target: XLA's weights for its generation (jaxlib 0.10.2, `splitk_rewriter.cc`), and the
#: processors that `../../devices.py` tells the compiler of.
WEIGHTS = {
    "a100": Weights(108, 100.0, 0.0666955, 467.815, 5.65307e7),
    "h100": Weights(132, 100.0, 0.194136, 193.1384, 4.36e7),
    "h200": Weights(132, 100.0, 0.194136, 193.1384, 4.36e7),
}


class Product(NamedTuple):
    """The part of a product that one device computes.

    Attributes:
        batch: products beside each other.
        rows: of each.
        columns: of each.
        summed: numbers that are added up for each of the results.
        width: bytes of a number.
    """

    batch: int
    rows: int
    columns: int
    summed: int
    width: int


def parts_of(product: Product, weights: Weights) -> int:
    """How many parts the sums of a product are split into."""
    return min(_CANDIDATES, key=lambda parts: _cost(product, parts, weights))


def _cost(product: Product, parts: int, weights: Weights) -> float:
    batch, rows, columns, summed, width = product
    size = min(rows, _TILE) * min(columns, _TILE)
    tiles = batch * parts * math.ceil(rows / _TILE) * math.ceil(columns / _TILE)
    at_once = weights.processors * _TILE**2 / size
    operations = 2 * size * math.ceil(summed / parts)
    computing = weights.compute * operations * max(1.0, tiles / at_once)
    results = batch * rows * columns * width
    moved = batch * summed * (rows + columns) * width + results * parts
    cost = max(computing, weights.memory * moved)
    if parts == 1:
        return cost
    return cost + weights.launching + weights.adding * results * (parts + 1)
