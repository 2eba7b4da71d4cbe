"""`jit`: functions compiled with the Parameters they use as implicit inputs and outputs.

Glossary
    hint        a Parameter that the function will probably use (reachable from its closure); hints
                save a second trace and are never trusted
    executable  one compiled program: for one combination of input shapes, dtypes and static
                arguments, and one guard
    state       a Parameter, or a pool of many small ones (`parameter/pool.py`)
"""

from __future__ import annotations

import functools
import sys
import threading
import types
import warnings
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, cast, overload

import jax

from paramesh import context, random, tracebacks
from paramesh._compat.jax import (
    NOT_FINITE,
    mesh_is_entered,
    no_mesh,
    settings_of_traces,
    without_programs,
)
from paramesh.array_types import ArrayLike
from paramesh.dtype import is_64bit
from paramesh.errors import CompiledWarning, TraceError, UncompiledWarning, ValueNeededError
from paramesh.parameter import Parameter, Pool, form_waiting
from paramesh.providers import providers
from paramesh.state import placement, trace_scope, tracing
from paramesh.tensor.promotion import scalar_kind
from paramesh.transforms.branch_effects import ControlFlowError
from paramesh.transforms.call_arguments import parse_call, parse_concrete, without_values
from paramesh.transforms.compilation import attempt, inputs_of
from paramesh.transforms.executable import Executable
from paramesh.transforms.handoff import Superseded
from paramesh.transforms.not_finite import located
from paramesh.transforms.outside import Watch
from paramesh.transforms.reachability import containers_of, is_cell, parameters_of
from paramesh.transforms.retracing import Retracing
from paramesh.transforms.stages import Lowered
from paramesh.transforms.static_arguments import programs_of

#: For how many values of a number outside of it a function is compiled.
_MANY_VALUES = 4
#: This many programs of one function that differ only in a static int are worth a warning.
_MANY_VERSIONS = 16


#: Called with a function, its program and its arguments before a new program runs for the first
#: time; what plans a script, and does not run its training, sets it.
before_first_run: Callable[[CompiledFunction, Executable, Any, Any], object] | None = None


class _Thread(threading.local):
    #: Whether this thread is inside of a function that cannot be compiled.
    by_operators = False


_thread = _Thread()

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")


def _only_by_operators(error: Exception) -> bool:
    """Whether what ended a trace is no error where operators run one by one, as they may here."""
    if providers.by_operators:
        return isinstance(error, TraceError | ControlFlowError)
    return isinstance(error, ValueNeededError)


class CompiledFunction(Generic[P, R]):
    """A function whose calls are compiled; made by `jit`.

    `traces` counts how often the function was traced through this object. The programs are kept
    with the function, so that a `jit` of it in a loop compiles once.
    """

    def __init__(
        self,
        fn: Callable[P, R],
        static_argnums: Iterable[int] = (),
        static_argnames: Iterable[str] = (),
        hints: Callable[[], Iterable[Parameter]] | None = None,
        donate: bool = True,
        kept_with: object = None,
        way: Hashable = None,
    ) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.__name__: str = getattr(fn, "__name__", type(fn).__name__)
        self.fn = fn
        self.traces = 0
        self.static_argnums = frozenset(static_argnums)
        self.static_argnames = frozenset(static_argnames)
        self._hints = hints or (lambda: parameters_of(fn))
        self._donate = donate
        way = (self.static_argnums, self.static_argnames, donate, way)
        self._executables: dict[Any, list[Executable]] = programs_of(
            fn if kept_with is None else kept_with, way
        )
        self._warned = False
        #: The arguments for which there is no program, because a shape depends on values.
        self._uncompiled: set[Hashable] = set()

    def __reduce__(self) -> str | tuple[Any, ...]:
        # Programs are compiled again in a copy. A decorated function is found by its name.
        name: str = getattr(self, "__qualname__", "")
        found: Any = sys.modules.get(self.__module__)
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is self:
            return name
        return _again, (self.fn, self.static_argnums, self.static_argnames, self._donate)

    def _function_inside(self) -> Any:
        return self.fn

    @overload
    def __get__(self, instance: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(
        self: CompiledFunction[Concatenate[Any, Q], R], instance: object, owner: type | None = None
    ) -> Callable[Q, R]: ...
    def __get__(self, instance: object | None, owner: type | None = None) -> Any:
        return self if instance is None else types.MethodType(self, instance)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the program for these arguments, compiled first if there is none."""
        __tracebackhide__ = True  # in notebooks, as the other frames of paramesh
        if tracing.current() is not None:
            return self.fn(*args, **kwargs)
        call = parse_call(self, args, kwargs)
        if call is None:  # inside a JAX transform of the user: run as part of it
            return self.fn(*args, **kwargs)
        arguments, leaves, rebuild = call
        key = (arguments, settings_of_traces())
        scope = trace_scope.thread.scope
        if key in self._uncompiled:
            return self._by_operators(args, kwargs)
        held: list[tuple[Any, Any]] = []
        while True:
            try:
                for executable in self._executables.get(key, ()):
                    if executable.current():
                        return executable.run(leaves)
                if without_programs():
                    return self._not_compiled(args, kwargs)
                if placement.current().count > 1 and mesh_is_entered():
                    with no_mesh():  # the program's devices are a mesh of its own
                        return self(*args, **kwargs)
                # A function that runs anew must not have run before for what it appends to.
                held = held or [(found, found.copy()) for found in containers_of(self.fn)]
                executable = self._watched_trace(key, leaves, rebuild)
                if before_first_run is not None:  # what it does not let run is not remembered
                    before_first_run(self, executable, args, kwargs)
                self._remember(key, executable)
                return executable.run(leaves)
            except NOT_FINITE as error:  # of jax_debug_nans
                tracing.thread.frame, trace_scope.thread.scope = None, scope
                raise self._located(error, leaves, rebuild) from None
            except Superseded:  # another thread changed the network in the meantime
                continue
            except Exception as error:
                # A condition over Tensors: converted, if it can be, and traced anew.
                if isinstance(error, TraceError) and providers.convert_control_flow(error):
                    trace_scope.give_back(held)
                    continue
                if _only_by_operators(error) and placement.current().count == 1:
                    trace_scope.give_back(held)
                    self._warn_of(error)
                    break
                tracebacks.shorten(error)
                raise
            finally:  # see `tracing.public_call`
                tracing.thread.frame, trace_scope.thread.scope = None, scope
        found = self._by_operators(args, kwargs)
        self._uncompiled.add(key)
        return found

    def _not_compiled(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run under `jax.disable_jit()`: by operators, where devices need no program."""
        if not placement.current().needs_programs:
            return self._by_operators(args, kwargs)
        warnings.warn(
            f"'{self.__name__}' runs as a compiled program, under jax.disable_jit() too: it runs "
            f"over {placement.current().count} devices, which meet in a program.",
            CompiledWarning,
            stacklevel=4,
        )
        with jax.disable_jit(False):
            return self(*args, **kwargs)

    @tracing.public_call
    def _by_operators(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run without a program, as in PyNative mode: a shape depends on values."""
        outermost = not _thread.by_operators
        _thread.by_operators = True
        try:
            return tracing.together(lambda: self.fn(*args, **kwargs))
        finally:
            if outermost:
                _thread.by_operators = False

    def _warn_of(self, error: Exception) -> None:
        if _thread.by_operators:  # part of a function that has said so
            return
        reason = str(error).partition("\n")[0]
        warnings.warn(
            f"'{self.__name__}' cannot be compiled, and runs operator by operator: {reason}",
            UncompiledWarning,
            stacklevel=4,
        )

    def _located(
        self, error: Exception, leaves: list[Any], rebuild: Callable[..., Any]
    ) -> Exception:
        def run() -> None:
            args, kwargs = rebuild(leaves)
            cast(Callable[..., object], self.fn)(*args, **kwargs)

        return located(error, run, self.fn)

    def prefetch(self, *args: Any, **kwargs: Any) -> None:
        """Announce, before a call, the arguments of the call after it.

        Where rows of tables live on parameter servers in other processes, or are cached on this
        device (`vocab_cache_size`), the rows for that call are requested before this one has ended.
        It is only a hint: it changes no result, and an announced call that is never made only costs
        time.
        """
        if tracing.current() is not None or not placement.current().prefetches:
            return
        call = parse_call(self, args, kwargs)
        if call is None:
            return
        for executable in self._executables.get((call[0], settings_of_traces()), ()):
            if executable.current():
                executable.announce(call[1])

    def trace(self, *args: Any, **kwargs: Any) -> Executable:
        """The compiled program that a call with these arguments would run (compiled if needed)."""
        return self._traced(args, kwargs)[1]

    @tracing.public_call
    def _traced(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Hashable, Executable, list[ArrayLike]]:
        arguments, leaves, rebuild = parse_concrete(self, args, kwargs)
        key = (arguments, settings_of_traces())
        for executable in self._executables.get(key, ()):
            if executable.current():
                return arguments, executable, leaves
        executable = self._trace(leaves, rebuild)
        self._remember(key, executable)
        return arguments, executable, leaves

    def lower(self, *args: Any, **kwargs: Any) -> Lowered:
        """The program for these arguments before it is compiled.

        `f.lower(x).compile()` has `cost_analysis()` and `memory_analysis()`, and can be called.
        `f.lower(x).compile(target="h100:8")` is the program for devices that need not be there.

        Args:
            *args: as for a call; a `jax.ShapeDtypeStruct` may stand for a Tensor.
            **kwargs: likewise.
        """
        call = without_values(self, args, kwargs)
        return Lowered(
            self.__name__,
            functools.partial(parse_call, self),
            functools.partial(self._traced, args, kwargs),
            functools.partial(providers.lowered_for_target, self, *call),
        )

    def written(self) -> set[Parameter] | None:
        """The Parameters that the programs so far write; None if there is none."""
        programs = [e for versions in self._executables.values() for e in versions]
        if not programs:
            return None
        states = {state for program in programs for state in program.written}
        pooled = {p for state in states if isinstance(state, Pool) for _, p in state.entries()}
        return {state for state in states if isinstance(state, Parameter)} | pooled

    def _remember(self, key: Hashable, executable: Executable) -> None:
        versions = self._executables.setdefault(key, [])
        versions[:] = [e for e in versions if e.guard.alive()]
        versions.append(executable)
        if len(versions) > _MANY_VERSIONS:
            del versions[0]
            if not self._warned:
                self._warned = True
                what = " and ".join(versions[-1].guard.differences(versions[-2].guard))
                warnings.warn(
                    f"'{self.__name__}' has been compiled more than {_MANY_VERSIONS} times for the "
                    f"same arguments: {what or 'a setting'} changes between its calls. Attributes "
                    "of Cells are constants of a program; make what changes a Parameter "
                    "(requires_grad=False), or pass it as an argument.",
                    stacklevel=4,
                )
        if len(self._executables) == _MANY_VERSIONS and not self._warned:
            self._warned = True
            shapes = {arguments[1] for arguments, _ in self._executables}
            if len(shapes) == 1:
                warnings.warn(
                    f"'{self.__name__}' has been compiled {_MANY_VERSIONS} times for different "
                    "python values of the same arguments. ints, bools and strings are constants "
                    "of a program; pass a Tensor (or a float) for a number that changes.",
                    stacklevel=4,
                )

    def _watched_trace(
        self, key: Hashable, leaves: list[ArrayLike], rebuild: Callable[..., Any]
    ) -> Executable:
        """Trace; under `paramesh run`, refuse what changes or reads changing values of python.

        A script that chooses graph mode has MindSpore trace once, as here.
        """
        in_graphs = context.was_given("mode") and (
            context.get_context("mode") == context.GRAPH_MODE
        )
        if not providers.by_operators or in_graphs or placement.current().count > 1:
            return self._trace(leaves, rebuild)
        watch = Watch(self.__name__, self)
        known = [e.outside for e in self._executables.get(key, ()) if e.outside is not None]
        values = [name for outside, v in known if (name := outside.changed(v)) is not None]
        if len(values) >= _MANY_VALUES:
            raise TraceError(f"'{self.__name__}' reads {values[-1]}, which changes between calls.")
        watch.begin()
        try:
            executable = self._trace(leaves, rebuild)
        except TraceError:
            watch.restore()
            raise
        watch.check()
        executable.outside = (watch.outside, watch.values)
        return executable

    def _trace(self, leaves: list[ArrayLike], rebuild: Callable[..., Any]) -> Executable:
        form_waiting()
        # Whether it uses random numbers is only known afterwards; an input that is not read costs
        # nothing, a second trace does.
        found: dict[Parameter | Pool, None] = {}
        found.update(dict.fromkeys([*self._hints(), random.default_generator().state]))
        if self._executables:  # for other arguments or settings: it will use the same again
            versions = next(reversed(self._executables.values()))
            params = versions[-1].params if versions else []
            # Not the values of a placement, of which each program has its own.
            found.update(dict.fromkeys(p for p in params if isinstance(p, Parameter)))
        for cell in filter(is_cell, jax.tree_util.tree_leaves(rebuild(leaves))):
            found.update(dict.fromkeys(parameters_of(cell)))
        use_64bit = any(is_64bit(x) for x in leaves if not scalar_kind(x))
        retracing = Retracing(self.__name__)
        while True:
            # Looked up each time: a pool may have been dissolved because an entry changed its
            # shape.
            inputs = inputs_of(found)
            use_64bit = use_64bit or any(state.dtype.is_64bit() for state in inputs)
            try:
                self.traces += 1
                with trace_scope.enter(self.__name__, compiled=True) as scope:
                    executable, missing, met_64bit = attempt(
                        self.fn, self._donate, inputs, leaves, rebuild, use_64bit
                    )
                retracing.trace(scope, missing, met_64bit > use_64bit, done=executable is not None)
            except BaseException:
                retracing.restore()
                raise
            if executable is not None and retracing.stable:
                return executable
            found.update(missing)
            use_64bit = use_64bit or met_64bit


def _again(
    fn: Callable[..., Any], numbers: Iterable[int], names: Iterable[str], donate: bool
) -> CompiledFunction:
    return CompiledFunction(fn, numbers, names, donate=donate)


@overload
def jit(
    fn: Callable[P, R],
    *,
    static_argnums: Iterable[int] = (),
    static_argnames: Iterable[str] = (),
    donate: bool = True,
) -> CompiledFunction[P, R]: ...
@overload
def jit(
    *,
    static_argnums: Iterable[int] = (),
    static_argnames: Iterable[str] = (),
    donate: bool = True,
) -> Callable[[Callable[P, R]], CompiledFunction[P, R]]: ...
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
            fails during the call (out of memory, for example) leaves every Parameter unchanged.

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
