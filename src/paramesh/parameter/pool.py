"""Pools: many small Parameters in one flat array, so that a program has few inputs and outputs.

A compiled call costs by the array that crosses its border, outputs above all: for networks of many
small Parameters more than the arithmetic. A pool is one array of which each of its members is a
part. It is invisible: a member reads, writes, saves and clones like any other Parameter.

Glossary
    member      a Parameter that has a slot in a pool
    stray       a member that holds a value (or a recipe) of its own, because it was written from
                outside or never was in the array; the next program that needs the pool takes it in
    plan        where the members lie; pools of one plan (a network's weights and their moments)
                can be computed with as wholes
    owner       the optimizer that asked for the pool, which asks again when it was dissolved
    dissolved   all members hold their values themselves again, for good or until the owner asks

A member without value and recipe of its own is in the array; nothing else marks it.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax import lax

from paramesh import placement, tracing
from paramesh.dtype import DType

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


class Plan:
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
        self, name: str, plan: Plan, dtype: DType, members: Sequence[Parameter], owner: Any
    ) -> None:
        self.name = name
        self.plan = plan
        self.dtype = dtype
        self.shape = (plan.size,)
        self.alive = True
        # None while there are strays, so that programs, which look at `_value` alone, notice.
        self._value: Any = None
        self._recipe = None
        self._before: Any = None
        self._strays = set(range(len(members)))
        self._taken: dict[int, Any] = {}
        self._members = [weakref.ref(param) for param in members]
        self._owner = weakref.ref(owner)
        for i, param in enumerate(members):
            param._slot = Slot(self, i)
        tracing.moved()

    def enter(self, placement: Any) -> None:
        """Called before a program of a placement uses a member: a flat array suits them all."""

    def members(self) -> list[tuple[int, Parameter]]:
        """(index, Parameter) of those that still exist."""
        found = [(i, ref()) for i, ref in enumerate(self._members)]
        return [(i, param) for i, param in found if param is not None]

    def strays(self) -> list[Parameter]:
        """Members whose values are not in the array."""
        found = [self._members[i]() for i in sorted(self._strays)]
        return [param for param in found if param is not None]

    def declared(self) -> list[Parameter]:
        """Members whose recipes are to be run before the pool is used."""
        return self.strays()

    def take(self, i: int) -> Any:
        """An array of its own with the value of a member that is in the array."""
        array = self._taken.get(i)
        if array is None:
            start, size = self.plan.starts[i], self.plan.sizes[i]
            with jax.core.eval_context():
                whole = self._value if self._value is not None else self._before
                part = _on_host(whole)[start : start + size]
                array = self._taken[i] = _own_array(part.reshape(self.plan.shapes[i]))
        return array

    def view(self, i: int) -> np.ndarray[Any, Any] | None:
        """Member `i` as a read-only view of the array, to be let go before the next program runs.

        None where the member is not in the array, or the array is not its values side by side.
        """
        whole = self._value if self._value is not None else self._before
        if i in self._strays or whole is None:
            return None
        start = self.plan.starts[i]
        part = _on_host(whole)[start : start + self.plan.sizes[i]]
        return part.reshape(self.plan.shapes[i])

    def stray(self, i: int) -> None:
        """Member `i` holds its value itself from now on."""
        self._strays.add(i)
        self._taken.pop(i, None)
        if self._value is not None:
            self._value, self._before = None, self._value

    def accepts(self, i: int, value: Any) -> bool:
        """Whether the value fits member `i`'s place."""
        if value.shape != self.plan.shapes[i] or value.dtype != self.dtype.np_dtype:
            return False
        return lies_whole(value)

    def stepped(self) -> None:
        """A program has replaced the array; what strays were is gone with the one before."""
        self._taken.clear()
        if self._strays:
            for param in self.strays():
                param._value = param._recipe = None
            self._strays.clear()
            self._before = None

    def _concrete(self) -> Any:
        if self._value is None:
            self._gather()
        return self._value

    def _gather(self) -> None:
        strays = [(i, self._members[i]()) for i in sorted(self._strays)]
        with jax.core.eval_context():
            if self._before is None:
                flat = np.zeros(self.plan.size, self.dtype.np_dtype)
            else:
                flat = np.array(_on_host(self._before))
            for i, param in strays:
                if param is not None:
                    start, size = self.plan.starts[i], self.plan.sizes[i]
                    flat[start : start + size] = np.ravel(_on_host(param._concrete()))
            self._value = _own_array(flat)
        self._before = None
        self._strays.clear()
        for _, param in strays:
            if param is not None:
                param._value = param._recipe = None
                tracing.lent.discard(param)

    def _store(self, value: Any) -> None:
        """Take over an array of all members, computed outside of every program."""
        self._value = value
        self.stepped()

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
        if not self.alive:
            return
        for i, param in self.members():
            if i not in self._strays:
                param._value = self.take(i)
            param._slot = None
        self.alive = False
        self._value = self._before = None
        self._taken.clear()
        owner = self._owner()
        if again and owner is not None:
            waiting.add(owner)
        tracing.moved()

    def _token(self) -> Any:
        return self.alive


def form_waiting() -> None:
    """Let optimizers that have not done so put their Parameters into pools.

    Where another placement divides optimizer state in another way, all of them are asked again.
    """
    division = placement.current().division
    if division != _division[0]:
        _division[0] = division
        waiting.update(_asked)
    while waiting:
        try:
            owner = waiting.pop()
        except KeyError:  # it was collected in between
            return
        owner.form_pools()
        _asked.add(owner)


def ranks_of(states: Sequence[Any], zero: Any) -> Any:
    """The numbers that `Plan.part` takes for the pools among these states; traceable.

    Args:
        states: inputs of a program.
        zero: an Int32 that is 0 and an input of the program.

    Returns:
        A tuple of Int32, or None where constants are as good.
    """
    most = max((s.plan.most for s in states if isinstance(s, Pool)), default=0)
    if most < 2 or jax.default_backend() != "cpu":
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


def lies_whole(value: Any) -> bool:
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
