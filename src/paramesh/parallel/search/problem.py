"""What is to be decided, and what it costs: nodes with strategies, and tensors between them.

Glossary
    node        what is decided at once: a cluster of operators, an input of the program, or the
                place of a sum that several operators use
    strategy    for each axis of the mesh the factor that it shards, or REPLICATED
    edge        a tensor from the node that makes it to the nodes that use it; each use in another
                layout is a copy, and users that want the same layout share one
    tied        an output that lies like an input, since it is the new value of a Parameter
"""

from __future__ import annotations

import collections
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from paramesh.parallel.layouts.mesh import grouping
from paramesh.parallel.search.graph import Factored, Graph, Operator
from paramesh.parallel.search.machine import Machine
from paramesh.parallel.search.narrowing import Narrowing
from paramesh.parallel.search.resharding import REPLICATED, SUM, Sent, Spec, local, seconds, sent
from paramesh.parallel.search.traffic import Moved, Traffic

Strategy = tuple[int, ...]


@dataclass
class Node:
    """See the glossary.

    Attributes:
        name: for the report.
        strategies: all that divide.
        seconds: of each strategy, over all turns: what it computes, and sums inside of it.
        kind: equal for nodes that cost the same.
        operators: their numbers; () for inputs and places of sums.
        times: how often it runs.
        sums: of each strategy, the collectives inside of it in one turn.
        factors: that strategies shard, in an order that is the same on every mesh.
    """

    name: str
    strategies: list[Strategy]
    seconds: np.ndarray[Any, Any]
    kind: Any
    operators: tuple[int, ...] = ()
    times: int = 1
    sums: list[list[Sent]] = field(default_factory=list)
    factors: tuple[int, ...] = ()


class Use(NamedTuple):
    """Who uses a tensor, with the factors that it has there."""

    node: int
    factors: Factored
    operator: int


@dataclass
class Edge:
    """See the glossary.

    Attributes:
        tensor: its number.
        maker: the node that makes it.
        factors: that it has there.
        summed: the factors along which the maker gives summands.
        uses: all in one width.
        times: how often a copy is made.
        narrow: whether all uses round it to half of its bytes (`narrowing.py`).
    """

    tensor: int
    maker: int
    factors: Factored
    summed: frozenset[int]
    uses: list[Use]
    times: int
    narrow: bool = False


class Problem:
    """A graph on a machine.

    Args:
        graph: with clusters.
        machine: whose mesh is sharded over.
        fixed: number of an input -> its layout.
        tied: number of an output -> that of the input that it lies like.
        devices: the ids of the devices, in the order of the mesh, for layouts in the program.

    Attributes:
        nodes, edges: see the glossary.
        source: number of an input -> its node, or the cluster that it is a part of with its factors
            there.
        unpinned: the operators whose demanded layout the mesh cannot show.
        narrowing: of the graph; None where products take all of Float32.
    """

    def __init__(
        self,
        graph: Graph,
        machine: Machine,
        fixed: Mapping[int, Spec],
        tied: Mapping[int, int],
        devices: Sequence[int],
    ) -> None:
        self.graph, self.machine = graph, machine
        self.factors = graph.factors
        self._devices = tuple(devices)
        self.nodes: list[Node] = []
        self.edges: list[Edge] = []
        self.unpinned: list[int] = []
        #: By kind of cluster: what its strategies cost.
        self._costs: dict[Any, tuple[np.ndarray[Any, Any], list[list[Sent]]]] = {}
        self.source: dict[int, tuple[int, Factored]] = {}
        self._traffic = Traffic(graph)
        self.narrowing = Narrowing(graph) if machine.target.narrows else None
        self._uses = self._all_uses()
        #: Sums that are made inside of the cluster that makes them.
        self._added: set[int] = set()
        self._exits = {t for t in graph.outputs if t is not None}
        for number, members in enumerate(graph.clusters):
            self._add_cluster(number, members)
        self._add_inputs(fixed, tied)
        self._add_edges(tied)

    # What the nodes are.

    def _all_uses(self) -> dict[int, list[Use]]:
        """By tensor: the clusters that use it and do not make it, each layout once."""
        uses: dict[int, list[Use]] = collections.defaultdict(list)
        operators = self.graph.operators
        for number, members in enumerate(self.graph.clusters):
            made = {t for i in members for t, _ in operators[i].outputs}
            seen: set[tuple[int, Factored]] = set()
            for i in members:
                for tensor, factors in operators[i].inputs:
                    key = (tensor, self.factors.roots(factors))
                    if tensor not in made and key not in seen:
                        seen.add(key)
                        uses[tensor].append(Use(number, key[1], i))
        return uses

    def strategies(self, factors: Sequence[int]) -> list[Strategy]:
        """All ways to give the axes factors that they divide."""
        sizes = self.machine.sizes
        found: list[Strategy] = []
        for strategy in itertools.product([REPLICATED, *factors], repeat=len(sizes)):
            parts: dict[int, int] = collections.defaultdict(lambda: 1)
            for factor, size in zip(strategy, sizes, strict=True):
                parts[factor] *= size
            parts.pop(REPLICATED, None)
            if all(self.factors.size(f) % count == 0 for f, count in parts.items()):
                found.append(strategy)
        return found

    def _add_cluster(self, number: int, members: list[int]) -> None:
        graph = self.graph
        operators = [graph.operators[i] for i in members]
        first = operators[0]
        own = dict.fromkeys(
            self.factors.root(f)
            for op in operators
            for _, factors in (*op.inputs, *op.outputs)
            for f in factors
            if f is not None
        )
        strategies = self.strategies(list(own))
        if first.pinned is not None:
            strategies = self._demanded(first, members[0]) or strategies
        made = {t for op in operators for t, _ in op.outputs}
        entries = {t: f for op in operators for t, f in op.inputs if t not in made}
        used_inside = {t for op in operators for t, _ in op.inputs}
        exits = {
            t: factors
            for op in operators
            for t, factors in op.outputs
            if t in self._exits or any(use.node != number for use in self._uses.get(t, ()))
        }
        sums = [
            (t, factors, frozenset(map(self.factors.root, op.summed)))
            for op in operators
            for t, factors in op.outputs
            if op.summed and t in used_inside
        ]
        self._added |= {t for t, *_ in sums}
        moved = self._traffic.moved(members)
        flops = sum(op.flops for op in operators)
        place = {f: i for i, f in enumerate(own)}

        def looks(tensors: Mapping[int, Factored]) -> Any:
            return tuple(
                (graph.tensors[t].shape, graph.tensors[t].nbytes, self._placed(f, place))
                for t, f in tensors.items()
            )

        kind = (
            tuple(op.name for op in operators),
            looks(entries),
            looks(exits),
            tuple((looks({t: f}), frozenset(place[x] for x in some)) for t, f, some in sums),
            tuple((m.nbytes, self._placed(m.factors, place)) for m in moved),
            tuple(map(self.factors.size, own)),
            flops,
            first.dtype,
            first.times,
            str(first.pinned),
        )
        if kind not in self._costs:
            self._costs[kind] = self._cost(
                strategies,
                (flops, first.dtype),
                moved,
                sums,
                first.times,
            )
        costs, inside = self._costs[kind]
        names = dict.fromkeys(op.name for op in operators)
        self.nodes.append(
            Node(
                "+".join(itertools.islice(names, 3)),
                strategies,
                costs,
                kind,
                tuple(members),
                first.times,
                inside,
                tuple(own),
            )
        )

    def _cost(
        self,
        strategies: list[Strategy],
        work: tuple[float, str],
        moved: list[Moved],
        sums: list[tuple[int, Factored, frozenset[int]]],
        times: int,
    ) -> tuple[np.ndarray[Any, Any], list[list[Sent]]]:
        """Seconds of each strategy of a cluster, and what is sent inside of it.

        Args:
            strategies: of the cluster.
            work: its operations on all devices together, and the element type that they are in.
            moved: what it reads and writes.
            sums: the tensors that are added up inside of it, with the factors that are summed.
            times: how often it runs.
        """
        graph, machine = self.graph, self.machine
        costs: list[float] = []
        inside: list[list[Sent]] = []
        for strategy in strategies:
            parts = math.prod(
                size for f, size in zip(strategy, machine.sizes, strict=True) if f != REPLICATED
            )
            own = sum(local(machine, m.nbytes, self.spec(strategy, m.factors)) for m in moved)
            cost = machine.work_seconds(work[0] / parts, own, work[1])
            collectives: list[Sent] = []
            for t, factors, summed in sums:
                start = self.spec(strategy, factors, summed)
                if SUM in start:
                    end = tuple(REPLICATED if dim == SUM else dim for dim in start)
                    nbytes = graph.tensors[t].nbytes
                    collectives += sent(machine, start, end, nbytes)
            cost += sum(one.seconds for one in collectives)
            costs.append(cost * times)
            inside.append(collectives)
        return np.array(costs), inside

    def _placed(self, factors: Factored, place: Mapping[int, int]) -> tuple[int | None, ...]:
        return tuple(None if f is None else place[self.factors.root(f)] for f in factors)

    def _demanded(self, operator: Operator, number: int) -> list[Strategy]:
        """The one strategy that a layout in the program allows; [] if this mesh cannot show it."""
        _, factors = operator.outputs[0]
        spec = spec_on(self.machine.sizes, self._devices, operator.pinned, len(factors))
        if spec is None:
            self.unpinned.append(number)
            return [(REPLICATED,) * len(self.machine.sizes)]
        return [
            tuple(
                REPLICATED if d < 0 or (f := factors[d]) is None else self.factors.root(f)
                for d in spec
            )
        ]

    def _add_inputs(self, fixed: Mapping[int, Spec], tied: Mapping[int, int]) -> None:
        graph = self.graph
        updated = {source: out for out, source in tied.items()}
        for number, tensor in enumerate(graph.inputs):
            own = graph.tensors[tensor]
            unused = not self._uses.get(tensor) and number not in updated
            if own.free or (unused and number not in fixed):
                continue
            out = graph.outputs[updated[number]] if number in updated else None
            if number not in fixed and out is not None and self._joins(tensor, out):
                use = self._uses.pop(tensor)[0]
                self.source[number] = (use.node, use.factors)
                continue
            factors: Factored = tuple(
                None if size == 1 else self.factors.new(size) for size in own.shape
            )
            if number in fixed:
                strategies = [self._as_strategy(fixed[number], factors)]
            else:
                strategies = self.strategies([f for f in factors if f is not None])
            self.source[number] = (len(self.nodes), factors)
            kind = ("input", own.shape, bool(own.name), number in fixed and fixed[number])
            cut = tuple(f for f in factors if f is not None)
            self.nodes.append(
                Node(own.name, strategies, np.zeros(len(strategies)), kind, factors=cut)
            )

    @staticmethod
    def _as_strategy(spec: Spec, factors: Factored) -> Strategy:
        return tuple(REPLICATED if d < 0 or (f := factors[d]) is None else f for d in spec)

    def _joins(self, tensor: int, out: int) -> bool:
        """Whether an input is used by one cluster alone, and its new value made there alike."""
        uses = self._uses.get(tensor, [])
        made = self.graph.tensors[out].maker
        if len(uses) != 1 or made < 0 or self._uses.get(out):
            return False
        operator = self.graph.operators[made]
        factors = next(f for t, f in operator.outputs if t == out)
        return operator.cluster == uses[0].node and self.factors.roots(factors) == uses[0].factors

    # What they have to do with each other.

    def _add_edges(self, tied: Mapping[int, int]) -> None:
        graph = self.graph
        for out, source in tied.items():
            tensor = graph.outputs[out]
            node, factors = self.source.get(source, (-1, ()))
            if tensor is None or node < 0 or self.nodes[node].operators:
                continue  # a constant; or a part of a cluster, which makes it alike
            self._uses[tensor].append(Use(node, factors, len(graph.operators)))
        for tensor in sorted(self._exits):
            maker = graph.tensors[tensor].maker
            due = maker >= 0 and graph.operators[maker].summed and tensor not in self._added
            if due and not self._uses[tensor]:  # nobody but the caller uses the sum
                home, places = self._add_home(tensor)
                self._uses[tensor].append(Use(home, places, maker))
        by_input = {
            tensor: self.source[n] for n, tensor in enumerate(graph.inputs) if n in self.source
        }
        for tensor, uses in sorted(self._uses.items()):
            own = graph.tensors[tensor]
            if own.free or not uses:
                continue
            if own.maker < 0:
                maker, factors = by_input[tensor]
                summed: frozenset[int] = frozenset()
            else:
                operator = graph.operators[own.maker]
                maker = operator.cluster
                factors = next(f for t, f in operator.outputs if t == tensor)
                inside = tensor in self._added
                summed = (
                    frozenset() if inside else frozenset(map(self.factors.root, operator.summed))
                )
            unique = list({(u.node, u.factors): u for u in reversed(uses)}.values())[::-1]
            roots = self.factors.roots(factors)
            if summed and len(unique) > 1:  # added up once, in a place of its own
                home, places = self._add_home(tensor)
                times = max(self._times(own.times, use) for use in unique)
                self.edges.append(
                    Edge(tensor, maker, roots, summed, [Use(home, places, own.maker)], times)
                )
                maker, roots, summed = home, places, frozenset()
            for narrow in (False, True):
                alike = [use for use in unique if self._is_narrow(tensor, use) == narrow]
                if alike:
                    times = max(self._times(own.times, use) for use in alike)
                    self.edges.append(Edge(tensor, maker, roots, summed, alike, times, narrow))

    def _is_narrow(self, tensor: int, use: Use) -> bool:
        """Whether a use needs half of the bytes."""
        if self.narrowing is None or not self.graph.tensors[tensor].float32:
            return False
        return bool(self.nodes[use.node].operators) and self.narrowing.by(use.operator)

    def _times(self, times: int, use: Use) -> int:
        """How often a copy for a use is made: before the loop for what enters it."""
        node = self.nodes[use.node]
        if not node.operators:
            return times
        name = self.graph.operators[node.operators[0]].name
        return times if name in ("carry", "slice of scan") else max(times, node.times)

    def _add_home(self, tensor: int) -> tuple[int, Factored]:
        own = self.graph.tensors[tensor]
        factors: Factored = tuple(
            None if size == 1 else self.factors.new(size) for size in own.shape
        )
        strategies = self.strategies([f for f in factors if f is not None])
        self.nodes.append(
            Node(
                "sum",
                strategies,
                np.zeros(len(strategies)),
                ("sum", own.shape),
                times=own.times,
                factors=tuple(f for f in factors if f is not None),
            )
        )
        return len(self.nodes) - 1, factors

    # What a choice means.

    def spec(
        self, strategy: Strategy, factors: Factored, summed: frozenset[int] = frozenset()
    ) -> Spec:
        """The layout of a tensor with these factors under a strategy."""
        roots = self.factors.roots(factors)
        found: list[int] = []
        for factor in strategy:
            if factor == REPLICATED:
                found.append(REPLICATED)
            elif factor in summed:
                found.append(SUM)
            else:
                found.append(roots.index(factor) if factor in roots else REPLICATED)
        return tuple(found)

    def input_spec(self, number: int, choice: Sequence[int]) -> Spec:
        """How an input of the program lies under a choice of strategies."""
        if number not in self.source:
            return (REPLICATED,) * len(self.machine.sizes)
        node, factors = self.source[number]
        return self.spec(self.nodes[node].strategies[choice[node]], factors)

    def edge_specs(self, edge: Edge, choice: Sequence[int]) -> tuple[Spec, list[Spec]]:
        """How the tensor of an edge is made, and how each user wants it."""
        start = self.spec(
            self.nodes[edge.maker].strategies[choice[edge.maker]], edge.factors, edge.summed
        )
        return start, [
            self.spec(self.nodes[use.node].strategies[choice[use.node]], use.factors)
            for use in edge.uses
        ]

    def seconds(self, choice: Sequence[int]) -> float:
        """What a choice costs."""
        total = sum(node.seconds[k] for node, k in zip(self.nodes, choice, strict=True))
        for edge in self.edges:
            nbytes = self.graph.tensors[edge.tensor].nbytes
            start, ends = self.edge_specs(edge, choice)
            total += edge.times * sum(
                seconds(self.machine, start, end, nbytes, edge.narrow) for end in set(ends)
            )
        return float(total)


def lifted(coarse: Problem, choice: Sequence[int], fine: Problem) -> list[int] | None:
    """A choice on a coarse mesh as one on a finer mesh, of which each axis is a part of its axes.

    Args:
        coarse: a program on a mesh.
        choice: the strategy of each node.
        fine: the same program on a mesh whose axes, in order, multiply to those of the coarse one.

    Returns:
        The strategy of each node; None where a node does not have it on the finer mesh, where what
        somebody gave speaks of single axes.
    """
    axis_of: list[int] = []
    product, axis = 1, 0
    for size in fine.machine.sizes:
        axis_of.append(axis)
        product *= size
        if product == coarse.machine.sizes[axis]:
            product, axis = 1, axis + 1
    found: list[int] = []
    for before, after, chosen in zip(coarse.nodes, fine.nodes, choice, strict=True):
        names = dict(zip(before.factors, after.factors, strict=True)) | {REPLICATED: REPLICATED}
        strategy = before.strategies[chosen]
        finer = tuple(names[strategy[a]] for a in axis_of)
        if finer not in after.strategies:
            return None
        found.append(after.strategies.index(finer))
    return found


def spec_on(
    sizes: tuple[int, ...], devices: Sequence[int], sharding: Any, ndim: int
) -> Spec | None:
    """The layout of a NamedSharding on a mesh of these sizes; None if that cannot show it.

    Args:
        sizes: of the mesh.
        devices: the ids of its devices, in order.
        sharding: over the same devices.
        ndim: dimensions of the array.
    """
    mesh = sharding.mesh
    own_devices = getattr(mesh, "devices", None)
    if own_devices is not None and tuple(d.id for d in own_devices.ravel()) != tuple(devices):
        return None
    names = list(mesh.shape)
    entries = [entry for entry in sharding.spec if entry]
    if not entries:
        return (REPLICATED,) * len(sizes)
    if len(entries) == 1 and tuple(names) == entries[0]:  # over all devices in order
        return (list(sharding.spec).index(entries[0]),) * len(sizes)
    groups = grouping(sizes, tuple(mesh.shape.values()))
    if groups is None:
        return None
    spec = [REPLICATED] * len(sizes)
    for dim, entry in zip(range(ndim), sharding.spec, strict=False):
        axes = entry if isinstance(entry, tuple) else (entry,) if entry else ()
        own = [axis for name in axes for axis in groups[names.index(name)]]
        if own != sorted(own):
            return None
        for axis in own:
            spec[axis] = dim
    return tuple(spec)
