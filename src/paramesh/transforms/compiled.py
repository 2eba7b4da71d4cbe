"""`jit`: functions compiled with the Parameters they use as hidden inputs and outputs.

Glossary
    hint        a Parameter that the function will probably use (reachable from its closure); hints
                save a second trace and are never trusted
    entry       one compiled program: for one combination of input shapes, dtypes and static
                arguments, and one guard
    donated     Parameters that are read and written: their arrays are given to the program, which
                reuses the memory
    state       a Parameter, or a pool of many small ones (`parameter/pool.py`)
    lent        an array that somebody besides its Parameter may hold; it is copied, not donated

A run costs one list of arrays in and one out, whatever the network looks like.
"""

from __future__ import annotations

import functools
import sys
import types
import warnings
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from paramesh import context, placement, random, tracing
from paramesh.dtype import is_wide, watch_wide, x64_enabled
from paramesh.parameter import Parameter, Pool, form_waiting, materialise, ranks_of, state_of
from paramesh.promotion import scalar_kind

State = Parameter | Pool

#: So many programs of one function that differ only in a static int are worth a warning.
_MANY_VERSIONS = 16


class Entry:
    """One compiled program and what it takes to run it."""

    __slots__ = (
        "donated",
        "epoch",
        "filled",
        "guard",
        "kept",
        "outputs",
        "params",
        "pooled",
        "pools",
        "program",
        "settings",
        "started",
        "wide",
        "written",
    )

    def __init__(
        self,
        program: Callable[..., Any],
        donated: list[State],
        kept: list[State],
        written: list[State],
        params: list[Parameter],
        outputs: _Outputs,
        guard: tracing.Guard,
        wide: bool,
        pooled: bool,
    ) -> None:
        self.program = program
        self.donated, self.kept, self.written = donated, kept, written
        self.params = params
        self.pools = [state for state in written if isinstance(state, Pool)]
        read = {*donated, *kept}
        #: Written and never read: a recipe of theirs is never run, the write ends it.
        self.filled = [p for p in written if p not in read and not isinstance(p, Pool)]
        self.outputs = outputs
        self.guard = guard
        self.wide = wide
        self.pooled = pooled
        self.settings = _settings()
        self.epoch = tracing.epoch()
        self.started = False

    def current(self) -> bool:
        """Whether the program is still right for the network as it is now."""
        settings, epoch = _settings(), tracing.epoch()
        if self.epoch == epoch and self.settings == settings:
            return True
        if not self.guard.holds(settings):
            return False
        self.epoch, self.settings = epoch, settings
        return True

    def run(self, leaves: list[Any]) -> Any:
        """The outputs for these inputs; written Parameters get their new arrays."""
        if not self.started:
            self._start()
        donated = [p._value for p in self.donated]
        kept = [p._value for p in self.kept]
        # By identity: `None in donated` would compare every array with None.
        if _NONE in map(id, donated) or _NONE in map(id, kept):
            donated = [p._concrete() for p in self.donated]
            kept = [p._concrete() for p in self.kept]
        _own(self.donated, donated)
        place = placement.current()
        leaves = place.place_inputs(leaves)
        if self.pooled:
            leaves = [*leaves, _zero()]
        if self.wide and not x64_enabled():
            with jax.enable_x64(True):
                arrays, values = self.program(donated, kept, leaves)
        else:
            arrays, values = self.program(donated, kept, leaves)
        for param, value in zip(self.written, values, strict=True):
            param._value = value
        for param in self.filled:
            param._recipe = None
        for pool in self.pools:
            pool.stepped()
        place.after_step(self.written)
        return self.outputs.build(arrays)

    def _start(self) -> None:
        materialise([*self.donated, *self.kept])
        for param in self.params:
            param.is_init = True
        self.started = True


def _settings() -> Any:
    return (context.program_key(), placement.current().key)


def _references(values: list[Any]) -> list[int]:
    return list(map(sys.getrefcount, values))


_NONE = id(None)


#: The value of the input that `ranks_of` needs, as it is traced and as it is given.
_ZERO = np.int32(0)


@functools.cache
def _zero() -> Any:
    with jax.core.eval_context():
        return jnp.asarray(_ZERO)


class _Slot:
    __slots__ = ("_value",)


def _alone() -> int:
    """The reference count that `_references` sees of an array that only its Parameter holds."""
    slot = _Slot()
    slot._value = object()
    return _references([slot._value])[0]


_ALONE = _alone()


def _own(params: list[State], values: list[Any]) -> None:
    """Replace in `values` every array that somebody else may hold by a copy."""
    lent = tracing.lent
    any_lent = bool(lent)
    for i, count in enumerate(_references(values)):
        if count > _ALONE or (any_lent and params[i] in lent):
            value = values[i]
            with jax.enable_x64(True) if is_wide(value) else tracing.nothing:
                values[i] = value.copy()
            lent.discard(params[i])


class _Outputs:
    """How a program's arrays become what the function returned."""

    def __init__(self, out: Any) -> None:
        self.arrays: list[Any] = []
        leaves, self._tree = jax.tree_util.tree_flatten(out)
        self._slots: list[tuple[bool, Any]] = []
        for leaf in leaves:
            if isinstance(leaf, jax.Array | np.ndarray):
                self._slots.append((True, None))
                self.arrays.append(leaf)
            else:
                self._slots.append((False, leaf))

    def forget(self) -> None:
        self.arrays = []

    def build(self, arrays: list[Any]) -> Any:
        rest = iter(arrays)
        leaves = [next(rest) if is_array else static for is_array, static in self._slots]
        return jax.tree_util.tree_unflatten(self._tree, leaves)


class CompiledFunction:
    """A function whose calls are compiled; made by `jit`.

    `traces` counts how often the function was traced.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        static_argnums: Iterable[int] = (),
        static_argnames: Iterable[str] = (),
        hints: Callable[[], Iterable[Parameter]] | None = None,
    ) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.__name__: str = getattr(fn, "__name__", type(fn).__name__)
        self.fn = fn
        self.traces = 0
        self._static_argnums = frozenset(static_argnums)
        self._static_argnames = frozenset(static_argnames)
        self._hints = hints or (lambda: parameters_of(fn))
        self._entries: dict[Any, list[Entry]] = {}
        self._warned = False

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
        for entry in self._entries.get(key, ()):
            if entry.current():
                return entry.run(leaves)
        entry = self._trace(leaves, rebuild)
        self._remember(key, entry)
        return entry.run(leaves)

    def trace(self, *args: Any, **kwargs: Any) -> Entry:
        """The compiled program that a call with these arguments would run (made if need be)."""
        call = self._parse(args, kwargs)
        if call is None:
            raise TypeError("trace() takes concrete arguments, not tracers.")
        key, leaves, rebuild = call
        for entry in self._entries.get(key, ()):
            if entry.current():
                return entry
        entry = self._trace(leaves, rebuild)
        self._remember(key, entry)
        return entry

    def _remember(self, key: Any, entry: Entry) -> None:
        versions = self._entries.setdefault(key, [])
        versions[:] = [e for e in versions if e.guard.alive()]
        versions.append(entry)
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

    def _parse(self, args: Any, kwargs: Any) -> Any:
        """(key, dynamic leaves, rebuild), or None if there are tracers among the arguments."""
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
            else:
                slots.append(_hashable(self, leaf))
                continue
            slots.append(_DYNAMIC)
            leaves.append(leaf)
        for name, value in static:
            _hashable(self, value, name)
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

    def _trace(self, leaves: list[Any], rebuild: Callable[..., Any]) -> Entry:
        form_waiting()
        # Whether it draws random numbers is only known afterwards; an input that is not read costs
        # nothing, a second trace does.
        found: dict[Parameter | Pool, None] = {}
        found.update(dict.fromkeys([*self._hints(), random.default_generator().state]))
        wide = any(is_wide(x) for x in leaves if not scalar_kind(x))
        while True:
            # Looked up each time: a pool may have been dissolved because a member outgrew it.
            inputs = _inputs(found)
            wide = wide or any(state.dtype.is_wide() for state in inputs)
            entry, missing, met_wide = self._attempt(inputs, leaves, rebuild, wide)
            if entry is not None:
                return entry
            found.update(missing)
            wide = wide or met_wide

    def _attempt(
        self, states: list[State], leaves: list[Any], rebuild: Callable[..., Any], wide: bool
    ) -> tuple[Entry | None, dict[Any, None], bool]:
        """The program with these inputs, or what it misses and whether it needs 64 bits."""
        attempts: list[tuple[tracing.Program, _Outputs, list[State]]] = []

        def traced(values: list[Any], leaves: list[Any], zero: Any) -> Any:
            given = dict(zip(states, values, strict=True))
            program = tracing.Program(given, ranks_of(states, zero))
            with tracing.entered(program):
                args, kwargs = rebuild(leaves)
                outputs = _Outputs(self.fn(*args, **kwargs))
                results = program.results() if not program.unfit else []
            attempts.append((program, outputs, [state for state, _ in results]))
            return outputs.arrays, [value for _, value in results]

        self.traces += 1
        shapes = [jax.ShapeDtypeStruct(s.shape, s.dtype.np_dtype) for s in states]
        traced.__name__ = getattr(self.fn, "__name__", "program")
        with watch_wide() as marks, _x64(wide):
            closed = jax.make_jaxpr(traced)(shapes, leaves, _ZERO)
            met_wide = marks.wide
        program, outputs, written = attempts[-1]
        outputs.forget()
        for pool in program.unfit:
            pool.dissolve(again=False)
        if program.missing or program.unfit or met_wide > wide:
            return None, program.missing, met_wide
        return self._compile(closed, states, program, written, outputs, wide), {}, met_wide

    def _compile(
        self,
        closed: Any,
        states: list[State],
        program: tracing.Program,
        written: list[State],
        outputs: _Outputs,
        wide: bool,
    ) -> Entry:
        n_out = len(closed.jaxpr.outvars) - len(written)
        after = {s: out.aval for s, out in zip(written, closed.jaxpr.outvars[n_out:], strict=True)}
        donated = [s for s in states if s in program.read and _same_kind(s, after.get(s))]
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
            out = run_jaxpr(*values, *leaves, *(() if pooled else (_ZERO,)))
            return list(out[:n_out]), list(out[n_out:])

        run.__name__ = getattr(self.fn, "__name__", "program")
        guard = tracing.Guard([*program.cells, *program.met, *program.read, *written], _settings())
        compiled = jax.jit(run, donate_argnums=0)
        return Entry(
            compiled, donated, kept, written, list(program.met), outputs, guard, wide, pooled
        )


def _inputs(found: Iterable[State]) -> list[State]:
    """Each Parameter, or the pool that it is in."""
    params: list[Parameter] = []
    for state in found:
        params += [p for _, p in state.members()] if isinstance(state, Pool) else [state]
    return list(dict.fromkeys(map(state_of, params)))


def _same_kind(state: State, aval: Any) -> bool:
    return aval is not None and (aval.shape, aval.dtype) == (state.shape, state.dtype.np_dtype)


def _is_parameter(value: Any) -> bool:
    return isinstance(value, Parameter)


class _Dynamic:
    def __repr__(self) -> str:
        return "<array>"


_DYNAMIC = _Dynamic()


def _x64(wide: bool) -> Any:
    return jax.enable_x64(True) if wide and not x64_enabled() else tracing.nothing


def _hashable(fn: Any, value: Any, name: Any = None) -> Hashable:
    try:
        hash(value)
    except TypeError:
        which = "" if name is None else f" {name!r}"
        raise TypeError(
            f"'{fn.__name__}': argument{which} of type {type(value).__name__} is a constant of the "
            "compiled program and must be hashable. Pass arrays as Tensors, containers as tuples, "
            "lists or dicts of Tensors."
        ) from None
    return value


def jit(
    fn: Callable[..., Any] | None = None,
    *,
    static_argnums: Iterable[int] = (),
    static_argnames: Iterable[str] = (),
) -> Any:
    """Compile a function of Tensors that may read and write Parameters.

    Parameters, Cells and optimizers that the function reaches need not be passed or declared: they
    are found while it is traced, and written ones are updated when the program has run. Arrays and
    floats are inputs; ints, bools, strings and other objects are constants of the program (one
    program for each value), and so is everything named by `static_argnums` and `static_argnames`.
    Inside another compiled function, or inside a JAX transform, the function just runs.

    A program is compiled for each combination of shapes and dtypes, and again when something in
    the Cells that it went through changes (structure, `set_train`, `requires_grad`, dtypes).

    Raises:
        TypeError: a constant argument is not hashable.
        TraceError: a Parameter is written inside a JAX transform that paramesh does not see.
    """
    if fn is None:
        return functools.partial(
            jit, static_argnums=static_argnums, static_argnames=static_argnames
        )
    if not callable(fn):
        raise TypeError(f"jit takes a function or a Cell, got {type(fn).__name__}.")
    return CompiledFunction(fn, static_argnums, static_argnames)


def parameters_of(thing: Any, depth: int = 4) -> list[Parameter]:
    """Parameters that a function, Cell, optimizer or container leads to: hints for `jit`."""
    found: dict[Parameter, None] = {}
    _collect(thing, depth, found, set())
    return list(found)


def _collect(thing: Any, depth: int, found: dict[Parameter, None], seen: set[int]) -> None:
    if depth < 0 or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Parameter):
        found[thing] = None
        return
    reachable = getattr(type(thing), "_reachable_parameters", None)
    if reachable is not None:
        found.update(dict.fromkeys(reachable(thing)))
    elif isinstance(thing, CompiledFunction):
        _collect(thing.fn, depth, found, seen)
    elif isinstance(thing, types.MethodType):
        _collect(thing.__self__, depth, found, seen)
    elif isinstance(thing, functools.partial):
        for item in (thing.func, *thing.args, *thing.keywords.values()):
            _collect(item, depth - 1, found, seen)
    elif isinstance(thing, types.FunctionType):
        names = thing.__code__.co_names
        items = [thing.__globals__[n] for n in names if n in thing.__globals__]
        for cell in thing.__closure__ or ():
            try:
                items.append(cell.cell_contents)
            except ValueError:  # not yet assigned
                continue
        for item in items:
            _collect(item, depth - 1, found, seen)
    elif isinstance(thing, list | tuple | set):
        for item in list(thing)[:1000]:
            _collect(item, depth - 1, found, seen)
    elif isinstance(thing, dict):
        for item in list(thing.values())[:1000]:
            _collect(item, depth - 1, found, seen)
