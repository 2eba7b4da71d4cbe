"""How the tensors of a plan are sharded: where they are made, at home, and where they are used.

Glossary
    home        the layout in which a tensor is kept
"""

from __future__ import annotations

import math
from typing import Any

from paramesh.parallel.search.graph import Factored, Operator
from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import REPLICATED, SUM, Spec, local


class Shards:
    """How tensors are made, how they are sharded, and how operators want them.

    Args:
        problem: of a plan.
        choice: the strategy of each node.
    """

    def __init__(self, problem: Problem, choice: Any) -> None:
        self._problem, self._choice = problem, choice
        self._made: dict[int, Spec] = {}
        self._home: dict[int, Spec] = {}
        for edge in problem.edges:
            if problem.nodes[edge.maker].name == "sum":
                continue
            start, ends = problem.edge_specs(edge, choice)
            self._made[edge.tensor] = start
            self._home[edge.tensor] = ends[0] if SUM in start else start

    def of(self, cluster: int, factors: Factored) -> Spec:
        """How a cluster has a tensor with these factors."""
        node = self._problem.nodes[cluster]
        return self._problem.spec(node.strategies[self._choice[cluster]], factors)

    def home(self, tensor: int) -> Spec:
        """How a tensor is sharded where it is made, after it has been summed up."""
        if tensor not in self._home:
            graph = self._problem.graph
            maker = graph.tensors[tensor].maker
            if maker < 0:
                self._home[tensor] = (REPLICATED,) * len(self._problem.machine.sizes)
            else:
                operator = graph.operators[maker]
                factors = next(f for t, f in operator.outputs if t == tensor)
                self._home[tensor] = self.of(operator.cluster, factors)
        return self._home[tensor]

    def summands(self, tensor: int) -> Spec:
        """How a sum is made before devices add up what each of them has."""
        graph = self._problem.graph
        operator = graph.operators[graph.tensors[tensor].maker]
        factors = next(f for t, f in operator.outputs if t == tensor)
        node = self._problem.nodes[operator.cluster]
        summed = frozenset(map(graph.factors.root, operator.summed))
        return self._problem.spec(node.strategies[self._choice[operator.cluster]], factors, summed)

    def made(self, tensor: int) -> Spec:
        """The same before it is summed up, if it is for other clusters."""
        return self._made.get(tensor, self.home(tensor))

    def part(self, tensor: int, spec: Spec) -> float:
        """Bytes of a tensor on one device."""
        return local(self._problem.machine, self._problem.graph.tensors[tensor].nbytes, spec)

    def devices_of(self, operator: Operator) -> int:
        """Over how many devices the work of an operator is."""
        strategy = self._problem.nodes[operator.cluster].strategies[self._choice[operator.cluster]]
        sizes = zip(strategy, self._problem.machine.sizes, strict=True)
        return math.prod(size for factor, size in sizes if factor != REPLICATED)
