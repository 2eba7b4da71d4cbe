"""Sums of products that a compiler scatters while it computes them.

The compiler of TPUs computes a product whose summands are added up and scattered part by part, and
passes the parts on in both directions of a ring meanwhile, if the product takes long enough. Over k
devices it sends k + 1 parts then, in place of the k - 1 of a reduce-scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from paramesh.parallel.search.machine import Machine
from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import REPLICATED, SUM, Sent, Spec, sent

#: The part of the time of a reduce-scatter that a product takes at least where it is in a ring.
#: With libtpu 0.0.42 for a v5e it lies between 0.59 and 0.91, those of sums over 1,024 and 1,576
#: numbers on a device.
_LEAST = 0.7


def with_rings(
    problem: Problem, choice: Sequence[int], tensor: int, start: Spec, sends: list[Sent]
) -> list[Sent]:
    """The collectives of a tensor as the compiler does them; their times stay.

    Args:
        problem: with the tensor.
        choice: the strategy of each node.
        tensor: its number.
        start: how it is made.
        sends: the collectives from there to another layout.
    """
    machine = problem.machine
    count = math.prod(n for n, dim in zip(machine.sizes, start, strict=True) if dim == SUM)
    if not machine.target.rings or count < 3:
        return sends
    seconds = _computing(problem, choice, problem.graph.tensors[tensor].maker)
    return [_ring(machine, one, count, seconds) for one in sends]


def in_rings(problem: Problem, choice: Sequence[int]) -> frozenset[int]:
    """The tensors whose summands are computed and scattered in a ring.

    Args:
        problem: with the tensors.
        choice: the strategy of each node.
    """
    found: set[int] = set()
    if not problem.machine.target.rings:
        return frozenset()
    for edge in problem.edges:
        start, ends = problem.edge_specs(edge, choice)
        nbytes = problem.graph.tensors[edge.tensor].nbytes
        for end in ends if SUM in start else ():
            sends = sent(problem.machine, start, end, nbytes)
            if with_rings(problem, choice, edge.tensor, start, sends) != sends:
                found.add(edge.tensor)
    return frozenset(found)


def _ring(machine: Machine, one: Sent, count: int, seconds: float) -> Sent:
    if one.kind != "reduce-scatter" or seconds < _LEAST * one.nbytes / machine.target.link:
        return one
    return Sent("collective-permute", one.nbytes * (count + 1) / (count - 1), one.seconds)


def _computing(problem: Problem, choice: Sequence[int], maker: int) -> float:
    """Seconds of a product on a device; 0 for what is none."""
    machine, operator = problem.machine, problem.graph.operators[maker]
    if operator.name != "dot_general":
        return 0.0
    strategy = problem.nodes[operator.cluster].strategies[choice[operator.cluster]]
    sizes = zip(strategy, machine.sizes, strict=True)
    parts = math.prod(size for factor, size in sizes if factor != REPLICATED)
    return operator.flops / parts / machine.target.peak(operator.dtype)
