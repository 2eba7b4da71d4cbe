"""Pools: many small Parameters in one flat array, so that a program has few inputs and outputs.

The cost of a compiled call grows with the number of its inputs and outputs, outputs above all: for
networks of many small Parameters it is more than the arithmetic. A pool is one array of which each
entry is a slice. It is invisible: an entry reads, writes, saves and clones like any other
Parameter.

Glossary
    entry       a Parameter that has a slot in a pool
    detached    of an entry: with contents of its own, because it was written from outside or never
                was in the array; the next program that needs the pool gathers it
    layout        where the members lie; pools of one layout (a network's weights and their moments)
                can be computed with as wholes
    owner       the optimizer that asked for the pool, which asks again when it was dissolved
    dissolved   all entries hold their own values again, for good or until the owner asks

An entry without contents of its own is in the array; nothing else marks it. The pool's own contents
are its array, or `storage.Detached` while entries are detached. It shares the domain of its
entries.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh._compat.jax import eval_context
from paramesh.array_types import Array, ArrayLike, HostArray
from paramesh.dtype import DType, to_dtype
from paramesh.sampling.recipe import Recipe
from paramesh.state import placement, storage, tracing
from paramesh.state.flat_layout import FlatLayout
from paramesh.state.protocols import State
from paramesh.state.purposes import ProgramPlacement
from paramesh.state.weak_members import members

#: Optimizers that have not yet been asked which pools they want, and those that have been.
waiting: weakref.WeakSet[Any] = weakref.WeakSet()
_asked: weakref.WeakSet[Any] = weakref.WeakSet()

#: What `Placement.division` was when optimizers were asked.
_division: list[Any] = [None]

#: Up to this many written entries are updated one by one; more are joined anew.
_FEW = 4


class PoolEntry(State, Protocol):
    """What a pool needs to know of a Parameter."""

    _slot: Slot | None  # pyright: ignore[reportIncompatibleMethodOverride]  # pools also set it


class PoolOwner(Protocol):
    """An optimizer that puts its Parameters into pools."""

    def form_pools(self) -> None:
        """Make the pools, if they are worth it."""
        ...


class Slot(NamedTuple):
    """The place of an entry in a pool."""

    pool: Pool
    at: int


class Dissolved(Exception):
    """Another thread has dissolved the pool."""


def _is_in(param: PoolEntry, pool: Pool) -> bool:
    slot = param._slot
    return slot is not None and slot.pool is pool


class _Taken(NamedTuple):
    """Copies of slices of an array."""

    of: Callable[[], Array | None]
    arrays: dict[int, Array]


#: No copies.
NOTHING_TAKEN = _Taken(lambda: None, {})


class Pool(tracing.Pooled):
    """One flat array that holds many Parameters; programs treat it as one Parameter.

    Args:
        name: for messages.
        layout: where the entries are.
        dtype: the element type of all.
        params: its entries, of these shapes, not in another pool.
        owner: see the glossary.
    """

    _slot = None
    is_init = False

    def __init__(
        self,
        name: str,
        layout: FlatLayout,
        dtype: DType,
        params: Sequence[PoolEntry],
        owner: PoolOwner,
    ) -> None:
        self.name = name
        self.layout = layout
        self.dtype = dtype
        self.shape = (layout.size,)
        self.alive = True
        self._contents: Any = storage.Detached(None)
        self._recipe = None
        self._taken: _Taken = NOTHING_TAKEN
        self._entries = [weakref.ref(param) for param in params]
        self._owner = weakref.ref(owner)
        self._domain = storage.Domain()
        storage.unite([self, *params])
        slots = [(param, "_slot", Slot(self, i)) for i, param in enumerate(params)]
        storage.inside(self, storage.commit, [*slots, tracing.version_bump()])

    @property
    def _value(self) -> Any:
        return None if isinstance(self._contents, storage.Detached) else self._contents

    def base(self) -> Any:
        """The array that holds the entries that are not detached; None before there is one."""
        contents = self._contents
        return contents.base if isinstance(contents, storage.Detached) else contents

    def movable(self) -> bool:
        """Whether the entries can be given values of their own here."""
        return True

    def enter(self, placement: ProgramPlacement) -> None:
        """Called before a program of a placement uses an entry: a flat array suits all of them."""

    def entries(self) -> list[tuple[int, Any]]:
        """(index, Parameter) of the entries that still exist; empty once it is dissolved."""
        found = [(i, ref()) for i, ref in enumerate(self._entries)]
        return [(i, param) for i, param in found if param is not None and _is_in(param, self)]

    def detached(self) -> list[tuple[int, Any]]:
        """(index, Parameter) of the detached entries."""
        return [(i, param) for i, param in self.entries() if param._contents is not None]

    def declared(self) -> list[Any]:
        """Entries whose recipes have to be run before the pool is used."""
        return [param for _, param in self.detached()]

    def take(self, i: int) -> Array:
        """A copy of the value of an entry that is not detached."""
        base = self.base()
        taken = self._taken
        if taken.of() is not base:
            taken = self._taken = _Taken(weakref.ref(base), {})
        array = taken.arrays.get(i)
        if array is None:
            with eval_context():
                array = taken.arrays[i] = self._member_of(base, i)
        return array

    def _member_of(self, base: Array, i: int) -> Array:
        start, size = self.layout.starts[i], self.layout.sizes[i]
        part = _on_host(base)[start : start + size]
        return _own_array(part.reshape(self.layout.shapes[i]))

    def view(self, i: int) -> HostArray | None:
        """Entry `i` as a read-only view of the array, to be released before the next program runs.

        None where the entry is detached, or the array does not hold the values one after another.
        """
        return storage.inside(self, self._view, i)

    def _view(self, i: int) -> HostArray | None:
        base = self.base()
        if self._is_detached(i) or base is None:
            return None
        start = self.layout.starts[i]
        part = _on_host(base)[start : start + self.layout.sizes[i]]
        return part.reshape(self.layout.shapes[i])

    def _is_detached(self, i: int) -> bool:
        param = self._entries[i]()
        return param is not None and param._contents is not None

    def detaching(self) -> list[storage.Change]:
        """The pool's part of the change by which an entry becomes detached."""
        if isinstance(self._contents, storage.Detached):
            return []
        return [(self, "_contents", storage.Detached(self._contents))]

    def accepts(self, i: int, value: Array | Recipe) -> bool:
        """Whether a value, or a recipe, fits the place of entry `i`."""
        if tuple(value.shape) != self.layout.shapes[i] or to_dtype(value.dtype) != self.dtype:
            return False
        return is_fully_replicated(value)

    def _prepare(self, value: Array) -> None:
        """Nothing: an array of all entries fits."""

    def _changes(self, value: Array) -> list[storage.Change]:
        """What a write changes; with the lock held."""
        return [(self, "_contents", value), *((p, "_contents", None) for _, p in self.detached())]

    def forget(self) -> None:
        """Release copies of slices of an earlier array."""
        if self._taken is not NOTHING_TAKEN:
            self._taken = NOTHING_TAKEN

    def _concrete(self) -> Array:
        while True:
            value = storage.inside(self, self._own)
            if value is not None:
                return value
            for param in self.declared():
                param._concrete()

    def _own(self) -> Any:
        """The array; None if recipes have to be run first. With the lock held.

        Raises:
            Dissolved: there is no array any more.
        """
        if not self.alive:
            raise Dissolved
        if isinstance(self._contents, storage.Detached):
            if any(param._recipe is not None for param in self.declared()):
                return None
            self._gather()
        return self._contents

    def _gather(self) -> None:
        base = self.base()
        with eval_context():
            if base is None:
                flat = np.zeros(self.layout.size, self.dtype.np_dtype)
            else:
                flat = np.array(_on_host(base))
            detached = self.detached()
            for i, param in detached:
                start, size = self.layout.starts[i], self.layout.sizes[i]
                storage.check_held([param], param._contents)
                flat[start : start + size] = np.ravel(_on_host(param._contents))
            array = _own_array(flat)
        self._store_inside(array)

    def _store(self, value: Array) -> None:
        """Store an array of all entries, computed outside of every program."""
        storage.inside(self, self._store_inside, value)

    def _store_inside(self, value: Array) -> None:
        storage.check_free(self)
        detached = self.detached()
        storage.commit(self._changes(value))
        self.forget()
        for _, param in detached:
            storage.returned(param)

    def joined(self, base: Array, others: Mapping[int, Array]) -> Array:
        """The flat array `base` with other values for some entries; traceable."""
        if len(others) <= _FEW:
            for i, value in others.items():
                base = lax.dynamic_update_slice(base, value.ravel(), (self.layout.starts[i],))
            return base
        return self.layout.join(
            [
                others[i] if i in others else self.layout.member(base, i)
                for i in range(len(self._entries))
            ]
        )

    def dissolve(self, again: bool = True) -> None:
        """Make every entry hold its own value again.

        Args:
            again: let the owner ask for pools again when the next program is traced.
        """
        storage.inside(self, self._dissolve)
        owner = self._owner()
        if again and owner is not None:
            waiting.add(owner)

    def _dissolve(self) -> None:
        if not self.alive:
            return
        storage.check_free(self)
        entries = self.entries()
        storage.commit(
            [
                *((p, "_contents", self.take(i)) for i, p in entries if p._contents is None),
                *((param, "_slot", None) for _, param in entries),
                (self, "_contents", storage.Detached(None)),
                (self, "alive", False),
                tracing.version_bump(),
            ]
        )
        self.forget()

    def _cache_key(self) -> bool:
        return self.alive


#: Held while pools are formed, and while Parameters are sorted into them for a program.
forming = threading.RLock()


def form_waiting() -> None:
    """Let optimizers that were not asked yet put their Parameters into pools.

    When another placement shards optimizer state in another way, all of them are asked again.
    """
    with forming:
        division = placement.current().division
        if division != _division[0]:
            waiting.update(members(_asked))
            _division[0] = division
        for owner in members(waiting):
            if owner.is_made():
                owner.form_pools()
                _asked.add(owner)
                waiting.discard(owner)


def ranks_of(states: Sequence[object], zero: ArrayLike) -> tuple[Array, ...] | None:
    """The ranks that `FlatLayout.member` takes, for the pools among these states; traceable.

    Args:
        states: inputs of a program.
        zero: an Int32 that is 0 and an input of the program.

    Returns:
        A tuple of Int32, or None where constants do as well.
    """
    most = max((s.layout.most for s in states if isinstance(s, Pool)), default=0)
    if most < 2 or placement.current().platform != "cpu":
        return None
    # XLA folds what it can compute: constants behind a barrier and elements of an array come back
    # as constants. The results of a loop of which it does not know that it is never entered do not.
    numbers = tuple(jnp.asarray(i, jnp.int32) for i in range(most))
    start: tuple[Array, ...] = (jnp.asarray(zero), *numbers)
    return lax.while_loop(
        lambda carry: carry[0] < 0,
        lambda carry: (carry[0] + 1, *(i + carry[0] for i in carry[1:])),
        start,
    )[1:]


def state_of(param: State) -> Any:
    """What holds a Parameter's value: the Parameter, or the pool that it is in."""
    slot = param._slot
    return param if slot is None else slot.pool


def is_fully_replicated(value: object) -> bool:
    """Whether every device that holds an array holds all of it."""
    sharding = getattr(value, "sharding", None)
    return sharding is None or sharding.is_fully_replicated


def _on_host(array: Array) -> HostArray:
    # Through DLPack: numpy's own conversion keeps the view in the array for as long as it lives,
    # and JAX copies a donated array while a view of it exists.
    if len(array.sharding.device_set) > 1:
        array = array.addressable_data(0)
    try:
        return np.from_dlpack(array)  # pyright: ignore[reportArgumentType]  # abstract in stubs
    except (BufferError, RuntimeError, TypeError):  # bfloat16, or memory of another device
        return np.asarray(array)


def _own_array(part: HostArray) -> Array:
    return jnp.array(part, copy=True)
