"""A whole program, divided into tasks of the stages.

Glossary
    free        of equations: made of Parameters and inputs alone, so that every task that needs the
                result computes it for itself
    level       tasks of one level do not wait for each other; those of a higher one wait for lower
                ones, a loop over micro-batches for all below it
    home        of a Parameter: the stage on whose devices it is

What is not free is computed where most of its operands are. So the update of a Parameter follows
its gradient, and the Parameter and the optimizer's state have their homes where their update is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from paramesh._compat.jax import Atom, ClosedJaxpr, JaxprEqn, Literal, dtype_of, shape_of
from paramesh.errors import LayoutError
from paramesh.parallel.partitioning.rewriting import contains
from paramesh.parallel.pipeline.loop import PIN, LoopPlan, is_loop, nested
from paramesh.parallel.pipeline.marks import ENTER, is_mark
from paramesh.parallel.pipeline.tasks import Graph, Part

#: (level, stage) of a task.
Key = tuple[float, int]


@dataclass
class Last:
    """A task on whose results nothing waits: it makes new values of states.

    Attributes:
        stage: where.
        part: the task.
        written: for each of its results, the place among the states that are written.
        donated: the states, by place among those taken, whose memory it may use again.
    """

    stage: int
    part: Part
    written: list[int]
    donated: list[int]


class Division:
    """The tasks and loops of a program.

    Args:
        closed: the traced program; its inputs are the values of the states, then the others.
        states: the states whose values it takes.
        written: the states of its last outputs.
        stages: how many stages there are.
        following: Parameters that may be used between stages: they belong to the one before.

    Attributes:
        graph: of the program.
        inputs, outputs: its variables.
        first_written: the place of the first new value of a state among the outputs.
        parts: {(level, stage): part}, without what is in `last`.
        last: what makes the new values of states.
        loops: {level: [(equation, plan)]}.
        homes: the stage of each state that the program uses, by its place in `states`.
        results: for each output, the stage that gives it.

    Raises:
        LayoutError: as `LoopPlan`; a stage inside of a loop, a branch or recompute.
    """

    def __init__(
        self,
        closed: ClosedJaxpr,
        states: Sequence[Any],
        written: Sequence[Any],
        stages: int,
        following: Container[object] = (),
    ) -> None:
        self.stages = stages
        self._following = following
        self.graph = Graph(closed.jaxpr, closed.consts)
        self.inputs = list(closed.jaxpr.invars)
        self.outputs = list(closed.jaxpr.outvars)
        self._states = dict(zip(self.inputs, states, strict=False))
        self.first_written = len(self.outputs) - len(written)
        #: {id of a state: the place of its new value among the outputs}.
        self._new = {
            id(state): self.first_written + at
            for at, state in enumerate(written)
            if not isinstance(self.outputs[self.first_written + at], Literal)
        }
        self._input_set = set(self.inputs)
        #: {x of a loop: input of the program} where the x is the input, cut into micro-batches.
        self.cut: dict[Any, Any] = {}
        live = self.graph.live(self.outputs)
        #: {variable: (level, stage)} of what is not free.
        self.place: dict[Any, Key] = {}
        self._after_loop: set[Any] = set()
        self.free: dict[int, None] = {}
        self.loops: dict[float, list[tuple[Any, LoopPlan]]] = {}
        own: dict[Key, list[int]] = {}
        for at in live:
            eqn = self.graph.eqns[at]
            if is_loop(eqn):
                self._place_loop(at, eqn)
            else:
                key = self._key_of(at, eqn)
                if key is None:
                    self.free[at] = None
                else:
                    own.setdefault(key, []).append(at)
                    self.place.update(dict.fromkeys(eqn.outvars, key))
        self._divide(own)

    def _place_loop(self, at: int, eqn: JaxprEqn) -> None:
        names = [self._name_of(v) for v in eqn.invars]
        plan = LoopPlan(eqn, self.stages, names)
        below = [self.place[v][0] for v in self.graph.operands(at) if v in self.place]
        level = max(below, default=-1.0) + 1
        self.loops.setdefault(level, []).append((eqn, plan))
        for var in eqn.invars[plan.first_x :]:
            source = self._cut_of(var)
            if source is not None:
                self.cut[var] = source
        for number, var in enumerate(eqn.outvars):
            self.place[var] = (level, plan.home_of_result(number))
            self._after_loop.add(var)

    def _name_of(self, var: Atom) -> str:
        """The name of a Parameter that a stage has to have; "" for all else."""
        state = None if isinstance(var, Literal) else self._states.get(var)
        if state is None or not state.requires_grad or state in self._following:
            return ""
        return state.name

    def _cut_of(self, var: Atom) -> Any:
        """The input of the program whose rows in order are those of an x; None if there is none."""
        var = self._unpinned(var)
        at = None if isinstance(var, Literal) else self.graph.maker.get(var)
        if at is None or self.graph.eqns[at].primitive.name != "reshape":
            return None
        source, shape = self._unpinned(self.graph.eqns[at].invars[0]), shape_of(var)
        plain = source in self._input_set and source not in self._states
        rows = plain and len(shape) > 1 and (shape[0] * shape[1], *shape[2:]) == shape_of(source)
        return source if rows else None

    def _unpinned(self, var: Atom) -> Atom:
        """A value before it was said how it lies: a loop says it of each micro-batch anew."""
        while not isinstance(var, Literal):
            at = self.graph.maker.get(var)
            if at is None or self.graph.eqns[at].primitive.name != PIN:
                break
            var = self.graph.eqns[at].invars[0]
        return var

    def is_zero(self, var: Atom) -> bool:
        """Whether a value is known to be zeros."""
        var = self._unpinned(var)
        while not isinstance(var, Literal):
            at = self.graph.maker.get(var)
            if at is None or self.graph.eqns[at].primitive.name != "broadcast_in_dim":
                return False
            var = self._unpinned(self.graph.eqns[at].invars[0])
        return not np.any(var.val)

    def _key_of(self, at: int, eqn: JaxprEqn) -> Key | None:
        staged = [v for v in self.graph.operands(at) if v in self.place]
        if is_mark(eqn):
            stage, kind = eqn.params["stage"], eqn.params["kind"]
            late = max((self.place[v][1] for v in staged), default=stage)
            if kind == ENTER and late > stage:
                raise LayoutError(
                    f"Cell '{eqn.params['name']}' has pipeline_stage={stage}, but it works on "
                    f"results of stage {late}. Data goes through the stages in rising order: give "
                    f"it stage {late} or a later one, or the Cells before it an earlier one."
                )
            if kind not in (ENTER, "leave", "enter_back", "leave_back"):
                stage = late
        else:
            for program in eqn.params.values():
                inner = getattr(program, "jaxpr", program)
                if hasattr(inner, "eqns") and contains(inner, is_mark):
                    raise nested(eqn)
            if not staged:
                return (0.0, 0) if eqn.effects else None
            stage = max(staged, key=lambda v: (nbytes(v), self.place[v][1]))
            stage = self.place[stage][1]
        level = 0.0
        for var in staged:
            below, there = self.place[var]
            later = var in self._after_loop or there != stage
            level = max(level, below + later)
        return level, stage

    # What each task gives.

    def _divide(self, own: dict[Key, list[int]]) -> None:
        wanted: dict[Key, dict[Any, None]] = {key: {} for key in own}

        def want(var: Atom, level: float, stage: int) -> None:
            """Note that something of a level needs a variable in a stage."""
            if isinstance(var, Literal) or var in self.graph.consts or var in self._input_set:
                return
            if var in self.place:
                if var not in self._after_loop:
                    wanted[self.place[var]][var] = None
                return
            wanted.setdefault((level, stage), {})[var] = None

        for level, loops in self.loops.items():
            for eqn, plan in loops:
                bodies = [*plan.consts, *plan.carries, *plan.xs]
                for var, inner in zip(eqn.invars, bodies, strict=True):
                    if isinstance(var, Literal) or var in self.cut:
                        continue
                    for stage in plan.users(inner):
                        want(var, level - 0.5, stage)
                for number, var in enumerate(eqn.invars[len(plan.consts) : plan.first_x]):
                    if not self.is_zero(var):
                        want(var, level - 0.5, plan.home_of_result(number))
        self._find_homes(own)
        self.results: list[int] = []
        top = max([key[0] for key in own] + [level for level in self.loops] + [0.0]) + 1
        for number, var in enumerate(self.outputs):
            stage = self._stage_of_output(number, var)
            self.results.append(stage)
            want(var, top, stage)
        parts: dict[Key, Part] = {}
        for key in sorted({*own, *wanted}, reverse=True):
            outputs = list(wanted.get(key, ()))
            part = Part(self.graph, own.get(key, []), self.free, outputs)
            for var in part.invars:
                want(var, key[0], key[1])
            parts[key] = part
        self.parts = {
            key: Part(self.graph, own.get(key, []), self.free, list(wanted.get(key, ())))
            for key in sorted(parts)
        }
        self._split_last(own)

    def _split_last(self, own: dict[Key, list[int]]) -> None:
        """Take out of the tasks what only makes new values of states."""
        written = self.outputs[self.first_written :]
        others = {v for part in self.parts.values() for v in part.invars}
        others.update(
            v for loops in self.loops.values() for eqn, _ in loops for v in _variables(eqn.invars)
        )
        others.update(_variables(self.outputs[: self.first_written]))
        others.update(v for v, count in Counter(_variables(written)).items() if count > 1)
        new = {v: i for i, v in enumerate(written) if not isinstance(v, Literal)}
        self.last: list[Last] = []
        for key, part in list(self.parts.items()):
            last = [v for v in part.outvars if v in new and v not in others]
            if not last:
                continue
            rest = [v for v in part.outvars if v not in last]
            mine = set(own.get(key, ()))
            before = mine.intersection(self.graph.live(rest))
            ending = Part(self.graph, mine - before, self.free, last)
            rest += [
                v for v in ending.invars if self.graph.maker.get(v) in before and v not in rest
            ]
            self.parts[key] = Part(self.graph, before, self.free, rest)
            self.last.append(self._last(key[1], ending, [new[v] for v in last]))

    def _last(self, stage: int, part: Part, written: list[int]) -> Last:
        mine, taken = {self.first_written + i for i in written}, set(part.invars)
        kept = set(_variables(self.outputs))
        donated: list[int] = []
        for place, (var, state) in enumerate(self._states.items()):
            at = self._new.get(id(state))
            if at not in mine or var not in taken or var in kept:
                continue
            new = self.outputs[at]
            if (shape_of(new), dtype_of(new)) == (shape_of(var), dtype_of(var)):
                donated.append(place)
        return Last(stage, part, written, donated)

    def _find_homes(self, own: dict[Key, list[int]]) -> None:
        users: dict[Any, set[int]] = {}
        for (_, stage), eqns in own.items():
            for var in Part(self.graph, eqns, self.free, []).invars:
                users.setdefault(var, set()).add(stage)
        for loops in self.loops.values():
            for eqn, plan in loops:
                bodies = [*plan.consts, *plan.carries, *plan.xs]
                for var, inner in zip(eqn.invars, bodies, strict=True):
                    stages = set(plan.users(inner))
                    for leaf in self._leaves([var]):
                        users.setdefault(leaf, set()).update(stages)
        self.homes: dict[int, int] = {}
        for number, state in enumerate(self._states.values()):
            stages = users.get(self.inputs[number])
            if stages:
                self.homes[number] = min(stages)
            at = self._new.get(id(state))
            if at is not None and self.outputs[at] in self.place:
                self.homes[number] = self.place[self.outputs[at]][1]

    def _leaves(self, variables: Iterable[Any]) -> list[Any]:
        """The inputs that free variables are made of."""
        part = Part(self.graph, [], self.free, [v for v in variables if not isinstance(v, Literal)])
        return [v for v in part.invars if v not in self.place]

    def _stage_of_output(self, number: int, var: Atom) -> int:
        if isinstance(var, Literal) or var in self.graph.consts:
            return 0
        if var in self.place:
            return self.place[var][1]
        places = {v: i for i, v in enumerate(self.inputs)}
        made_of = [places[v] for v in self._leaves([var]) if v in places]
        homes = [(nbytes(self.inputs[i]), -self.homes[i]) for i in made_of if i in self.homes]
        stage = -max(homes)[1] if homes else 0
        for i in made_of:
            if i < len(self._states):
                self.homes.setdefault(i, stage)
        return stage


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def nbytes(var: Atom) -> int:
    """The bytes of a variable's value."""
    dtype = dtype_of(var)
    size = getattr(dtype, "itemsize", None) or np.dtype(np.float32).itemsize
    return math.prod(shape_of(var)) * size
