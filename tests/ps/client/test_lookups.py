"""The different rows of all lookups of a step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramesh.ps.client import lookups
from paramesh.ps.client.lookups import distinct, gathered
from paramesh.ps.specification.id_range import NO_ID


def ids_below(rows: int) -> st.SearchStrategy[int]:
    return st.integers(-1, rows - 1).map(lambda id_: NO_ID if id_ < 0 else id_)


step = st.lists(
    st.tuples(st.integers(1, 20), st.integers(1, 3)).flatmap(
        lambda size: st.tuples(
            st.just(size[0]),
            st.lists(
                st.lists(ids_below(size[0]), max_size=8),
                min_size=size[1],
                max_size=size[1],
            ),
        )
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize("together", [True, False])
@given(step)
def test_each_row_is_there_once(together: bool, given: Any) -> None:
    wanted = [(rows, [np.array(one, np.int64) for one in ids]) for rows, ids in given]
    with pytest.MonkeyPatch.context() as patch:
        if not together:
            patch.setattr(lookups, "_MOST", 0)
        found = distinct(wanted)
    assert len(found) == len(wanted)
    for (rows, ids), one in zip(wanted, found, strict=True):
        everything = np.concatenate(ids)
        np.testing.assert_array_equal(one.ids, np.unique(everything[everything >= 0]))
        table = np.arange(rows * 2.0).reshape(rows, 2) + 1
        for mine, places in zip(ids, one.places, strict=True):
            expected = np.where(mine[:, None] < 0, 0, table[np.maximum(mine, 0)])
            np.testing.assert_array_equal(gathered(table[one.ids], places), expected)


def test_tables_too_large_to_be_looked_at_together() -> None:
    huge = 1 << 62
    found = distinct([(huge, [np.array([huge - 1, 5, 5])]), (huge, [np.array([5, NO_ID])])])
    assert [one.ids.tolist() for one in found] == [[5, huge - 1], [5]]
    assert [one.places[0].tolist() for one in found] == [[1, 0, 0], [0, 1]]
