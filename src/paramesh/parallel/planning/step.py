"""A program for the devices of a target, with the layouts that a search found, uncompiled.

The function is traced as `auto_parallel` traces it, for devices that need not exist. Nothing is
computed and nothing is kept: Parameters stay recipes, and the layouts that they have for their own
devices stay theirs.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.sharding import Sharding, SingleDeviceSharding

from paramesh._compat.jax import ClosedJaxpr, Jaxpr, dtype_of
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.layouts.parameter_layouts import Finding
from paramesh.parallel.modes.auto import Auto
from paramesh.parallel.partitioning.rewriting import rewritten
from paramesh.parallel.partitioning.rules import has_own_rule, own_partitioning
from paramesh.parallel.planning.devices import TargetDevices
from paramesh.parallel.planning.lowering import lowered_over, refuse_servers, refuse_stages
from paramesh.parallel.planning.placements import GlobalViewOfTarget
from paramesh.parallel.planning.placements import platform_of as platform_of
from paramesh.parallel.search.apply import applied
from paramesh.parallel.search.graph import inner_program, live
from paramesh.parallel.search.plan import Plan, Program, find
from paramesh.parallel.search.rules import flops_of
from paramesh.parallel.search.targets import Target
from paramesh.parameter import Parameter
from paramesh.transforms.executable import Executable


class Planning(GlobalViewOfTarget, Auto):
    """`auto_parallel` over devices of a target.

    Args:
        on: the devices.
        target: what they can do; None for what is published of them.
        memory: bytes that a device may hold of what the model counts; None for no limit.
    """

    def __init__(
        self, on: TargetDevices, target: Target | None = None, memory: float | None = None
    ) -> None:
        super().__init__(on, "auto_parallel")
        self._on, self._target, self._limit = on, target or on.target, memory
        self.key = (*self.key, "planned", memory)
        self.plan: Plan | None = None
        self.dtype = ""

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

    def state_sharding(self, state: object) -> Sharding:
        """Where a state lies."""
        return self._alone_or(super().state_sharding(state))

    def input_shardings(self, leaves: Sequence[Any]) -> list[Sharding]:
        """Where inputs lie.

        Raises:
            LayoutError: `dataset_strategy` does not fit them.
        """
        return [self._alone_or(sharding) for sharding in super().input_shardings(leaves)]

    def _alone_or(self, sharding: Sharding) -> Sharding:
        return SingleDeviceSharding(self.devices[0]) if self.count == 1 else sharding


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
    states: tuple[tuple[Parameter, Sharding], ...]
    inputs: tuple[tuple[jax.ShapeDtypeStruct, Sharding], ...]
    layouts: tuple[Layout | None, ...]
    dtype: str


def planned_program(
    fn: Callable[..., Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
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
    refuse_servers("plan")
    refuse_stages("plan")
    place = Planning(on, target, memory)
    call = lowered_over(place, fn, args, kwargs)
    if place.plan is None:
        raise AssertionError("a trace without a plan")
    # The placement has no pools: each state is a Parameter, or it is on a server.
    states = tuple(pair for pair in call.states if isinstance(pair[0], Parameter))
    layouts = tuple(place.layout_of(state) for state, _ in states)
    return PlannedProgram(
        call.name, on, place.plan, call.entry, call.stage, states, call.inputs, layouts, place.dtype
    )
