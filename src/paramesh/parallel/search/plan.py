"""A plan: the layouts that a search found for one program, and what they cost.

Glossary
    given       what the user said of a layout, with who said it: a strategy, a Layout, a file; the
                search keeps to it
    part        of a modelled step: computing, or sending
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jax.sharding import NamedSharding

from paramesh._compat.jax import ClosedJaxpr, shape_of
from paramesh.errors import LayoutError
from paramesh.parallel.layouts.layout import Layout
from paramesh.parallel.search.clusters import put_into_clusters
from paramesh.parallel.search.graph import graph_of
from paramesh.parallel.search.machine import Machine, Target, machine, meshes
from paramesh.parallel.search.memory import live_bytes, liveness
from paramesh.parallel.search.problem import Problem, lifted, spec_on
from paramesh.parallel.search.reassociating import sent_with_others
from paramesh.parallel.search.resharding import REPLICATED, SUM, Spec, sent
from paramesh.parallel.search.rings import with_rings
from paramesh.parallel.search.solve import NoPlanFitsError, Solution, solve


@dataclass(frozen=True)
class Given:
    """See the glossary."""

    sharding: NamedSharding
    reason: str


@dataclass(frozen=True)
class Program:
    """A traced program as a search takes it.

    Attributes:
        closed: its jaxpr.
        names: of its inputs; "" for those that are no Parameters.
        tied: number of an output -> that of the input whose new value it is.
        given: number of an input -> how it has to lie.
        devices: ids, by rank.
        hosts: how many hosts they are in.
    """

    closed: ClosedJaxpr
    names: tuple[str, ...]
    tied: Mapping[int, int]
    given: Mapping[int, Given]
    devices: tuple[int, ...]
    hosts: int = 1

    def trained(self) -> frozenset[int]:
        """The inputs that it gives new values."""
        return frozenset(self.tied.values())


@dataclass(frozen=True)
class Collective:
    """A collective of a plan.

    Attributes:
        kind: as in XLA's programs.
        nbytes: that a device sends in a step.
        seconds: in a step, as modelled.
        maker: the operators that make what is sent.
        users: the operators that want it.
        tensor: its shape, and its name if it is a Parameter.
        times: how often in a step.
        at: where in the step: the part of its operators that come before.
    """

    kind: str
    nbytes: float
    seconds: float
    maker: str
    users: str
    tensor: str
    times: int
    at: float = 0.0


@dataclass
class Plan:
    """See the module.

    Attributes:
        program: that it is for.
        problem: with its graph and machine.
        solution: the strategy of each node.
        groups: the axes of the mesh, with neighbours joined that shard all inputs alike.
        axes: the names of the groups.
    """

    program: Program
    problem: Problem
    solution: Solution
    groups: tuple[tuple[int, ...], ...] = ()
    axes: tuple[str, ...] = ()

    @property
    def machine(self) -> Machine:
        """What it counts with."""
        return self.problem.machine

    @property
    def seconds(self) -> float:
        """Of a step, as modelled."""
        return self.solution.seconds

    def input_spec(self, number: int) -> Spec:
        """How an input of the program lies."""
        return self.problem.input_spec(number, self.solution.choice)

    def layout(self, number: int) -> Layout:
        """The same with names."""
        spec = self.input_spec(number)
        cuts: list[Any] = [[] for _ in range(self.ndim(number))]
        for name, axes in zip(self.axes, self.groups, strict=True):
            if spec[axes[0]] >= 0:
                cuts[spec[axes[0]]].append(name)
        entries = ["None" if not own else own[0] if len(own) == 1 else tuple(own) for own in cuts]
        return Layout(self.matrix, self.axes)(*entries)

    @property
    def matrix(self) -> tuple[int, ...]:
        """The device matrix of its layouts: the mesh, with axes joined that shard alike."""
        sizes = self.machine.sizes
        return tuple(math.prod(sizes[axis] for axis in axes) for axes in self.groups)

    def ndim(self, number: int) -> int:
        """How many dimensions an input has."""
        return len(self.problem.graph.tensors[self.problem.graph.inputs[number]].shape)

    def collectives(self) -> list[Collective]:
        """What the devices send each other in a step, the most bytes first."""
        problem, graph, choice = self.problem, self.problem.graph, self.solution.choice
        found: list[Collective] = []
        end = max(len(graph.operators), 1)
        for node, chosen in zip(problem.nodes, choice, strict=True):
            for one in node.sums[chosen] if node.sums else ():
                found.append(
                    Collective(
                        one.kind,
                        one.nbytes * node.times,
                        one.seconds * node.times,
                        node.name,
                        node.name,
                        "",
                        node.times,
                        min(node.operators, default=0) / end,
                    )
                )
        with_others = sent_with_others(problem, choice)
        for edge in problem.edges:
            tensor = graph.tensors[edge.tensor]
            start, ends = problem.edge_specs(edge, choice)
            for wanted in () if edge.tensor in with_others else dict.fromkeys(ends):
                places = [
                    use.operator for use, s in zip(edge.uses, ends, strict=True) if s == wanted
                ]
                at = max(tensor.maker, 0) if SUM in start else min(places)
                users = dict.fromkeys(
                    problem.nodes[use.node].name
                    for use, spec in zip(edge.uses, ends, strict=True)
                    if spec == wanted
                )
                sends = sent(self.machine, start, wanted, tensor.nbytes, edge.narrow)
                sends = with_rings(problem, choice, edge.tensor, start, sends)
                found += [
                    Collective(
                        one.kind,
                        one.nbytes * edge.times,
                        one.seconds * edge.times,
                        problem.nodes[edge.maker].name,
                        ", ".join(users),
                        f"{tensor.name} {tensor.shape}".strip(),
                        edge.times,
                        min(at / end, 1.0),
                    )
                    for one in sends
                ]
        return sorted(found, key=lambda one: -one.nbytes)

    def sent(self) -> dict[str, float]:
        """Bytes that a device sends in a step, by kind of collective."""
        totals: dict[str, float] = collections.defaultdict(float)
        for one in self.collectives():
            totals[one.kind] += one.nbytes
        return dict(totals)

    def memory(self) -> float:
        """Bytes that a device holds at most, of what the model counts."""
        return max(
            live_bytes(self.problem, self.solution.choice, liveness(self.problem)), default=0.0
        )

    def kept_whole(self) -> dict[str, int]:
        """How many equations of primitives without a rule are replicated."""
        return dict(self.problem.graph.unknown)


def plan_of(program: Program, problem: Problem, solution: Solution) -> Plan:
    """A solution, with names."""
    bare = Plan(program, problem, solution)
    groups = _groups(bare)
    return dataclasses.replace(bare, groups=groups, axes=_names(bare, groups))


def find(
    program: Program,
    target: Target,
    memory: float | None = None,
    sizes: tuple[int, ...] | None = None,
) -> Plan:
    """The plan of a program that costs least over all meshes.

    Args:
        program: to be searched.
        target: what its devices can do.
        memory: bytes that a device may hold; None for no limit.
        sizes: of the mesh; None to have it found.

    Raises:
        LayoutError: what is given cannot be shown on one mesh, or no plan fits into the memory.
    """
    best: Plan | None = None
    refused = ""
    tried = [sizes] if sizes else _meshes(program)
    for sizes in tried:
        fixed, unshown = _fixed(program, sizes)
        if unshown is not None:
            refused = unshown
            continue
        problem = _problem(program, sizes, target, fixed)
        try:
            solution = solve(problem, memory, start=_coarse(program, problem, target, memory))
        except NoPlanFitsError:
            refused = (
                f"no layouts were found with which each device holds less than {memory:.3g} bytes "
                "(device_memory). Use more devices, a smaller batch, recompute or "
                "grad_accumulation_step."
            )
            continue
        if best is None or solution.seconds < best.seconds:
            best = plan_of(program, problem, solution)
    if best is None:
        raise LayoutError(refused)
    return best


def _meshes(program: Program) -> list[tuple[int, ...]]:
    """The meshes to search on, of those that show what was given.

    The usual ones; if none of them shows it, those in another order of axes or with more of them.
    All usual ones if no mesh shows it.
    """
    count, hosts = len(program.devices), program.hosts
    usual = meshes(count, hosts)
    others = [meshes(count, hosts, most, orders=True) for most in range(3, count.bit_length())]
    for some in (usual, *others):
        shown = [sizes for sizes in some if _fixed(program, sizes)[1] is None]
        if shown:
            return shown
    return usual


def _problem(
    program: Program, sizes: tuple[int, ...], target: Target, fixed: Mapping[int, Spec]
) -> Problem:
    graph = graph_of(program.closed, program.names)
    put_into_clusters(graph)
    on = machine(sizes, target, program.hosts)
    return Problem(graph, on, fixed, program.tied, program.devices)


def _coarse(
    program: Program,
    problem: Problem,
    target: Target,
    memory: float | None,
    layouts: Mapping[int, Spec] | None = None,
) -> list[int] | None:
    """The best of coarser meshes as a choice to begin with: a finer mesh is never worse.

    None where there is no coarser mesh, or it cannot show `layouts`.
    """
    sizes = problem.machine.sizes
    best: list[int] | None = None
    layouts = layouts or {}
    if memory is not None or any(len(set(spec)) > 1 for spec in layouts.values()):
        return None
    for split in range(len(sizes) - 1):
        coarse = (*sizes[:split], math.prod(sizes[split:]))
        fixed, unshown = _fixed(program, coarse)
        if unshown is not None:
            continue
        alike = {number: (spec[0],) * len(coarse) for number, spec in layouts.items()}
        known = _problem(program, coarse, target, {**alike, **fixed})
        found = lifted(known, solve(known).choice, problem)
        if found is None:
            continue
        if best is None or problem.seconds(found) < problem.seconds(best):
            best = found
    return best


def _fixed(program: Program, sizes: tuple[int, ...]) -> tuple[dict[int, Spec], str | None]:
    fixed: dict[int, Spec] = {}
    for number, given in program.given.items():
        ndim = len(shape_of(program.closed.jaxpr.invars[number]))
        spec = spec_on(sizes, program.devices, given.sharding, ndim)
        if spec is None:
            name = program.names[number] or f"input {number}"
            matrix = tuple(given.sharding.mesh.shape.values())
            return {}, (
                f"'{name}': {given.reason} shards it by {given.sharding.spec} over a mesh "
                f"of {matrix}, which the search cannot show on its mesh {sizes}. Give all layouts "
                "over device matrices that group the same devices in the same order."
            )
        fixed[number] = spec
    return fixed, None


def _groups(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """Neighbouring axes that shard all inputs alike, as one."""
    specs = [plan.input_spec(number) for number in range(len(plan.program.names))]
    groups = [[0]]
    for axis in range(1, len(plan.machine.sizes)):
        if all(spec[axis] == spec[axis - 1] for spec in specs):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return tuple(map(tuple, groups))


def _names(plan: Plan, groups: Sequence[tuple[int, ...]]) -> tuple[str, ...]:
    """Names as a person would give.

    "mp" for an axis along which products and lookups use parts of Parameters, "dp" for another one
    along which they use parts of the inputs.
    """
    problem, choice = plan.problem, plan.solution.choice
    named = dict(zip(problem.graph.inputs, plan.program.names, strict=True))
    cuts: dict[bool, set[int]] = {True: set(), False: set()}
    for edge in problem.edges:
        if edge.tensor not in named:
            continue
        for use, spec in zip(edge.uses, problem.edge_specs(edge, choice)[1], strict=True):
            operators = problem.nodes[use.node].operators
            if operators and not problem.graph.operators[operators[0]].joins:
                cuts[bool(named[edge.tensor])] |= {a for a, dim in enumerate(spec) if dim >= 0}
    counts: collections.Counter[str] = collections.Counter()
    names: list[str] = []
    for axes in groups:
        name = "dp" if axes[0] in cuts[False] and axes[0] not in cuts[True] else "mp"
        counts[name] += 1
        names.append(name if counts[name] == 1 else f"{name}{counts[name]}")
    return tuple(names)


def restricted(plan: Plan, layouts: Mapping[int, Spec]) -> float:
    """Seconds of the best plan on the same mesh in which these inputs lie so.

    Args:
        plan: with the program and the mesh.
        layouts: number of an input -> spec; what the program was given stays.
    """
    program = plan.program
    given, _ = _fixed(program, plan.machine.sizes)
    target = plan.machine.target
    problem = _problem(program, plan.machine.sizes, target, {**layouts, **given})
    return solve(problem, start=_coarse(program, problem, target, None, layouts)).seconds


def everywhere(plan: Plan) -> Spec:
    """The spec of what is replicated on every device."""
    return (REPLICATED,) * len(plan.machine.sizes)


def sharded_over_all(plan: Plan, number: int) -> Spec:
    """An input sharded over all devices along its first dimension that they divide, if one is."""
    count = plan.machine.count
    shape: Sequence[int] = plan.problem.graph.tensors[plan.problem.graph.inputs[number]].shape
    for dim, size in enumerate(shape):
        if size and size % count == 0:
            return (dim,) * len(plan.machine.sizes)
    return everywhere(plan)
