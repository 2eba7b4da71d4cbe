"""The problem with what looks alike decided once: the choice of one strategy for each class.

Glossary
    class       nodes that cannot be told apart within so many edges, such as those of the layers
    of a
                deep network; they get one decision
    link        the edges between the same classes, as one: a maker, users, and seconds for each
    pair of
                layouts; users that want the same layout share a copy
"""

from __future__ import annotations

import collections
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from paramesh.parallel.search.problem import Edge, Problem
from paramesh.parallel.search.resharding import Spec, seconds

if TYPE_CHECKING:
    from paramesh.parallel.search.graph import Factored

Array = np.ndarray[Any, Any]

#: Edges within which nodes have to look alike. In a stack of layers the inner ones do.
RADIUS = 2


class LinkUse(NamedTuple):
    """A user of a link.

    Attributes:
        klass: that uses.
        spec_of: strategy of the class -> number of the layout, among `specs`.
        specs: the layouts that it may want.
        cost: [layout of the maker, layout here] in seconds, over all edges and turns.
    """

    klass: int
    spec_of: Array
    specs: list[Spec]
    cost: Array


@dataclass
class Link:
    """See the glossary.

    Attributes:
        edges: their numbers.
        maker: its class.
        spec_of: strategy of the maker -> number of the layout, among `specs`.
        specs: the layouts that it may give.
        uses: by others than the maker's own class.
    """

    edges: list[int]
    maker: int
    spec_of: Array
    specs: list[Spec]
    uses: list[LinkUse]


class Model:
    """The classes of a problem.

    Args:
        problem: to be solved.
        radius: see `RADIUS`; None tells all nodes apart.

    Attributes:
        klass: of each node.
        classes: the numbers of the classes; each is the number of its first node.
        own: of each class, the seconds of each strategy.
        links: see the glossary.
        alive: of each class, which strategies may still be the best.
    """

    def __init__(self, problem: Problem, radius: int | None = RADIUS) -> None:
        self.problem = problem
        self.klass = _classes(problem, radius)
        self.classes = sorted(set(self.klass))
        self.own = {c: np.zeros(len(problem.nodes[c].strategies)) for c in self.classes}
        for node, klass in zip(problem.nodes, self.klass, strict=True):
            self.own[klass] += node.seconds
        self._specs: dict[Any, list[Spec]] = {}
        self._costs: dict[Any, Array] = {}
        self.links = self._links()
        self.alive = {c: np.ones(len(self.own[c]), bool) for c in self.classes}
        #: Of each class: (link, number of the use, None for its maker).
        self.at: dict[int, list[tuple[Link, int | None]]] = collections.defaultdict(list)
        for link in self.links:
            self.at[link.maker].append((link, None))
            for number, use in enumerate(link.uses):
                self.at[use.klass].append((link, number))

    def _links(self) -> list[Link]:
        problem = self.problem
        alike: dict[Any, list[int]] = {}
        for number, edge in enumerate(problem.edges):
            uses = sorted({(self.klass[u.node], self._form(u.node, u.factors)) for u in edge.uses})
            shape = problem.graph.tensors[edge.tensor].shape
            made = self._form(edge.maker, edge.factors, edge.summed)
            key = (self.klass[edge.maker], shape, made, tuple(uses), edge.times, edge.narrow)
            alike.setdefault(key, []).append(number)
        return [link for numbers in alike.values() if (link := self._link(numbers)) is not None]

    def _form(self, node: int, factors: Factored, summed: Collection[int] = frozenset()) -> Any:
        """What a use looks like, whatever the numbers of its factors are."""
        order = {f: i for i, f in enumerate(self._factors_of(node))}
        roots = self.problem.factors.roots(factors)
        places = tuple(-1 if f is None else order.get(f, -1) for f in roots)
        return (places, tuple(sorted(order.get(f, -1) for f in summed)))

    def _factors_of(self, node: int) -> list[int]:
        found: dict[int, None] = {}
        for strategy in self.problem.nodes[node].strategies:
            found.update(dict.fromkeys(f for f in strategy if f >= 0))
        return list(found)

    def _specs_of(self, node: int, factors: Any, summed: Any = frozenset()) -> list[Spec]:
        key = (node, factors, summed)
        if key not in self._specs:
            self._specs[key] = [
                self.problem.spec(strategy, factors, summed)
                for strategy in self.problem.nodes[node].strategies
            ]
        return self._specs[key]

    def _link(self, numbers: list[int]) -> Link | None:
        problem = self.problem
        edge: Edge = problem.edges[numbers[0]]
        weight = len(numbers) * edge.times
        nbytes = problem.graph.tensors[edge.tensor].nbytes
        klass = self.klass[edge.maker]
        starts = self._specs_of(edge.maker, edge.factors, edge.summed)
        specs = sorted(set(starts))
        spec_of = np.array([specs.index(spec) for spec in starts])
        link = Link(numbers, klass, spec_of, specs, [])
        seen: set[Any] = set()
        for use in edge.uses:
            ends = self._specs_of(use.node, use.factors)
            wanted = sorted(set(ends))
            if (self.klass[use.node], tuple(ends)) in seen:
                continue
            seen.add((self.klass[use.node], tuple(ends)))
            cost = weight * self._cost(specs, wanted, nbytes, edge.narrow)
            here = np.array([wanted.index(spec) for spec in ends])
            if self.klass[use.node] == klass:
                if use.node == edge.maker or len(starts) == len(ends):
                    self.own[klass] += cost[spec_of, here]
            elif cost.any():
                link.uses.append(LinkUse(self.klass[use.node], here, wanted, cost))
        return link if link.uses else None

    def _cost(self, starts: list[Spec], ends: list[Spec], nbytes: int, narrow: bool) -> Array:
        key = (tuple(starts), tuple(ends), nbytes, narrow)
        if key not in self._costs:
            machine = self.problem.machine
            self._costs[key] = np.array(
                [[seconds(machine, start, end, nbytes, narrow) for end in ends] for start in starts]
            )
        return self._costs[key]

    def seconds(self, choice: dict[int, int]) -> float:
        """What a choice, class -> strategy, costs."""
        total = sum(float(own[choice[c]]) for c, own in self.own.items())
        for link in self.links:
            start = link.spec_of[choice[link.maker]]
            copies = {}
            for use in link.uses:
                wanted = use.spec_of[choice[use.klass]]
                copies[use.specs[wanted]] = float(use.cost[start, wanted])
            total += sum(copies.values())
        return total

    def spread(self, choice: dict[int, int]) -> list[int]:
        """The strategy of each node."""
        return [choice[klass] for klass in self.klass]


def _classes(problem: Problem, radius: int | None) -> list[int]:
    """The class of each node: nodes that look alike within so many edges have one."""
    count = len(problem.nodes)
    if radius is None:
        return list(range(count))
    numbers: dict[Any, int] = {}

    def number(key: object) -> int:
        return numbers.setdefault(key, len(numbers))

    colour = [number((node.kind, len(node.strategies))) for node in problem.nodes]
    near: list[list[Any]] = [[] for _ in range(count)]
    for edge in problem.edges:
        shape = problem.graph.tensors[edge.tensor].shape
        for use in edge.uses:
            near[edge.maker].append(("to", shape, use.node))
            near[use.node].append(("from", shape, edge.maker))
    for _ in range(radius):
        colour = [
            number((colour[i], tuple(sorted((way, s, colour[j]) for way, s, j in near[i]))))
            for i in range(count)
        ]
    first: dict[int, int] = {}
    return [first.setdefault(c, i) for i, c in enumerate(colour)]
