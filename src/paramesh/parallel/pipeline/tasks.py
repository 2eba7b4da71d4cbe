"""A task: some equations of a traced program, compiled for the devices of one stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from paramesh._compat.jax import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun
from paramesh.array_types import Array
from paramesh.parallel.partitioning.rewriting import bound, evaluated, like, rewritten
from paramesh.parallel.partitioning.rules import has_own_rule, own_partitioning
from paramesh.parallel.pipeline.marks import is_mark
from paramesh.parallel.pipeline.stages import Stages


class Graph:
    """The equations of a program, and who makes what.

    Args:
        jaxpr: the program.
        consts: values of its `constvars`.
    """

    def __init__(self, jaxpr: Jaxpr, consts: Sequence[Any]) -> None:
        self.jaxpr = jaxpr
        self.consts: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        self.eqns: list[Any] = list(jaxpr.eqns)
        self.maker: dict[Any, int] = {
            var: at for at, eqn in enumerate(self.eqns) for var in eqn.outvars
        }

    def operands(self, at: int) -> list[Any]:
        """The variables that an equation takes, without literals and constants."""
        return [
            v for v in self.eqns[at].invars if not isinstance(v, Literal) and v not in self.consts
        ]

    def live(self, wanted: Iterable[Any]) -> list[int]:
        """The equations that these variables need, and those with effects (callbacks), in order.

        Args:
            wanted: variables or literals.
        """
        needed = {v for v in wanted if not isinstance(v, Literal)}
        found: list[int] = []
        for at in reversed(range(len(self.eqns))):
            eqn = self.eqns[at]
            if needed.isdisjoint(eqn.outvars) and not eqn.effects:
                continue
            found.append(at)
            needed.update(self.operands(at))
        return found[::-1]


class Part:
    """What a task consists of.

    Args:
        graph: of the program.
        own: its equations.
        free: equations that any task may compute for itself.
        outputs: the variables that others want of it.

    Attributes:
        invars: the variables that it takes.
        outvars: those that it gives.
        effects: whether it calls back.
    """

    def __init__(
        self, graph: Graph, own: Iterable[int], free: Mapping[int, object], outputs: Sequence[Any]
    ) -> None:
        self._graph = graph
        chosen = set(own)
        waiting = [v for at in chosen for v in graph.operands(at)]
        waiting += [v for v in outputs if not isinstance(v, Literal) and v not in graph.consts]
        inputs: dict[Any, None] = {}
        while waiting:
            var = waiting.pop()
            at = graph.maker.get(var)
            if at is not None and at in chosen:
                continue
            if at is not None and at in free:
                chosen.add(at)
                waiting += graph.operands(at)
            else:
                inputs[var] = None
        self._chosen = sorted(chosen)
        self.effects = any(graph.eqns[at].effects for at in chosen)
        self.invars = list(inputs)
        self.outvars = list(outputs)

    def compiled(self, stages: Stages, stage: int, name: str, platform: str) -> Any:
        """The task for the devices of a stage: arrays of `invars` -> those of `outvars`.

        Args:
            stages: the stages.
            stage: which one.
            name: of the program.
            platform: of the devices.
        """
        program = self._program(stages, stage, platform)

        def task(*args: Array) -> Any:
            return program(*args)

        task.__name__ = task.__qualname__ = name
        return jax.jit(task)

    def compiled_with(
        self,
        donated: Sequence[Any],
        stages: Stages,
        stage: int,
        name: str,
        platform: str,
    ) -> tuple[Any, Any]:
        """The task as functions (some arrays, other arrays) -> those of `outvars`.

        Args:
            donated: of `invars`, those whose arrays come first; the others keep their order.
            stages: the stages.
            stage: which one.
            name: of the program.
            platform: of the devices.

        Returns:
            One to which the arrays that come first are donated, and one to which they are not.
        """
        program = self._program(stages, stage, platform)
        place = {var: ("d", i) for i, var in enumerate(donated)}
        kept = [var for var in self.invars if var not in place]
        place |= {var: ("k", i) for i, var in enumerate(kept)}
        order = [place[var] for var in self.invars]

        def task(donated: list[Any], kept: list[Any]) -> Any:
            groups = {"d": donated, "k": kept}
            return program(*[groups[group][i] for group, i in order])

        task.__name__ = task.__qualname__ = name
        return jax.jit(task, donate_argnums=0), jax.jit(task)

    def _program(self, stages: Stages, stage: int, platform: str) -> Any:
        """The equations over the devices of a stage, as a function."""
        closed = self.closed(stages, stage)
        if len(stages.groups[stage]) > 1:
            closed = rewritten(closed, has_own_rule, own_partitioning(stages.mesh(stage), platform))
        return jaxpr_as_fun(closed)

    def closed(self, stages: Stages, stage: int) -> ClosedJaxpr:
        """The equations over the devices of a stage, from `invars` to `outvars`.

        Args:
            stages: the stages.
            stage: which one.
        """
        graph = self._graph
        jaxpr = graph.jaxpr.replace(
            invars=[*self.invars],
            outvars=[*self.outvars],
            eqns=[graph.eqns[at] for at in self._chosen],
        )

        def wanted(eqn: JaxprEqn) -> bool:
            return is_mark(eqn) or eqn.primitive.name in ("sharding_constraint", "shard_map")

        def way(eqn: JaxprEqn, values: list[Any]) -> Sequence[Any]:
            if is_mark(eqn):
                return values
            if eqn.primitive.name == "shard_map":
                mesh = stages.moved_mesh(eqn.params["mesh"], stage)
                return bound(eqn, values, mesh=mesh)
            return bound(eqn, values, sharding=stages.moved(eqn.params["sharding"], stage))

        def run(*args: Array) -> list[Any]:
            return evaluated(jaxpr, list(graph.consts.values()), args, wanted, way)

        return jax.make_jaxpr(run)(*map(like, self.invars))
