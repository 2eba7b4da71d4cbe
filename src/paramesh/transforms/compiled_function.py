"""`jit`: functions compiled with the Parameters they use as hidden inputs and outputs.

Glossary
    hint        a Parameter that the function will probably use (reachable from its closure); hints
                save a second trace and are never trusted
    entry       one compiled program: for one combination of input shapes, dtypes and static
                arguments, and one guard
    state       a Parameter, or a pool of many small ones (`parameter/pool.py`)
"""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import jax
import jax.core
import numpy as np

from paramesh import random
from paramesh._compat.jax import dce_jaxpr, jaxpr_as_fun
from paramesh._compat.unbroken import as_before
from paramesh.dtype import is_64bit, watch_64bit, x64_enabled, x64_set
from paramesh.errors import TraceError
from paramesh.parameter import Parameter, Pool, form_waiting, forming, ranks_of, state_of
from paramesh.providers import providers
from paramesh.state import placement, trace_scope, tracing
from paramesh.tensor.promotion import scalar_kind
from paramesh.transforms.callbacks import calls_back
from paramesh.transforms.executable import (
    ZERO,
    Executable,
    Outputs,
    PrefetchProgram,
    State,
    settings_now,
)
from paramesh.transforms.handoff import Superseded
from paramesh.transforms.reachability import cells_of, is_cell, parameters_of
from paramesh.transforms.retracing import Settling
from paramesh.transforms.stages import Lowered
from paramesh.transforms.static_arguments import checked, programs_of

#: So many programs of one function that differ only in a static int are worth a warning.
_MANY_VERSIONS = 16


class CompiledFunction:
    """A function whose calls are compiled; made by `jit`.

    `traces` counts how often the function was traced through this object. The programs are kept
    with the function, so that a `jit` of it in a loop compiles once.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        static_argnums: Iterable[int] = (),
        static_argnames: Iterable[str] = (),
        hints: Callable[[], Iterable[Parameter]] | None = None,
        donate: bool = True,
        kept_with: Any = None,
        way: Hashable = None,
    ) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.__name__: str = getattr(fn, "__name__", type(fn).__name__)
        self.fn = fn
        self.traces = 0
        self._static_argnums = frozenset(static_argnums)
        self._static_argnames = frozenset(static_argnames)
        self._hints = hints or (lambda: parameters_of(fn))
        self._donate = donate
        way = (self._static_argnums, self._static_argnames, donate, way)
        self._entries: dict[Any, list[Executable]] = programs_of(
            fn if kept_with is None else kept_with, way
        )
        self._warned = False

    def _function_inside(self) -> Any:
        return self.fn

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program for these arguments, compiled first if there is none."""
        if tracing.current() is not None:
            return self.fn(*args, **kwargs)
        call = self._parse(args, kwargs)
        if call is None:  # inside a JAX transform of the user's: run as part of it
            return self.fn(*args, **kwargs)
        key, leaves, rebuild = call
        notes = trace_scope.thread.border
        while True:
            try:
                for entry in self._entries.get(key, ()):
                    if entry.current():
                        return entry.run(leaves)
                entry = self._trace(leaves, rebuild)
                self._remember(key, entry)
                return entry.run(leaves)
            except Superseded:  # another thread changed the network in between
                continue
            except TraceError as error:
                # A condition over Tensors: converted, if it can be, and traced anew.
                if not providers.convert_control_flow(error):
                    raise
            finally:  # see `tracing.door`
                tracing.thread.frame, trace_scope.thread.border = None, notes

    def prefetch(self, *args: Any, **kwargs: Any) -> None:
        """Say, before a call, with which arguments the call after it will be made.

        Where rows of tables on the parameter server are cached on this device (`vocab_cache_size`),
        those of that call are then fetched while this one is computed. A hint, and no more: it
        changes no result, and what is said and never comes costs only time.
        """
        if tracing.current() is not None or not placement.current().prefetches:
            return
        call = self._parse(args, kwargs)
        if call is None:
            return
        for entry in self._entries.get(call[0], ()):
            if entry.current():
                entry.announce(call[1])

    def trace(self, *args: Any, **kwargs: Any) -> Executable:
        """The compiled program that a call with these arguments would run (made if need be)."""
        return self._traced(args, kwargs)[1]

    def _traced(self, args: Any, kwargs: Any) -> tuple[Any, Executable, list[Any]]:
        call = self._parse(args, kwargs, abstract=True)
        if call is None:
            raise TypeError(f"'{self.__name__}': concrete arguments are needed, not tracers.")
        key, leaves, rebuild = call
        for entry in self._entries.get(key, ()):
            if entry.current():
                return key, entry, leaves
        entry = self._trace(leaves, rebuild)
        self._remember(key, entry)
        return key, entry, leaves

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The program for these arguments before it is compiled.

        `f.lower(x).compile()` has `cost_analysis()` and `memory_analysis()`, and can be called.

        Args:
            *args: as for a call; a `jax.ShapeDtypeStruct` may stand for a Tensor.
            **kwargs: likewise.
        """
        key, entry, leaves = self._traced(args, kwargs)
        return Lowered(self.__name__, self._parse, key, entry, leaves)

    def _remember(self, key: Any, entry: Executable) -> None:
        versions = self._entries.setdefault(key, [])
        versions[:] = [e for e in versions if e.guard.alive()]
        versions.append(entry)
        if len(versions) > _MANY_VERSIONS:
            del versions[0]
            if not self._warned:
                self._warned = True
                what = " and ".join(versions[-1].guard.differences(versions[-2].guard))
                warnings.warn(
                    f"'{self.__name__}' has been compiled more than {_MANY_VERSIONS} times for the "
                    f"same arguments: between its calls changes {what or 'a setting'}. Attributes "
                    "of Cells are constants of a program; make what changes a Parameter "
                    "(requires_grad=False), or pass it as an argument.",
                    stacklevel=4,
                )
        if len(self._entries) == _MANY_VERSIONS and not self._warned:
            self._warned = True
            shapes = {k[1] for k in self._entries}
            if len(shapes) == 1:
                warnings.warn(
                    f"'{self.__name__}' has been compiled {_MANY_VERSIONS} times for different "
                    "python values of the same arguments. ints, bools and strings are constants "
                    "of a program; pass a Tensor (or a float) for a number that changes.",
                    stacklevel=4,
                )

    def _parse(self, args: Any, kwargs: Any, abstract: bool = False) -> Any:
        """(key, dynamic leaves, rebuild), or None if there are tracers among the arguments.

        With `abstract`, a `jax.ShapeDtypeStruct` is a leaf like an array.
        """
        static: list[tuple[Any, Hashable]] = []
        if self._static_argnums or self._static_argnames:
            static = [(i, args[i]) for i in sorted(self._static_argnums) if i < len(args)]
            static += [(k, kwargs[k]) for k in sorted(self._static_argnames) if k in kwargs]
            args = tuple(None if i in self._static_argnums else a for i, a in enumerate(args))
            kwargs = {k: v for k, v in kwargs.items() if k not in self._static_argnames}
        flat, tree = jax.tree_util.tree_flatten((args, kwargs), is_leaf=_is_parameter)
        leaves: list[Any] = []
        shapes: list[Any] = []
        slots: list[Any] = []
        for leaf in flat:
            if isinstance(leaf, jax.Array):
                if isinstance(leaf, jax.core.Tracer):
                    return None
                shapes.append((leaf.shape, leaf.dtype, leaf.aval.weak_type))
            elif isinstance(leaf, np.ndarray | np.generic):
                shapes.append((leaf.shape, leaf.dtype, False))
            elif isinstance(leaf, float | complex):
                shapes.append(type(leaf))
            elif abstract and isinstance(leaf, jax.ShapeDtypeStruct):
                shapes.append((leaf.shape, leaf.dtype, False))
            else:
                slots.append(checked(self, leaf))
                continue
            slots.append(_DYNAMIC)
            leaves.append(leaf)
        for name, value in static:
            checked(self, value, name)
        # 1 == 1.0 == True, but they are different programs.
        kinds = tuple(type(s) for s in slots if s is not _DYNAMIC)
        key = (tree, tuple(shapes), tuple(slots), kinds, tuple(static))

        def rebuild(values: list[Any]) -> tuple[Any, Any]:
            rest = iter(values)
            filled = [next(rest) if slot is _DYNAMIC else slot for slot in slots]
            new_args, new_kwargs = jax.tree_util.tree_unflatten(tree, filled)
            positions = dict(static)
            new_args = tuple(positions.get(i, a) for i, a in enumerate(new_args))
            named = {k: v for k, v in static if isinstance(k, str)}
            return new_args, {**new_kwargs, **named}

        return key, leaves, rebuild

    def _trace(self, leaves: list[Any], rebuild: Callable[..., Any]) -> Executable:
        form_waiting()
        # Whether it draws random numbers is only known afterwards; an input that is not read costs
        # nothing, a second trace does.
        found: dict[Parameter | Pool, None] = {}
        found.update(dict.fromkeys([*self._hints(), random.default_generator().state]))
        for cell in filter(is_cell, jax.tree_util.tree_leaves(rebuild(leaves))):
            found.update(dict.fromkeys(parameters_of(cell)))
        wide = any(is_64bit(x) for x in leaves if not scalar_kind(x))
        settling = Settling(self.__name__)
        while True:
            # Looked up each time: a pool may have been dissolved because a member outgrew it.
            inputs = _inputs(found)
            wide = wide or any(state.dtype.is_64bit() for state in inputs)
            try:
                with trace_scope.around(self.__name__, compiled=True) as notes:
                    entry, missing, met_64bit = self._attempt(inputs, leaves, rebuild, wide)
                settling.trace(notes, missing, met_64bit > wide, done=entry is not None)
            except BaseException:
                settling.take_back()
                raise
            if entry is not None and settling.settled:
                return entry
            found.update(missing)
            wide = wide or met_64bit

    def _attempt(
        self, states: list[State], leaves: list[Any], rebuild: Callable[..., Any], wide: bool
    ) -> tuple[Executable | None, dict[Any, None], bool]:
        """The program with these inputs, or what it misses and whether it needs 64 bits."""
        attempts: list[tuple[tracing.Program, Outputs, list[State]]] = []

        def traced(values: list[Any], leaves: list[Any], zero: Any) -> Any:
            given = dict(zip(states, values, strict=True))
            program = tracing.Program(given, ranks_of(states, zero))
            with tracing.entered(program):
                args, kwargs = rebuild(leaves)
                constants = filter(is_cell, jax.tree_util.tree_leaves((args, kwargs)))
                for cell in (*cells, *constants):
                    program.visit(cell)
                outputs = Outputs(self.fn(*args, **kwargs))
                results = program.results() if not program.unfit else []
            attempts.append((program, outputs, [state for state, _ in results]))
            arrays = outputs.arrays
            # Nothing traced is kept: JAX's own check for leaks looks when the trace ends.
            outputs.forget()
            program.forget()
            return arrays, [value for _, value in results]

        self.traces += 1
        cells = cells_of(self.fn)
        place = placement.current()
        shapes = [jax.ShapeDtypeStruct(place.shape(s), s.dtype.np_dtype) for s in states]
        traced.__name__ = getattr(self.fn, "__name__", "program")
        program_over_all = place.enclose(traced, states, lambda: attempts[-1][2])
        with watch_64bit() as marks, _x64(wide):
            leaves = place.place_inputs(leaves)
            back = as_before()
            try:
                closed = jax.make_jaxpr(program_over_all)(shapes, leaves, ZERO)
            except BaseException:
                back()  # an exception from outside can keep JAX from doing so
                raise
            met_64bit = marks.wide
        program, outputs, written = attempts[-1]
        notes = trace_scope.current()
        assert notes is not None
        notes.check(program.cells)
        for pool in program.unfit:
            pool.dissolve(again=False)
        if program.missing or program.unfit or met_64bit > wide:
            return None, program.missing, met_64bit
        with _x64(wide):
            closed = place.rewritten(closed, states, written)
        return self._compile(closed, states, program, written, outputs, wide), {}, met_64bit

    def _compile(
        self,
        closed: Any,
        states: list[State],
        program: tracing.Program,
        written: list[State],
        outputs: Outputs,
        wide: bool,
    ) -> Executable:
        n_out = len(closed.jaxpr.outvars) - len(written)
        ahead = [s for s in written if isinstance(s, placement.PrefetchKey)]
        prefetch_program = (
            _prefetch_program(self.__name__, closed, states, written, wide) if ahead else None
        )
        handed = [
            i + n_out for i, s in enumerate(written) if not isinstance(s, placement.PrefetchKey)
        ]
        written = [s for s in written if not isinstance(s, placement.PrefetchKey)]
        after = {s: closed.jaxpr.outvars[i].aval for s, i in zip(written, handed, strict=True)}
        waits = calls_back(closed.jaxpr)
        donated = [s for s in states if s in program.read and _same_kind(s, after.get(s))]
        if waits or not self._donate:
            donated = []
        given_away = set(donated)
        kept = [s for s in states if s in program.read and s not in given_away]
        place = {s: ("d", i) for i, s in enumerate(donated)}
        place |= {s: ("k", i) for i, s in enumerate(kept)}
        order = [place.get(s) for s in states]
        run_jaxpr = jaxpr_as_fun(closed)
        unread = np.float32(0)  # stands for inputs that the program never looks at
        pooled = any(isinstance(s, Pool) for s in (*donated, *kept))

        def run(donated: list[Any], kept: list[Any], leaves: list[Any]) -> Any:
            groups = {"d": donated, "k": kept}
            values = [unread if o is None else groups[o[0]][o[1]] for o in order]
            out = run_jaxpr(*values, *leaves, *(() if pooled else (ZERO,)))
            return [*(out[i] for i in handed), *out[:n_out]]

        run.__name__ = getattr(self.fn, "__name__", "program")
        cells = [cell for cell in program.cells if cell not in program.made]
        guard = tracing.Guard([*cells, *program.met, *program.read, *written], settings_now())
        compiled = jax.jit(run, donate_argnums=0)
        met, waits = list(program.met), waits or not self._donate
        return Executable(
            compiled,
            donated,
            kept,
            written,
            met,
            outputs,
            guard,
            wide,
            pooled,
            waits,
            prefetch_program,
        )


def _prefetch_program(
    name: str, closed: Any, states: list[State], written: list[State], wide: bool
) -> PrefetchProgram:
    """The part of a program that computes what has to be known before it runs.

    Raises:
        TraceError: it depends on what will only be known then.
    """
    outputs = len(closed.jaxpr.outvars) - len(written)
    ahead = [s for s in written if isinstance(s, placement.PrefetchKey)]
    wanted = [False] * outputs + [isinstance(s, placement.PrefetchKey) for s in written]
    small, used = dce_jaxpr(closed.jaxpr, wanted)
    of_states = [s for s, is_used in zip(states, used, strict=False) if is_used]
    for state in of_states:
        if isinstance(state, placement.ImplicitValue):
            raise TraceError(
                f"'{name}': {' and '.join(s.name for s in ahead)} have to be known before the "
                f"program runs, but some are computed from {state.name}, which are fetched later."
            )
    rest = used[len(states) :]
    of_leaves = [i for i, is_used in enumerate(rest[:-1]) if is_used]
    run_small = jaxpr_as_fun(closed.replace(jaxpr=small))
    needs_zero = rest[-1]

    def prefetch_program(values: list[Any], leaves: list[Any]) -> Any:
        return run_small(*values, *leaves, *((ZERO,) if needs_zero else ()))

    return PrefetchProgram(ahead, of_states, of_leaves, jax.jit(prefetch_program))


def _inputs(found: Iterable[State]) -> list[State]:
    """Each Parameter, or the pool that it is in."""
    params: list[Parameter] = []
    with forming:
        for state in found:
            params += [p for _, p in state.members()] if isinstance(state, Pool) else [state]
        placement.current().adopt(params)
        return list(dict.fromkeys(map(state_of, params)))


def _same_kind(state: State, aval: Any) -> bool:
    here = (placement.current().shape(state), state.dtype.np_dtype)
    return aval is not None and (aval.shape, aval.dtype) == here


def _is_parameter(value: Any) -> bool:
    return isinstance(value, Parameter)


class _Dynamic:
    def __repr__(self) -> str:
        return "<array>"


_DYNAMIC = _Dynamic()


def _x64(wide: bool) -> Any:
    return x64_set(True) if wide and not x64_enabled() else tracing.nothing


def jit(
    fn: Callable[..., Any] | None = None,
    *,
    static_argnums: Iterable[int] = (),
    static_argnames: Iterable[str] = (),
    donate: bool = True,
) -> Any:
    """Compile a function of Tensors that may read and write Parameters.

    Parameters, Cells and optimizers that the function reaches need not be passed or declared: they
    are found while it is traced, and written ones are updated when the program has run. Arrays and
    floats are inputs; ints, bools, strings and other objects are constants of the program (one
    program for each value), and so is everything named by `static_argnums` and `static_argnames`.
    Inside another compiled function, or inside a JAX transform, the function just runs.

    A program is compiled for each combination of shapes and dtypes, and again when something in
    the Cells that it went through changes (structure, `set_train`, `requires_grad`, dtypes).

    Args:
        fn: the function, or a Cell.
        static_argnums: positions of arguments that are constants.
        static_argnames: names of arguments that are constants.
        donate: let the program reuse the memory of the Parameters that it writes. With False it
            needs that memory twice, each call waits until the program has ended, and a device that
            fails in the middle (for want of memory, say) leaves every Parameter as it was.

    Raises:
        TypeError: a constant argument is not hashable.
        TraceError: a Parameter is written inside a JAX transform that paramesh does not see.
    """
    if fn is None:
        return functools.partial(
            jit, static_argnums=static_argnums, static_argnames=static_argnames, donate=donate
        )
    if not callable(fn):
        raise TypeError(f"jit takes a function or a Cell, got {type(fn).__name__}.")
    return CompiledFunction(fn, static_argnums, static_argnames, donate=donate)
