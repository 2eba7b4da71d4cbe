"""Diagonals of matrices: each is where numpy has it, and what is refused.

Bands and their alignments are compared with MindSpore's in `tests/test_recorded_names.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from paramesh import Tensor, ops
from paramesh.errors import ValueNeededError

X = np.arange(24, dtype=np.float32).reshape(2, 3, 4)


@pytest.mark.parametrize("k", range(-2, 4))
def test_one_diagonal(k: int) -> None:
    part = ops.matrix_diag_part(Tensor(X), k, 0.0).asnumpy()
    assert np.array_equal(part, np.diagonal(X, k, 1, 2))
    back = ops.matrix_diag(Tensor(part), k, 3, 4, -1.0).asnumpy()
    inside = np.eye(3, 4, k, dtype=bool)
    assert np.array_equal(back, np.where(inside, X, -1))
    assert np.array_equal(ops.matrix_set_diag(Tensor(-X), Tensor(part), k).asnumpy()[0],
                          np.where(inside, X[0], -X[0]))  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ops.matrix_diag_part(x, 4, 0.0), "has the diagonals -2 to 3, got those"),
        (lambda x: ops.matrix_diag_part(x, (2, 1), 0.0), "the lowest and the highest"),
        (lambda x: ops.matrix_diag_part(x, 0, 0.0, align="LEFT"), "align must be one of"),
        (lambda x: ops.matrix_diag_part(x[0, 0], 0, 0.0), "expected matrices"),
        (lambda x: ops.matrix_diag(x, (0, 1)), "of the 2 diagonals of k"),
        (lambda x: ops.matrix_diag(x[0], 0, 3, 3), "4 rows or 4 columns, got"),
        (lambda x: ops.matrix_set_diag(x, x, 0), r"are \(2, 3\), got \(2, 3, 4\)"),
    ],
)
def test_refusals(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(Tensor(X))


def test_which_diagonals_has_to_be_known() -> None:
    k = Tensor(np.array([[0], [1]], np.int32))
    with pytest.raises(ValueNeededError, match="sizes or axes are values of a Tensor"):
        ops.vmap(lambda at: ops.matrix_diag_part(Tensor(X), at, 0.0))(k)
