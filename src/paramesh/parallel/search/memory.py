"""The live memory of each device under a choice of strategies, at the peaks of a step.

Counted are the tensors that pass between nodes, from the operator that makes them to the last that
uses them, each with the part that its maker leaves on a device, and copies in other layouts from
their first to their last user. Inputs and outputs of the program are live all the time. What an
operator needs while it runs is not counted, nor what is made and used inside of a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from paramesh.parallel.search.problem import Edge, Problem
from paramesh.parallel.search.resharding import local

#: Moments that are looked at; the peak moves with the layouts.
_MOMENTS = 6


@dataclass
class Liveness:
    """When tensors are live, by the numbers of operators.

    Attributes:
        span: tensor -> (first, last).
        moments: see `_MOMENTS`.
    """

    span: dict[int, tuple[int, int]]
    moments: list[int]


def liveness(problem: Problem) -> Liveness:
    """When each tensor that passes between nodes is live."""
    graph = problem.graph
    end = len(graph.operators)
    kept = {t for t in graph.outputs if t is not None}
    span: dict[int, tuple[int, int]] = {}
    for edge in problem.edges:
        own = graph.tensors[edge.tensor]
        first = max(own.maker, 0)
        last = max((use.operator for use in edge.uses), default=first)
        if own.maker < 0 or edge.tensor in kept:
            last = end
        before = span.get(edge.tensor, (first, last))
        span[edge.tensor] = (min(first, before[0]), max(last, before[1]))
    held = np.zeros(end + 2)
    for tensor, (first, last) in span.items():
        held[first] += graph.tensors[tensor].nbytes
        held[last + 1] -= graph.tensors[tensor].nbytes
    held = np.cumsum(held)
    moments: list[int] = []
    for moment in np.argsort(-held[: end + 1]):
        if all(abs(int(moment) - other) > max(2, end // 40) for other in moments):
            moments.append(int(moment))
        if len(moments) == _MOMENTS:
            break
    return Liveness(span, sorted(moments))


def copy_span(problem: Problem, edge: Edge, nodes: set[int]) -> tuple[int, int]:
    """When a copy of an edge's tensor for these users is live."""
    end = len(problem.graph.operators)
    places = [use.operator for use in edge.uses if use.node in nodes and use.operator < end]
    return (min(places), max(places)) if places else (end, end)


def copy_bytes(problem: Problem, edge: Edge) -> float:
    """Bytes of a full copy of an edge's tensor."""
    return problem.graph.tensors[edge.tensor].nbytes / (2 if edge.narrow else 1)


def live_bytes(problem: Problem, choice: list[int], live: Liveness) -> list[float]:
    """Bytes that each device holds at each moment."""
    graph, machine = problem.graph, problem.machine
    totals = [0.0] * len(live.moments)

    def add(nbytes: float, first: int, last: int) -> None:
        for number, moment in enumerate(live.moments):
            if first <= moment <= last:
                totals[number] += nbytes

    seen: set[int] = set()
    for edge in problem.edges:
        nbytes = graph.tensors[edge.tensor].nbytes
        start, ends = problem.edge_specs(edge, choice)
        if problem.nodes[edge.maker].name != "sum" and edge.tensor not in seen:
            seen.add(edge.tensor)
            add(local(machine, nbytes, start), *live.span[edge.tensor])
        for spec in set(ends) - {start}:
            nodes = {u.node for u, s in zip(edge.uses, ends, strict=True) if s == spec}
            add(local(machine, copy_bytes(problem, edge), spec), *copy_span(problem, edge, nodes))
    for number, (node, factors) in problem.source.items():
        if problem.nodes[node].operators:
            spec = problem.spec(problem.nodes[node].strategies[choice[node]], factors)
            tensor = graph.tensors[graph.inputs[number]]
            add(local(machine, tensor.nbytes, spec), 0, len(graph.operators))
    return totals
