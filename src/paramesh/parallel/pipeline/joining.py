"""Two loops over the same micro-batches, made one.

The gradient of a function that calls a PipelineCell is two loops: the forward passes of all
micro-batches, which keep what the backward passes need, and those. If the second takes nothing else
of the first, each backward pass can follow its forward pass, so that 1F1B keeps less (`joined`).

Training Cells of scripts call their network for the loss, and then ask for its gradient, which
makes the same forward passes again: the loss is taken from there.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import jax

from paramesh._compat.jax import Atom, ClosedJaxpr, JaxprEqn, Literal
from paramesh.array_types import Array, Tree
from paramesh.parallel.partitioning.rewriting import bound, evaluated, like
from paramesh.parallel.pipeline.loop import LoopPlan, Sum, is_loop
from paramesh.parallel.pipeline.marks import VALUE, is_mark
from paramesh.parallel.pipeline.tasks import Graph
from paramesh.parallel.search.graph import live

#: Operators by which a batch becomes micro-batches, and sums begin.
_MOVES = ("reshape", "broadcast_in_dim", "convert_element_type", "sharding_constraint")


def joined(closed: ClosedJaxpr, stages: int) -> ClosedJaxpr:
    """The program with such loops joined, and without what its outputs do not need.

    Args:
        closed: the program.
        stages: how many stages there are.

    Raises:
        LayoutError: as `LoopPlan`.
    """
    graph = Graph(closed.jaxpr, closed.consts)
    again = _computed_again(graph)  # of a value that nobody wants, too
    if again is not None:
        return joined(_without(closed, graph, *again), stages)
    closed = live(closed)
    graph = Graph(closed.jaxpr, closed.consts)
    loops = [at for at, eqn in enumerate(graph.eqns) if is_loop(eqn)]
    for second in loops:
        for first in loops:
            if first < second and _can_be_joined(graph, first, second, stages):
                return joined(_with_one(closed, graph, first, second), stages)
    return closed


def _computed_again(graph: Graph) -> tuple[int, int] | None:
    """Two marks of one value, of which a later loop gives the second together with gradients."""
    marks = [
        at for at, eqn in enumerate(graph.eqns) if is_mark(eqn) and eqn.params["kind"] == VALUE
    ]
    for first in marks:
        for second in marks:
            if first >= second or graph.eqns[first].params != graph.eqns[second].params:
                continue
            one, other = _loop_before(graph, first), _loop_before(graph, second)
            if one is None or other is None or one == other:
                continue
            taken = graph.operands(other)
            if not _after(graph, one, second).isdisjoint(taken):
                continue
            known = {_value(graph, var) for var in taken}
            if all(_value(graph, var) in known for var in graph.operands(one)):
                return first, second
    return None


def _value(graph: Graph, atom: Atom) -> Hashable:
    """What is equal for variables of one value, as far as inputs of loops go."""
    if isinstance(atom, Literal):
        return str(atom)
    at = graph.maker.get(atom)
    if at is None or graph.eqns[at].primitive.name not in _MOVES:
        return atom
    eqn = graph.eqns[at]
    inside = tuple(_value(graph, operand) for operand in eqn.invars)
    return eqn.primitive.name, str(sorted(eqn.params.items())), inside


def _loop_before(graph: Graph, at: int) -> int | None:
    """The loop whose results alone an equation is made of; None if there is no such one."""
    found: set[int] = set()
    waiting = graph.operands(at)
    while waiting:
        maker = graph.maker.get(waiting.pop())
        if maker is not None:
            if is_loop(graph.eqns[maker]):
                found.add(maker)
            else:
                waiting += graph.operands(maker)
    return found.pop() if len(found) == 1 else None


def _after(graph: Graph, first: int, end: int) -> set[Any]:
    """What depends on an equation, of the variables made before another."""
    later = set(graph.eqns[first].outvars)
    for at in range(first + 1, end):
        if not later.isdisjoint(graph.operands(at)):
            later.update(graph.eqns[at].outvars)
    return later


def _without(closed: ClosedJaxpr, graph: Graph, first: int, second: int) -> ClosedJaxpr:
    """The program with the value of the second mark in the place of that of the first."""
    waiting = set(graph.eqns[first].outvars)
    before: list[int] = []
    after: list[int] = []
    for at in range(len(graph.eqns)):
        if at == first:
            continue
        if waiting.isdisjoint(graph.operands(at)):
            before.append(at)
        else:
            waiting.update(graph.eqns[at].outvars)
            after.append(at)

    def run(*args: Array) -> list[Any]:
        env = _Env(graph, closed, args)
        env.do(before)
        env.put(graph.eqns[first].outvars, env.read(graph.eqns[second].outvars))
        env.do(after)
        return env.read(closed.jaxpr.outvars)

    return jax.make_jaxpr(run)(*map(like, closed.jaxpr.invars))


class _Env:
    """The values of a program that is traced again."""

    def __init__(self, graph: Graph, closed: ClosedJaxpr, args: Sequence[Any]) -> None:
        self._graph = graph
        self._values: dict[Any, Any] = dict(graph.consts)
        self.put(closed.jaxpr.invars, args)

    def put(self, variables: Sequence[Any], values: Sequence[Any]) -> None:
        self._values.update(zip(variables, values, strict=True))

    def read(self, atoms: Sequence[Any]) -> list[Any]:
        return [atom.val if isinstance(atom, Literal) else self._values[atom] for atom in atoms]

    def do(self, places: Sequence[int]) -> None:
        for at in places:
            eqn = self._graph.eqns[at]
            self.put(eqn.outvars, bound(eqn, self.read(eqn.invars)))


class _Loop:
    """The operands and results of a scan by kind."""

    def __init__(self, eqn: JaxprEqn) -> None:
        params = eqn.params
        consts, carries = params["num_consts"], params["num_carry"]
        self.body: ClosedJaxpr = params["jaxpr"]
        self.length: int = params["length"]
        self.reverse: bool = params["reverse"]
        self.consts = list(eqn.invars[:consts])
        self.start = list(eqn.invars[consts : consts + carries])
        self.xs = list(eqn.invars[consts + carries :])
        self.ends = list(eqn.outvars[:carries])
        self.ys = list(eqn.outvars[carries:])

    def turn(self, consts: Sequence[Any], carry: Sequence[Any], xs: Sequence[Any]) -> Any:
        """(next carry, ys) of one turn."""
        jaxpr = self.body.jaxpr
        out = evaluated(jaxpr, self.body.consts, [*consts, *carry, *xs], _nothing, bound)
        return out[: len(carry)], out[len(carry) :]


def _nothing(_: object) -> bool:
    return False


def _can_be_joined(graph: Graph, first: int, second: int, stages: int) -> bool:
    one, other = _Loop(graph.eqns[first]), _Loop(graph.eqns[second])
    kept = set(one.ys)
    if one.length != other.length or kept.isdisjoint(_variables(other.xs)):
        return False
    later = _after(graph, first, second)
    taken = [*other.consts, *other.start, *(x for x in other.xs if x not in kept)]
    if not later.isdisjoint(_variables(taken)):
        return False
    plan = LoopPlan(graph.eqns[second], stages, [])
    return all(isinstance(kind, Sum) for kind in plan.kinds)


def _variables(atoms: Sequence[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]


def _with_one(closed: ClosedJaxpr, graph: Graph, first: int, second: int) -> ClosedJaxpr:
    one, other = _Loop(graph.eqns[first]), _Loop(graph.eqns[second])
    kept = {var: at for at, var in enumerate(one.ys)}
    rest = [x for x in other.xs if isinstance(x, Literal) or x not in kept]
    waiting = set(graph.eqns[first].outvars)
    before: list[int] = []
    after: list[int] = []
    for at in range(len(graph.eqns)):
        if at in (first, second):
            continue
        if at < second and waiting.isdisjoint(graph.operands(at)):
            before.append(at)
        else:
            waiting.update(graph.eqns[at].outvars)
            after.append(at)

    def run(*args: Array) -> list[Any]:
        env = _Env(graph, closed, args)
        env.do(before)
        consts = env.read(one.consts), env.read(other.consts)

        def turn(carry: Tree, xs: Tree) -> Any:
            ends, ys = one.turn(consts[0], carry[0], xs[0])
            others = iter(xs[1])
            mine = [ys[kept[x]] if x in kept else next(others) for x in map(_key, other.xs)]
            theirs, more = other.turn(consts[1], carry[1], mine)
            return (ends, theirs), (ys, more)

        (ends, theirs), (ys, more) = jax.lax.scan(
            turn,
            (env.read(one.start), env.read(other.start)),
            (env.read(one.xs), env.read(rest)),
            one.length,
            reverse=one.reverse,
        )
        for loop, carry, stacked in ((one, ends, ys), (other, theirs, more)):
            env.put([*loop.ends, *loop.ys], [*carry, *stacked])
        env.do(after)
        return env.read(closed.jaxpr.outvars)

    return jax.make_jaxpr(run)(*map(like, closed.jaxpr.invars))


def _key(atom: Atom) -> Any:
    """What a literal is not found by among variables."""
    return None if isinstance(atom, Literal) else atom
