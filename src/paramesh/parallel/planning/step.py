"""A program for the devices of a target, with the layouts that a search found, uncompiled.

The function is traced as `auto_parallel` traces it, for devices that need not exist. Nothing is
computed and nothing is kept: Parameters stay recipes, and the layouts that they have for their own
devices stay theirs.
"""

from __future__ import annotations

import collections
import dataclasses
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, SingleDeviceSharding

from paramesh import context
from paramesh._compat.jax import ClosedJaxpr, Jaxpr, dtype_of
from paramesh.dtype import x64_if
from paramesh.errors import ContextError
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.parameter_layouts import Finding
from paramesh.parallel.modes.auto import Auto
from paramesh.parallel.partitioning.rewriting import rewritten
from paramesh.parallel.partitioning.rules import has_own_rule, own_partitioning
from paramesh.parallel.planning.devices import TargetDevices
from paramesh.parallel.search.apply import applied
from paramesh.parallel.search.graph import inner_program, live
from paramesh.parallel.search.plan import Plan, Program, find
from paramesh.parallel.search.rules import flops_of
from paramesh.parallel.search.targets import Target
from paramesh.parameter import Parameter
from paramesh.state import placement, tracing
from paramesh.transforms.compiled_function import CompiledFunction
from paramesh.transforms.executable import ZERO, Executable


class Planning(Auto):
    """`auto_parallel` over devices of a target.

    Args:
        on: the devices.
        target: what they can do; None for what is published of them.
        memory: bytes that a device may hold of what the model counts; None for no limit.
    """

    def __init__(
        self, on: TargetDevices, target: Target | None = None, memory: float | None = None
    ) -> None:
        super().__init__(on.devices, "auto_parallel")
        self._on, self._target, self._limit = on, target or on.target, memory
        self.key = (*self.key, "planned", on.name, memory)
        self._save_to = None
        self._learned: weakref.WeakKeyDictionary[Parameter, Finding] = weakref.WeakKeyDictionary()
        self.plan: Plan | None = None
        self.dtype = ""

    @property
    def platform(self) -> str:
        """Of the target."""
        return platform_of(self.devices[0])

    def place_inputs(self, leaves: list[Any]) -> list[Any]:
        """The inputs as they are: no device of the target holds anything."""
        return leaves

    def _finding(self, param: Parameter) -> Finding | None:
        running = self._thread.found
        if running is not None and param in running:
            return running[param]
        return self._learned.get(param) or self._layouts.said(param, self._basis)

    def _keep(self, found: dict[Parameter, Finding], states: Sequence[Any]) -> None:
        self._learned.update(found)

    def rewritten(self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any]) -> Any:
        """The program with the layouts of the best plan."""
        closed = live(closed)
        program = dataclasses.replace(self._program(closed, states, written), hosts=self._on.hosts)
        self.dtype = dtype_of_products(closed)
        target = self._target.of_dtype(self.dtype)
        self.plan = plan = find(program, target, self._limit)
        self._learn(plan, states, program)
        if self.count > 1:
            closed = applied(closed, plan.problem, plan.solution.choice, self.mesh, program.tied)
            closed = rewritten(closed, has_own_rule, own_partitioning(self.mesh, self.platform))
        return closed

    def _learn(self, plan: Plan, states: Sequence[Any], program: Program) -> None:
        for number, state in enumerate(states):
            if number not in program.given and state.shape:
                self._learned[state] = Finding(
                    plan.layout(number), "the search", True, self._basis, "training"
                )
        self._forget()
        self._shardings.clear()

    def inputs(self, shapes: Sequence[tuple[int, ...]]) -> list[NamedSharding | None]:
        """The shardings of the inputs of a program."""
        return self._inputs.of_global(shapes)


def platform_of(device: Any) -> str:
    """The platform of a device as `jax.default_backend` calls it."""
    return "gpu" if device.platform in ("cuda", "rocm", "gpu") else device.platform


def dtype_of_products(closed: ClosedJaxpr) -> str:
    """The element type in which a program computes the most products."""
    found: collections.Counter[str] = collections.Counter()

    def walk(jaxpr: Jaxpr, times: int) -> None:
        for eqn in jaxpr.eqns:
            flops = flops_of(eqn)
            if flops:
                found[str(dtype_of(eqn.invars[0]))] += int(times * flops)
            inner = inner_program(eqn)
            if inner is not None:
                walk(inner[0], times)
            elif eqn.primitive.name == "scan":
                walk(eqn.params["jaxpr"].jaxpr, times * eqn.params["length"])

    walk(closed.jaxpr, 1)
    return found.most_common(1)[0][0] if found else "float32"


@dataclass(frozen=True)
class PlannedProgram:
    """A program for a target.

    Attributes:
        name: of the function.
        on: the devices.
        plan: that the search found.
        entry: the program as paramesh runs it.
        lowered: the `jax.stages.Lowered`.
        states: (Parameter, its sharding) of those that the program takes.
        inputs: (shape and element type, sharding) of the arrays that are passed.
        layouts: of the states; None if replicated.
        dtype: the element type of most products.
    """

    name: str
    on: TargetDevices
    plan: Plan
    entry: Executable
    lowered: jax.stages.Lowered
    states: tuple[tuple[Any, Any], ...]
    inputs: tuple[tuple[jax.ShapeDtypeStruct, Any], ...]
    layouts: tuple[Layout | None, ...]
    dtype: str


def planned_program(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    on: TargetDevices,
    target: Target | None = None,
    memory: float | None = None,
) -> PlannedProgram:
    """Search the layouts of a call for the devices of a target, and lower the program.

    Args:
        fn: what `paramesh.jit` compiles: a function, or a CompiledFunction.
        args: of the call; a `jax.ShapeDtypeStruct` may stand for a Tensor.
        kwargs: of the call.
        on: the devices.
        target: what they can do; None for what is published.
        memory: bytes that a device may hold of what the model counts.

    Raises:
        LayoutError: what was given contradicts itself, or nothing fits into the memory.
        ContextError: the settings ask for a parameter server.
    """
    if context.get_ps_context("enable_ps"):
        raise ContextError(
            "plan: Parameters on parameter servers (enable_ps=True) are on no device of a target. "
            "Plan with set_ps_context(enable_ps=False)."
        )
    place = Planning(on, target, memory)
    compiled = _of_its_own(fn)
    before = placement.use(place)
    try:
        _, entry, leaves = compiled._traced(tuple(args), dict(kwargs))
        if place.plan is None:
            raise AssertionError("a trace without a plan")
        return _lowered(compiled.__name__, place, entry, leaves)
    finally:
        placement.use(before)
        tracing.bump_version()


def _of_its_own(fn: Callable[..., Any]) -> CompiledFunction:
    """The function with programs of its own, so that those of its caller stay as they are."""
    if not isinstance(fn, CompiledFunction):
        return CompiledFunction(fn, kept_with=object())
    return CompiledFunction(
        fn.fn,
        fn.static_argnums,
        fn.static_argnames,
        hints=fn._hints,
        donate=fn._donate,
        kept_with=object(),
    )


def _lowered(name: str, place: Planning, entry: Executable, leaves: list[Any]) -> PlannedProgram:
    assert place.plan is not None
    alone = SingleDeviceSharding(place.devices[0]) if place.count == 1 else None
    # The placement has no pools: each state is a Parameter.
    taken = [s for s in (*entry.donated, *entry.kept) if isinstance(s, Parameter)]
    states = [(state, alone or place.sharding_of(state)) for state in taken]
    structs = [
        jax.ShapeDtypeStruct(state.shape, state.dtype.np_dtype, sharding=sharding)
        for state, sharding in states
    ]
    everywhere = alone or NamedSharding(place.mesh, jax.sharding.PartitionSpec())
    places = place.inputs([np.shape(leaf) for leaf in leaves])
    inputs: list[Any] = []
    shown: list[tuple[jax.ShapeDtypeStruct, Any]] = []
    for leaf, sharding in zip(leaves, places, strict=True):
        if isinstance(leaf, float | complex):
            inputs.append(leaf)
            continue
        where = alone or sharding or everywhere
        weak = bool(getattr(leaf, "weak_type", False))
        inputs.append(
            jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype, sharding=where, weak_type=weak)
        )
        shown.append((jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype), where))
    if entry.pooled:
        inputs.append(ZERO)
    donated = len(entry.donated)
    with x64_if(entry.use_64bit):
        program: Any = entry.program
        lowered = program.lower(structs[:donated], structs[donated:], inputs)
    return PlannedProgram(
        name,
        place._on,
        place.plan,
        entry,
        lowered,
        tuple(states),
        tuple(shown),
        tuple(place.layout_of(state) for state, _ in states),
        place.dtype,
    )
