"""What this package and the frames of a trace need to know of a Parameter, a pool and a Cell.

They are defined above, in `parameter/` and `nn/`, and meet these protocols.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax

from paramesh.dtype import DType
from paramesh.sampling.recipe import Recipe
from paramesh.state.flat_layout import FlatLayout
from paramesh.state.storage import Change, HasContents


class State(HasContents, Protocol):
    """What programs take in and give out: a Parameter, a pool of them, or an implicit value."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        ...

    @property
    def dtype(self) -> DType:
        """The element type."""
        ...

    @property
    def _slot(self) -> SlotLike | None: ...
    @property
    def _recipe(self) -> Recipe | None: ...
    def _cache_key(self) -> Hashable: ...
    def _concrete(self) -> jax.Array: ...
    def _store(self, value: jax.Array) -> None: ...


class WritableState(State, Protocol):
    """A state that can be written together with others, as one change."""

    def _prepare(self, value: jax.Array) -> None: ...
    def _changes(self, value: jax.Array) -> list[Change]: ...


class Pooled:
    """What frames need to know of a pool: the base of `parameter.pool.Pool`."""

    name: str
    layout: FlatLayout

    def entries(self) -> Sequence[tuple[int, Any]]:
        """(index, Parameter) of its entries."""
        raise NotImplementedError

    def joined(self, base: jax.Array, others: Mapping[int, jax.Array]) -> jax.Array:
        """The array `base` with other values for some entries."""
        raise NotImplementedError

    def accepts(self, i: int, value: jax.Array | Recipe) -> bool:
        """Whether a value can be that of entry `i`."""
        raise NotImplementedError


class SlotLike(Protocol):
    """The place of a Parameter in a pool; see `parameter.pool.Slot`."""

    @property
    def pool(self) -> Any:
        """The pool."""
        ...

    @property
    def at(self) -> int:
        """The index of the entry."""
        ...


class VisitedCell(Protocol):
    """What a frame needs to know of a Cell: all of it that is static in a trace."""

    def _cache_key(self) -> Hashable: ...
    def _inside(self) -> Iterable[VisitedCell]: ...
