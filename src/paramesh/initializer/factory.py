"""`initializer()`, which makes a Tensor that holds a recipe, and the names of all initializers.

The initializers themselves are in `random` and `structured`.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from paramesh.dtype import DTypeLike, float32, to_dtype
from paramesh.initializer.of_jax import JaxInitializer
from paramesh.initializer.random import (
    HeNormal,
    HeUniform,
    Normal,
    TruncatedNormal,
    Uniform,
    VarianceScaling,
    XavierNormal,
    XavierUniform,
)
from paramesh.initializer.structured import Constant, Dirac, Identity, One, Orthogonal, Sparse, Zero
from paramesh.sampling.recipe import Initializer, Recipe, next_key
from paramesh.tensor.base import Tensor

__all__ = [
    "Constant",
    "Dirac",
    "HeNormal",
    "HeUniform",
    "Identity",
    "Initializer",
    "JaxInitializer",
    "Normal",
    "One",
    "Orthogonal",
    "Sparse",
    "TruncatedNormal",
    "Uniform",
    "VarianceScaling",
    "XavierNormal",
    "XavierUniform",
    "Zero",
    "initializer",
]

_FAMILY: tuple[type[Initializer], ...] = (
    Zero,
    One,
    XavierNormal,
    XavierUniform,
    HeUniform,
    HeNormal,
    Identity,
    Sparse,
    Dirac,
    Orthogonal,
    VarianceScaling,
    Uniform,
    Normal,
    TruncatedNormal,
)
_SPELLINGS: dict[str, type[Initializer]] = {
    "zeros": Zero,
    "ones": One,
    "xavier_normal": XavierNormal,
    "xavier_uniform": XavierUniform,
    "he_uniform": HeUniform,
    "he_normal": HeNormal,
}
#: The names by which `initializer()` knows an initializer, in lower case.
ALIASES: dict[str, type[Initializer]] = {c.__name__.lower(): c for c in _FAMILY} | _SPELLINGS


#: What says which numbers a Tensor starts with: see `initializer`.
InitLike: TypeAlias = (
    Initializer | Tensor | str | float | np.number | np.bool_ | Callable[..., jax.Array]
)


def initializer(
    init: InitLike, shape: int | Sequence[int] | None = None, dtype: DTypeLike | None = float32
) -> Tensor:
    """A Tensor that holds the recipe of its numbers, and no data until it is used.

    Args:
        init: an Initializer; the name of one in any case, such as `"normal"`, `"ones"`,
            `"he_uniform"` (then with its default arguments); a number, for that number everywhere;
            a Tensor of this shape, which is returned as it is; or one of `jax.nn.initializers`, see
            `JaxInitializer`.
        shape: an int, or a list or tuple of ints, all > 0.
        dtype: element type. It is ignored for a Tensor.

    Raises:
        TypeError: `init` is none of these, or `dtype` is not an element type.
        ValueError: unknown name; not a shape, or one that the initializer has no numbers for;
            a Tensor of another shape.
    """
    if isinstance(init, Tensor):
        wanted = None if shape is None else _checked_shape(shape)
        if tuple(init.shape) != wanted:
            raise ValueError(
                f"initializer(init, shape): the Tensor has shape {tuple(init.shape)}, but shape is "
                f"{wanted}. Expected both to be equal."
            )
        return init
    chosen = _chosen(init)
    sizes = _checked_shape(shape)
    if dtype is None:
        raise ValueError("initializer(dtype): expected an element type such as float32, got None.")
    return Tensor._from_recipe(Recipe(chosen, next_key(), sizes, to_dtype(dtype)))


def assignment(arr: np.ndarray, num: object) -> None:
    """Write a number, or an array that fits, to an array: MindSpore's, for an `_initialize`."""
    arr[...] = np.asarray(num)


def _chosen(init: InitLike) -> Initializer:
    if isinstance(init, Initializer):
        return init
    if isinstance(init, str):
        found = ALIASES.get(init.lower())
        if found is None:
            raise ValueError(
                f"initializer(init): {init!r} is not the name of an initializer. Expected one of "
                f"{', '.join(sorted(ALIASES))}, an Initializer, a number or a Tensor."
            )
        if found is Sparse:
            raise TypeError(
                f"initializer({init!r}): Sparse needs its argument sparsity. "
                "Give Sparse(sparsity=0.1) instead of the name."
            )
        return found()
    if isinstance(init, type) and issubclass(init, Initializer):
        raise TypeError(
            f"initializer(init): got the class {init.__name__}, expected an instance of it. "
            f"Write {init.__name__}()."
        )
    if callable(init) and not isinstance(init, type | Tensor):
        return JaxInitializer(init)
    if not callable(init) and isinstance(init, numbers.Real | np.bool_ | np.integer | np.floating):
        return Constant(init)
    raise TypeError(
        f"initializer(init): expected an Initializer, its name, a number or a Tensor, got {init!r} "
        f"({type(init).__name__})."
    )


def _checked_shape(shape: int | Sequence[int] | None) -> tuple[int, ...]:
    entries: tuple[Any, ...]
    if isinstance(shape, list | tuple):
        entries = tuple(shape)
    else:
        entries = (shape,)
    try:
        sizes = tuple(operator.index(n) for n in entries)
    except TypeError:
        sizes = None
    if sizes is None or isinstance(shape, np.ndarray) or any(n <= 0 for n in sizes):
        raise ValueError(
            f"initializer(shape): expected an int > 0, or a list or tuple of them, got {shape!r}."
        )
    return sizes
