"""Parameters in lists of Cells have MindSpore's names, and never two of them one name."""

from __future__ import annotations

import copy
import pickle

import pytest

import container_cases
import goldens
import paramesh
from paramesh.nn import Cell, CellList, Dense

RECORDED = goldens.load("container_names")


@pytest.mark.parametrize("case", container_cases.CASES)
def test_names_are_the_recorded_ones(case: str) -> None:
    assert container_cases.names(container_cases.CASES[case], paramesh) == RECORDED[case]


def dense() -> Dense:
    return Dense(2, 2, has_bias=False)


def test_a_second_list_that_is_filled_later_has_names_of_its_own() -> None:
    net = Cell()
    net.a, net.b = CellList(), CellList()
    for cells in (net.a, net.b):
        cells.append(dense())
        cells.append(dense())
    assert list(net.parameters_dict()) == ["0.weight", "1.weight", "b.0.weight", "b.1.weight"]


def test_so_have_lists_in_lists() -> None:
    net = Cell()
    net.b = CellList()
    for _ in range(2):
        inner = CellList()
        net.b.append(inner)
        inner.append(dense())
        inner.append(dense())
    assert list(net.parameters_dict()) == ["0.weight", "1.weight", "1.0.weight", "1.1.weight"]


def test_copies_can_be_filled_too() -> None:
    net = Cell()
    net.b = CellList([dense()])
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        other.b.append(dense())
        assert list(other.parameters_dict()) == ["b.0.weight", "b.1.weight"]
