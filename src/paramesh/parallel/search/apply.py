"""A plan made part of the program: the same equations, with the layouts of the plan pinned.

Tensors are pinned where they pass from one decision to another: how they are made, each layout
that a user wants, and every step on the way there, since XLA gathers the full tensor where it has
to jump. Users that want the same layout get the same array.

Glossary
    value       an array of the new program, and the tensor of the graph that it is; None for
                what is free
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from paramesh._compat.jax import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from paramesh.array_types import Array
from paramesh.parallel.layouts.mesh import grouping
from paramesh.parallel.partitioning.rewriting import bound, like
from paramesh.parallel.search.graph import (
    BARRIER,
    Operator,
    Path,
    inner_program,
    is_recomputed,
)
from paramesh.parallel.search.problem import Problem
from paramesh.parallel.search.resharding import REPLICATED, SUM, Order, Spec, steps

if TYPE_CHECKING:
    from paramesh.parallel.search.graph import Factored


class Value(NamedTuple):
    """See the glossary."""

    array: Array
    tensor: int | None


def applied(
    closed: ClosedJaxpr,
    problem: Problem,
    choice: Sequence[int],
    mesh: Mesh,
    tied: Mapping[int, int],
) -> Any:
    """The program with a plan pinned.

    Args:
        closed: the program.
        problem: its problem.
        choice: the strategy of each node.
        mesh: over the problem's devices; each axis of the problem's mesh is some of its axes, side
            by side.
        tied: as the problem has it.
    """
    run = _Run(closed, problem, choice, mesh, tied)
    return jax.make_jaxpr(run)(*map(like, closed.jaxpr.invars))


class Shower:
    """Layouts of a plan as JAX has them.

    Args:
        sizes: of the plan's mesh.
        mesh: see `applied`.
    """

    def __init__(self, sizes: tuple[int, ...], mesh: Mesh) -> None:
        groups = grouping(tuple(mesh.devices.shape), sizes)
        if groups is None:
            names = tuple(f"s{axis}" for axis in range(len(sizes)))
            mesh = Mesh(mesh.devices.reshape(sizes), names)
            groups = tuple((axis,) for axis in range(len(sizes)))
        self.mesh = mesh
        self._names = [tuple(mesh.axis_names[axis] for axis in group) for group in groups]

    def sharding(self, spec: Spec, ndim: int) -> NamedSharding:
        """A layout, its axes in the order of the mesh."""
        order: Order = {}
        for axis, dim in enumerate(spec):
            if dim >= 0:
                order[dim] = (*order.get(dim, ()), axis)
        return self.ordered(order, ndim)

    def ordered(self, order: Order, ndim: int) -> NamedSharding:
        """A layout with its axes in another order."""
        entries = [
            tuple(name for axis in order.get(dim, ()) for name in self._names[axis]) or None
            for dim in range(ndim)
        ]
        return NamedSharding(self.mesh, PartitionSpec(*entries))


class _Run:
    def __init__(
        self,
        closed: ClosedJaxpr,
        problem: Problem,
        choice: Sequence[int],
        mesh: Mesh,
        tied: Mapping[int, int],
    ) -> None:
        self._closed, self._problem, self._choice = closed, problem, choice
        self._shower = Shower(problem.machine.sizes, mesh)
        self._graph = problem.graph
        self._tied = tied
        self._unpinned = set(problem.unpinned)
        #: How a tensor is made, and how it lies then: the same but for sums.
        self._made: dict[int, Spec] = {}
        self._home: dict[int, Spec] = {}
        for edge in problem.edges:
            if problem.nodes[edge.maker].name == "sum":
                continue
            start, ends = problem.edge_specs(edge, choice)
            self._made[edge.tensor] = start
            self._home[edge.tensor] = ends[0] if SUM in start else start
        self._copies: dict[Any, Any] = {}

    def __call__(self, *args: Any) -> list[Any]:
        """The outputs of the program."""
        jaxpr = self._closed.jaxpr
        env: dict[Any, Value] = {
            var: Value(const, None)
            for var, const in zip(jaxpr.constvars, self._closed.consts, strict=True)
        }
        graph = self._graph
        for var, tensor, arg in zip(jaxpr.invars, graph.inputs, args, strict=True):
            env[var] = Value(arg, None if graph.tensors[tensor].free else tensor)
        self._walk(jaxpr, env, ())
        outputs: list[Any] = []
        for number, var in enumerate(jaxpr.outvars):
            value = _read(env, var)
            if number in self._tied and value.tensor is not None:
                spec = self._problem.input_spec(self._tied[number], self._choice)
                outputs.append(self._copy(value, spec))
            else:
                outputs.append(value.array)
        return outputs

    # Layouts.

    def _pin(self, array: Array, spec: Spec) -> Any:
        if not array.ndim:
            return array
        return lax.with_sharding_constraint(array, self._shower.sharding(spec, array.ndim))

    def _brought(self, array: Array, start: Spec, end: Spec) -> Any:
        """An array on its way from one layout to another, each step pinned."""
        if not array.ndim:
            return array
        way = steps(self._problem.machine.sizes, start, end)
        for step in way:
            place = self._shower.ordered(step.after, array.ndim)
            array = lax.with_sharding_constraint(array, place)
        return array if way else self._pin(array, end)

    def _spec(self, operator: Operator, factors: Factored) -> Spec:
        node = self._problem.nodes[operator.cluster]
        return self._problem.spec(node.strategies[self._choice[operator.cluster]], factors)

    def _home_of(self, tensor: int) -> Spec:
        if tensor not in self._home:
            maker = self._graph.tensors[tensor].maker
            if maker < 0:
                self._home[tensor] = (REPLICATED,) * len(self._problem.machine.sizes)
            else:
                operator = self._graph.operators[maker]
                factors = next(f for t, f in operator.outputs if t == tensor)
                self._home[tensor] = self._spec(operator, factors)
        return self._home[tensor]

    def _copy(self, value: Value, spec: Spec) -> Any:
        """The array of a value in a layout."""
        assert value.tensor is not None
        home = self._home_of(value.tensor)
        if home == spec:
            return value.array
        key = (id(value.array), spec)
        if key not in self._copies:
            # The array is kept beside the copy: its id is the key.
            self._copies[key] = (value.array, self._brought(value.array, home, spec))
        return self._copies[key][1]

    def _wanted(self, value: Value, operator: Operator, number: int) -> Any:
        """The array that an operator uses as its input of this number."""
        if value.tensor is None:
            return value.array
        return self._copy(value, self._spec(operator, operator.inputs[number][1]))

    def _result(self, array: Array, tensor: int, operator: Operator) -> Value:
        """A result, pinned where it leaves its cluster."""
        if self._graph.tensors[tensor].free:
            return Value(array, None)
        if tensor in self._made:
            made = self._made[tensor]
            array = self._brought(array, made, self._home[tensor])
        elif operator.summed or not operator.joins:
            array = self._pin(array, self._home_of(tensor))
        return Value(array, tensor)

    # The program.

    def _operator(self, path: Path) -> Operator | None:
        number = self._graph.at.get(path)
        return None if number is None else self._graph.operators[number]

    def _walk(self, jaxpr: Jaxpr, env: dict[Any, Value], path: Path) -> None:
        for place, eqn in enumerate(jaxpr.eqns):
            own = (*path, place)
            values = [_read(env, var) for var in eqn.invars]
            inner = inner_program(eqn)
            if inner is not None:
                results = self._inlined(eqn, inner, values, own)
            elif eqn.primitive.name == "scan":
                results = self._scan(eqn, values, own)
            elif eqn.primitive.name == BARRIER:
                results = _behind_barrier(values)
            else:
                results = self._done(eqn, values, own)
            env.update(zip(eqn.outvars, results, strict=True))

    def _done(self, eqn: JaxprEqn, values: list[Value], path: Path) -> list[Value]:
        operator = self._operator(path)
        if operator is None:
            return [Value(array, None) for array in bound(eqn, [v.array for v in values])]
        arrays: list[Any] = []
        number = 0
        for value in values:
            arrays.append(self._wanted(value, operator, number))
            number += value.tensor is not None
        if operator.pinned is not None and self._graph.at[path] not in self._unpinned:
            results = arrays
        else:
            results = bound(eqn, arrays)
        return [
            self._result(array, tensor, operator)
            for array, (tensor, _) in zip(results, operator.outputs, strict=True)
        ]

    def _inlined(
        self, eqn: JaxprEqn, inner: tuple[Jaxpr, Sequence[Any]], values: list[Value], path: Path
    ) -> list[Value]:
        program, consts = inner
        if is_recomputed(eqn):
            values = self._recomputed(values, path)
        env = {v: Value(c, None) for v, c in zip(program.constvars, consts, strict=True)}
        env.update(zip(program.invars, values, strict=True))
        self._walk(program, env, path)
        return [_read(env, var) for var in program.outvars]

    def _recomputed(self, values: list[Value], path: Path) -> list[Value]:
        operators = [self._operator((*path, BARRIER, number)) for number in range(len(values))]
        arrays = lax.optimization_barrier(
            [
                value.array if op is None else self._wanted(value, op, 0)
                for value, op in zip(values, operators, strict=True)
            ]
        )
        return [self._in_body(a, op) for a, op in zip(arrays, operators, strict=True)]

    def _scan(self, eqn: JaxprEqn, values: list[Value], path: Path) -> list[Value]:
        params = eqn.params
        body, consts = params["jaxpr"].jaxpr, params["jaxpr"].consts
        fixed, carried = params["num_consts"], params["num_carry"]

        def at(kind: str, number: int) -> Operator | None:
            return self._operator((*path, kind, number))

        def entered(value: Value, operator: Operator | None) -> Any:
            return value.array if operator is None else self._wanted(value, operator, 0)

        carries = [at("carry", number) for number in range(carried)]
        before = values[fixed : fixed + carried]
        start = [entered(v, op) for v, op in zip(before, carries, strict=True)]
        start = [
            array if op is None else self._pin(array, self._spec(op, op.outputs[0][1]))
            for array, op in zip(start, carries, strict=True)
        ]
        turned = values[fixed + carried :]
        over = [entered(value, at("turn", number)) for number, value in enumerate(turned)]

        def turn(carry: list[Any], xs: list[Any]) -> tuple[list[Any], list[Any]]:
            outside, self._copies = self._copies, {}
            env = {v: Value(c, None) for v, c in zip(body.constvars, consts, strict=True)}
            env.update(zip(body.invars, values[:fixed], strict=False))
            places = iter(body.invars[fixed:])
            for number, array in enumerate(carry):
                env[next(places)] = self._in_body(array, carries[number])
            for number, array in enumerate(xs):
                env[next(places)] = self._in_body(array, at("turn", number))
            self._walk(body, env, path)
            results = [_read(env, var) for var in body.outvars]
            after: list[Any] = []
            for number, value in enumerate(results[:carried]):
                end, operator = at("end", number), carries[number]
                assert operator is not None
                spec = self._spec(operator, operator.outputs[0][1])
                array = entered(value, end)
                if end is not None:
                    array = self._copy(self._result(array, end.outputs[0][0], end), spec)
                after.append(self._pin(array, spec))
            stacked = [
                entered(value, at("stack", number))
                for number, value in enumerate(results[carried:])
            ]
            self._copies = outside
            return after, stacked

        carry, stacked = lax.scan(
            turn,
            start,
            over,
            length=params["length"],
            reverse=params["reverse"],
            unroll=params["unroll"],
        )
        # Pinned again: the loop itself is laid out as its first user wants it.
        results = [
            Value(array, None)
            if op is None
            else Value(self._pin(array, self._spec(op, op.outputs[1][1])), op.outputs[1][0])
            for array, op in zip(carry, carries, strict=True)
        ]
        for number, array in enumerate(stacked):
            operator = at("stack", number)
            if operator is None:
                results.append(Value(array, None))
            else:
                results.append(self._result(array, operator.outputs[0][0], operator))
        return results

    def _in_body(self, array: Array, operator: Operator | None) -> Value:
        if operator is None:
            return Value(array, None)
        return self._result(array, operator.outputs[0][0], operator)


def _read(env: dict[Any, Value], var: Atom) -> Value:
    return Value(var.val, None) if isinstance(var, Literal) else env[var]


def _behind_barrier(values: list[Value]) -> list[Value]:
    arrays = lax.optimization_barrier([value.array for value in values])
    return [Value(array, v.tensor) for array, v in zip(arrays, values, strict=True)]
