"""Sets along the last axis."""

from __future__ import annotations

import numpy as np
import pytest

from paramesh import Tensor
from paramesh.mindspore_sets import DenseToDenseSetOperation, DenseToSparseSetOperation
from type_checks import wrong

A = Tensor(np.array([[3, 1, 1], [5, 6, 7]], np.int32))
B = Tensor(np.array([[1, 4], [7, 6]], np.int32))
PLACES, VALUES = Tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), Tensor(np.array([1, 4, 7, 6], np.int32))
EXPECTED = {
    "a-b": ([[0, 0], [1, 0]], [3, 5], [2, 1]),
    "b-a": ([[0, 0]], [4], [2, 1]),
    "intersection": ([[0, 0], [1, 0], [1, 1]], [1, 6, 7], [2, 2]),
    "union": ([[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]], [1, 3, 4, 5, 6, 7], [2, 3]),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_both_forms(name: str) -> None:
    dense = DenseToDenseSetOperation(name)(A, B)
    sparse = DenseToSparseSetOperation(name)(A, PLACES, VALUES, Tensor([2, 2]))
    for found in (dense, sparse):
        assert tuple(each.asnumpy().tolist() for each in found) == EXPECTED[name]
        assert found[1].dtype == A.dtype


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="set_operation must be one of a-b, .*got 'xor'"):
        DenseToDenseSetOperation("xor")
    with pytest.raises(TypeError, match="validate_indices must be a bool, got 1"):
        DenseToSparseSetOperation("a-b", wrong(1))
    with pytest.raises(ValueError, match=r"one shape but for the last axis, got int32\(2, 3\)"):
        DenseToDenseSetOperation()(A, B[:1])
    with pytest.raises(ValueError, match="x1 must be whole numbers of at least two axes"):
        DenseToDenseSetOperation()(A[0], B)
    with pytest.raises(ValueError, match=r"x2 must have the first axes \(2,\) of x1"):
        DenseToSparseSetOperation()(A, PLACES, VALUES, Tensor([3, 2]))
    backwards = Tensor(PLACES.asnumpy()[::-1].copy())
    with pytest.raises(ValueError, match="x2_indices must be sorted"):
        DenseToSparseSetOperation()(A, backwards, VALUES, Tensor([2, 2]))
