"""What the tests of recipes share."""

from __future__ import annotations

import numpy as np

from paramesh.dtype import float32
from paramesh.sampling.recipe import Initializer, Recipe


def numbers(init: Initializer, shape=(), dtype=float32, key=(0, 0), index=None) -> np.ndarray:
    """The numbers of a recipe, or those of a slice of it."""
    return np.asarray(Recipe(init, key, shape, dtype).compute(index))
