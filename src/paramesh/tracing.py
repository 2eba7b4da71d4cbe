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

A frame refers to Parameters by the two attributes that every floor above may rely on: `_value`
(the array, or None while there is only a recipe) and `_token()` (all that a program bakes in).
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, Protocol

import jax
import jax.core
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from paramesh.dtype import x64
from paramesh.errors import TraceError


class State(Protocol):
    """What a frame needs to know of a Parameter."""

    _value: Any
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Sizes of the axes."""
        ...

    @property
    def dtype(self) -> Any:
        """The element type."""
        ...

    def _token(self) -> Any: ...
    def _concrete(self) -> Any: ...


class Visited(Protocol):
    """What a frame needs to know of a Cell: all that a program bakes in of it."""

    def _token(self) -> Any: ...
    def _inside(self) -> Iterable[Visited]: ...


class Pooled:
    """What frames need to know of a pool: the base of `parameter.pool.Pool`."""

    name: str
    plan: Any

    def members(self) -> list[tuple[int, Any]]:
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
        self._trace = get_opaque_trace_state()
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
        return state._concrete() if self.parent is None else self.parent.get(state)

    def _base(self, pool: Any) -> Any:
        value = self.values.get(pool)
        return self._elsewhere(pool) if value is None else value

    def _whole(self, pool: Any) -> Any:
        loose = {i: self.values[p] for i, p in pool.members() if p in self.values}
        if not loose:
            return self._base(pool)
        if len(loose) == len(pool.plan.shapes):
            return pool.plan.join(list(loose.values()))
        return pool.joined(self._base(pool), loose)

    def _part(self, slot: Any) -> Any:
        parts = self._parts.setdefault(slot.pool, {})
        value = parts.get(slot.at)
        if value is None:
            value = slot.pool.plan.part(self.values[slot.pool], slot.at, self.ranks())
            if get_opaque_trace_state() == self._trace:
                # Otherwise it belongs to an inner trace, of scan or remat.
                parts[slot.at] = value
        return value

    def ranks(self) -> Any:
        """Small numbers that the compiler does not know (see `Plan.part`), or None."""
        return None if self.parent is None else self.parent.ranks()

    def put(self, state: Any, value: Any) -> None:
        """Give a Parameter, or all members of a pool, another value for this frame."""
        if get_opaque_trace_state() != self._trace:
            raise TraceError(_LEAK.format(name=state.name))
        if isinstance(state, Pooled):
            self._parts.pop(state, None)
            for _, member in state.members():
                self.values.pop(member, None)
                self.written.pop(member, None)
            self.written.pop(state, None)  # it comes after what was written before it
        self.values[state] = value
        self.written[state] = None

    def take_back(self, state: Any, value: Any, written: bool) -> None:
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


class Program(Frame):
    """The outermost frame of a compiled function; its values are the compiled inputs.

    Args:
        inputs: Parameters that are in no pool, and pools.
        ranks: see `Plan.part`.

    Attributes:
        read: inputs whose values at the start are needed.
        missing: what is no input and was read.
        cells: Cells that the program went through or could look at.
        met: Parameters that it read or wrote, in pools or not.
        unfit: pools of which a member became something that does not fit its place.
    """

    def __init__(self, inputs: Mapping[Any, Any], ranks: Any = None) -> None:
        super().__init__(inputs, None)
        self.read: dict[Any, None] = {}
        self.missing: dict[Any, None] = {}
        self.cells: dict[Any, None] = {}
        self.met: dict[Any, None] = {}
        self.unfit: dict[Any, None] = {}
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
        super().put(state, value)
        if isinstance(state, Pooled):
            return
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

    def visit(self, cell: Visited) -> None:
        """Note that the program went through a Cell, and may have looked at all inside it.

        A list of Cells is never called, and neither is one whose attributes or other methods are
        used: what they are is as much a part of the program.
        """
        if cell not in self.cells:
            self.cells[cell] = None
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


_thread = _Thread()
_epoch = 0

#: Parameters whose arrays went out through a public door since their last step.
lent: weakref.WeakSet[Any] = weakref.WeakSet()

nothing = nullcontext()


def current() -> Frame | None:
    """The innermost frame of this thread, None outside every program and transform."""
    return _thread.frame


def read(param: Any) -> Any:
    """The value of a Parameter, or of a pool, as the running trace sees it."""
    frame = _thread.frame
    return param._concrete() if frame is None else frame.get(param)


def write(param: Any, value: Any) -> None:
    """Give a Parameter, or all members of a pool, another value, in the running trace or for good.

    Raises:
        TraceError: the value belongs to a JAX trace that paramesh does not see.
    """
    frame = _thread.frame
    if frame is not None:
        frame.put(param, value)
    elif isinstance(value, jax.core.Tracer):
        raise TraceError(_LEAK.format(name=param.name))
    else:
        param._store(value)


def epoch() -> int:
    """Moves with every change of structure, train flags, requires_grad, shapes or dtypes."""
    return _epoch


def moved() -> None:
    """Something changed that compiled programs may depend on."""
    global _epoch
    _epoch += 1


@contextmanager
def entered(frame: Frame) -> Generator[Frame]:
    """Run with `frame` as the innermost one of this thread."""
    outer = _thread.frame
    _thread.frame = frame
    try:
        yield frame
    finally:
        _thread.frame = outer


@contextmanager
def overlay(values: Mapping[Any, Any]) -> Generator[Frame]:
    """Give Parameters other values on this thread; writes stay in the frame."""
    with entered(Frame(values, _thread.frame)) as frame:
        yield frame


def lifted(transform: Callable[[Callable[..., Any]], Callable[..., Any]], fn: Callable[..., Any]):
    """`transform(fn)` for a JAX transform and a function that may write Parameters.

    `transform` must pass the outputs of its function through unchanged in kind (checkpoint, jit
    and the like do; vmap does with its out_axes). Parameters that `fn` writes are handed out as
    extra outputs and written outside.
    """

    def run(*args: Any, **kwargs: Any) -> Any:
        written: list[Any] = []

        def pure(*args: Any, **kwargs: Any) -> Any:
            with overlay({}) as frame:
                out = fn(*args, **kwargs)
            written[:] = frame.written
            return out, [frame.values[p] for p in written]

        out, values = transform(pure)(*args, **kwargs)
        for param, value in zip(written, values, strict=True):
            write(param, value)
        return out

    return run


class Guard:
    """What a program baked in; `holds()` while all of it is still so."""

    def __init__(self, parts: list[Any], settings: Any) -> None:
        self._parts = [(weakref.ref(part), part._token()) for part in parts]
        self._settings = settings

    def alive(self) -> bool:
        """False once something that the program used is gone for good."""
        return all(ref() is not None for ref, _ in self._parts)

    def holds(self, settings: Any) -> bool:
        """True if the program is still right."""
        if settings != self._settings:
            return False
        for ref, token in self._parts:
            part = ref()
            if part is None or part._token() != token:
                return False
        return True
