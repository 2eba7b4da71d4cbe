"""Tensors of lists whose values a program has yet to compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import paramesh
from paramesh import Tensor, ops


@pytest.mark.parametrize(
    "make",
    [
        lambda a: Tensor([a, a]),
        lambda a: Tensor([a, 2.0]),
        lambda a: Tensor([[a, 1], [2, a]]),
        lambda a: Tensor((a.astype(paramesh.float16), a)),
        lambda a: Tensor([a > 0, True]),
        lambda a: ops.relu([a, -1 * a]),
        lambda a: ops.concat(([a, a], [1.0, 2.0])),
    ],
)
def test_lists_of_values_that_a_program_computes(make: Any) -> None:
    given = Tensor(1.5)
    expected, found = make(given), paramesh.jit(make)(given)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found.asnumpy(), expected.asnumpy())


def test_lists_of_traced_values_of_other_shapes_are_refused() -> None:
    with pytest.raises(TypeError, match=r"Rows of different lengths.*\(\), \(2,\)"):
        paramesh.jit(lambda a: Tensor([a, [1.0, 2.0]]))(Tensor(1.5))
