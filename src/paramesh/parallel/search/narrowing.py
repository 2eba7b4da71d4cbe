"""What only products use, where those take Float32 as bfloat16.

TPUs compute products of Float32 in one pass of bfloat16, unless more precision is asked for. Their
compiler rounds an operand where it is made, if nobody else needs it: it is kept, gathered and moved
in half of its bytes. Sums of products over devices stay Float32.
"""

from __future__ import annotations

import collections

from paramesh.parallel.search.graph import BARRIER, Graph

#: Operators that hand numbers on as they are, so that those may be rounded before them.
_PASS = frozenset(
    (
        "reshape",
        "squeeze",
        "expand_dims",
        "transpose",
        "broadcast_in_dim",
        "concatenate",
        "stack",
        "unstack",
        "split",
        "slice",
        "dynamic_slice",
        "rev",
        "sharding_constraint",
        "slice of scan",
        "stack of scan",
        BARRIER,
    )
)


class Narrowing:
    """Which uses of a graph's tensors are by products that round them.

    Args:
        graph: its operators are in the order of the program.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        users: dict[int, list[int]] = collections.defaultdict(list)
        for number, operator in enumerate(graph.operators):
            for tensor, _ in operator.inputs:
                users[tensor].append(number)
        outputs = {tensor for tensor in graph.outputs if tensor is not None}
        self._narrow: set[int] = set()
        makers = {t: number for number, op in enumerate(graph.operators) for t, _ in op.outputs}
        # Those that are made last first: their users are known by then.
        for tensor in sorted(users, key=lambda t: -makers.get(t, -1)):
            fits = graph.tensors[tensor].float32 and tensor not in outputs
            if fits and all(self.by(number) for number in users[tensor]):
                self._narrow.add(tensor)

    def by(self, operator: int) -> bool:
        """Whether an operator, by its number, needs no more than bfloat16 of what it uses."""
        own = self._graph.operators[operator]
        if own.name in _PASS:
            return all(tensor in self._narrow for tensor, _ in own.outputs)
        return own.one_pass

    def everywhere(self, tensor: int) -> bool:
        """Whether all users of a tensor round it."""
        return tensor in self._narrow
