"""Boxes: ranges of elements as boxes, and what fills an array."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from paramesh.checkpoint.formats.boxes import boxes_of_range, common, full_box, is_grid, within

SHAPES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@given(SHAPES, st.data())
def test_boxes_of_a_range_hold_its_elements_in_order(shape: tuple[int, ...], data: st.DataObject):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape)
    start = data.draw(st.integers(0, array.size))
    stop = data.draw(st.integers(start, array.size))
    boxes = list(boxes_of_range(shape, start, stop))
    parts = [array[(*within(box, full_box(shape)), ...)].reshape(-1) for box in boxes]
    assert [int(i) for part in parts for i in part] == list(range(start, stop))
    assert len(boxes) <= 2 * max(1, len(shape))


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), max_size=3), st.data())
def test_a_grid_fills_its_array(lengths: list[list[int]], data: st.DataObject) -> None:
    cuts = [np.cumsum([0, *parts]).tolist() for parts in lengths]
    shape = tuple(cut[-1] for cut in cuts)
    counts = [len(parts) for parts in lengths]
    boxes = [
        tuple((cut[i], cut[i + 1]) for i, cut in zip(place, cuts, strict=True))
        for place in np.ndindex(*counts)
    ]
    boxes = data.draw(st.permutations(boxes))
    assert is_grid(boxes, shape)
    assert not is_grid(boxes[1:], shape)
    assert not is_grid([*boxes, boxes[0]], shape)
    if shape:
        assert not is_grid(boxes, (shape[0] + 1, *shape[1:]))
        assert not is_grid(boxes, (*shape, 1))


@pytest.mark.parametrize(
    ("boxes", "shape"),
    [
        ([((0, 3),), ((2, 4),)], (4,)),  # two hold element 2
        ([((0, 1),), ((2, 4),)], (4,)),  # none holds element 1
        ([((0, 2), (0, 1)), ((0, 1), (1, 2)), ((1, 2), (1, 2))], (2, 2)),  # no grid
        ([((1, 0),)], (0,)),
    ],
)
def test_what_is_no_grid(boxes: list[tuple[tuple[int, int], ...]], shape: tuple[int, ...]) -> None:
    assert not is_grid(boxes, shape)


def test_what_boxes_share() -> None:
    assert common(((0, 3), (1, 4)), ((2, 5), (0, 2))) == ((2, 3), (1, 2))
    assert common(((0, 3), (1, 4)), ((3, 5), (0, 2))) is None
    assert common((), ()) == ()
