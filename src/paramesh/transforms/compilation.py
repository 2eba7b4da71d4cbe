"""From a function and its inputs to a compiled program: one trace, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from paramesh._compat.jax import ClosedJaxpr, dce_jaxpr, jaxpr_as_fun
from paramesh._compat.unbroken import as_before
from paramesh.array_types import Array, ArrayLike
from paramesh.dtype import watch_64bit, x64_if
from paramesh.errors import TraceError
from paramesh.parameter import Pool, forming, ranks_of, state_of
from paramesh.state import placement, trace_scope, tracing
from paramesh.state.divided import Divided
from paramesh.transforms.bodies import name_of
from paramesh.transforms.callbacks import calls_back
from paramesh.transforms.executable import (
    ZERO,
    Executable,
    Outputs,
    PrefetchProgram,
    State,
    settings_now,
)
from paramesh.transforms.reachability import cells_of, is_cell
from paramesh.transforms.several_programs import SeveralPrograms


def attempt(
    fn: Callable[..., Any],
    donate: bool,
    states: list[State],
    leaves: list[ArrayLike],
    rebuild: Callable[[list[ArrayLike]], tuple[tuple[Any, ...], dict[str, Any]]],
    use_64bit: bool,
) -> tuple[Executable | None, dict[State, None], bool]:
    """Trace a function with these states as inputs.

    Returns:
        (the program, None if it read states that are not inputs; these states; whether 64-bit data
        was met).
    """
    attempts: list[tuple[tracing.Program, Outputs, list[State]]] = []

    def traced(values: list[Any], leaves: list[Any], zero: Array) -> Any:
        given = dict(zip(states, values, strict=True))
        program = tracing.Program(given, ranks_of(states, zero))
        with tracing.entered(program):
            args, kwargs = rebuild(leaves)
            constants = filter(is_cell, jax.tree_util.tree_leaves((args, kwargs)))
            for cell in (*cells, *constants):
                program.visit(cell)
            outputs = Outputs(fn(*args, **kwargs), name_of(fn))
            results = program.results() if not program.unfit else []
        attempts.append((program, outputs, [state for state, _ in results]))
        arrays = outputs.arrays
        # Nothing traced is kept: JAX's own check for leaks looks when the trace ends.
        outputs.forget()
        program.forget()
        return arrays, [value for _, value in results]

    cells = cells_of(fn)
    place = placement.current()
    shapes = [jax.ShapeDtypeStruct(place.shape(s), s.dtype.np_dtype) for s in states]
    traced.__name__ = getattr(fn, "__name__", "program")
    program_over_all = place.enclose(traced, states, lambda: attempts[-1][2])
    with watch_64bit() as marks, x64_if(use_64bit):
        leaves = place.place_inputs(leaves)
        back = as_before()
        try:
            closed = jax.make_jaxpr(program_over_all)(shapes, leaves, ZERO)
        except BaseException:
            back()  # an exception from outside can keep JAX from doing so
            raise
        met_64bit = marks.met_64bit
    program, outputs, written = attempts[-1]
    scope = trace_scope.current()
    assert scope is not None
    scope.check(program.cells)
    for pool in program.unfit:
        pool.dissolve(again=False)
    if program.missing or program.unfit or met_64bit > use_64bit:
        return None, program.missing, met_64bit
    with x64_if(use_64bit):
        closed = place.rewritten(closed, states, written)
        divided = place.divided(closed, states, written, name_of(fn))
    executable = _compile(
        name_of(fn), donate, closed, states, program, written, outputs, use_64bit, divided
    )
    return executable, {}, met_64bit


def _compile(
    name: str,
    donate: bool,
    closed: ClosedJaxpr,
    states: list[State],
    program: tracing.Program,
    written: list[State],
    outputs: Outputs,
    use_64bit: bool,
    divided: Divided | None,
) -> Executable:
    n_out = len(closed.jaxpr.outvars) - len(written)
    prefetch_keys = [s for s in written if isinstance(s, placement.PrefetchKey)]
    prefetch_program = (
        _prefetch_program(name, closed, states, written, use_64bit) if prefetch_keys else None
    )
    handed = [i + n_out for i, s in enumerate(written) if not isinstance(s, placement.PrefetchKey)]
    written = [s for s in written if not isinstance(s, placement.PrefetchKey)]
    if divided is not None:
        written, handed = [written[i] for i in divided.order], [handed[i] for i in divided.order]
    after = {s: closed.jaxpr.outvars[i].aval for s, i in zip(written, handed, strict=True)}
    waits = calls_back(closed.jaxpr)
    donated = [s for s in states if s in program.read and _same_kind(s, after.get(s))]
    if divided is not None:
        again = {states[i] for i in divided.donated}
        donated = [s for s in donated if s in again]
    if waits or not donate:
        donated = []
    given_away = set(donated)
    kept = [s for s in states if s in program.read and s not in given_away]
    place = {s: ("d", i) for i, s in enumerate(donated)}
    place |= {s: ("k", i) for i, s in enumerate(kept)}
    order = [place.get(s) for s in states]
    run_jaxpr = jaxpr_as_fun(closed)
    unread = np.float32(0)  # in the place of inputs that the program never reads
    pooled = any(isinstance(s, Pool) for s in (*donated, *kept))

    def run(donated: list[Any], kept: list[Any], leaves: list[Any]) -> Any:
        groups = {"d": donated, "k": kept}
        values = [unread if o is None else groups[o[0]][o[1]] for o in order]
        out = run_jaxpr(*values, *leaves, *(() if pooled else (ZERO,)))
        return [*(out[i] for i in handed), *out[:n_out]]

    run.__name__ = name
    cells = [cell for cell in program.cells if cell not in program.created]
    guard = tracing.Guard([*cells, *program.met, *program.read, *written], settings_now())
    if divided is None:
        compiled: Callable[..., Any] = jax.jit(run, donate_argnums=0)
    else:
        compiled = SeveralPrograms(name, divided, order, ZERO)
    met, waits = list(program.met), waits or not donate
    return Executable(
        compiled,
        donated,
        kept,
        written,
        met,
        outputs,
        guard,
        use_64bit,
        pooled,
        waits,
        prefetch_program,
    )


def _prefetch_program(
    name: str, closed: ClosedJaxpr, states: list[State], written: list[State], use_64bit: bool
) -> PrefetchProgram:
    """The part of a program that computes its prefetch keys.

    Raises:
        TraceError: one depends on a value that is only fetched with them.
    """
    outputs = len(closed.jaxpr.outvars) - len(written)
    prefetch_keys = [s for s in written if isinstance(s, placement.PrefetchKey)]
    wanted = [False] * outputs + [isinstance(s, placement.PrefetchKey) for s in written]
    small, used = dce_jaxpr(closed.jaxpr, wanted)
    of_states = [s for s, is_used in zip(states, used, strict=False) if is_used]
    for state in of_states:
        if isinstance(state, placement.ImplicitValue):
            names = " and ".join(s.name for s in prefetch_keys)
            raise TraceError(
                f"'{name}': {names} must be known before the "
                f"program runs, but some are computed from {state.name}, which is fetched later."
            )
    rest = used[len(states) :]
    of_leaves = [i for i, is_used in enumerate(rest[:-1]) if is_used]
    run_small = jaxpr_as_fun(closed.replace(jaxpr=small))
    needs_zero = rest[-1]

    def prefetch_program(values: list[Any], leaves: list[Any]) -> Any:
        return run_small(*values, *leaves, *((ZERO,) if needs_zero else ()))

    return PrefetchProgram(prefetch_keys, of_states, of_leaves, jax.jit(prefetch_program))


def inputs_of(found: Iterable[State]) -> list[State]:
    """Each Parameter, or the pool that it is in."""
    params: list[Any] = []
    with forming:
        for state in found:
            params += [p for _, p in state.entries()] if isinstance(state, Pool) else [state]
        placement.current().adopt(params)
        return list(dict.fromkeys(map(state_of, params)))


def _same_kind(state: State, aval: Any) -> bool:
    here = (placement.current().shape(state), state.dtype.np_dtype)
    return aval is not None and (aval.shape, aval.dtype) == here
