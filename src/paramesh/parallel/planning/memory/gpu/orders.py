"""What GPUs copy into another order before and after collectives.

They gather and scatter with the shards one after the other, so that the dimension of the shards
comes first in memory. Loops take arrays in the order of their dimensions, and a product takes its
rows, its columns and what it adds up each in the order of theirs.

Glossary
    kind        of a dimension of a product's operand or result: whether it is of both operands, of
                the first or of the second alone, or added up
"""

from __future__ import annotations

from paramesh.parallel.search.graph import Factored, Graph, Operator
from paramesh.parallel.search.resharding import REPLICATED, Spec, steps

#: What enters a loop, and all that loops do to values.
ENTRIES = ("carry", "slice of scan")
OF_LOOPS = (*ENTRIES, "stack of scan", "end of turn")


def is_along_inner(sizes: tuple[int, ...], home: Spec, wanted: Spec) -> bool:
    """Whether shards along another dimension than the first are gathered."""
    return max(_gathered(sizes, home, wanted), default=0) > 0


def is_reordered(
    graph: Graph,
    sizes: tuple[int, ...],
    use: tuple[Operator, int],
    layouts: tuple[Spec, Spec],
) -> bool:
    """Whether what is gathered is copied for an operator.

    Args:
        graph: with the operator.
        sizes: of the mesh.
        use: the operator, and the tensor that is gathered.
        layouts: before and after.
    """
    (operator, tensor), gone = use, _gathered(sizes, *layouts)
    if operator.name in ENTRIES:
        return max(gone, default=0) > 0
    if not gone or operator.name != "dot_general" or len(operator.inputs) < 2:
        return False
    return any(
        _is_inner(graph, operator, factors, dim)
        for own, factors in operator.inputs
        if own == tensor
        for dim in gone
    )


def is_scattered_inside(graph: Graph, operator: Operator, summands: Spec, home: Spec) -> bool:
    """Whether a sum is copied before it is scattered.

    Args:
        graph: with the operator.
        operator: that makes the summands.
        summands: how they are sharded.
        home: how the sum is.
    """
    new = {b for a, b in zip(summands, home, strict=True) if a == REPLICATED and b >= 0}
    if operator.name in OF_LOOPS:
        return max(new, default=0) > 0
    if operator.name != "dot_general" or len(operator.inputs) < 2:
        return False
    return any(_is_inner(graph, operator, operator.outputs[0][1], dim) for dim in new)


def _gathered(sizes: tuple[int, ...], home: Spec, wanted: Spec) -> set[int]:
    """The dimensions whose shards an all-gather brings together, if one comes last."""
    found = steps(sizes, home, wanted)
    if not found or found[-1].kind != "all-gather":
        return set()
    return {a for a, b in zip(home, wanted, strict=True) if b == REPLICATED and a >= 0}


def _is_inner(graph: Graph, operator: Operator, factors: Factored, dim: int) -> bool:
    """Whether a dimension is not the first of its kind."""
    roots = graph.factors.roots
    everywhere = [set(roots(f)) for _, f in (*operator.inputs[:2], operator.outputs[0])]
    own = roots(factors)
    kinds = [tuple(f in one for one in everywhere) for f in own]
    return any(kinds[other] == kinds[dim] and f is not None for other, f in enumerate(own[:dim]))
