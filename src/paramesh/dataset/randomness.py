"""Random numbers of a pipeline: each row has its own, whoever computes it and when.

The generator for a row is Philox, whose key comes from the iterator's seed and the place of the
operation in the pipeline, and whose counter is (epoch, ordinal of the row). So the numbers do not
depend on how many workers there are, nor on where an iterator was resumed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np


class RowGenerator:
    """A numpy Generator that is put to the start of a row's numbers.

    Args:
        seed: of the iterator.
        path: of the operation in the pipeline.
    """

    def __init__(self, seed: int, path: Sequence[int]) -> None:
        words = np.random.SeedSequence([seed, *(p + 1 for p in path)]).generate_state(2, np.uint64)
        self._bits = np.random.Philox(key=words)
        self._state: dict[str, Any] = dict(self._bits.state)
        self._key = words
        self.generator = np.random.Generator(self._bits)

    def at(self, epoch: int, ordinal: int) -> np.random.Generator:
        """The generator, at the start of the numbers of one row."""
        bits: Any = self._bits
        bits.state = self._state | {
            "state": {"counter": np.array([0, 0, ordinal, epoch], np.uint64), "key": self._key},
            "buffer_pos": 4,
            "has_uint32": 0,
        }
        return self.generator


def generator(seed: int, path: Sequence[int], epoch: int) -> np.random.Generator:
    """The generator of an operation that draws once for an epoch, such as a sampler."""
    return RowGenerator(seed, path).at(epoch, 0)


def seed_globals(seed: int, epoch: int, ordinal: int) -> None:
    """Seed numpy's and Python's global generators for one task, in a worker's process."""
    mixed = (seed * 0x9E3779B1 + epoch * 0x85EBCA77 + ordinal * 0xC2B2AE3D) & 0xFFFFFFFF
    np.random.seed(mixed)
    random.seed(mixed)
