"""Tensors made to fit others, and indices of sparse matrices in their two forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import paramesh
from paramesh import Tensor, ops
from paramesh.errors import ValueNeededError

MATRIX = np.array([[0, 2, 0], [0, 0, 0], [3, 0, 4], [0, 5, 0]], np.float32)


def test_element_types_and_truth() -> None:
    cast = ops.type_as(Tensor([1.5, -1.5]), Tensor([1]))
    assert (cast.asnumpy().dtype, cast.asnumpy().tolist()) == (np.int64, [1, -1])
    assert [ops.is_nonzero(Tensor(v)) for v in (0.0, [0], 0.5, [[True]])] == [0, 0, 1, 1]
    with pytest.raises(ValueError, match=r"one element, got the shape \(2,\)"):
        ops.is_nonzero(Tensor([1, 2]))
    with pytest.raises(ValueNeededError, match="the answer is the value of a Tensor"):
        ops.vmap(lambda x: x * ops.is_nonzero(x))(Tensor([1.0]))
    with pytest.raises(TypeError, match="floating type"):
        ops.eps(Tensor([1]))


def test_rows_of_sparse_matrices() -> None:
    coo = scipy.sparse.coo_matrix(MATRIX)
    csr = coo.tocsr()
    rows, starts = Tensor(coo.row), Tensor(csr.indptr)
    found = paramesh.jit(lambda r: ops.coo2csr(r, 4))(rows)
    assert found.asnumpy().tolist() == csr.indptr.tolist()
    assert ops.csr2coo(starts, csr.nnz).asnumpy().tolist() == coo.row.tolist()
    assert found.asnumpy().dtype == np.int32


def test_coalesced_indices() -> None:
    at = np.array([[2, 0, 2, 0], [1, 1, 1, 0]])
    values = np.array([1, 2, 3, 4], np.float32)
    indices, joined, shape = ops.coalesce(Tensor(at), Tensor(values), Tensor([3, 2]))
    dense = np.zeros((3, 2), np.float32)
    np.add.at(dense, tuple(at), values)
    again = np.zeros((3, 2), np.float32)
    again[tuple(indices.asnumpy())] = joined.asnumpy()
    assert np.array_equal(again, dense)
    assert indices.asnumpy().tolist() == [[0, 0, 2], [0, 1, 1]]
    assert shape.asnumpy().tolist() == [3, 2]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ops.coo2csr(x, 3), r"row_indices must be \(n,\)"),
        (lambda x: ops.csr2coo(x, 3), r"indptr must be \(rows \+ 1,\)"),
        (lambda x: ops.coalesce(x, x[0], Tensor([3])), "expected indices"),
        (lambda x: ops.coalesce(x, x[0], Tensor([3, 1])), "must lie in the shape"),
        (lambda x: ops.cov(Tensor(np.ones((1, 2, 3)))), r"must be \(n, m\) or \(m,\)"),
        (lambda x: ops.cov(x, aweights=x), r"aweights must be of shape \(2,\)"),
    ],
)
def test_refusals(call: Callable[[Any], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Tensor(np.array([[0, 1], [1, 0]])))
