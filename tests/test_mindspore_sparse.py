"""Sparse Tensors by their parts: what the recordings do not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor
from paramesh import mindspore_sparse as parts
from type_checks import wrong

PLACES, SHAPE = Tensor([[0, 1], [1, 2]]), Tensor([3, 4])
VALUES = Tensor(np.array([7, -7], np.int32))


def test_quotients_of_elements() -> None:
    """MindSpore 2.10 has no quotient on a CPU; whole numbers go towards 0, as in its operators."""
    divide = parts.SparseDenseCwiseDiv()
    two = Tensor(np.array([2], np.int32))
    assert divide(PLACES, VALUES, SHAPE, two).asnumpy().tolist() == [3, -3]
    halves = divide(PLACES, Tensor(np.array([7, -7], np.float32)), SHAPE, Tensor(np.float32(2)))
    assert halves.asnumpy().tolist() == [3.5, -3.5]


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_behind_the_other(axis: int) -> None:
    other = [Tensor([[0, 0], [2, 3]]), Tensor(np.array([5, 6], np.int32))]
    shape = [4, 4] if axis == 0 else [3, 5]
    at, values, sizes = parts.SparseConcat(axis)(
        [PLACES, other[0]], [VALUES, other[1]], [SHAPE, Tensor(shape)]
    )
    first, second = np.zeros((3, 4), np.int32), np.zeros(shape, np.int32)
    first[tuple(PLACES.asnumpy().T)] = VALUES.asnumpy()
    second[tuple(other[0].asnumpy().T)] = other[1].asnumpy()
    wanted = np.concatenate([first, second], axis)
    assert sizes.asnumpy().tolist() == list(wanted.shape)
    places = at.asnumpy()
    assert places.tolist() == np.argwhere(wanted).tolist()  # in order
    assert values.asnumpy().tolist() == wanted[tuple(places.T)].tolist()
    with pytest.raises(ValueError, match="two"):
        parts.SparseConcat(axis)([PLACES], [VALUES], [SHAPE])


def test_matrices_of_a_batch_have_softmaxes_of_their_own() -> None:
    """MindSpore 2.10 leaves the last matrix of a batch as it is."""
    whole = [Tensor(np.array(x, np.int32)) for x in ((2, 1, 3), (0, 2, 3), (0, 2, 0, 1), (0, 2, 1))]
    values = Tensor(np.log(np.array([1, 3, 5], np.float32)))
    found = parts.SparseMatrixSoftmax(paramesh.float32)(*[*whole, values])
    np.testing.assert_allclose(found[4].asnumpy(), [0.25, 0.75, 1], 1e-6)
    for got, given in zip(found[:4], whole, strict=True):
        assert got.asnumpy().tolist() == given.asnumpy().tolist()
    # Of one matrix MindSpore takes the number of elements in place of the batch pointers.
    one = [Tensor(np.array(x, np.int32)) for x in ((1, 3), 2, (0, 2), (0, 2))]
    alone = parts.SparseMatrixSoftmax(paramesh.float32)(*[*one, values[:2]])
    np.testing.assert_allclose(alone[4].asnumpy(), [0.25, 0.75], 1e-6)


def test_dense_results_have_gradients_in_compiled_networks() -> None:
    """Where elements are hangs on values, so the function runs operator by operator."""
    dense = Tensor(np.arange(8, dtype=np.float32).reshape(4, 2))

    def loss(values: Any, places: Any) -> Any:
        none = Tensor(np.zeros((3, 2), np.float32))
        one = Tensor(np.ones(1, np.float32))
        return parts.SparseAddmm()(places, values, SHAPE, dense, none, one, one).sum()

    with pytest.warns(paramesh.errors.UncompiledWarning):
        found = paramesh.jit(paramesh.grad(loss))(Tensor(np.ones(2, np.float32)), PLACES)
    assert found.asnumpy().tolist() == [5, 9]


def test_what_is_refused() -> None:
    with pytest.raises(
        paramesh.errors.PositionError, match=r"x: a position is outside of the shape \[1, 4\]"
    ):
        parts.SparseReorder()(PLACES, VALUES, Tensor([1, 4]))
    with pytest.raises(ValueError, match=r"the positions must be \(n, axes\)"):
        parts.SparseReorder()(PLACES, VALUES, Tensor([3, 4, 5]))
    with pytest.raises(TypeError, match="x_indices must be whole numbers, got float32"):
        parts.SparseReorder()(Tensor(np.ones((2, 2), np.float32)), VALUES, SHAPE)
    with pytest.raises(ValueError, match=r"new_shape \[5, 2\] does not have the elements"):
        parts.SparseReshape()(PLACES, SHAPE, Tensor([5, 2]))
    with pytest.raises(ValueError, match="the shapes differ"):
        parts.SparseSparseMaximum()(PLACES, VALUES, SHAPE, PLACES, VALUES, Tensor([3, 5]))
    with pytest.raises(RuntimeError, match="values must be from 0 on, got -7"):
        parts.SparseCountSparseOutput()(PLACES, VALUES, SHAPE, VALUES)
    with pytest.raises(RuntimeError, match="a weight for each of 2 positions, or none, got"):
        parts.SparseCountSparseOutput()(PLACES, VALUES, SHAPE, Tensor([1, 2, 3]))
    with pytest.raises(TypeError, match="binary_output must be a bool, got 1"):
        parts.SparseCountSparseOutput(wrong(1))
    with pytest.raises(TypeError, match="dtype must be Float32 or Float64"):
        parts.SparseMatrixSoftmax(paramesh.float16)
    with pytest.raises(ValueError, match="exclude each other"):
        parts.SparseMatrixMatMul(transpose_x1=True, adjoint_x1=True)
    matrix = [Tensor(np.array(x, np.int32)) for x in ((2, 3), (0, 2), (0, 1), (0, 1))]
    with pytest.raises(ValueError, match="1 matrices of 2 rows have 2 batch and 3 row pointers"):
        parts.SparseMatrixTranspose()(*[*matrix, VALUES])
