"""Who holds the value of a Parameter: its contents, and the few ways in which they change.

Glossary
    state       what programs take in and give out: a Parameter, a pool of them, an implicit value
    contents    what a state holds, in the single attribute `_contents`, so that a change is never
                half visible
    stage       what the contents are: see `Stage`
    domain      the states that are used together in one program; they share a lock
    busy        a domain whose arrays were handed to a program: see `transforms/handoff.py`
    escaped buffer   an array that a public call returned, and that somebody may hold

Allowed transitions: declared -> live (its recipe was run, or it was written), live -> live, live or
declared -> pooled (a pool gathered it), pooled -> live (it was written from outside, or the pool
was dissolved), live or pooled -> declared (`set_data` with an initializer), live -> lent -> live (a
program ran). All of them end in `commit`, which is one instruction: an exception, a signal or
another thread comes before it or after it.

Locks. Contents change, and are read, while the domain's lock is held. Whoever holds two locks took
that of a random generator first (`keep_apart`), then that of a network. A thread that holds a lock
runs no user code except signal handlers, which Python runs between two instructions: they find the
domain busy, read copies, and may not write.
"""

from __future__ import annotations

import enum
import itertools
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from paramesh.array_types import Array
from paramesh.errors import ParameterStateError
from paramesh.sampling.recipe import Recipe

#: One change: of which object, of which attribute, to what.
Change = tuple[object, str, object]
P = ParamSpec("P")
T = TypeVar("T")

#: So many names are in a message.
_SHOWN = 5
#: Seconds between two looks whether a waiting thread has come in, and how many looks at the most.
_NAP, _NAPS = 5e-5, 20


class InDomain(Protocol):
    """What belongs to a domain: a state."""

    _domain: Domain


class HasContents(InDomain, Protocol):
    """A state, as far as this module knows it."""

    _contents: Any

    @property
    def name(self) -> str:
        """For messages."""
        ...


class Stage(enum.Enum):
    """What the contents of a Parameter are.

    DECLARED: a Recipe, and no data. LIVE: an array. POOLED: None; the value is a part of the
    pool's array. LENT: an array that was given to a program which has not returned the new one yet.
    """

    DECLARED = "declared"
    LIVE = "live"
    POOLED = "pooled"
    LENT = "lent"


class Detached:
    """The contents of a pool with detached entries, which hold contents of their own.

    Args:
        base: the array that holds the other entries; None before there was one.
    """

    __slots__ = ("base",)

    def __init__(self, base: Array | None) -> None:
        self.base = base


#: Contents that programs cannot take in.
UNREADY = frozenset([type(None), Recipe, Detached])


class Domain:
    """The states that programs use together.

    Attributes:
        lock: held while contents change or are read.
        busy: held as well, by the thread that hands arrays over to a program.
        turns: two locks. The first is held for a whole step by programs that must not hold `lock`
            for so long, and, once there is such a program, by all others that write states of the
            domain; the second by the end of such a step, for which its caller may not wait.
        written_by: the version of a program that wrote contents last, of the kinds that it takes;
            None: something else did.
        lent: while the domain is busy, the states whose arrays are given to the program.
        escaped: states with an escaped buffer since their last step.
        resharding: held while arrays are resharded, which may wait for other processes; never
            inside `lock`, and readers do not take it.
        wanted: a thread waits for the lock. Locks are not fair: a loop of steps would make it
            wait for long.
        parent: the domain that this one was merged into.
        apart: it is never merged with those of networks.
    """

    __slots__ = (
        "__weakref__",
        "apart",
        "busy",
        "escaped",
        "lent",
        "lock",
        "parent",
        "resharding",
        "serial",
        "turns",
        "wanted",
        "written_by",
    )
    _serials = itertools.count()

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.busy = threading.Lock()
        self.resharding = threading.RLock()
        self.turns: tuple[Any, Any] | None = None
        self.written_by: object = None
        self.lent: Sequence[object] = ()
        self.escaped: weakref.WeakSet[Any] | None = None
        self.wanted = False
        self.parent: Domain | None = None
        self.apart = False
        self.serial = next(Domain._serials)

    def is_held_here(self) -> bool:
        """Whether this thread has the lock."""
        return self.lock._is_owned()  # pyright: ignore  # what threading.Condition asks its lock

    def give_way(self) -> None:
        """Let a waiting thread take the lock, if it does so soon."""
        for _ in range(_NAPS):
            time.sleep(_NAP)
            if not self.wanted:
                return
        self.wanted = False


# One call in C: there is no Python instruction between two changes, so no signal handler runs and
# no exception from another thread is raised there.
_exhaust = deque[Any](maxlen=0).extend


def commit(changes: Iterable[Change]) -> None:
    """Make all changes, or none if an exception comes before; the domain's lock is held."""
    _exhaust(itertools.starmap(setattr, changes))


def hand_in(states: Iterable[object], values: Iterable[object]) -> None:
    """Give each state its contents, from an iterator that may compute them at its first step.

    If `values` is an iterator in C over what a program in C gives, the program's start and the
    last change are one instruction.
    """
    _exhaust(map(setattr, states, itertools.repeat("_contents"), values))


def relocate(moved: Iterable[tuple[HasContents, object, object]]) -> None:
    """Give states the same values in other shardings; the domain's lock is held.

    Args:
        moved: (state, array, the same value elsewhere). A state that has been written in the
            meantime keeps what was written.
    """
    for state, before, after in moved:
        if state._contents is before:
            state._contents = after


def stage(state: HasContents) -> Stage:
    """The stage of a Parameter as it is now."""
    domain = domain_of(state)
    contents = state._contents
    if contents is None:
        return Stage.POOLED
    if isinstance(contents, Recipe):
        return Stage.DECLARED
    if domain.busy.locked() and any(one is state for one in domain.lent):
        return Stage.LENT
    return Stage.LIVE


def domain_of(state: InDomain) -> Domain:
    """The domain that a state belongs to now."""
    domain = state._domain
    while domain.parent is not None:
        domain = domain.parent
    state._domain = domain
    return domain


def inside(state: InDomain, action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`action(*args)` with the lock of the state's domain."""
    while True:
        domain = domain_of(state)
        domain.wanted = True
        with domain.lock:
            domain.wanted = False
            current = domain.parent is None
            # Not returned from here: CPython looks for signals after a call, and after the last
            # one in a `with` it has to find itself inside.
            result = action(*args, **kwargs) if current else None
        if current:
            return cast(T, result)


def still(states: Sequence[Any], take: Callable[[Any], T]) -> list[T]:
    """`take(state)` of each: no program that writes several of them runs in between.

    No program writes states of different domains, and what is not a state (a plain Tensor) does not
    change.
    """
    found: dict[int, T] = {}
    left = list(range(len(states)))
    while left:
        groups: dict[Any, list[int]] = {}
        for i in left:
            owned = hasattr(states[i], "_domain")
            groups.setdefault(domain_of(states[i]) if owned else None, []).append(i)
        left = []
        for domain, indices in groups.items():
            if domain is None:
                found |= {i: take(states[i]) for i in indices}
                continue
            domain.wanted = True
            with domain.lock:
                domain.wanted = False
                if domain.parent is None:
                    found |= {i: take(states[i]) for i in indices}
                else:
                    left += indices
    return [found[i] for i in range(len(states))]


def unite(states: Iterable[Any]) -> tuple[Domain, Domain]:
    """Merge the domains of the states into one, and those that are kept apart into another.

    Returns:
        (that of the states that are kept apart, that of the others), in locking order; a new one
        where there are no such states.
    """
    found = sorted({domain_of(state) for state in states}, key=lambda d: d.serial)
    apart = [domain for domain in found if domain.apart]
    others = [domain for domain in found if not domain.apart]
    return _united(apart), _united(others)


def _united(domains: list[Domain]) -> Domain:
    for other in domains[1:]:
        _merge(domains[0], other)
    top = domains[0] if domains else Domain()
    while top.parent is not None:
        top = top.parent
    return top


def _merge(one: Domain, other: Domain) -> None:
    while True:
        while one.parent is not None:
            one = one.parent
        while other.parent is not None:
            other = other.parent
        if one is other:
            return
        if one.serial > other.serial:
            one, other = other, one
        with one.lock, other.lock:  # the older one first: no deadlock of two threads that merge
            if one.parent is None and other.parent is None:
                one.written_by = None
                for state in other.escaped or ():
                    _escape(one, state)
                one.turns = one.turns or other.turns
                other.parent = one


def keep_apart(state: InDomain) -> None:
    """Give a state that programs of several networks use a domain of its own for good."""
    state._domain = Domain()
    state._domain.apart = True


def turns(domain: Domain) -> tuple[Any, Any]:
    """The domain's `turns`, made if there are none."""
    with domain.lock:
        if domain.turns is None:
            domain.turns = (threading.RLock(), threading.RLock())
        return domain.turns


# What is asked while the lock is held.


def check_free(state: HasContents) -> None:
    """Reject a change by a signal handler that interrupted a step.

    Raises:
        ParameterStateError: the state's array is about to be handed over, by this very thread.
    """
    domain = domain_of(state)
    if domain.busy.locked():
        raise ParameterStateError(
            f"'{state.name}' was written, or its network trained, by a signal handler that "
            "interrupted a step of the same network. Have the handler set a flag, and do it after "
            "the step. Reading and saving are allowed there."
        )
    domain.written_by = None


def out(state: HasContents, array: Array) -> Array:
    """An array that leaves for a reader: itself, or a copy if it is about to be handed over.

    Raises:
        ParameterStateError: see `check_held`.
    """
    check_held([state], array)
    return array.copy() if domain_of(state).busy.locked() else array


def check_held(states: Sequence[HasContents], *arrays: Array) -> None:
    """Check that nobody has deleted the arrays of these states.

    Raises:
        ParameterStateError: somebody has. JAX does so with what a function is given by
            `donate_argnums`, whoever else holds it.
    """
    gone = [s.name for s, a in zip(states, arrays, strict=True) if a.is_deleted()]
    if not gone:
        return
    names = ", ".join(f"'{name}'" for name in gone[:_SHOWN])
    more = f" and {len(gone) - _SHOWN} more" if len(gone) > _SHOWN else ""
    raise ParameterStateError(
        f"The data of {names}{more} was deleted: a function of jax.jit with donate_argnums or "
        "donate_argnames took it over, or somebody called delete() on it. Give such a function a "
        "copy, jnp.array(param, copy=True), and set the data anew (set_data, load_checkpoint)."
    )


def _escape(domain: Domain, state: object) -> None:
    if domain.escaped is None:
        domain.escaped = weakref.WeakSet()
    domain.escaped.add(state)


def escape(state: InDomain) -> None:
    """Record that the state's array leaves through a public call."""
    _escape(domain_of(state), state)


def has_escaped(state: InDomain) -> bool:
    """Whether the state has an escaped buffer."""
    escaped = domain_of(state).escaped
    return escaped is not None and state in escaped


def returned(state: InDomain) -> None:
    """Record that the state has an array that nobody else holds."""
    escaped = domain_of(state).escaped
    if escaped is not None:
        escaped.discard(state)
