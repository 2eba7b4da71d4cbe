"""Reading and writing Parameters, inside of traces and outside.

A Parameter is read and written through the innermost frame of this thread (`frames.py`), and
directly where there is none.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import jax
import jax.core

from paramesh import tracebacks
from paramesh.errors import TraceError
from paramesh.state import storage, trace_scope
from paramesh.state.frames import (
    UNSEEN_TRANSFORM,
    AnyState,
    Frame,
    Journal,
    Program,
    ReadRecorder,
    outside,
    thread,
)
from paramesh.state.protocols import Pooled
from paramesh.state.versions import Guard, bump_version, version, version_bump

__all__ = [
    "Frame",
    "Guard",
    "Pooled",
    "Program",
    "ReadRecorder",
    "bump_version",
    "current",
    "derives",
    "entered",
    "flush",
    "is_pending",
    "overlay",
    "public_call",
    "read",
    "thread",
    "together",
    "version",
    "version_bump",
    "write",
    "write_outside",
]

P = ParamSpec("P")
T = TypeVar("T")


def public_call(call: Callable[P, T]) -> Callable[P, T]:
    """Decorate a call that users make: afterwards the state of this thread is as before.

    Context managers written in Python do not guarantee this: an exception from outside (from a
    signal handler, for example) may come when one of them is about to be left, and what traces had
    set up would remain. Here nothing is called on the way out.

    An error that leaves the outermost of such calls is shortened for the user.
    """

    @functools.wraps(call)
    def restoring(*args: P.args, **kwargs: P.kwargs) -> T:
        __tracebackhide__ = True
        frame, journal, scope = thread.frame, thread.journal, trace_scope.thread.scope
        try:
            return call(*args, **kwargs)
        except FloatingPointError:  # of jax_debug_nans: who locates it needs all of it
            raise
        except Exception as error:
            if frame is None and journal is None:
                tracebacks.shorten(error)
            raise
        finally:
            thread.frame, thread.journal, trace_scope.thread.scope = frame, journal, scope

    return restoring


def current() -> Frame | None:
    """The innermost frame of this thread, None outside every program and transform."""
    return thread.frame


def read(param: AnyState) -> Any:
    """The value of a Parameter, or of a pool, as the running trace sees it."""
    frame = thread.frame
    return outside(param) if frame is None else frame.get(param)


def write(param: AnyState, value: Any) -> None:
    """Give a Parameter, or all entries of a pool, another value, in the running trace or for good.

    Raises:
        TraceError: the value belongs to a JAX trace that paramesh does not see.
    """
    frame = thread.frame
    if frame is not None:
        frame.put(param, value)
    elif isinstance(value, jax.core.Tracer):
        raise TraceError(UNSEEN_TRANSFORM.format(name=param.name))
    else:
        write_outside(param, value)


def write_outside(state: AnyState, value: jax.Array) -> None:
    """Give a Parameter, or all entries of a pool, another value outside of every frame."""
    journal = thread.journal
    # Two threads must not get the same random numbers: a generator is written at once.
    if journal is None or storage.domain_of(state).apart:
        if journal is not None:
            journal.wrote_at_once(state, value)
        state._store(value)
    else:
        journal.put(state, value)


def is_pending(state: AnyState) -> bool:
    """Whether a value was written that is not visible to others yet (see `together`)."""
    journal = thread.journal
    return journal is not None and state in journal.values


def together(call: Callable[[], T]) -> T:
    """`call()`; what it writes outside of programs becomes visible when it has ended.

    All of it in one instruction, or nothing if it raises.
    """
    if thread.frame is not None or thread.journal is not None:
        return call()
    try:
        thread.journal = Journal()
        out = call()
        flush()
    finally:
        thread.journal = None
    return out


def flush() -> None:
    """Make pending writes visible: a compiled program is about to read them."""
    journal = thread.journal
    if journal is None:
        return
    journal.flushed = True
    if not journal.written:
        return
    writes = [(state, journal.values[state]) for state in journal.written]
    storage.unite([state for state, _ in writes])
    for state, value in writes:
        state._prepare(value)
    storage.inside(writes[0][0], _write_all, writes)
    thread.journal = Journal()


def derives() -> None:
    """Note that the running call, outside of programs, computes a gradient."""
    if thread.journal is not None:
        thread.journal.derives = True


def _write_all(writes: list[tuple[AnyState, jax.Array]]) -> None:
    changes: list[storage.Change] = []
    pools: dict[Pooled, jax.Array] = {}
    for state, value in writes:
        storage.check_free(state)
        changes += state._changes(value)
        if isinstance(state, Pooled):
            pools[state] = value
        elif state._slot is not None and state._slot.pool in pools:
            # The change of an entry refers to the array that the pool has now.
            pool = state._slot.pool
            changes.insert(-1, (pool, "_contents", storage.Detached(pools[pool])))
    storage.commit(changes)


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
def overlay(values: Mapping[Any, jax.Array]) -> Generator[Frame]:
    """Give Parameters other values on this thread; writes stay in the frame."""
    with entered(Frame(values, thread.frame)) as frame:
        yield frame
