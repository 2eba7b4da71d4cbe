"""Which operators share one decision.

A chain or a fan of elementwise work, reductions and moves from one large tensor is sharded in one
way: softmax, a normalisation, the update of an optimizer. Small tensors and inputs of the program
come in anywhere. An operator joins a cluster if the tensors that they share are sharded along the
same dimensions in both; their factors become one.

Glossary
    private     a cluster made of inputs of the program that nobody else uses, such as a decayed
    moment:
                whoever uses it first takes it in
"""

from __future__ import annotations

import collections
import math

from paramesh.parallel.search.graph import Factored, Graph, Operator

#: An input that has this part of the bytes of the largest one counts as large.
_LARGE = 4


def put_into_clusters(graph: Graph) -> None:
    """Give every operator its cluster."""
    _Clustering(graph).run()


class _Clustering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.members: list[list[int]] = []
        #: Of each cluster: the factors of the tensors that it uses or makes.
        self.known: list[dict[int, Factored]] = []
        self.private: list[bool] = []
        self.users: dict[int, set[int]] = collections.defaultdict(set)
        self.uses = collections.Counter(t for op in graph.operators for t, _ in op.inputs)

    def run(self) -> None:
        graph = self.graph
        for number, operator in enumerate(graph.operators):
            cluster = self._joined(operator) if operator.joins and operator.inputs else None
            if cluster is None:
                cluster = len(self.members)
                self.members.append([])
                self.known.append({})
                self.private.append(operator.joins and all(map(self._own, operator.inputs)))
            else:
                made = self._makers(operator)
                self.private[cluster] &= all(
                    self._own(entry) for entry in operator.inputs if entry[0] not in made
                )
            operator.cluster = cluster
            self.members[cluster].append(number)
            for tensor, factors in (*operator.inputs, *operator.outputs):
                self.known[cluster].setdefault(tensor, factors)
            for tensor, _ in operator.inputs:
                self.users[tensor].add(cluster)
        graph.clusters = [sorted(members) for members in self.members if members]
        for cluster, members in enumerate(graph.clusters):
            for number in members:
                graph.operators[number].cluster = cluster

    def _own(self, entry: tuple[int, Factored]) -> bool:
        return self.graph.tensors[entry[0]].maker < 0 and self.uses[entry[0]] == 1

    def _makers(self, operator: Operator) -> dict[int, int]:
        """Input -> the cluster that makes it."""
        tensors, operators = self.graph.tensors, self.graph.operators
        return {
            t: operators[tensors[t].maker].cluster
            for t, _ in operator.inputs
            if tensors[t].maker >= 0
        }

    def _joined(self, operator: Operator) -> int | None:
        """The cluster that the operator has joined, if there is one."""
        graph = self.graph
        most = max(graph.tensors[tensor].nbytes for tensor, _ in operator.inputs)
        large = [t for t, _ in operator.inputs if graph.tensors[t].nbytes * _LARGE >= most]
        made = self._makers(operator)
        candidates = {*made.values(), *(c for tensor in large for c in self.users[tensor])}
        for cluster in sorted(candidates, key=lambda c: (self.private[c], -c)):
            head = graph.operators[self.members[cluster][0]]
            known = self.known[cluster]
            if not head.joins or head.times != operator.times:
                continue
            taken = {
                made[t]
                for t in large
                if t in made and t not in known and self.private[made[t]] and made[t] != cluster
            }
            inside = all(
                t in known or graph.tensors[t].maker < 0 or made[t] in taken for t in large
            )
            if not inside or not any(tensor in known for tensor, _ in operator.inputs):
                continue
            if self._unify(operator, known):
                for other in taken:
                    self._absorb(other, cluster, operator)
                return cluster
        return None

    def _unify(self, operator: Operator, known: dict[int, Factored]) -> bool:
        """Make the factors of an operator those of a cluster, if all of them fit."""
        factors = self.graph.factors
        pairs: dict[int, int] = {}
        for tensor, own in operator.inputs:
            for mine, theirs in zip(own, known.get(tensor, own), strict=True):
                if tensor not in known:
                    continue
                if (mine is None) != (theirs is None):
                    return False
                if mine is None or theirs is None:
                    continue
                mine, theirs = factors.root(mine), factors.root(theirs)
                if pairs.setdefault(mine, theirs) != theirs:
                    return False
        if len(set(pairs.values())) < len(pairs):
            return False
        for mine, theirs in pairs.items():
            if math.gcd(factors.size(mine), factors.size(theirs)) != factors.size(theirs):
                return False
        for mine, theirs in pairs.items():
            factors.join(theirs, mine)
        return True

    def _absorb(self, other: int, cluster: int, operator: Operator) -> None:
        """Take a private cluster in, by the tensors of it that the operator uses."""
        factors = self.graph.factors
        for tensor, own in operator.inputs:
            for mine, theirs in zip(own, self.known[other].get(tensor, ()), strict=False):
                if mine is not None and theirs is not None:
                    factors.join(mine, theirs)
        for number in self.members[other]:
            self.graph.operators[number].cluster = cluster
        self.members[cluster] += self.members[other]
        self.members[other] = []
        for tensor, own in self.known[other].items():
            self.known[cluster].setdefault(tensor, own)
            self.users[tensor].discard(other)
            self.users[tensor].add(cluster)
