"""What a worker asks servers for when it needs rows of tables, and whether it is asked already."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from paramesh.ps.client.exchange import Call
from paramesh.ps.specification.packing import PackedIds

Array = np.ndarray[Any, Any]


class Wanted(NamedTuple):
    """A request for rows of tables.

    Attributes:
        step: that reads them.
        packed: the ids of all tables.
        splits: by server, the places of its ids and how many each table has there; None: one
            server has all of them.
        calls: by server.
    """

    step: int
    packed: PackedIds
    splits: dict[int, tuple[Array, Array]] | None
    calls: dict[int, Call]

    def same(self, step: int, packed: PackedIds) -> bool:
        """Whether it is the request for these ids."""
        return (
            step == self.step
            and packed.names == self.packed.names
            and np.array_equal(packed.counts, self.packed.counts)
            and np.array_equal(packed.ids, self.packed.ids)
        )
