"""The value of a Parameter: where it is, how it is read, and how it is replaced.

Glossary
    declared    holds shape, dtype and a recipe, and no data (`has_init` is True)
    live        holds data; the recipe is gone. `storage.py` has the stages and their transitions
    slot        its place in a pool (see `pool.py`); a Parameter without contents of its own is in
                the pool's array

A Parameter made from an initializer is weightless in every mode until something needs its values:
the first read, `init_data()`, or never, when a checkpoint is loaded first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, Self

import jax

from paramesh._compat.jax import eval_context
from paramesh.array_types import Array
from paramesh.dtype import DType, DTypeLike, to_dtype
from paramesh.errors import ParameterShapeError
from paramesh.parameter.pool import Pool, Slot
from paramesh.sampling.recipe import Recipe
from paramesh.state import placement, storage, tracing
from paramesh.tensor.base import Tensor, TensorInput, as_value
from paramesh.tensor.promotion import cast


class ParameterValue(Tensor):
    """The part of a Parameter that holds its value; `Parameter` adds MindSpore's interface.

    Every read goes through `tracing.read`, and every write through `tracing.write`: in a trace they
    are answered by its frame, outside by `_concrete` and `_store`.
    """

    _domain: storage.Domain
    _name: str
    _slot: Slot | None = None

    # What it is.

    @property
    def name(self) -> str:
        """The full name."""
        return self._name

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        return tuple(self._about().shape)

    @property
    def dtype(self) -> DType:
        """The element type."""
        return to_dtype(self._about().dtype)

    def _about(self) -> HasShapeAndType:
        while True:
            contents, slot = self._contents, self._slot
            if contents is not None:
                return contents
            if slot is not None:  # otherwise its pool was dissolved in between
                return _About(slot.pool.layout.shapes[slot.at], slot.pool.dtype)

    # Reading.

    def _get(self) -> Array:
        return tracing.read(self)

    def _concrete(self) -> Array:
        while True:
            value = storage.inside(self, self._own)
            if value is not None:
                return value
            materialise([self])

    def _own(self) -> Array | None:
        """The value, None while there is a recipe; with the lock held."""
        contents = self._contents
        if contents is None:
            slot = self._slot
            assert slot is not None, "a Parameter without contents is in a pool"
            return slot.pool.take(slot.at)
        return None if isinstance(contents, Recipe) else storage.out(self, contents)

    def _materialise(self, recipe: Recipe) -> Array:
        return self._concrete()

    # An array that leaves must outlive the next step, which may donate it.

    def _escaping_value(self) -> Array:
        if tracing.current() is not None or tracing.is_pending(self):
            return self._get()
        self._concrete()  # it is materialised first
        return storage.inside(self, self._escape)

    def _escape(self) -> Array:
        if self._contents is not None:  # otherwise a copy of the pool's slice leaves
            storage.escape(self)
        value = self._own()
        return self._concrete() if value is None else value

    # Writing.

    def _put(self, value: Array) -> None:
        self.assign(value)

    def _store(self, value: Array) -> None:
        storage.inside(self, self._replace, value)

    def _declare(self, recipe: Recipe) -> None:
        """Become declared again."""
        storage.inside(self, self._replace, recipe)

    def _replace(self, contents: Array | Recipe) -> None:
        storage.check_free(self)
        self._prepare(contents)
        storage.commit(self._changes(contents))

    def _prepare(self, contents: Array | Recipe) -> None:
        """Dissolve a pool that these contents do not fit."""
        slot = self._slot
        if slot is not None and not slot.pool.accepts(slot.at, contents):
            slot.pool.dissolve()

    def _changes(self, contents: Array | Recipe) -> list[storage.Change]:
        """What a write changes; with the lock held."""
        changes: list[storage.Change] = []
        declared = isinstance(self._contents, Recipe) or isinstance(contents, Recipe)
        kind = (tuple(contents.shape), to_dtype(contents.dtype))
        if declared or kind != (self.shape, self.dtype):
            changes.append(tracing.version_bump())
        if self._slot is not None:
            changes += self._slot.pool.detaching()
        changes.append((self, "_contents", contents))
        return changes

    def _materialised(self, recipe: Recipe, array: Array) -> None:
        """The recipe was run; with the lock held."""
        if self._contents is recipe:  # otherwise another thread was faster, or wrote something else
            storage.commit([(self, "_contents", array)])

    def assign(self, value: TensorInput) -> Self:
        """Write a new value of the same shape, here or in the running program; returns self.

        The value is cast to the Parameter's element type without the checks of `set_data`; this is
        the call for moving averages and optimizer state, and needs no copy.

        Raises:
            ParameterShapeError: the value has another shape.
        """
        if isinstance(value, Tensor):
            value = value._get()
        if not isinstance(value, jax.Array):
            value = as_value(value)
        if tuple(value.shape) != self.shape:
            raise ParameterShapeError(
                f"Parameter '{self._name}' has shape {self.shape}, "
                f"cannot be assigned a value of shape {tuple(value.shape)}."
            )
        tracing.write(self, cast(value, self.dtype))
        return self


class HasShapeAndType(Protocol):
    """An array or a recipe."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        ...

    @property
    def dtype(self) -> DTypeLike:
        """The element type."""
        ...


class _About(NamedTuple):
    shape: tuple[int, ...]
    dtype: DType


def materialise(states: Iterable[ParameterValue | Pool]) -> None:
    """Run the recipes of those that are still declared, all kinds and shapes together."""
    params: list[Any] = []
    for state in states:
        params += state.declared() if isinstance(state, Pool) else [state]
    waiting = [(p, recipe) for p in params if (recipe := p._recipe) is not None]
    if not waiting:
        return
    with eval_context():
        arrays = placement.current().materialise(
            [p for p, _ in waiting], [recipe for _, recipe in waiting]
        )
    _wait_for_large([p for p, _ in waiting], arrays)
    for (param, recipe), array in zip(waiting, arrays, strict=True):
        storage.inside(param, param._materialised, recipe, array)


#: From so many bytes on, values are waited for: a device without the memory says so late.
_LARGE = 2**28


def _wait_for_large(params: list[Any], arrays: list[Any]) -> None:
    """Wait for many bytes, so that recipes are kept where there is no memory for their values."""
    if sum(param.nbytes for param in params) < _LARGE:
        return
    try:
        jax.block_until_ready(arrays)
    except RuntimeError as error:
        largest = max(params, key=lambda param: param.nbytes)
        error.add_note(
            f"The first values of {len(params)} Parameters need {sum(p.nbytes for p in params):,} "
            f"bytes; the largest is '{largest.name}' {largest.dtype}{list(largest.shape)} with "
            f"{largest.nbytes:,}. They have no values yet. Make them smaller, or shard them "
            "(`to_device`, `layout`) before their first use."
        )
        raise
