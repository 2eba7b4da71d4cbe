"""A loop over micro-batches, divided into the passes of its stages.

The loop is a scan of JAX whose body has marks: the forward and the backward pass of one
micro-batch through all stages. Its equations fall into passes, and each pass becomes a task.

Glossary
    pass        0 to p - 1: the forward passes of stages 0 to p - 1; p to 2 p - 1: the backward
                passes of stages p - 1 to 0. A value goes from a pass to the same or a later one
    free        of equations: made of inputs of the body alone, or saying how a value lies, so that
                every pass that needs the result computes it for itself
    sum         of carries: the body adds something to it and does nothing else with it
    chain       of carries: all else: moving averages, the state of random generators
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from paramesh._compat.jax import Atom, JaxprEqn, Literal, Var
from paramesh.errors import LayoutError
from paramesh.parallel.partitioning.rewriting import contains
from paramesh.parallel.pipeline.marks import BACK, ENTER, ENTER_BACK, LEAVE, LEAVE_BACK, is_mark
from paramesh.parallel.pipeline.tasks import Graph, Part

_ADDS = ("add", "add_any")
#: What a search puts around values, to say how they lie.
PIN = "sharding_constraint"


def is_loop(eqn: JaxprEqn) -> bool:
    """Whether an equation is a loop over micro-batches."""
    return eqn.primitive.name == "scan" and any(map(is_mark, eqn.params["jaxpr"].jaxpr.eqns))


@dataclass
class Sum:
    """A carry that is a sum.

    Attributes:
        summands: what the body adds to it: variables of the body.
    """

    summands: list[Any]


@dataclass
class Chain:
    """A carry that is a chain.

    Attributes:
        number: among the passes, that in which it is computed; None if it is free.
    """

    number: int | None


class LoopPlan:
    """The passes of a loop over micro-batches.

    Args:
        eqn: the scan.
        stages: how many stages there are.
        names: of the values that the loop takes, where they are Parameters, for messages.

    Attributes:
        count: how many micro-batches.
        reverse: whether the first turn takes the last of them.
        consts, carries, xs: the variables of the body.
        first_x: the place of the first of `xs` among what the loop takes.
        results: the new carries, then what is stacked, as variables of the body.
        kinds: a `Sum` or a `Chain` for each carry.
        parts: {pass: its part}.
        uses: {variable of the body: passes that take it}.
        backward: whether there are backward passes.

    Raises:
        LayoutError: the stages are not in the order of the data, a Parameter is used between
            stages, or a Parameter is written after a stage that reads it.
    """

    def __init__(self, eqn: JaxprEqn, stages: int, names: Sequence[str]) -> None:
        self.eqn, self.stages = eqn, stages
        params = eqn.params
        body = params["jaxpr"]
        self.graph = Graph(body.jaxpr, body.consts)
        consts, carries = params["num_consts"], params["num_carry"]
        inputs = list(body.jaxpr.invars)
        self.count: int = params["length"]
        self.reverse: bool = params["reverse"]
        self.consts = inputs[:consts]
        self.carries = inputs[consts : consts + carries]
        self.xs = inputs[consts + carries :]
        self.results = list(body.jaxpr.outvars)
        self.first_x = consts + carries
        self._names = dict(zip(inputs, names, strict=False))
        self.number: dict[Any, int] = {}
        self._inside: set[Any] = set()
        self._of_params: dict[Any, str] = {v: n for v, n in self._names.items() if n}
        #: {place of an equation: its pass} of those that are not free.
        self._passes: dict[int, int] = {}
        self.free: dict[int, None] = {}
        for at, one in enumerate(self.graph.eqns):
            number = self._pass_of(at, one)
            if number is None:
                self.free[at] = None
            else:
                self._passes[at] = number
                if one.primitive.name == PIN:  # a value is sent once, however often that is said
                    self.free[at] = None
        self.kinds = self._kinds()
        self._divide()
        self._check_chains()

    # Which pass.

    def _pass_of(self, at: int, eqn: JaxprEqn) -> int | None:
        graph = self.graph
        staged = [v for v in graph.operands(at) if v in self.number]
        number = max((self.number[v] for v in staged), default=None)
        if is_mark(eqn):
            number = self._marked(eqn, number)
            if eqn.params["kind"] == ENTER:
                self._inside.update(eqn.outvars)
        else:
            self._check_nested(eqn)
            if any(v in self._inside for v in staged):
                self._inside.update(eqn.outvars)
            elif number is not None and number < self.stages - 1:
                self._check_between(at, number)
        if number is None and eqn.effects:
            number = 0  # to happen once, and not in every pass that could do it
        if number is None:
            name = next(
                (self._of_params[v] for v in graph.operands(at) if v in self._of_params), ""
            )
            if name:
                self._of_params.update(dict.fromkeys(eqn.outvars, name))
        else:
            self.number.update(dict.fromkeys(eqn.outvars, number))
        return number

    def _marked(self, eqn: JaxprEqn, before: int | None) -> int:
        kind, stage, name = (eqn.params[key] for key in ("kind", "stage", "name"))
        last = 2 * self.stages - 1
        wanted = {
            ENTER: stage,
            LEAVE: stage,
            BACK: self.stages,
            LEAVE_BACK: last - stage,
            ENTER_BACK: last - stage,
        }[kind]
        if before is not None and before > wanted:
            if kind in (ENTER, LEAVE) and before < self.stages:
                raise LayoutError(
                    f"Cell '{name}' has pipeline_stage={stage}, but it works on results of stage "
                    f"{before}. Data goes through the stages in rising order: give it stage "
                    f"{before} or a later one, or the Cells before it an earlier one."
                )
            return before
        return wanted

    def _check_between(self, at: int, number: int) -> None:
        for var in self.graph.operands(at):
            name = self._of_params.get(var)
            if name:
                raise LayoutError(
                    f"Parameter '{name}' belongs to a Cell without a stage, between Cells of the "
                    f"stages {number} and {number + 1} or later. Set pipeline_stage of that Cell, "
                    "or give it in the stage_config of PipelineCell."
                )

    def _check_nested(self, eqn: JaxprEqn) -> None:
        for program in eqn.params.values():
            inner = getattr(program, "jaxpr", program)
            if hasattr(inner, "eqns") and contains(inner, is_mark):
                raise nested(eqn)

    # Carries.

    def _kinds(self) -> list[Sum | Chain]:
        uses: dict[Any, int] = {}
        for at in range(len(self.graph.eqns)):
            for var in self.graph.operands(at):
                uses[var] = uses.get(var, 0) + 1
        for var in self.results:
            if not isinstance(var, Literal):
                uses[var] = uses.get(var, 0) + 1
        return [
            self._kind(carry, result, uses)
            for carry, result in zip(self.carries, self.results, strict=False)
        ]

    def _kind(self, carry: Var, result: Atom, uses: dict[Any, int]) -> Sum | Chain:
        if uses.get(carry) == 1:
            added = self._added_to(carry, result, uses)
            if added:
                return Sum([v for one in added for v in self._summands(one, uses)])
        return Chain(None if isinstance(result, Literal) else self.number.get(result))

    def _added_to(self, carry: Var, var: Atom, uses: dict[Any, int]) -> list[Any] | None:
        """What sums of two add to a carry on the way to a variable; None if it is no such sum."""
        if var is carry:
            return []
        at = None if isinstance(var, Literal) else self.graph.maker.get(var)
        if at is None or uses.get(var) != 1:
            return None
        if self.graph.eqns[at].primitive.name == PIN:
            return self._added_to(carry, self.graph.eqns[at].invars[0], uses)
        if self.graph.eqns[at].primitive.name not in _ADDS:
            return None
        left, right = self.graph.eqns[at].invars
        for one, other in ((left, right), (right, left)):
            rest = self._added_to(carry, one, uses)
            if rest is not None:
                return [*rest, other] if isinstance(other, Var) else None
        return None

    def _summands(self, var: Var, uses: dict[Any, int]) -> Iterator[Any]:
        """A sum of several passes, one by one, so that each can be added up where it is made."""
        at = self._unpinned(var, uses)
        if at is not None:
            eqn = self.graph.eqns[at]
            variables = all(isinstance(v, Var) for v in eqn.invars)
            adds = eqn.primitive.name == "add_any" and variables
            if adds and len({self.number.get(v) for v in eqn.invars}) > 1:
                for operand in eqn.invars:
                    yield from self._summands(operand, uses)
                return
        yield var

    def _unpinned(self, var: Var, uses: dict[Any, int]) -> int | None:
        """What makes a variable that is used once, before it was said how it lies."""
        at = self.graph.maker.get(var) if uses.get(var) == 1 else None
        while at is not None and self.graph.eqns[at].primitive.name == PIN:
            operand = self.graph.eqns[at].invars[0]
            at = self.graph.maker.get(operand) if uses.get(operand) == 1 else None
        return at

    # The parts.

    def pass_of(self, var: Atom) -> int:
        """The pass that gives a variable of the body; free ones come from the first."""
        return 0 if isinstance(var, Literal) else self.number.get(var, 0)

    def stage_of(self, number: int) -> int:
        """The stage of a pass."""
        return number if number < self.stages else 2 * self.stages - 1 - number

    def _divide(self) -> None:
        wanted: list[Any] = []
        for kind, result in zip(self.kinds, self.results, strict=False):
            if isinstance(kind, Sum):
                wanted += kind.summands
            elif kind.number is not None:
                wanted.append(result)
        wanted += self.results[len(self.carries) :]
        self.wanted = list(dict.fromkeys(v for v in wanted if isinstance(v, Var)))
        live = self.graph.live(self.wanted)
        own: dict[int, list[int]] = {}
        for at in live:
            if at not in self.free:
                own.setdefault(self._passes[at], []).append(at)
        of_pass: dict[int, list[Any]] = {}
        for var in self.wanted:
            of_pass.setdefault(self.pass_of(var), []).append(var)
        numbers = sorted({*own, *of_pass})
        taken: dict[int, list[Any]] = {}
        for number in numbers:
            part = Part(self.graph, own.get(number, []), self.free, of_pass.get(number, []))
            taken[number] = part.invars
        self.uses: dict[Any, list[int]] = {}
        for number, invars in taken.items():
            for var in invars:
                self.uses.setdefault(var, []).append(number)
        self.parts: dict[int, Part] = {}
        for number in numbers:
            given = [v for v in self.uses if self.number.get(v) == number]
            outputs = list(dict.fromkeys([*of_pass.get(number, []), *given]))
            self.parts[number] = Part(self.graph, own.get(number, []), self.free, outputs)
        self.backward = any(number >= self.stages for number in numbers)
        chains = [
            result
            for kind, result in zip(self.kinds, self.results, strict=False)
            if isinstance(kind, Chain) and kind.number is None
        ]
        #: The free chains, as one part that computes their next values.
        self.advance = Part(self.graph, [], self.free, chains) if chains else None

    def _check_chains(self) -> None:
        for carry, kind in zip(self.carries, self.kinds, strict=True):
            if not isinstance(kind, Chain) or kind.number is None:
                continue
            early = [number for number in self.uses.get(carry, ()) if number < kind.number]
            if early:
                raise LayoutError(
                    f"Stage {self.stage_of(early[0])} reads a Parameter that a later pass, in "
                    f"stage {self.stage_of(kind.number)}, writes for the next micro-batch, which "
                    "would wait for it. Let one stage read and write it."
                )

    def users(self, var: Var) -> list[int]:
        """The stages that take an input of the body."""
        stages = {self.stage_of(number) for number in self.uses.get(var, ())}
        if self.advance is not None and var in self.advance.invars:
            chains = [
                carry
                for carry, kind in zip(self.carries, self.kinds, strict=True)
                if isinstance(kind, Chain) and kind.number is None
            ]
            for carry in chains:
                stages |= {self.stage_of(number) for number in self.uses.get(carry, ())}
            stages = stages or {0}
        return sorted(stages)

    def home_of_result(self, at: int) -> int:
        """The stage that has a result of the loop at its end."""
        if at >= len(self.carries):
            return self.stage_of(self.pass_of(self.results[at]))
        kind = self.kinds[at]
        if isinstance(kind, Sum):
            return min(self.stage_of(self.pass_of(var)) for var in kind.summands)
        if kind.number is not None:
            return self.stage_of(kind.number)
        return next(iter(self.users(self.carries[at])), 0)


def nested(eqn: JaxprEqn) -> LayoutError:
    """The error for a stage that begins or ends inside of another operator."""
    name = eqn.primitive.name
    what = dict.fromkeys(("scan", "while"), "a loop") | {"cond": "a branch"}
    what |= dict.fromkeys(("checkpoint", "remat2", "remat"), "recompute()")
    return LayoutError(
        f"A Cell with a pipeline_stage is inside of {what.get(name, name)}, which one device group "
        "computes as a whole. Set recompute(), loops and branches inside of the Cells that have a "
        "stage, not around them."
    )
