"""auto_parallel: the layouts that a search finds, in the place of strategies that somebody gives.

A program is traced as in the semi-automatic mode, with what was given pinned. Then all of it,
gradients and optimizer included, is searched (`search/`), the layouts that were found become those
of its Parameters and inputs, and the program is pinned to them.

What was given stays: strategies of operators and Cells, layouts of Parameters, strategy files and
`dataset_strategy` restrict the search. A layout that was found for a program that trains stays
too, for the programs that come later; one that was found for a program that only reads gives way
to training.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import Any

from paramesh import context
from paramesh._compat.jax import ClosedJaxpr, shape_of
from paramesh.parallel.layouts.parameter_layouts import Finding
from paramesh.parallel.modes.semi_auto import SemiAuto
from paramesh.parallel.partitioning.rewriting import rewritten
from paramesh.parallel.partitioning.rules import has_own_rule, own_partitioning
from paramesh.parallel.search.apply import applied
from paramesh.parallel.search.graph import live
from paramesh.parallel.search.machine import target_of
from paramesh.parallel.search.plan import Given, Plan, Program, find
from paramesh.parallel.search.report import Explanation
from paramesh.parameter import Parameter
from paramesh.state import tracing

#: The values of `search_mode` that search; both are the same exact search.
SEARCHES = ("recursive_programming", "dynamic_programming")


class Auto(SemiAuto):
    """Parameters and values sharded as a search finds best.

    Args:
        devices: of all processes, by rank.
        mode: `auto_parallel`.
    """

    def __init__(self, devices: Sequence[Any], mode: str) -> None:
        super().__init__(devices, mode)
        self._memory = context.get_auto_parallel_context("device_memory")
        self.key = (*self.key, "search", self._memory)
        self._basis = (self.key, self._basis[1])
        #: The last plan that each Parameter is in.
        self._plans: weakref.WeakKeyDictionary[Parameter, Plan] = weakref.WeakKeyDictionary()

    def _written(self, state: Any, value: object) -> Any:
        """A new value of a state; where it lives is to be found, unless somebody gave it."""
        finding = self._finding(state)
        if finding is None or finding.searched:
            return value
        return super()._written(state, value)

    def reduce_gradients(
        self,
        params: Sequence[Parameter],
        grads: Sequence[Any],
        mean: bool | None = None,
        degree: int | None = None,
    ) -> list[Any]:
        """The gradients, of the global batch already; their shardings are to be found."""
        return list(grads)

    def rewritten(self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any]) -> Any:
        """The program with the layouts of the best plan.

        Raises:
            LayoutError: what was given contradicts itself, or nothing fits into the memory.
        """
        if self.count == 1:
            return closed
        closed = live(closed)
        program = self._program(closed, states, written)
        first = self.devices[0]
        plan = find(program, target_of(first.platform, first.device_kind), self._memory)
        new = applied(closed, plan.problem, plan.solution.choice, self.mesh, program.tied)
        new = rewritten(new, has_own_rule, own_partitioning(self.mesh, self.platform))
        # Last: what is learnt is given to later searches, and an interrupted one has no say.
        self._learn(plan, states, program)
        return new

    def plan_of(self, params: Sequence[Parameter]) -> Explanation | None:
        """The plan that most of these Parameters are in; None before there is one."""
        plans = [self._plans[p] for p in params if p in self._plans]
        if not plans:
            return None
        return Explanation(max(plans, key=lambda plan: len(plan.program.tied)))

    def _program(
        self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any]
    ) -> Program:
        outputs = len(closed.jaxpr.outvars) - len(written)
        place = {state: number for number, state in enumerate(states)}
        tied: dict[int, int] = {}
        for number, state in enumerate(written):
            source = place.get(state)
            var = closed.jaxpr.outvars[outputs + number]
            if source is not None and shape_of(var) == shape_of(closed.jaxpr.invars[source]):
                tied[outputs + number] = source
        trains = any(states[number].requires_grad for number in tied.values())
        given: dict[int, Given] = {}
        for number, state in enumerate(states):
            finding = self._finding(state)
            if finding is None or (trains and finding.searched == "reading"):
                continue
            sharding = finding.layout.sharding(self.mesh, state.name)
            given[number] = Given(sharding, finding.reason)
        leaves = closed.jaxpr.invars[len(states) :]
        places = self._inputs.of_global([shape_of(var) for var in leaves])
        for number, sharding in enumerate(places, start=len(states)):
            if sharding is not None:
                given[number] = Given(sharding, "dataset_strategy")
        return Program(
            closed,
            (*(state.name for state in states), *[""] * len(leaves)),
            tied,
            given,
            tuple(device.id for device in self.devices),
            len({device.process_index for device in self.devices}),
        )

    def _learn(self, plan: Plan, states: Sequence[Any], program: Program) -> None:
        """Take over the layouts of a plan as those of the Parameters."""
        trains = any(states[number].requires_grad for number in program.trained())
        kind = "training" if trains else "reading"
        moved = False
        for number, state in enumerate(states):
            self._plans[state] = plan
            if number in program.given or not state.shape:
                continue
            finding = Finding(plan.layout(number), "the search", True, self._basis, kind)
            if state._found != finding:
                state._found = finding
                moved = True
        if moved:
            tracing.bump_version()
        self._met.update(states)
        self._save()
