"""Pools: many small Parameters in one flat array, so that a program has few inputs and outputs.

A compiled call costs by the array that crosses its border, outputs above all: for networks of many
small Parameters more than the arithmetic. A pool is one array of which each of its members is a
part. It is invisible: a member reads, writes, saves and clones like any other Parameter.

Glossary
    member      a Parameter that has a slot in a pool
    stray       a member that has contents of its own, because it was written from outside or never
                was in the array; the next program that needs the pool takes it in
    plan        where the members lie; pools of one plan (a network's weights and their moments)
                can be computed with as wholes
    owner       the optimizer that asked for the pool, which asks again when it was dissolved
    dissolved   all members hold their values themselves again, for good or until the owner asks

A member without contents of its own is in the array; nothing else marks it. The pool's own contents
are its array, or `storage.Detached` while there are strays. It shares the domain of its members.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh._compat.jax import eval_context
from paramesh.dtype import DType, to_dtype
from paramesh.state import placement, storage, tracing

if TYPE_CHECKING:
    from paramesh.parameter.parameter import Parameter

#: Optimizers that have not yet been asked which pools they want, and those that have been.
waiting: weakref.WeakSet[Any] = weakref.WeakSet()
_asked: weakref.WeakSet[Any] = weakref.WeakSet()

#: What `Placement.division` was when optimizers were asked.
_division: list[Any] = [None]

#: So many written members are put into the array one by one; more are joined anew.
_FEW = 4


class Slot(NamedTuple):
    """Where a member lies."""

    pool: Pool
    at: int


class FlatLayout:
    """Where arrays lie in a flat one: in the order given, equal shapes next to each other.

    Args:
        shapes: the shape of each, equal ones adjacent.

    Attributes:
        starts: the first element of each.
        ranks: which of the equal ones each is.
        runs: the first element of the first of the equal ones.
        size: elements in all.
        most: the largest number of equal ones.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self.shapes = tuple(shapes)
        self.sizes = tuple(int(np.prod(shape)) for shape in shapes)
        self.starts = (0, *itertools.accumulate(self.sizes))[:-1]
        self.size = sum(self.sizes)
        self.ranks: list[int] = []
        self.runs: list[int] = []
        for i, shape in enumerate(self.shapes):
            again = i > 0 and shape == self.shapes[i - 1]
            self.ranks.append(self.ranks[-1] + 1 if again else 0)
            self.runs.append(self.runs[-1] if again else self.starts[i])
        self.most = max(self.ranks) + 1

    def join(self, arrays: Sequence[Any]) -> Any:
        """The flat array of the members' arrays; traceable."""
        return jnp.concatenate([jnp.ravel(array) for array in arrays])

    def part(self, flat: Any, i: int, ranks: Sequence[Any] | None = None) -> Any:
        """Member `i` of a flat array; traceable.

        Args:
            flat: the array of all.
            i: which member.
            ranks: the numbers 0, 1, … as values that the compiler does not know. With constant
                offsets XLA would compile one kernel for each member, with these, one for each
                shape.
        """
        start = self.starts[i]
        if ranks is not None:
            start = ranks[self.ranks[i]] * np.int32(self.sizes[i]) + np.int32(self.runs[i])
        return lax.dynamic_slice(flat, (start,), (self.sizes[i],)).reshape(self.shapes[i])


class Dissolved(Exception):
    """The pool was dissolved by another thread."""


def _is_in(param: Parameter, pool: Pool) -> bool:
    slot = param._slot
    return slot is not None and slot.pool is pool


class _Taken(NamedTuple):
    """Copies of parts of an array."""

    of: Any
    arrays: dict[int, Any]


#: No copies: of no array.
NOTHING_TAKEN = _Taken(lambda: None, {})


class Pool(tracing.Pooled):
    """One flat array that holds many Parameters; programs treat it as one Parameter.

    Args:
        name: for messages.
        plan: where the members lie.
        dtype: the element type of all.
        members: Parameters of these shapes, not in another pool.
        owner: see the glossary.
    """

    _slot = None
    is_init = False

    def __init__(
        self, name: str, plan: FlatLayout, dtype: DType, members: Sequence[Parameter], owner: Any
    ) -> None:
        self.name = name
        self.plan = plan
        self.dtype = dtype
        self.shape = (plan.size,)
        self.alive = True
        self._contents: Any = storage.Detached(None)
        self._recipe = None
        self._taken: _Taken = NOTHING_TAKEN
        self._members = [weakref.ref(param) for param in members]
        self._owner = weakref.ref(owner)
        self._domain = storage.Domain()
        storage.unite([self, *members])
        slots = [(param, "_slot", Slot(self, i)) for i, param in enumerate(members)]
        storage.inside(self, storage.commit, [*slots, tracing.moving()])

    @property
    def _value(self) -> Any:
        return None if isinstance(self._contents, storage.Detached) else self._contents

    def base(self) -> Any:
        """The array that members without contents of their own are in; None before there is one."""
        contents = self._contents
        return contents.base if isinstance(contents, storage.Detached) else contents

    def enter(self, placement: Any) -> None:
        """Called before a program of a placement uses a member: a flat array suits them all."""

    def members(self) -> list[tuple[int, Parameter]]:
        """(index, Parameter) of those that still exist; none once it was dissolved."""
        found = [(i, ref()) for i, ref in enumerate(self._members)]
        return [(i, param) for i, param in found if param is not None and _is_in(param, self)]

    def strays(self) -> list[tuple[int, Parameter]]:
        """(index, Parameter) of the members whose values are not in the array."""
        return [(i, param) for i, param in self.members() if param._contents is not None]

    def declared(self) -> list[Parameter]:
        """Members whose recipes are to be run before the pool is used."""
        return [param for _, param in self.strays()]

    def take(self, i: int) -> Any:
        """An array of its own with the value of a member that is in the array."""
        base = self.base()
        taken = self._taken
        if taken.of() is not base:
            taken = self._taken = _Taken(weakref.ref(base), {})
        array = taken.arrays.get(i)
        if array is None:
            with eval_context():
                array = taken.arrays[i] = self._part_of(base, i)
        return array

    def _part_of(self, base: Any, i: int) -> Any:
        start, size = self.plan.starts[i], self.plan.sizes[i]
        part = _on_host(base)[start : start + size]
        return _own_array(part.reshape(self.plan.shapes[i]))

    def view(self, i: int) -> np.ndarray[Any, Any] | None:
        """Member `i` as a read-only view of the array, to be let go before the next program runs.

        None where the member is not in the array, or the array is not its values side by side.
        """
        return storage.inside(self, self._view, i)

    def _view(self, i: int) -> np.ndarray[Any, Any] | None:
        base = self.base()
        if self._is_detached(i) or base is None:
            return None
        start = self.plan.starts[i]
        part = _on_host(base)[start : start + self.plan.sizes[i]]
        return part.reshape(self.plan.shapes[i])

    def _is_detached(self, i: int) -> bool:
        param = self._members[i]()
        return param is not None and param._contents is not None

    def straying(self) -> list[storage.Change]:
        """The pool's part of the change by which a member gets contents of its own."""
        if isinstance(self._contents, storage.Detached):
            return []
        return [(self, "_contents", storage.Detached(self._contents))]

    def accepts(self, i: int, value: Any) -> bool:
        """Whether a value, or a recipe, fits member `i`'s place."""
        if tuple(value.shape) != self.plan.shapes[i] or to_dtype(value.dtype) != self.dtype:
            return False
        return is_full(value)

    def _prepare(self, value: Any) -> None:
        """Nothing: an array of all members fits."""

    def _changes(self, value: Any) -> list[storage.Change]:
        """What a write changes; with the lock held."""
        return [(self, "_contents", value), *((p, "_contents", None) for _, p in self.strays())]

    def forget(self) -> None:
        """Let go of copies of parts of an array that there was before."""
        if self._taken is not NOTHING_TAKEN:
            self._taken = NOTHING_TAKEN

    def _concrete(self) -> Any:
        while True:
            value = storage.inside(self, self._own)
            if value is not None:
                return value
            for param in self.declared():
                param._concrete()

    def _own(self) -> Any:
        """The array; None if recipes have to be run first. With the lock held.

        Raises:
            Dissolved: there is none any more.
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
                flat = np.zeros(self.plan.size, self.dtype.np_dtype)
            else:
                flat = np.array(_on_host(base))
            strays = self.strays()
            for i, param in strays:
                start, size = self.plan.starts[i], self.plan.sizes[i]
                flat[start : start + size] = np.ravel(_on_host(param._contents))
            array = _own_array(flat)
        self._store_inside(array)

    def _store(self, value: Any) -> None:
        """Take over an array of all members, computed outside of every program."""
        storage.inside(self, self._store_inside, value)

    def _store_inside(self, value: Any) -> None:
        storage.check_free(self)
        strays = self.strays()
        storage.commit(self._changes(value))
        self.forget()
        for _, param in strays:
            storage.returned(param)

    def joined(self, base: Any, others: Mapping[int, Any]) -> Any:
        """The flat array `base` with other values for some members; traceable."""
        if len(others) <= _FEW:
            for i, value in others.items():
                base = lax.dynamic_update_slice(base, value.ravel(), (self.plan.starts[i],))
            return base
        return self.plan.join(
            [
                others[i] if i in others else self.plan.part(base, i)
                for i in range(len(self._members))
            ]
        )

    def dissolve(self, again: bool = True) -> None:
        """Give every member its value back.

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
        members = self.members()
        storage.commit(
            [
                *((p, "_contents", self.take(i)) for i, p in members if p._contents is None),
                *((param, "_slot", None) for _, param in members),
                (self, "_contents", storage.Detached(None)),
                (self, "alive", False),
                tracing.moving(),
            ]
        )
        self.forget()

    def _cache_key(self) -> Any:
        return self.alive


#: Held while pools are formed, and while Parameters are sorted into them for a program.
forming = threading.RLock()


def form_waiting() -> None:
    """Let optimizers that have not done so put their Parameters into pools.

    Where another placement divides optimizer state in another way, all of them are asked again.
    """
    with forming:
        division = placement.current().division
        if division != _division[0]:
            waiting.update(_now(_asked))
            _division[0] = division
        for owner in _now(waiting):
            if owner.is_made():
                owner.form_pools()
                _asked.add(owner)
                waiting.discard(owner)


def _now(owners: weakref.WeakSet[Any]) -> list[Any]:
    while True:
        try:
            return list(owners)
        except RuntimeError:  # another thread has made one meanwhile
            continue


def ranks_of(states: Sequence[Any], zero: Any) -> Any:
    """The numbers that `FlatLayout.part` takes for the pools among these states; traceable.

    Args:
        states: inputs of a program.
        zero: an Int32 that is 0 and an input of the program.

    Returns:
        A tuple of Int32, or None where constants are as good.
    """
    most = max((s.plan.most for s in states if isinstance(s, Pool)), default=0)
    if most < 2 or placement.current().platform != "cpu":
        return None
    # XLA folds what it can compute: constants behind a barrier and elements of an array come back
    # as constants. The results of a loop of which it does not know that it is never entered do not.
    numbers = tuple(np.int32(i) for i in range(most))
    return lax.while_loop(
        lambda carry: carry[0] < 0,
        lambda carry: (carry[0] + 1, *(i + carry[0] for i in carry[1:])),
        (zero, *numbers),
    )[1:]


def state_of(param: Any) -> Any:
    """What holds a Parameter's value: the Parameter, or the pool that it is in."""
    slot = param._slot
    return param if slot is None else slot.pool


def is_full(value: Any) -> bool:
    """Whether each of the devices that hold an array holds all of it."""
    sharding = getattr(value, "sharding", None)
    return sharding is None or sharding.is_fully_replicated


def _on_host(array: Any) -> np.ndarray[Any, Any]:
    # Through DLPack, because numpy's own way keeps the view in the array for as long as it lives,
    # and JAX copies an array that is donated while somebody views it.
    if len(array.sharding.device_set) > 1:
        array = array.addressable_data(0)
    try:
        return np.from_dlpack(array)
    except (BufferError, RuntimeError, TypeError):  # bfloat16, or memory of another device
        return np.asarray(array)


def _own_array(part: np.ndarray[Any, Any]) -> Any:
    return jnp.array(part, copy=True)
