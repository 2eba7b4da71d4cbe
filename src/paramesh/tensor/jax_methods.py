"""Methods of Tensor under the names that JAX's arrays have for them, as a mixin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import jax
import jax.core
import jax.numpy as jnp

from paramesh.dtype import x64
from paramesh.providers import providers

_UPDATES = (
    "set",
    "add",
    "subtract",
    "multiply",
    "divide",
    "power",
    "min",
    "max",
    "apply",
    "get",
)


class At:
    """`tensor.at`: `tensor.at[index].set(value)` gives another Tensor, as of JAX's arrays."""

    def __init__(self, tensor: Any) -> None:
        self._tensor = tensor

    def __getitem__(self, index: object) -> Any:
        return _Place(self._tensor, index)


class _Place:
    """The elements at an index, to be given other values."""

    def __init__(self, tensor: Any, index: object) -> None:
        self._tensor, self._index = tensor, index

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _UPDATES:
            raise AttributeError(
                f"tensor.at[…] has no '{name}'; it has {', '.join(_UPDATES)}.", name=name
            )
        return lambda *values, **options: self._updated(name, values, options)

    def _updated(self, name: str, values: tuple[Any, ...], options: dict[str, Any]) -> Any:
        value = self._tensor._get()
        index = jax.tree.map(_raw, self._index, is_leaf=lambda leaf: hasattr(leaf, "_get"))
        with x64(value):
            place = jnp.asarray(value).at[index]
            return self._tensor._wrap(getattr(place, name)(*map(_raw, values), **options))


def _raw(value: Any) -> Any:
    return value._get() if hasattr(value, "_get") else value


class JaxMethods:
    """Methods under the names that JAX's arrays have for them."""

    __slots__ = ()

    @property
    def at(self) -> At:
        """`t.at[index].set(value)`, `.add`, `.multiply`, `.min`, …: a Tensor with other elements.

        As of `jax.Array`, with its `mode` and `unique_indices`; the Tensor itself stays as it is.
        """
        return At(self)

    @property
    def sharding(self) -> Any:
        """The `jax.sharding.Sharding` of the array.

        Of a Parameter that has no data yet it is what its `layout` says, None without one. Of a
        Parameter it can be set, to a device, a Sharding, a PartitionSpec (of the mesh of
        `jax.set_mesh`), a `parallel.Layout` or a tuple of ints: in the parallel modes this is the
        Parameter's `layout`, without one it moves there at once.
        """
        return providers.sharding_of(self)

    def devices(self) -> set[Any]:
        """The devices that hold the array; none if it has no data yet."""
        found = self.sharding
        return set() if found is None else set(found.device_set)

    def block_until_ready(self) -> Self:
        """Wait until the array is computed; returns self."""
        value: Any = self._get()  # type: ignore[attr-defined]
        if not isinstance(value, jax.core.Tracer):
            jax.block_until_ready(value)
        return self
