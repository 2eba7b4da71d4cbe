"""Sums over devices that a compiler adds to each other before it sends them.

The compiler of GPUs makes one collective of two, where nobody uses what they give but a sum of
both: the gradients by the input of two products side by side are added on each device, and then
summed up over the devices once.
"""

from __future__ import annotations

from collections.abc import Sequence

from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import SUM, Spec

_ADDITIONS = ("add", "add_any")


def sent_with_others(problem: Problem, choice: Sequence[int]) -> frozenset[int]:
    """The tensors that are sent as a part of another one.

    Args:
        problem: with the tensors.
        choice: the strategy of each node.
    """
    if not problem.machine.target.reassociates:
        return frozenset()
    graph = problem.graph
    users: dict[int, int] = {}
    for operator in graph.operators:
        for tensor, _ in operator.inputs:
            users[tensor] = users.get(tensor, 0) + 1
    for tensor in graph.outputs:
        if tensor is not None:
            users[tensor] = users.get(tensor, 0) + 1
    #: Of a tensor that is sent once for one user: how it is made, and how it is wanted.
    sums: dict[int, tuple[Spec, Spec]] = {}
    for edge in problem.edges:
        start, ends = problem.edge_specs(edge, choice)
        if SUM in start and len(ends) == 1 and users.get(edge.tensor) == 1:
            sums[edge.tensor] = start, ends[0]
    found: set[int] = set()
    for operator in graph.operators:
        own = [tensor for tensor, _ in operator.inputs]
        if operator.name not in _ADDITIONS or len(set(own)) != 2:
            continue
        first, second = own
        if first in sums and sums[first] == sums.get(second):
            found.add(second)
            made = operator.outputs[0][0]
            if users.get(made) == 1:
                sums[made] = sums[first]
    return frozenset(found)
