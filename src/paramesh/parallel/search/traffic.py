"""What operators read from memory and write to it, as compilers fuse them.

XLA computes elementwise work again where it is used rather than keep what it gives, if that moves
fewer bytes: the gradient of a softmax reads the logits, not the exponentials. So a tensor is
written only if it is kept, and who uses one that is not kept reads what that is computed from.

Glossary
    kept        of a tensor: it is in memory. What only elementwise work and reductions use need not
                be
    source      of a tensor: a kept tensor that it is computed from; itself, if it is kept
    pass        over its sources: each reduction makes one, and all elementwise results of a cluster
                together make one
    rows        what a lookup takes of a table: it does not read the rest
"""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import NamedTuple

from paramesh.parallel.search.graph import BARRIER, Factored, Graph, Operator

#: Operators that are done on the way by who uses what they give.
MOVES = frozenset(
    (
        "reshape",
        "squeeze",
        "expand_dims",
        "transpose",
        "broadcast_in_dim",
        "sharding_constraint",
        BARRIER,
    )
)
_REDUCTIONS = ("reduce_", "argmax", "argmin")
#: Operators that read of their first operand as much as they give.
_LOOKUPS = ("gather", "slice", "dynamic_slice", "slice of scan")
#: Of a loop: what is carried stays where it is.
_IN_PLACE = ("carry", "end of turn")
#: Cheap by what they read, and too dear to be done for each use: a random number takes a hundred
#: operations. As if they were free, each device would make the numbers of all of them.
_MADE_ONCE = ("random_bits",)
#: Operators that write into their first operand.
_UPDATES = ("dynamic_update_slice",)


class Source(NamedTuple):
    """A kept tensor that another one is computed from.

    Attributes:
        tensor: its number.
        dims: the dimensions of the computed tensor that it has too.
    """

    tensor: int
    dims: tuple[int, ...]


class Moved(NamedTuple):
    """Bytes that are read or written, of a tensor with these factors."""

    nbytes: int
    factors: Factored


#: What one pass reads: a tensor with the factors that it has there.
Reads = dict[tuple[int, Factored], Moved]


class Traffic:
    """The bytes that the clusters of a graph read and write.

    Args:
        graph: with clusters.
    """

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._users: dict[int, list[int]] = collections.defaultdict(list)
        for number, operator in enumerate(graph.operators):
            for tensor, _ in operator.inputs:
                self._users[tensor].append(number)
        self._outputs = {tensor for tensor in graph.outputs if tensor is not None}
        #: By tensor: whether it has to be kept, and the passes that read it if it is.
        self._must: dict[int, bool] = {}
        self._passes: dict[int, set[tuple[str, int]]] = {}
        for number in reversed(range(len(graph.operators))):
            for tensor, _ in graph.operators[number].outputs:
                self._look_ahead(tensor, graph.operators[number])
        self._sources: dict[int, tuple[Source, ...]] = {}
        for operator in graph.operators:
            for tensor, factors in operator.outputs:
                self._sources[tensor] = self._sources_of(tensor, factors, operator)

    def is_kept(self, tensor: int) -> bool:
        """See the glossary."""
        return any(source.tensor == tensor for source in self._of(tensor))

    def moved(self, members: Sequence[int]) -> list[Moved]:
        """What a cluster reads and writes.

        Args:
            members: the numbers of its operators.
        """
        found: list[Moved] = []
        together: Reads = {}
        made: set[int] = set()
        for number in members:
            operator = self._graph.operators[number]
            if operator.name in MOVES or operator.name in _IN_PLACE:
                continue
            kept = [(t, f) for t, f in operator.outputs if self.is_kept(t)]
            reads = self._reads(operator) if kept else {}
            if not operator.joins or operator.name.startswith(_REDUCTIONS):
                found += reads.values()
            else:
                together.update(reads)
                made |= {tensor for tensor, _ in kept}
            found += [Moved(self._written(operator, t), f) for t, f in kept]
        return found + [read for (tensor, _), read in together.items() if tensor not in made]

    def _written(self, operator: Operator, tensor: int) -> int:
        tensors = self._graph.tensors
        if operator.name in _UPDATES and len(operator.inputs) > 1:
            return tensors[operator.inputs[1][0]].nbytes
        if operator.name == "stack of scan" and operator.inputs:
            return tensors[operator.inputs[0][0]].nbytes
        return tensors[tensor].nbytes

    def _reads(self, operator: Operator) -> Reads:
        """The sources of the operands, with the factors of the operator."""
        found: Reads = {}
        for place, (tensor, factors) in enumerate(operator.inputs):
            if not place and operator.name in _UPDATES:
                continue
            roots = self._graph.factors.roots(factors)
            for source in self._of(tensor):
                own = tuple(roots[d] for d in source.dims)
                nbytes = self._graph.tensors[source.tensor].nbytes
                if not place and operator.name in _LOOKUPS:
                    rows, made = operator.outputs[0]
                    if self._graph.tensors[rows].nbytes < nbytes:
                        nbytes, own = self._graph.tensors[rows].nbytes, made
                found[source.tensor, own] = Moved(nbytes, own)
        return found

    def _of(self, tensor: int) -> tuple[Source, ...]:
        if tensor not in self._sources:  # an input of the program
            dims = tuple(range(len(self._graph.tensors[tensor].shape)))
            self._sources[tensor] = (Source(tensor, dims),)
        return self._sources[tensor]

    def _look_ahead(self, tensor: int, maker: Operator) -> None:
        """Fill in what the users of a tensor need; they come first."""
        must = tensor in self._outputs or not (maker.joins or maker.name in MOVES)
        must |= maker.name.startswith(_REDUCTIONS) or maker.name in _MADE_ONCE
        passes: set[tuple[str, int]] = set()
        for number in self._users[tensor]:
            user = self._graph.operators[number]
            if user.name.startswith(_REDUCTIONS):
                passes.add(("reduction", number))
            elif user.times != maker.times or not (user.joins or user.name in MOVES - {BARRIER}):
                must = True
            else:
                for made, _ in user.outputs:
                    if not self._must[made]:
                        passes |= self._passes[made]
                    elif user.name in MOVES:
                        must = True
                    else:
                        passes.add(("elementwise", user.cluster))
        self._must[tensor], self._passes[tensor] = must, passes

    def _sources_of(self, tensor: int, factors: Factored, maker: Operator) -> tuple[Source, ...]:
        graph = self._graph
        size, every = graph.tensors[tensor].nbytes, tuple(range(len(factors)))
        moves = maker.name in MOVES and tensor not in self._outputs
        if self._must[tensor] and not moves:
            return (Source(tensor, every),)
        found: dict[Source, None] = {}
        roots = graph.factors.roots(factors)
        for operand, mine in maker.inputs:
            names = graph.factors.roots(mine)
            for source in self._of(operand):
                shared = [names[d] for d in source.dims if names[d] is not None]
                dims = tuple(roots.index(f) for f in shared if f in roots)
                # All of it is there, whatever became of its dimensions.
                alike = graph.tensors[source.tensor].nbytes == size
                found[Source(source.tensor, every if alike else dims)] = None
        if moves:
            return tuple(found)
        read = sum(graph.tensors[t].nbytes for t in {source.tensor for source in found})
        passes = len(self._passes[tensor])
        again = passes * read
        return tuple(found) if again <= read + size * (1 + passes) else (Source(tensor, every),)
