"""One index for the rows of many tables."""

from __future__ import annotations

import numpy as np
import pytest

from paramesh.ps.server.shared_index import IndexPart, SharedIndex, find_many
from paramesh.ps.server.slab_index import Index


def parts(count: int, rows: int = 1000) -> list[IndexPart]:
    """The first segments of an index."""
    shared = SharedIndex()
    found = [shared.part(rows) for _ in range(count)]
    assert all(part is not None for part in found)
    return [part for part in found if part is not None]


def test_tables_do_not_see_each_other() -> None:
    first, second = parts(2)
    first.add(np.array([0, 999]), np.array([7, 8]))
    second.add(np.array([0]), np.array([5]))
    np.testing.assert_array_equal(first.find(np.array([0, 1, 999])), [7, -1, 8])
    np.testing.assert_array_equal(second.find(np.array([0, 999])), [5, -1])
    assert (len(first), len(second)) == (2, 1)
    first.remove(np.array([0]))
    np.testing.assert_array_equal(second.find(np.array([0])), [5])
    np.testing.assert_array_equal(first.find(np.array([0, 999])), [-1, 8])
    assert (len(first), len(second)) == (1, 1)


def test_many_are_found_as_one_by_one() -> None:
    rng = np.random.default_rng(0)
    mine: list[Index | IndexPart] = [*parts(3), Index()]
    for at, index in enumerate(mine):
        index.add(rng.permutation(1000)[:400], np.arange(400) + at)
    asked = [(index, rng.integers(0, 1000, 50 * at)) for at, index in enumerate(mine)]
    for (index, ids), slots in zip(asked, find_many(asked), strict=True):
        np.testing.assert_array_equal(slots, index.find(ids))


def test_what_is_added_together_is_there_at_the_end_whatever_happens() -> None:
    first, second = parts(2)

    def added() -> None:
        with first.shared.deferred():
            first.add(np.array([3]), np.array([0]))
            second.add(np.array([3]), np.array([1]))
            assert first.find(np.array([3])).tolist() == [-1]
            raise MemoryError

    with pytest.raises(MemoryError):
        added()
    assert first.find(np.array([3])).tolist() == [0]
    assert second.find(np.array([3])).tolist() == [1]
    first.add(np.array([4]), np.array([2]))
    assert first.find(np.array([4])).tolist() == [2]


def test_a_table_without_room_for_its_keys_has_no_shared_index() -> None:
    shared = SharedIndex()
    assert shared.part(1 << 61) is not None
    assert shared.part(1 << 62) is None
    last = shared.part(1 << 61)
    assert last is not None
    last.add(np.array([(1 << 61) - 1]), np.array([3]))
    assert last.find(np.array([(1 << 61) - 1])).tolist() == [3]


def test_what_was_found_last_is_forgotten_when_rows_come_or_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = parts(2)
    first.add(np.array([1, 2]), np.array([0, 1]))
    second.add(np.array([2]), np.array([0]))
    asked: list[tuple[Index | IndexPart, np.ndarray]] = [
        (first, np.array([1, 2, 3])),
        (second, np.array([2])),
    ]
    looked: list[int] = []
    real = Index.find

    def find(index: Index, keys: np.ndarray) -> np.ndarray:
        looked.append(len(keys))
        return real(index, keys)

    monkeypatch.setattr(Index, "find", find)

    def found() -> list[list[int]]:
        return [slots.tolist() for slots in find_many(asked)]

    assert found() == [[0, 1, -1], [0]]
    # Whoever has the answer may write to it.
    find_many(asked)[0][...] = 9
    assert found() == [[0, 1, -1], [0]]
    assert looked == [4]
    with first.shared.deferred():
        first.add(np.array([3]), np.array([2]))
        assert found() == [[0, 1, -1], [0]]
    assert found() == [[0, 1, 2], [0]]
    second.remove(np.array([2]))
    assert found() == [[0, 1, 2], [-1]]
    second.add(np.array([2]), np.array([5]))
    assert found() == [[0, 1, 2], [5]]
    asked[1] = (second, np.array([1]))
    assert found() == [[0, 1, 2], [-1]]
