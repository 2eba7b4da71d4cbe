"""Frames: the values that Parameters have for a running trace, on one thread.

Glossary
    frame       an overlay over the Parameters themselves, so an exception in the middle or a second
                thread leaves every Parameter as it was
    program     the outermost frame: a function that is being compiled. It knows which Parameters
                are its inputs; a read of another one returns a placeholder of the same shape and is
                recorded in `missing`, and the function is traced again with that one as an input
    overlay     an inner frame: a transform (grad, remat, …) that gives some Parameters other
                values; what is written inside is returned as an extra output
    journal     what was written outside of programs by a call whose writes become visible together,
                or not at all (`tracing.together`)
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp

from paramesh._compat.jax import get_opaque_trace_state
from paramesh.dtype import x64
from paramesh.errors import TraceError
from paramesh.state import placement, storage, trace_scope
from paramesh.state.protocols import Pooled, SlotLike, VisitedCell

#: A Parameter, a pool or an implicit value. `isinstance(state, Pooled)` decides at run time, which
#: the type checker cannot follow through the values of one dictionary.
AnyState: TypeAlias = Any
#: The integers 0, 1, … as values that XLA cannot fold; None where constants are as good.
Ranks = Sequence[jax.Array] | None


class Frame:
    """Values of Parameters for one trace, and what the trace did to them.

    Attributes:
        used: whether one of the values was asked for.
    """

    used = False

    def __init__(self, values: Mapping[AnyState, jax.Array], parent: Frame | None) -> None:
        self.values: dict[AnyState, jax.Array] = dict(values)
        self.written: dict[AnyState, None] = {}
        self.parent = parent
        self._trace: object = get_opaque_trace_state()
        self._parts: dict[Pooled, dict[int, jax.Array]] = {}

    def get(self, state: AnyState) -> jax.Array:
        """The value of a Parameter, or of a pool, as this frame sees it."""
        value = self.values.get(state)
        if isinstance(state, Pooled):
            return self._joined(state)
        if value is not None:
            self.used = True
            return value
        slot = state._slot
        if slot is not None and slot.pool in self.values:
            self.used = True
            return self._part(slot)
        return self._elsewhere(state)

    def _elsewhere(self, state: AnyState) -> jax.Array:
        return outside(state, self) if self.parent is None else self.parent.get(state)

    def _base(self, pool: AnyState) -> jax.Array:
        value = self.values.get(pool)
        return self._elsewhere(pool) if value is None else value

    def _joined(self, pool: AnyState) -> jax.Array:
        self.used = True
        separate = {i: self.values[p] for i, p in pool.entries() if p in self.values}
        if not separate:
            return self._base(pool)
        if len(separate) == len(pool.layout.shapes):
            return pool.layout.join(list(separate.values()))
        return pool.joined(self._base(pool), separate)

    def _part(self, slot: SlotLike) -> jax.Array:
        parts = self._parts.setdefault(slot.pool, {})
        value = parts.get(slot.at)
        if value is None:
            value = slot.pool.layout.member(self.values[slot.pool], slot.at, self.ranks())
            if get_opaque_trace_state() == self._trace:
                # Otherwise it belongs to an inner trace, of scan or remat.
                parts[slot.at] = value
        return value

    def ranks(self) -> Ranks:
        """Small integers that XLA cannot fold (see `FlatLayout.member`), or None."""
        return None if self.parent is None else self.parent.ranks()

    def put(self, state: AnyState, value: jax.Array) -> None:
        """Give a Parameter, or all entries of a pool, another value for this frame."""
        if get_opaque_trace_state() != self._trace:
            raise TraceError(UNSEEN_TRANSFORM.format(name=state.name))
        if isinstance(state, Pooled):
            self._parts.pop(state, None)
            for _, entry in state.entries():
                self.values.pop(entry, None)
                self.written.pop(entry, None)
            self.written.pop(state, None)  # its place is after what was written before it
        self.values[state] = value
        self.written[state] = None

    def restore(self, state: AnyState, value: jax.Array | None, written: bool) -> None:
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

    def visit(self, cell: VisitedCell) -> None:
        """Record that the program went through a Cell."""
        if self.parent is not None:
            self.parent.visit(cell)


class Journal(Frame):
    """What a call writes outside of programs, until it is made visible.

    Attributes:
        derives: whether the call has begun to compute a gradient.
        flushed: whether some of it is visible already, because a compiled program ran inside.
    """

    def __init__(self) -> None:
        super().__init__({}, None)
        self.derives = self.flushed = False
        #: Of states that are written at once: (what it was before, what this call wrote last).
        self._apart: dict[AnyState, tuple[Any, Any]] = {}

    def wrote_at_once(self, state: AnyState, value: jax.Array) -> None:
        """Note that a state is about to get a value that is visible at once.

        With the lock of the state held, or by a thread that is alone with it.
        """
        before, last = self._apart.get(state, (state._contents, state._contents))
        # Where another thread wrote in between, its numbers are not to come again.
        self._apart[state] = (before if last is state._contents else state._contents, value)

    def take_back(self) -> None:
        """Give states that were written at once what they had before, where nobody wrote since."""
        for state, (before, last) in self._apart.items():
            storage.inside(state, _restored, state, before, last)
        self._apart.clear()


def _restored(state: AnyState, before: object, last: object) -> None:
    if state._contents is last:
        state._store(before)


class ReadRecorder(Frame):
    """A frame that records which Parameters are read in it.

    Attributes:
        read: the Parameters and pools.
    """

    def __init__(self, parent: Frame | None) -> None:
        super().__init__({}, parent)
        self.read: dict[AnyState, None] = {}

    def get(self, state: AnyState) -> jax.Array:
        """The value, as without this frame."""
        if state not in self.values:
            self.read[state] = None
        return super().get(state)


class Program(Frame):
    """The outermost frame of a compiled function; its values are the compiled inputs.

    Args:
        inputs: Parameters outside of pools, and pools.
        ranks: see `FlatLayout.member`.

    Attributes:
        read: inputs whose values at the start are needed.
        missing: what was read and is not an input.
        cells: Cells that the program went through or could look at.
        met: Parameters that it read or wrote, pooled or not.
        unfit: pools with an entry that got a value of another shape or element type.
        made: those of `cells` that the function itself makes: they are gone when it has run.
    """

    def __init__(self, inputs: Mapping[AnyState, jax.Array], ranks: Ranks = None) -> None:
        super().__init__(inputs, None)
        self.read: dict[AnyState, None] = {}
        self.missing: dict[AnyState, None] = {}
        self.cells: dict[VisitedCell, None] = {}
        self.met: dict[AnyState, None] = {}
        self.unfit: dict[Any, None] = {}
        self.created: dict[VisitedCell, None] = {}
        self._ranks = ranks

    def get(self, state: AnyState) -> jax.Array:
        """The input or the written value; a placeholder for a Parameter that is not an
        input yet.
        """
        if isinstance(state, Pooled):
            return self._joined(state)
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

    def _elsewhere(self, state: AnyState) -> jax.Array:
        trace_scope.refuse_created(state, "", self.cells)
        slot = state._slot
        self.missing[state if slot is None else slot.pool] = None
        with x64(state.dtype):
            # Not kept: inside scan or remat it belongs to that inner trace.
            return jnp.zeros(state.shape, state.dtype.np_dtype)

    def _base(self, pool: AnyState) -> jax.Array:
        if pool in self.values and pool not in self.written:
            self.read[pool] = None
        return super()._base(pool)

    def put(self, state: AnyState, value: jax.Array) -> None:
        """Give a Parameter, or all entries of a pool, another value."""
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

    def ranks(self) -> Ranks:
        """Small integers that XLA cannot fold, as the program got them."""
        return self._ranks

    def results(self) -> list[tuple[AnyState, jax.Array]]:
        """(Parameter outside of pools or pool, its value at the end) of all that was written."""
        states: dict[AnyState, None] = {}
        for state in self.written:
            slot = state._slot
            states[state if slot is None else slot.pool] = None
        return [(state, self.get(state)) for state in states]

    def forget(self) -> None:
        """Drop the traced values."""
        self.values.clear()
        self._parts.clear()
        self._trace = None
        self._ranks = None

    def visit(self, cell: VisitedCell) -> None:
        """Record that the program went through a Cell, and may have used all Cells inside it.

        A list of Cells is never called, and neither is a Cell of which only attributes or other
        methods are used; the program depends on them as well.
        """
        if cell not in self.cells:
            self.cells[cell] = None
            scope = trace_scope.current()
            if scope is not None and scope.has_created(cell):
                self.created[cell] = None
            elif scope is not None:
                scope.visited(cell)
            for inner in cell._inside():
                self.visit(inner)


UNSEEN_TRANSFORM = (
    "Parameter '{name}' was written inside a JAX transform (vmap, scan, grad, jit, …) that "
    "paramesh does not see, so the value would be lost when the transform ends. Use paramesh's "
    "own jit, grad, scan or remat, which hand written Parameters out, or make the "
    "function pure with paramesh.functional_call(net, values, x, mutable=True)."
)


class _Thread(threading.local):
    frame: Frame | None = None
    journal: Journal | None = None


#: What this thread is in. The calls that users make restore `frame` when they end, without calling
#: anything, whatever exception comes where.
thread = _Thread()


def outside(state: AnyState, asking: Frame | None = None) -> jax.Array:
    """The value of a Parameter outside of every frame, or in the journal of a running call."""
    journal = thread.journal
    if journal is None or journal is asking:
        value = state._concrete()
        if isinstance(value, jax.Array) and not value.is_fully_addressable:
            return placement.current().seen(value)
        return value
    return journal.get(state)
