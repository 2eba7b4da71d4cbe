"""How many workers an operation may have: what is refused, before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from paramesh import dataset as ds
from paramesh.dataset.config import MOST_WORKERS
from type_checks import untyped


def rows(**given: Any) -> ds.NumpySlicesDataset:
    return ds.NumpySlicesDataset(np.arange(4.0), **given)


#: Everything that takes a number of workers.
TAKES: dict[str, Callable[[Any], Any]] = {
    "a source": lambda n: rows(num_parallel_workers=n),
    "a generator": lambda n: ds.GeneratorDataset([1, 2], "x", num_parallel_workers=n),
    "map": lambda n: rows().map(np.sin, num_parallel_workers=n),
    "batch": lambda n: rows().batch(2, num_parallel_workers=n),
    "padded_batch": lambda n: rows().padded_batch(2, num_parallel_workers=n),
    "filter": lambda n: rows().filter(bool, num_parallel_workers=n),
    "config": untyped(ds.config.set_num_parallel_workers),
}


@pytest.mark.parametrize("takes", TAKES)
def test_numbers_of_workers(takes: str) -> None:
    before = ds.config.get_num_parallel_workers()
    for wrong in (0, -1, MOST_WORKERS + 1, 10**6, 2**31 - 1):
        with pytest.raises(ValueError, match=rf"must be in \[1, {MOST_WORKERS}\], got {wrong}\.$"):
            TAKES[takes](wrong)
    for wrong in (True, 1.0, "1", np.int64(2)):
        with pytest.raises(TypeError, match="must be an int, got"):
            TAKES[takes](wrong)
    assert ds.config.get_num_parallel_workers() == before
    TAKES[takes](before)
