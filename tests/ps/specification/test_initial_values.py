"""Initial values on servers: blocks, of which no number depends, and the memory that they take."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

from paramesh.errors import RecipeError
from paramesh.initializer import Normal, Uniform, initializer
from paramesh.ps.specification import initial_values
from paramesh.ps.specification.id_range import UNBOUNDED
from paramesh.ps.specification.initial_values import initial_values_of, rows_of_many


def start(init: Any, shape: tuple[int, ...] = (1000, 3)) -> dict[str, Any]:
    recipe = initializer(init, shape).recipe
    assert recipe is not None
    return initial_values_of("table", recipe)


def test_no_number_depends_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = np.array([3, 5, 17, 999, 2, 40, 41])
    anywhere = np.array([-(2**62), 7, 2**40])
    parts = [
        (start(Normal(0.1)), ids, 3, 1000),
        (start(Uniform(0.2)), ids[:4], 5, 1000),
        (start("ones"), ids, 2, 1000),
        (start(Normal(0.1)), anywhere, 4, UNBOUNDED),
        (start(Normal(0.1)), ids[:0], 3, 1000),
        (start(Normal(0.1)), ids[2:5], 3, 1000),
    ]
    whole = rows_of_many(parts)
    assert [one.shape for one in whole] == [(7, 3), (4, 5), (7, 2), (3, 4), (0, 3), (3, 3)]
    alone = [rows_of_many([part])[0] for part in parts]
    for sizes in ((1, 2), (1, 7), (1 << 10,)):
        monkeypatch.setattr(initial_values, "_SIZES", sizes)
        for found, expected, one in zip(rows_of_many(parts), whole, alone, strict=True):
            assert found.tobytes() == expected.tobytes() == one.tobytes()


def test_the_memory_is_that_of_the_rows_and_a_block() -> None:
    ids = np.arange(100_000)
    part = start(Normal(0.1), (100_000, 64)), ids, 64, 100_000
    rows_of_many([(part[0], ids[:20_000], 64, 100_000)])  # compiles
    tracemalloc.start()
    (rows,) = rows_of_many([part])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < rows.nbytes + (32 << 20)


def test_a_distribution_that_no_server_has() -> None:
    with pytest.raises(RecipeError, match="does not support the distribution 'poisson'"):
        rows_of_many([({"law": "poisson", "dtype": "float32"}, np.arange(3), 2, 9)])
