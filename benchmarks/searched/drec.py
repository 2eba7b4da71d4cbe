"""MindSpore's recursive search (`recursive_programming`, D-Rec) on the graph of our search.

The devices are halved again and again. Each time every operator of the forward pass, in the order
of the program, takes the cut that costs least beside those before it: a product counts what it
would send (a quarter where the batch or rows are cut), other operators take the first dimension of
their largest operand, and a tensor that lies otherwise where it comes from costs sixteen times its
size (`rec_cost.h`: MATMUL_MEM_COEF, REDIS_COEF). Channels of convolutions are never cut. A
Parameter lies as its first user wants it.

What D-Rec does not decide, the gradients and the update, is decided by our search: kinder to it
than MindSpore is.
"""

from __future__ import annotations

import collections
import math

from paramesh.parallel.search.graph import Factored
from paramesh.parallel.search.plan import Plan, Program, plan_of
from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import REPLICATED
from paramesh.parallel.search.solve import solve

_PRODUCT = 0.25
_REDISTRIBUTION = 16.0
_FORWARD = ("dot_general", "conv_general_dilated")


def found_by_drec(program: Program, problem: Problem) -> Plan:
    """The plan with the forward pass as D-Rec has it; the mesh has axes of two devices."""
    chosen = _Halving(problem).run()
    for number, strategy in chosen.items():
        _fix(problem, number, strategy)
    return plan_of(program, problem, solve(problem))


class _Halving:
    def __init__(self, problem: Problem) -> None:
        self.problem, self.graph = problem, problem.graph
        self.forward = self._forward()
        self.parts: dict[int, dict[int, int]] = {n: {} for n in self.forward}
        self.near: dict[int, list[tuple[int, int, Factored, Factored]]] = collections.defaultdict(
            list
        )
        for edge in problem.edges:
            for use in edge.uses:
                if edge.maker in self.parts and use.node in self.parts and use.node != edge.maker:
                    self.near[edge.maker].append((edge.tensor, use.node, edge.factors, use.factors))
                    self.near[use.node].append((edge.tensor, edge.maker, use.factors, edge.factors))

    def _forward(self) -> list[int]:
        """The clusters that the loss depends on, in the order of the program."""
        graph = self.graph
        start = graph.outputs[0]
        todo, seen = [] if start is None else [start], set[int]()
        while todo:
            maker = graph.tensors[todo.pop()].maker
            if maker >= 0 and maker not in seen:
                seen.add(maker)
                todo += [tensor for tensor, _ in graph.operators[maker].inputs]
        return list(dict.fromkeys(graph.operators[n].cluster for n in sorted(seen)))

    def run(self) -> dict[int, tuple[int, ...]]:
        strategies: dict[int, list[int]] = {n: [] for n in self.forward}
        for turn in range(len(self.problem.machine.sizes)):
            now: dict[int, int] = {}
            for number in self.forward:
                now[number] = factor = self._best(number, now, turn)
                strategies[number].append(factor)
                if factor != REPLICATED:
                    own = self.parts[number]
                    own[factor] = 2 * own.get(factor, 1)
        return {n: tuple(own) for n, own in strategies.items()}

    def _best(self, number: int, now: dict[int, int], turn: int) -> int:
        costs = self._own(number)
        for tensor, other, mine, theirs in self.near[number]:
            if other not in now:
                continue
            there = self._dim(theirs, now[other])
            for factor in costs:
                if self._dim(mine, factor) != there:
                    size = math.prod(self.graph.tensors[tensor].shape) / 2**turn
                    costs[factor] += _REDISTRIBUTION * size
        return min(costs, key=lambda f: costs[f]) if costs else REPLICATED

    def _dim(self, factors: Factored, factor: int) -> int:
        roots = self.problem.factors.roots(factors)
        return roots.index(factor) if factor in roots else REPLICATED

    def _own(self, number: int) -> dict[int, float]:
        """The cuts that are possible, with what each costs by itself."""
        problem = self.problem
        operators = [self.graph.operators[n] for n in problem.nodes[number].operators]
        parts, sizes = self.parts[number], problem.factors

        def left(factor: int) -> float:
            return sizes.size(factor) / parts.get(factor, 1)

        free = [
            f for f in problem.nodes[number].factors if (sizes.size(f) // parts.get(f, 1)) % 2 == 0
        ]
        first = operators[0]
        if first.name == "dot_general" and len(first.inputs) == 2:
            a, b = ({f for f in sizes.roots(own) if f is not None} for _, own in first.inputs)
            out = {f for f in sizes.roots(first.outputs[0][1]) if f is not None}

            def count(factors: set[int]) -> float:
                return math.prod(map(left, factors))

            costs: dict[int, float] = {}
            for f in free:
                if f in a and f in b and f in out:
                    costs[f] = 0.0
                elif f in a and f in out:
                    costs[f] = _PRODUCT * count(b) / 2
                elif f in b and f in out:
                    costs[f] = count(a) / 2
                else:
                    costs[f] = count(out) / 2
            return costs
        if first.name in ("conv_general_dilated", "gather") or first.summed:
            entries = first.inputs[1:] if first.name == "gather" else first.inputs
            largest = max(entries, key=lambda e: self.graph.tensors[e[0]].nbytes, default=None)
            roots = sizes.roots(largest[1]) if largest else ()
            taken = next((f for f in roots if f is not None and f in free), None)
            return {} if taken is None else {taken: 0.0}
        return dict.fromkeys(free, 0.0)


def _fix(problem: Problem, number: int, strategy: tuple[int, ...]) -> None:
    """Leave a node one strategy, and have its Parameters lie as it wants them."""
    node = problem.nodes[number]
    if strategy not in node.strategies:
        return
    _keep(problem, number, node.strategies.index(strategy))
    for edge in problem.edges:
        maker = problem.nodes[edge.maker]
        if maker.operators or len(maker.strategies) < 2:
            continue
        use = next((use for use in edge.uses if use.node == number), None)
        if use is None or edge.uses[0].node != number:
            continue
        wanted = problem.spec(strategy, use.factors)
        for place, own in enumerate(maker.strategies):
            if problem.spec(own, edge.factors) == wanted:
                _keep(problem, edge.maker, place)
                break


def _keep(problem: Problem, number: int, place: int) -> None:
    node = problem.nodes[number]
    node.strategies = [node.strategies[place]]
    node.seconds = node.seconds[[place]]
    node.sums = [node.sums[place]] if node.sums else []
    node.kind = (node.kind, place)
