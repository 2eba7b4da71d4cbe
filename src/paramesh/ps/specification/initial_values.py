"""What Parameters start from on a server: recipes as plain data, computed element by element.

Glossary
    start       a law or a constant as JSON: `{"law": "normal", "reals": [0.0, 0.01], …}`. It names
                one of a few rules, never code, so it may come from a file or from a message
    position    the place of an element in the row-major order of the whole array

The numbers are those of the recipe, to the last bit: each element is computed from its position.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import DType, to_dtype, x64_set
from paramesh.errors import RecipeError
from paramesh.initializer import random
from paramesh.initializer.structured import Constant
from paramesh.sampling.distribution import (
    HEADER,
    DistributionSpec,
    compiled,
    computing_dtype,
    evaluated,
    key_words,
)
from paramesh.sampling.recipe import Initializer, Recipe
from paramesh.sampling.sampler import Sampler

Start = dict[str, Any]

#: RunConfig by their names at rest.
_RULES: dict[str, Callable[..., Any]] = {
    "uniform": random._uniform,
    "normal": random._normal,
    "cut_normal": random._truncated_normal,
}
_NAMES = {rule: name for name, rule in _RULES.items()}

#: Programs are compiled for so many elements; more are computed in several runs.
_SIZES = (1 << 10, 1 << 13, 1 << 16, 1 << 19)


def start_of(owner: str, recipe: Recipe) -> Start:
    """A recipe as a start.

    Args:
        owner: the full name of the Parameter, for messages.
        recipe: of the whole array.

    Raises:
        RecipeError: its elements cannot be computed one by one.
    """
    common = {"dtype": recipe.dtype.long_name}
    law = recipe._spec()
    if law is not None and law.sample_fn in _NAMES:
        return common | {
            "law": _NAMES[law.sample_fn],
            "reals": list(law.reals),
            "integers": list(law.integers),
            "key": list(recipe.key),
        }
    if hasattr(recipe.initializer, "value") and recipe.sliceable and law is None:
        value = recipe.initializer.constant(recipe.dtype)
        return common | {"law": "constant", "value": value.item()}
    raise RecipeError(
        f"Parameter '{owner}' is to be created on the server, but {recipe.initializer!r} is not "
        "computed there. Use a constant, Uniform, Normal, TruncatedNormal or one of those whose "
        "spread follows from the shape (Xavier…, He…, VarianceScaling); or leave init_in_server "
        "False, then the values are sent."
    )


class _Given(Initializer):
    """An initializer that is known by its law alone."""

    law_name: str
    reals: tuple[float, ...]
    integers: tuple[int, ...]

    def __init__(self, law: str, reals: Sequence[float], integers: Sequence[int]) -> None:
        super().__init__(law_name=law, reals=tuple(reals), integers=tuple(integers))

    def law(self, shape: tuple[int, ...]) -> DistributionSpec:
        """The rule of this name, with these numbers."""
        return DistributionSpec(_RULES[self.law_name], self.reals, self.integers)


def recipe_of(start: Start, shape: Sequence[int]) -> Recipe:
    """The recipe of a start: the same numbers.

    Raises:
        RecipeError: the start is none.
    """
    dtype = to_dtype(start["dtype"])
    if start.get("law") == "constant":
        return Recipe(Constant(start["value"]), (0, 0), tuple(shape), dtype)
    if start.get("law") not in _RULES:
        raise RecipeError(f"there is no law {start.get('law')!r}; expected {sorted(_RULES)}.")
    init = _Given(start["law"], start["reals"], start["integers"])
    return Recipe(init, (int(start["key"][0]), int(start["key"][1])), tuple(shape), dtype)


def values_at(start: Start, positions: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The elements at some positions (uint64, any order) of a start; a flat array.

    Raises:
        RecipeError: the start is none.
    """
    dtype = to_dtype(start["dtype"])
    name = start.get("law")
    if name == "constant":
        return np.full(positions.shape, start["value"], dtype.np_dtype)
    if name not in _RULES:
        raise RecipeError(f"a server knows no law {name!r}; expected {sorted(_RULES)} or constant.")
    out = np.empty(positions.shape, dtype.np_dtype)
    largest = _SIZES[-1]
    for first in range(0, len(positions), largest):
        part = positions[first : first + largest]
        size = next(n for n in _SIZES if n >= len(part))
        padded = np.zeros(size, np.uint64)
        padded[: len(part)] = part
        out[first : first + largest] = _drawn(start, padded, dtype)[: len(part)]
    return out


def _drawn(start: Start, positions: np.ndarray[Any, Any], dtype: DType) -> Any:
    key = int(start["key"][0]), int(start["key"][1])
    header = np.array([*key_words(key), 0, *start["integers"]], np.uint64)
    reals = np.array(start["reals"], computing_dtype(dtype))
    with x64_set(True):
        program = _program(start["law"], len(positions), dtype)
        return np.asarray(program(header, reals, positions))


@functools.cache
def _program(law: str, size: int, dtype: DType) -> Callable[..., Any]:
    rule = _RULES[law]

    def paramesh_draw_at(header: Any, reals: Any, positions: Any) -> Any:
        words = [header[i].astype(jnp.uint32) for i in range(HEADER)]
        place = (positions.astype(jnp.uint32), (positions >> jnp.uint64(32)).astype(jnp.uint32))
        draw = Sampler((size,), None, computing_dtype(dtype), words[:3], words[3], place)
        integers = [header[i] for i in range(HEADER, header.shape[0])]
        return evaluated(rule, draw, list(reals), integers, dtype)

    return compiled(paramesh_draw_at, jax.default_backend())
