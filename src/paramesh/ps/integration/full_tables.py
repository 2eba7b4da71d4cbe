"""The full array of a table in a process without servers, made without a second copy of it."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np

from paramesh.checkpoint.staging import aligned_empty
from paramesh.dtype import x64
from paramesh.errors import RecipeError
from paramesh.parameter import Parameter
from paramesh.ps.specification.initial_values import initial_values_of, values_at
from paramesh.sampling.recipe import Recipe
from paramesh.tensor.base import wrap

Array = np.ndarray[Any, Any]

#: So many elements are computed at once.
_BLOCK = 1 << 22


def writable(name: str, recipe: Recipe | None, param: Parameter | None = None) -> Array:
    """The values of a recipe, or else of a Parameter, to be written to."""
    if recipe is None:
        assert param is not None
        return param.asnumpy().copy()
    try:
        start = initial_values_of(name, recipe)
    except RecipeError:  # its elements cannot be computed one by one
        return np.array(recipe.compute())
    full = aligned_empty(recipe.shape, recipe.dtype.np_dtype)
    flat = full.reshape(-1)
    for first in range(0, math.prod(recipe.shape), _BLOCK):
        stop = min(first + _BLOCK, len(flat))
        flat[first:stop] = values_at(start, np.arange(first, stop, dtype=np.uint64))
    return full


def owned(name: str, values: Array) -> Parameter:
    """A Parameter with values that nobody else has."""
    with x64(values.dtype):
        return Parameter(wrap(jax.device_put(values, may_alias=True)), name=name)
