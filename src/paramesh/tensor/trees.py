"""Nests: Tensors in tuples, lists, dicts and other pytrees, as raw arrays and back.

JAX's transforms work on raw arrays. `unpack` takes them out of a nest, and the `Nest` puts others
in their places. A place that held a Tensor or a Parameter gets a Tensor around the raw array, never
a Tensor around a Tensor.

Glossary
    static leaf   a leaf that is not an array (a string, None, a function): it stays in the Nest
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from paramesh.array_types import Tree
from paramesh.tensor.base import Tensor, as_value, raw, wrap
from paramesh.tensor.promotion import scalar_kind

_TENSOR, _ARRAY = "Tensor", "array"


class Nest:
    """How a nest was: its containers, and what was in the place of each array."""

    __slots__ = ("_kinds", "tree")

    def __init__(self, tree: Tree, kinds: list[Any]) -> None:
        self.tree = tree
        self._kinds = kinds  # _TENSOR, _ARRAY, or (a static leaf,)

    @property
    def static(self) -> list[Any]:
        """The static leaves."""
        return [kind[0] for kind in self._kinds if isinstance(kind, tuple)]

    def build(self, arrays: Sequence[Any]) -> Tree:
        """The nest with other raw arrays; Tensors where there were Tensors or Parameters."""
        rest = iter(arrays)
        filled = [
            kind[0]
            if isinstance(kind, tuple)
            else wrap(next(rest))
            if kind is _TENSOR
            else next(rest)
            for kind in self._kinds
        ]
        return jax.tree_util.tree_unflatten(self.tree, filled)

    def tensors(self, arrays: Sequence[Any]) -> Tree:
        """The nest with other raw arrays, all of them as Tensors."""
        rest = iter(arrays)
        filled = [k[0] if isinstance(k, tuple) else wrap(next(rest)) for k in self._kinds]
        return jax.tree_util.tree_unflatten(self.tree, filled)

    def place(self, arrays: Sequence[Any]) -> Tree:
        """The nest with anything in the places of its arrays, as it is."""
        rest = iter(arrays)
        filled = [k[0] if isinstance(k, tuple) else next(rest) for k in self._kinds]
        return jax.tree_util.tree_unflatten(self.tree, filled)

    def like(self, other: Nest) -> bool:
        """Whether another one has the same containers and the same static leaves."""
        return self.tree == other.tree and all(
            isinstance(a, tuple) == isinstance(b, tuple)
            and (not isinstance(a, tuple) or a[0] is b[0] or bool(a[0] == b[0]))
            for a, b in zip(self._kinds, other._kinds, strict=True)
        )

    def joined(self, other: Nest) -> Nest:
        """A Nest like both, with a Tensor wherever one of them has a Tensor."""
        pairs = zip(self._kinds, other._kinds, strict=True)
        return Nest(self.tree, [_TENSOR if _TENSOR in (a, b) else a for a, b in pairs])

    def __repr__(self) -> str:
        names = [repr(k[0]) if isinstance(k, tuple) else k for k in self._kinds]
        return str(jax.tree_util.tree_unflatten(self.tree, [_Name(name) for name in names]))


class _Name(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def is_tensor(value: object) -> bool:
    """Whether something is a Tensor or a Parameter."""
    return isinstance(value, Tensor)


def unpack(nest: Tree, numbers: str | None = None) -> tuple[list[Any], Nest]:
    """The raw arrays of a nest, and how to put others in their places.

    Args:
        nest: a Tensor, an array, or containers of them; anything else in it is a static leaf.
        numbers: python numbers are static leaves (None), are raw (`"raw"`), or are Tensors as
            `Tensor(number)` is (`"Tensor"`).
    """
    flat, tree = jax.tree_util.tree_flatten(nest, is_leaf=is_tensor)
    arrays: list[Any] = []
    kinds: list[Any] = []
    for leaf in flat:
        if isinstance(leaf, Tensor):
            kinds.append(_TENSOR)
            arrays.append(raw(leaf))
        elif isinstance(leaf, jax.Array):
            kinds.append(_ARRAY)
            arrays.append(leaf)
        elif isinstance(leaf, np.ndarray | np.generic):
            kinds.append(_TENSOR)
            arrays.append(as_value(np.asarray(leaf)))
        elif numbers is not None and scalar_kind(leaf) is not None:
            kinds.append(_ARRAY if numbers == "raw" else _TENSOR)
            arrays.append(leaf if numbers == "raw" else as_value(leaf))
        else:
            kinds.append((leaf,))
    return arrays, Nest(tree, kinds)


def values(nest: Tree) -> Tree:
    """The same nest with a Tensor of its present value in the place of each Parameter.

    JAX's tree functions tell a Parameter from a Tensor, as they tell a list from a tuple: where
    both meet in `jax.tree.map` or in optax, take the Parameters' values first.

    Args:
        nest: Parameters (and anything else) in containers: a list, a dict, `net.state_dict()`.
    """
    return jax.tree_util.tree_map(
        lambda leaf: leaf.value() if isinstance(leaf, Tensor) else leaf, nest, is_leaf=is_tensor
    )
