"""Which Parameters a function reads and writes while it is traced.

Glossary
    frame       the values that Parameters have for one running trace, on one thread: an overlay
                over the Parameters themselves, so an exception in the middle or a second thread
                leaves every Parameter as it was
    program     the outermost frame: a function that is being compiled. It knows which Parameters
                are its inputs; a read of another one is answered by a stand-in of the same shape
                and noted in `missing`, and the function is traced again with that one as an input
    overlay     an inner frame: a transform (grad, remat, …) that gives some Parameters other
                values; what is written inside is handed out as an extra output
    epoch       a number that moves whenever anything changes that compiled programs depend on
    guard       what one program depended on: it is still right if the guard still holds
    journal     what was written outside of programs in a call whose writes come all together, or
                not at all (`together`)

A frame refers to Parameters by what every floor above may rely on: `_concrete()` and `_store()`
(the value outside of every frame, see `storage.py`) and `_cache_key()` (all of
it that is static in a trace).
"""

from __future__ import annotations

import functools
import itertools
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol, TypeVar

import jax
import jax.core
import jax.numpy as jnp

from paramesh._compat.jax import get_opaque_trace_state
from paramesh.dtype import x64
from paramesh.errors import TraceError
from paramesh.state import storage, trace_scope

T = TypeVar("T")


class State(Protocol):
    """What a frame needs to know of a Parameter."""

    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        ...

    @property
    def dtype(self) -> Any:
        """The element type."""
        ...

    def _cache_key(self) -> Any: ...
    def _concrete(self) -> Any: ...


class Visited(Protocol):
    """What a frame needs to know of a Cell: all of it that is static in a trace."""

    def _cache_key(self) -> Any: ...
    def _inside(self) -> Iterable[Visited]: ...


class Pooled:
    """What frames need to know of a pool: the base of `parameter.pool.Pool`."""

    name: str
    layout: Any

    def entries(self) -> list[tuple[int, Any]]:
        """(index, Parameter) of its members."""
        raise NotImplementedError

    def joined(self, base: Any, others: Mapping[int, Any]) -> Any:
        """The array `base` with other values for some members."""
        raise NotImplementedError

    def accepts(self, i: int, value: Any) -> bool:
        """Whether a value can be that of member `i`."""
        raise NotImplementedError


class Frame:
    """Values of Parameters for one trace, and what the trace did to them."""

    def __init__(self, values: Mapping[Any, Any], parent: Frame | None) -> None:
        self.values: dict[Any, Any] = dict(values)
        self.written: dict[Any, None] = {}
        self.parent = parent
        self._trace: Any = get_opaque_trace_state()
        self._parts: dict[Any, dict[int, Any]] = {}

    def get(self, state: Any) -> Any:
        """The value of a Parameter, or of a pool, as this frame sees it."""
        value = self.values.get(state)
        if isinstance(state, Pooled):
            return self._whole(state)
        if value is not None:
            return value
        slot = state._slot
        if slot is not None and slot.pool in self.values:
            return self._part(slot)
        return self._elsewhere(state)

    def _elsewhere(self, state: Any) -> Any:
        return _outside(state, self) if self.parent is None else self.parent.get(state)

    def _base(self, pool: Any) -> Any:
        value = self.values.get(pool)
        return self._elsewhere(pool) if value is None else value

    def _whole(self, pool: Any) -> Any:
        loose = {i: self.values[p] for i, p in pool.entries() if p in self.values}
        if not loose:
            return self._base(pool)
        if len(loose) == len(pool.layout.shapes):
            return pool.layout.join(list(loose.values()))
        return pool.joined(self._base(pool), loose)

    def _part(self, slot: Any) -> Any:
        parts = self._parts.setdefault(slot.pool, {})
        value = parts.get(slot.at)
        if value is None:
            value = slot.pool.layout.part(self.values[slot.pool], slot.at, self.ranks())
            if get_opaque_trace_state() == self._trace:
                # Otherwise it belongs to an inner trace, of scan or remat.
                parts[slot.at] = value
        return value

    def ranks(self) -> Any:
        """Small numbers that the compiler does not know (see `FlatLayout.part`), or None."""
        return None if self.parent is None else self.parent.ranks()

    def put(self, state: Any, value: Any) -> None:
        """Give a Parameter, or all members of a pool, another value for this frame."""
        if get_opaque_trace_state() != self._trace:
            raise TraceError(_LEAK.format(name=state.name))
        if isinstance(state, Pooled):
            self._parts.pop(state, None)
            for _, member in state.entries():
                self.values.pop(member, None)
                self.written.pop(member, None)
            self.written.pop(state, None)  # it comes after what was written before it
        self.values[state] = value
        self.written[state] = None

    def restore(self, state: Any, value: Any, written: bool) -> None:
        """Undo a write to a Parameter.

        Args:
            state: the Parameter.
            value: the one that this frame had for it before; None if it had none.
            written: whether it was written before as well.
        """
        self.values.pop(state, None)
        if value is not None:
            self.values[state] = value
        if not written:
            self.written.pop(state, None)

    def visit(self, cell: Visited) -> None:
        """Note that the program went through a Cell."""
        if self.parent is not None:
            self.parent.visit(cell)


class Reading(Frame):
    """Notes which Parameters are read in it.

    Attributes:
        read: the Parameters and pools.
    """

    def __init__(self, parent: Frame | None) -> None:
        super().__init__({}, parent)
        self.read: dict[Any, None] = {}

    def get(self, state: Any) -> Any:
        """The value, as without this frame."""
        if state not in self.values:
            self.read[state] = None
        return super().get(state)


class Program(Frame):
    """The outermost frame of a compiled function; its values are the compiled inputs.

    Args:
        inputs: Parameters that are in no pool, and pools.
        ranks: see `FlatLayout.part`.

    Attributes:
        read: inputs whose values at the start are needed.
        missing: what is no input and was read.
        cells: Cells that the program went through or could look at.
        met: Parameters that it read or wrote, in pools or not.
        unfit: pools of which a member became something that does not fit its place.
        made: those of `cells` that the function itself makes: they are gone when it has run.
    """

    def __init__(self, inputs: Mapping[Any, Any], ranks: Any = None) -> None:
        super().__init__(inputs, None)
        self.read: dict[Any, None] = {}
        self.missing: dict[Any, None] = {}
        self.cells: dict[Any, None] = {}
        self.met: dict[Any, None] = {}
        self.unfit: dict[Any, None] = {}
        self.created: dict[Any, None] = {}
        self._ranks = ranks

    def get(self, state: Any) -> Any:
        """The input or the written value; a stand-in for a Parameter that is no input yet."""
        if isinstance(state, Pooled):
            return self._whole(state)
        self.met[state] = None
        if state in self.values:
            if state not in self.written:
                self.read[state] = None
            return self.values[state]
        slot = state._slot
        if slot is not None and slot.pool in self.values:
            if slot.pool not in self.written:
                self.read[slot.pool] = None
            return self._part(slot)
        return self._elsewhere(state)

    def _elsewhere(self, state: Any) -> Any:
        trace_scope.refuse_created(state, "", self.cells)
        slot = state._slot
        self.missing[state if slot is None else slot.pool] = None
        with x64(state.dtype):
            # Not kept: inside scan or remat it belongs to that inner trace.
            return jnp.zeros(state.shape, state.dtype.np_dtype)

    def _base(self, pool: Any) -> Any:
        if pool in self.values and pool not in self.written:
            self.read[pool] = None
        return super()._base(pool)

    def put(self, state: Any, value: Any) -> None:
        """Give a Parameter, or all members of a pool, another value."""
        if isinstance(state, Pooled):
            super().put(state, value)
            return
        trace_scope.refuse_created(state, "", self.cells)
        super().put(state, value)
        self.met[state] = None
        slot = state._slot
        if slot is not None:
            if slot.pool not in self.values:
                self.missing[slot.pool] = None
            elif not slot.pool.accepts(slot.at, value):
                self.unfit[slot.pool] = None

    def ranks(self) -> Any:
        """Small numbers that the compiler does not know, as the program got them."""
        return self._ranks

    def results(self) -> list[tuple[Any, Any]]:
        """(Parameter in no pool, or pool, its value at the end) of all that was written."""
        states: dict[Any, None] = {}
        for state in self.written:
            slot = state._slot
            states[state if slot is None else slot.pool] = None
        return [(state, self.get(state)) for state in states]

    def forget(self) -> None:
        """Drop the traced values."""
        self.values.clear()
        self._parts.clear()
        self._trace = None

    def visit(self, cell: Visited) -> None:
        """Note that the program went through a Cell, and may have looked at all inside it.

        A list of Cells is never called, and neither is one whose attributes or other methods are
        used: what they are is as much a part of the program.
        """
        if cell not in self.cells:
            self.cells[cell] = None
            scope = trace_scope.current()
            if scope is not None and scope.has_created(cell):
                self.created[cell] = None
            for inner in cell._inside():
                self.visit(inner)


_LEAK = (
    "Parameter '{name}' was written inside a JAX transform (vmap, scan, grad, jit, …) that "
    "paramesh does not see, so the value would be lost when the transform ends. Use paramesh's "
    "own jit, grad, scan or remat, which hand written Parameters out, or make the "
    "function pure with paramesh.functional_call(net, values, x, mutable=True)."
)


class _Thread(threading.local):
    frame: Frame | None = None
    journal: Frame | None = None


#: What this thread is in. The calls that users make put `frame` back when they end, without calling
#: anything, whatever exception comes where.
thread = _Thread()


class _VersionCounter:
    number = 0


_version_counter = _VersionCounter()
# Each number once, whichever thread asks: two that move at once must not make one move of it.
_numbers = itertools.count(1)

nothing = nullcontext()


def public_call(call: Callable[..., T]) -> Callable[..., T]:
    """A call that users make, and after which this thread is where it was before.

    Context managers written in Python do not see to it: an exception from outside (a signal
    handler's, say) may come when one of them is about to be left, and what traces had set up would
    stay. Here nothing is called on the way out.
    """

    @functools.wraps(call)
    def entered(*args: Any, **kwargs: Any) -> T:
        frame, journal, scope = thread.frame, thread.journal, trace_scope.thread.scope
        try:
            return call(*args, **kwargs)
        finally:
            thread.frame, thread.journal, trace_scope.thread.scope = frame, journal, scope

    return entered


def current() -> Frame | None:
    """The innermost frame of this thread, None outside every program and transform."""
    return thread.frame


def read(param: Any) -> Any:
    """The value of a Parameter, or of a pool, as the running trace sees it."""
    frame = thread.frame
    return _outside(param) if frame is None else frame.get(param)


def _outside(state: Any, asking: Frame | None = None) -> Any:
    journal = thread.journal
    if journal is None or journal is asking:
        return state._concrete()
    return journal.get(state)


def write(param: Any, value: Any) -> None:
    """Give a Parameter, or all members of a pool, another value, in the running trace or for good.

    Raises:
        TraceError: the value belongs to a JAX trace that paramesh does not see.
    """
    frame = thread.frame
    if frame is not None:
        frame.put(param, value)
    elif isinstance(value, jax.core.Tracer):
        raise TraceError(_LEAK.format(name=param.name))
    else:
        write_outside(param, value)


def write_outside(state: Any, value: Any) -> None:
    """Give a Parameter, or all members of a pool, another value, as outside of every frame."""
    journal = thread.journal
    # Two threads must not draw the same random numbers: a generator moves at once.
    if journal is None or storage.domain_of(state).alone:
        state._store(value)
    else:
        journal.put(state, value)


def is_pending(state: Any) -> bool:
    """Whether a value was written that has not come into its place yet (see `together`)."""
    journal = thread.journal
    return journal is not None and state in journal.values


def together(call: Callable[[], Any]) -> Any:
    """`call()`; what it writes outside of programs comes into its place when it has ended.

    All of it in one instruction, or nothing if it raises.
    """
    if thread.frame is not None or thread.journal is not None:
        return call()
    journal = Frame({}, None)
    try:
        thread.journal = journal
        out = call()
        flush()
    finally:
        thread.journal = None
    return out


def flush() -> None:
    """Put what is held back into its place: a compiled program is about to read it."""
    journal = thread.journal
    if journal is None or not journal.written:
        return
    writes = [(state, journal.values[state]) for state in journal.written]
    storage.unite([state for state, _ in writes])
    for state, value in writes:
        state._prepare(value)
    storage.inside(writes[0][0], _write_all, writes)
    thread.journal = Frame({}, None)


def _write_all(writes: list[tuple[Any, Any]]) -> None:
    changes: list[storage.Change] = []
    pools: dict[Any, Any] = {}
    for state, value in writes:
        storage.check_free(state)
        changes += state._changes(value)
        if isinstance(state, Pooled):
            pools[state] = value
        elif state._slot is not None and state._slot.pool in pools:
            # The change of a member speaks of the array that the pool has now.
            pool = state._slot.pool
            changes.insert(-1, (pool, "_contents", storage.Detached(pools[pool])))
    storage.commit(changes)


def version() -> int:
    """Moves with every change of structure, train flags, requires_grad, shapes or dtypes."""
    return _version_counter.number


def bump_version() -> None:
    """Something changed that compiled programs may depend on."""
    _version_counter.number = next(_numbers)


def version_bump() -> storage.Change:
    """The same, as a part of a change: a program must not see the one without the other."""
    return _version_counter, "number", next(_numbers)


@contextmanager
def entered(frame: Frame) -> Generator[Frame]:
    """Run with `frame` as the innermost one of this thread."""
    outer = thread.frame
    thread.frame = frame
    try:
        yield frame
    finally:
        thread.frame = outer


@contextmanager
def overlay(values: Mapping[Any, Any]) -> Generator[Frame]:
    """Give Parameters other values on this thread; writes stay in the frame."""
    with entered(Frame(values, thread.frame)) as frame:
        yield frame


class Guard:
    """What a program baked in; `holds()` while all of it is still so."""

    def __init__(self, parts: list[Any], settings: Any) -> None:
        self._parts = [(weakref.ref(part), part._cache_key()) for part in parts]
        self._settings = settings

    def alive(self) -> bool:
        """False once something that the program used is gone for good."""
        return all(ref() is not None for ref, _ in self._parts)

    def differences(self, other: Guard) -> list[str]:
        """What is not as in another one, by name."""
        keys = {ref(): key for ref, key in other._parts}
        return [
            getattr(part, "name", None) or f"a {type(part).__name__}"
            for part, key in ((ref(), key) for ref, key in self._parts)
            if part is not None and keys.get(part, key) != key
        ]

    def holds(self, settings: Any) -> bool:
        """True if the program is still right."""
        if settings != self._settings:
            return False
        for ref, key in self._parts:
            part = ref()
            if part is None or part._cache_key() != key:
                return False
        return True
