"""How Parameters are split over servers: everything once, evenly, and by complete shards."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramesh.ps.specification.partition import LEAST, SHARDS, Partition, ranges, shards_of_rows


@given(st.integers(0, 40 * LEAST), st.text(max_size=5), st.sampled_from([1, 2, 3, 7, SHARDS]))
def test_every_element_of_a_dense_parameter_is_somewhere_once(
    size: int, name: str, servers: int
) -> None:
    partition = Partition(servers)
    parts = [part for _, part in partition.ranges(name, size)]
    assert parts == ranges(name, size)
    edges = [0, *(part.stop for part in parts)]
    assert edges == [*(part.start for part in parts), size]
    assert len({part.shard for part in parts}) == len(parts)
    values = np.arange(size, dtype=np.float32)
    pieces = partition.split_values(name, values)
    merged = {key: value for mine in pieces for key, value in mine.items()}
    assert (partition.join_values(name, (size,), merged) == values).all()


@given(st.lists(st.integers(0, 2**62), unique=True), st.sampled_from([1, 2, 5]))
def test_every_row_is_somewhere_once(ids: Any, servers: int) -> None:
    ids = np.array(sorted(ids), np.int64)
    places = Partition(servers).split_rows(ids)
    assert sorted(np.concatenate(places).tolist()) == list(range(len(ids)))


def test_rows_and_ranges_are_shared_evenly() -> None:
    counts = np.bincount(shards_of_rows(np.arange(256_000)), minlength=SHARDS)
    assert 800 < counts.min() <= counts.max() < 1200
    home = Partition(4).servers_of_rows(np.arange(0, 10**9, 9973))
    assert np.ptp(np.bincount(home)) < 0.05 * len(home)
    sizes = [0, 0, 0]
    for server, part in Partition(3).ranges("w", 256 * LEAST):
        sizes[server] += part.stop - part.start
    assert max(sizes) < 1.05 * min(sizes)


def test_another_number_of_servers_moves_complete_shards() -> None:
    two, three = Partition(2), Partition(3)
    assert sorted(s for i in range(3) for s in three.shards_of(i)) == list(range(SHARDS))
    assert [r for _, r in two.ranges("w", 50 * LEAST)] == [
        r for _, r in three.ranges("w", 50 * LEAST)
    ]
    with pytest.raises(ValueError, match="256 shards needs 1..256 servers: 257"):
        Partition(257)
