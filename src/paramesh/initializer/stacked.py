"""Many recipes as one, along a new first axis: the numbers of layers that are stacked.

Every layer keeps its own initializer and key, so the numbers are those that the layers have apart,
and any slice of any layer is computed alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.dtype import DType
from paramesh.initializer.structured import Constant
from paramesh.sampling.recipe import Initializer, Recipe, compute_many


class Stacked(Initializer):
    """The numbers of several recipes of one shape, along a new first axis.

    Args:
        recipes: one for each layer, all of one shape.

    Raises:
        ValueError: no recipes, or shapes that differ.
    """

    recipes: tuple[Recipe, ...]

    def __init__(self, recipes: Sequence[Recipe]) -> None:
        shapes = {recipe.shape for recipe in recipes}
        if len(shapes) != 1:
            raise ValueError(
                "Stacked(recipes): expected at least one recipe, all of one shape, got the shapes "
                f"{sorted(shapes)}."
            )
        super().__init__(recipes=tuple(recipes))

    def check(self, shape: tuple[int, ...]) -> None:
        """The shape is that of all layers."""
        wanted = (len(self.recipes), *self.recipes[0].shape)
        if shape != wanted:
            raise ValueError(
                f"{self!r} has the shape {wanted}, got {shape}: its layers have recipes of their "
                "own, which are for no other shape."
            )

    def part(self, dtype: DType, starts: Sequence[int], shape: tuple[int, ...]) -> jax.Array:
        """A slice: of the layers that it meets, the slice of each."""
        layers = [r.with_dtype(dtype) for r in self.recipes[starts[0] : starts[0] + shape[0]]]
        if not layers:
            return jnp.zeros(shape, dtype.np_dtype)
        if shape[1:] == layers[0].shape:
            return jnp.stack(compute_many(layers))
        index = [slice(s, s + n) for s, n in zip(starts[1:], shape[1:], strict=True)]
        return jnp.stack([recipe.compute(index) for recipe in layers])

    def __repr__(self) -> str:
        kinds = list(dict.fromkeys(repr(recipe.initializer) for recipe in self.recipes))
        shown = kinds[0] if len(kinds) == 1 else f"{kinds[0]}, …"
        return f"Stacked({len(self.recipes)} x {shown})"


def stacked(recipes: Sequence[Recipe]) -> Recipe:
    """One recipe for the numbers of several; it takes no key of its own.

    Raises:
        ValueError: as `Stacked`.
    """
    first = recipes[0]
    kinds = {recipe.initializer for recipe in recipes}
    same = kinds.pop() if len(kinds) == 1 else None
    made: Initializer = same if isinstance(same, Constant) else Stacked(recipes)
    return Recipe(made, first.key, (len(recipes), *first.shape), first.dtype)


def layers_of(recipe: Recipe) -> list[Recipe]:
    """The recipes of the layers of one that `stacked` made.

    Raises:
        TypeError: another recipe.
    """
    made: Any = recipe.initializer
    if isinstance(made, Stacked):
        return [layer.with_dtype(recipe.dtype) for layer in made.recipes]
    if isinstance(made, Constant):
        return [recipe.with_shape(recipe.shape[1:])] * recipe.shape[0]
    raise TypeError(f"{made!r} is no initializer of stacked layers.")
