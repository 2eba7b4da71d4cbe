"""Values for which there is no memory: an error, and the recipe stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

import paramesh
from paramesh import Parameter
from paramesh.initializer import initializer

#: 2**50 bytes, more than a process can address.
SIDE = 2**24

USES: dict[str, Callable[[Parameter], Any]] = {
    "asnumpy": lambda p: p.asnumpy(),
    "numpy": lambda p: np.asarray(p),
    "init_data": lambda p: p.init_data(),
    "operator": lambda p: p * 2,
    "program": lambda p: paramesh.jit(lambda: p.sum())(),
    "program that writes": lambda p: paramesh.jit(lambda: p.assign(p * 2).sum())(),
}


@pytest.mark.parametrize("use", USES)
def test_there_is_no_memory(use: str) -> None:
    table = Parameter(initializer("normal", [SIDE, SIDE]), name="table")
    for _ in range(2):
        with pytest.raises(jax.errors.JaxRuntimeError, match="Out of memory") as caught:
            USES[use](table)
        (note,) = (n for n in caught.value.__notes__ if "first values" in n)
        assert "the largest is 'table' Float32[16777216, 16777216]" in note
        assert table.has_init


def test_one_of_several_is_too_large() -> None:
    table = Parameter(initializer("normal", [SIDE, SIDE]), name="table")
    row = Parameter(initializer("normal", [4]), name="row")
    with pytest.raises(jax.errors.JaxRuntimeError, match="Out of memory"):
        paramesh.jit(lambda: row.sum() + table.sum())()
    assert row.has_init
    assert row.asnumpy().shape == (4,)
