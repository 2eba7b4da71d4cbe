"""The best strategy of every class, exactly: an integer program for what the bound leaves open.

One variable for each strategy of a class, one for each pair of layouts along a link, and one for
each copy in a layout, which is paid once for all users that want it. `scipy.optimize.milp` (HiGHS)
solves it to optimality. With a limit of memory, what devices hold at each moment is a row of it.
"""

from __future__ import annotations

import collections
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize
import scipy.sparse

from paramesh.parallel.search.bound import Bound
from paramesh.parallel.search.memory import copy_bytes, copy_span, liveness
from paramesh.parallel.search.model import RADIUS, Model
from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import Spec, local

if TYPE_CHECKING:
    from paramesh.parallel.search.model import Link

#: Relative; HiGHS stops at a choice that is proved to be no further from the best one.
_GAP = 1e-6
#: Seconds are counted in this unit, so that HiGHS's tolerances are small beside them.
_UNIT = 1e-6


@dataclass
class Solution:
    """The result of a search.

    Attributes:
        choice: the number of the strategy of each node.
        seconds: what it costs.
        low: no choice costs less, with what looks alike decided alike; proved by the bound, or by
            the integer program where there is no limit of memory.
        spent: processor seconds of the search.
        left: how many strategies of how many were left to the integer program.
    """

    choice: list[int]
    seconds: float
    low: float
    spent: float
    left: tuple[int, int]


class NoPlanFitsError(Exception):
    """No choice of strategies fits into the memory; `least` is what the frugalest needs."""

    def __init__(self, least: float) -> None:
        super().__init__(f"no layouts were found with which each device holds less than {least}")
        self.least = least


class OutOfTimeError(NoPlanFitsError):
    """Time was over before one was known that fits."""


def solve(
    problem: Problem,
    memory: float | None = None,
    radius: int | None = RADIUS,
    prune: bool = True,
    time_limit: float = 60.0,
    start: list[int] | None = None,
) -> Solution:
    """The cheapest strategies.

    Args:
        problem: to be solved.
        memory: bytes that a device may hold; None for no limit.
        radius: see `model.RADIUS`.
        prune: whether the bound drops strategies first.
        time_limit: seconds for one integer program; where it ends before the proof, the best choice
            that is known is taken, and `low` says how far it can be from the best.
        start: a choice that is known.

    Raises:
        NoPlanFitsError: under the limit, or none is known when time is over.
    """
    started = time.process_time()
    if memory is None:
        return _solve(problem, None, radius, prune, 0.0, time_limit, started, start)
    # Under a limit a plan costs more than without one; how much more it can cost decides what the
    # bound may drop. A plan within the margin is the best of all.
    for margin in (0.02, 0.1, 0.5, math.inf):
        try:
            found = _solve(problem, memory, radius, margin < math.inf, margin, time_limit, started)
        except NoPlanFitsError as error:
            if margin == math.inf or isinstance(error, OutOfTimeError):
                raise
            continue
        if margin == math.inf or found.seconds <= found.low * (1 + margin):
            return found
    raise AssertionError("the last margin returns or raises")


def _solve(
    problem: Problem,
    memory: float | None,
    radius: int | None,
    prune: bool,
    margin: float,
    time_limit: float,
    started: float,
    start: list[int] | None = None,
) -> Solution:
    model = Model(problem, radius)
    count = sum(len(own) for own in model.own.values())
    low = -math.inf
    known: list[dict[int, int]] = []
    if start is not None:
        known.append({klass: start[klass] for klass in model.classes})
    if prune:
        bound = Bound(model, margin, known[0] if known else None)
        bound.run(rounds=24 if memory is None else 8)
        low = bound.low
        known.append(bound.choice)
    left = sum(int(alive.sum()) for alive in model.alive.values())
    program = _Program(model, memory)
    choice, proved = program.solved(time_limit, known if memory is None else [])
    if memory is None:
        choice = min([choice, *known], key=model.seconds)
    spread = model.spread(choice)
    seconds = model.seconds(choice)
    if memory is None:
        # Strategies that were dropped are in no choice that costs less than the best known one.
        low = max(low, min(proved, seconds))
    return Solution(spread, seconds, low, time.process_time() - started, (left, count))


class _Program:
    """The integer program of a model."""

    def __init__(self, model: Model, memory: float | None) -> None:
        self.model, self.memory = model, memory
        self.cost: list[float] = []
        self.first: dict[int, int] = {}
        self._values: list[float] = []
        self._rows: list[int] = []
        self._columns: list[int] = []
        self._low: list[float] = []
        self._high: list[float] = []
        for klass in model.classes:
            self.first[klass] = len(self.cost)
            self.cost += list(model.own[klass])
        self.choices = len(self.cost)
        self.live = liveness(model.problem) if memory is not None else None
        moments = self.live.moments if self.live else []
        self.live_sums: list[dict[int, float]] = [collections.defaultdict(float) for _ in moments]
        for klass in model.classes:
            alive = np.flatnonzero(model.alive[klass])
            self._row({self.first[klass] + int(k): 1.0 for k in alive}, 1, 1)
        for link in model.links:
            self._add_link(link)
        if self.live is not None:
            self._hold_tensors()
            for row in self.live_sums:
                self._row(dict(row), -np.inf, memory)

    def _variable(self, cost: float) -> int:
        self.cost.append(cost)
        return len(self.cost) - 1

    def _row(self, row: dict[int, float], low: float, high: Any) -> None:
        number = len(self._low)
        self._low.append(low)
        self._high.append(high)
        self._rows += [number] * len(row)
        self._columns += row
        self._values += row.values()

    def _with(self, klass: int, spec_of: object, spec: int) -> dict[int, float]:
        """Minus the variables of the strategies of a class that give this layout."""
        chosen = np.flatnonzero((spec_of == spec) & self.model.alive[klass])
        return {self.first[klass] + int(k): -1.0 for k in chosen}

    def _add_link(self, link: Link) -> None:
        alive = self.model.alive
        starts = np.unique(link.spec_of[alive[link.maker]])
        copies: dict[tuple[int, Spec], int] = {}
        for use in link.uses:
            ends = np.unique(use.spec_of[alive[use.klass]])
            if not use.cost[np.ix_(starts, ends)].any():
                continue
            pairs = {(int(i), int(j)): self._variable(0.0) for i in starts for j in ends}
            for i in starts:
                own = self._with(link.maker, link.spec_of, i)
                self._row({**{pairs[int(i), int(j)]: 1.0 for j in ends}, **own}, 0, 0)
            for j in ends:
                own = self._with(use.klass, use.spec_of, j)
                self._row({**{pairs[int(i), int(j)]: 1.0 for i in starts}, **own}, 0, 0)
            for (i, j), pair in pairs.items():
                if use.cost[i, j] <= 0:
                    continue
                key = (i, use.specs[j])
                if key not in copies:
                    copies[key] = self._variable(use.cost[i, j])
                    self._hold_copy(link, use.specs[j], copies[key])
                self._row({copies[key]: 1.0, pair: -1.0}, 0, np.inf)

    def _hold_copy(self, link: Link, spec: Spec, variable: int) -> None:
        if self.live is None:
            return
        problem = self.model.problem
        users = {use.klass for use in link.uses if spec in use.specs}
        for number in link.edges:
            edge = problem.edges[number]
            nodes = {use.node for use in edge.uses if self.model.klass[use.node] in users}
            first, last = copy_span(problem, edge, nodes)
            nbytes = local(problem.machine, copy_bytes(problem, edge), spec)
            for row, moment in zip(self.live_sums, self.live.moments, strict=True):
                if first <= moment <= last:
                    row[variable] += nbytes

    def _hold_tensors(self) -> None:
        assert self.live is not None
        problem, graph = self.model.problem, self.model.problem.graph
        seen: set[int] = set()

        def hold(node: int, tensor: int, factors: Any, summed: Any, span: tuple[int, int]) -> None:
            klass = self.model.klass[node]
            nbytes = graph.tensors[tensor].nbytes
            rows = [
                row
                for row, moment in zip(self.live_sums, self.live.moments, strict=True)  # type: ignore[union-attr]
                if span[0] <= moment <= span[1]
            ]
            if not rows:
                return
            for k, strategy in enumerate(problem.nodes[node].strategies):
                part = local(problem.machine, nbytes, problem.spec(strategy, factors, summed))
                for row in rows:
                    row[self.first[klass] + k] += part

        for edge in problem.edges:
            if problem.nodes[edge.maker].name != "sum" and edge.tensor not in seen:
                seen.add(edge.tensor)
                span = self.live.span[edge.tensor]
                hold(edge.maker, edge.tensor, edge.factors, edge.summed, span)
        for number, (node, factors) in problem.source.items():
            if problem.nodes[node].operators:
                span = (0, len(graph.operators))
                hold(node, graph.inputs[number], factors, frozenset(), span)

    def solved(
        self, time_limit: float, known: list[dict[int, int]]
    ) -> tuple[dict[int, int], float]:
        """The strategy of each class, and a bound of what such a choice costs.

        Raises:
            NoPlanFitsError: nothing is left under the limit.
            RuntimeError: HiGHS finds nothing within the time.
        """
        model = self.model
        shape = (len(self._low), len(self.cost))
        matrix = scipy.sparse.csr_matrix((self._values, (self._rows, self._columns)), shape=shape)
        upper = np.ones(len(self.cost))
        upper[: self.choices] = np.concatenate([model.alive[c] for c in model.classes])
        integral = np.zeros(len(self.cost))
        integral[: self.choices] = 1
        constraint: Any = scipy.optimize.LinearConstraint
        bounds: Any = scipy.optimize.Bounds
        result: Any = scipy.optimize.milp(
            np.array(self.cost) / _UNIT,
            constraints=constraint(matrix, self._low, self._high),
            integrality=integral,
            bounds=bounds(0, upper),
            options={"time_limit": time_limit, "mip_rel_gap": _GAP},
        )
        dual = getattr(result, "mip_dual_bound", None)
        proved = -math.inf if dual is None else float(dual) * _UNIT
        if result.x is None and known:
            return known[-1], proved
        if result.x is None:
            if self.memory is not None and result.status in (1, 2):
                raise (OutOfTimeError if result.status == 1 else NoPlanFitsError)(self.memory)
            raise RuntimeError(f"the search ended without a plan: {result.message}")
        return {
            c: int(np.argmax(result.x[self.first[c] : self.first[c] + len(model.own[c])]))
            for c in model.classes
        }, proved
