"""A traced program as operators and tensors, with what has to be decided once.

Glossary
    factor      dimensions of the tensors of an operator that are sharded together: the labels of a
    rule,
                made numbers. Factors of operators that share a decision are joined
    cluster     operators that share a decision: a chain of elementwise work, reductions and moves
                from one large tensor; everything else is a cluster by itself
    free        depends on no input of the program; each device makes it for nothing
    times       how often an operator runs in a step: the turns of the loops around it
    path        where an equation is: its place in the program, then in the program inside of it, …
"""

from __future__ import annotations

import collections
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jax.lax import Precision
from jax.sharding import NamedSharding

from paramesh._compat.jax import (
    ClosedJaxpr,
    Jaxpr,
    JaxprEqn,
    Literal,
    dce_jaxpr,
    dtype_of,
    shape_of,
)
from paramesh.parallel.search.rules import AxisRule, Labels, axis_rule_of, flops_of

Path = tuple[Any, ...]
Factored = tuple[int | None, ...]

#: Equations that are their inner program; the parameter that it is in.
INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}
BARRIER = "optimization_barrier"


def inner_program(eqn: JaxprEqn) -> tuple[Any, Sequence[Any]] | None:
    """(program, constants) of an equation that is its inner program; None for others."""
    key = INLINED.get(eqn.primitive.name)
    if key is None or key not in eqn.params:
        return None
    inner = eqn.params[key]
    return (inner.jaxpr, inner.consts) if isinstance(inner, ClosedJaxpr) else (inner, ())


def is_recomputed(eqn: JaxprEqn) -> bool:
    """Whether an equation computes again, for gradients, what must not be merged with before."""
    return bool(eqn.params.get("prevent_cse") and eqn.params.get("differentiated"))


@dataclass
class Tensor:
    """A value of the program.

    Attributes:
        shape: of the full tensor.
        nbytes: of the full tensor.
        times: see the glossary.
        maker: the number of its operator; -1 for an input of the program.
        name: of an input.
        free: see the glossary.
        float32: whether it is of that element type.
    """

    shape: tuple[int, ...]
    nbytes: int
    times: int
    maker: int = -1
    name: str = ""
    free: bool = False
    float32: bool = False


@dataclass
class Operator:
    """An equation, or what a loop does to a value that enters or leaves it.

    Attributes:
        path: see the glossary.
        name: of the primitive; "carry", "slice of scan" and the like for loops.
        inputs: (tensor, its factors) of those that are not free.
        outputs: (tensor, its factors).
        summed: factors along which outputs are sums.
        joins: whether it may share a decision.
        times: see the glossary.
        flops: of all devices together, in one turn.
        dtype: the element type that it computes in, if it computes much.
        one_pass: whether it is a product of Float32 of which no more precision is asked than the
            hardware's products have.
        pinned: the layout that the program itself demands, as a NamedSharding.
        cluster: its number.
    """

    path: Path
    name: str
    inputs: list[tuple[int, Factored]]
    outputs: list[tuple[int, Factored]]
    summed: set[int]
    joins: bool
    times: int
    flops: float = 0.0
    dtype: str = ""
    one_pass: bool = False
    pinned: NamedSharding | None = None
    cluster: int = -1


class Factors:
    """Factors with their sizes: numbers that are joined into classes."""

    def __init__(self) -> None:
        self._up: list[int] = []
        self._size: list[int] = []

    def new(self, size: int) -> int:
        """Another factor; the number of its parts has to divide `size`."""
        self._up.append(len(self._up))
        self._size.append(size)
        return len(self._up) - 1

    def root(self, factor: int) -> int:
        """The number that stands for its class."""
        while self._up[factor] != factor:
            factor = self._up[factor]
        return factor

    def size(self, factor: int) -> int:
        """What the number of parts has to divide."""
        return self._size[self.root(factor)]

    def narrow(self, factor: int, size: int) -> None:
        """Have the number of parts divide `size` too."""
        root = self.root(factor)
        self._size[root] = math.gcd(self._size[root], size)

    def join(self, a: int, b: int) -> None:
        """Make two factors one."""
        a, b = self.root(a), self.root(b)
        if a != b:
            self._up[b] = a
            self._size[a] = math.gcd(self._size[a], self._size[b])

    def roots(self, factors: Factored) -> Factored:
        """The same with the numbers of classes."""
        return tuple(None if f is None else self.root(f) for f in factors)


@dataclass
class Graph:
    """A program, ready to be searched.

    Attributes:
        operators: in the order of the program.
        tensors: all of them, by number.
        inputs: the tensors of the program's inputs.
        outputs: those of its outputs; None for a constant.
        at: path -> number of the operator.
        clusters: the operators of each.
        unknown: how many equations of which primitives have no rule.
    """

    operators: list[Operator] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int | None] = field(default_factory=list)
    at: dict[Path, int] = field(default_factory=dict)
    clusters: list[list[int]] = field(default_factory=list)
    factors: Factors = field(default_factory=Factors)
    unknown: collections.Counter[str] = field(default_factory=collections.Counter)


def live(closed: ClosedJaxpr) -> Any:
    """The program without what no output needs: it would be searched, and never run."""
    jaxpr, _ = dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    return closed if len(jaxpr.constvars) != len(closed.consts) else closed.replace(jaxpr=jaxpr)


def graph_of(closed: ClosedJaxpr, names: Sequence[str]) -> Graph:
    """The graph of a traced program, without clusters.

    Args:
        closed: the program.
        names: of its inputs; "" where there is none.
    """
    builder = _Builder()
    jaxpr = closed.jaxpr
    env = {var: builder.tensor(var.aval, 1, free=True) for var in jaxpr.constvars}
    graph = builder.graph
    for var, name in zip(jaxpr.invars, names, strict=True):
        env[var] = builder.tensor(var.aval, 1, name=name)
        graph.inputs.append(env[var])
    builder.walk(jaxpr, env, (), 1)
    graph.outputs = [None if isinstance(v, Literal) else env[v] for v in jaxpr.outvars]
    return graph


class _Builder:
    def __init__(self) -> None:
        self.graph = Graph()

    def tensor(self, aval: object, times: int, free: bool = False, name: str = "") -> int:
        shape = tuple(getattr(aval, "shape", ()))
        nbytes = math.prod(shape) * _itemsize(aval)
        float32 = getattr(aval, "dtype", None) == np.float32
        self.graph.tensors.append(
            Tensor(shape, nbytes, times, name=name, free=free, float32=float32)
        )
        return len(self.graph.tensors) - 1

    def add(
        self,
        path: Path,
        name: str,
        inputs: Iterable[int | None],
        outputs: Sequence[int],
        rule: AxisRule,
        times: int,
        flops: float = 0.0,
    ) -> Operator:
        """One operator: labels become factors."""
        graph = self.graph
        known: dict[Any, int] = {}

        def factored(tensor: int, labels: Labels) -> Factored:
            found: list[int | None] = []
            for label, size in zip(labels, graph.tensors[tensor].shape, strict=True):
                if label is None or size == 1:
                    found.append(None)
                    continue
                if label not in known:
                    known[label] = graph.factors.new(rule.pieces.get(label, size))
                graph.factors.narrow(known[label], size)
                found.append(known[label])
            return tuple(found)

        own = [
            (tensor, factored(tensor, labels))
            for tensor, labels in zip(inputs, rule.inputs, strict=True)
            if tensor is not None and not graph.tensors[tensor].free
        ]
        made = [(t, factored(t, labels)) for t, labels in zip(outputs, rule.outputs, strict=True)]
        summed = {known[label] for label in rule.summed if label in known}
        operator = Operator(path, name, own, made, summed, rule.joins, times, flops)
        number = len(graph.operators)
        graph.operators.append(operator)
        graph.at[path] = number
        for tensor in outputs:
            graph.tensors[tensor].maker = number
        return operator

    def walk(self, jaxpr: Jaxpr, env: dict[Any, int], path: Path, times: int) -> None:
        graph = self.graph
        for place, eqn in enumerate(jaxpr.eqns):
            own = (*path, place)
            inputs = [None if isinstance(v, Literal) else env[v] for v in eqn.invars]
            inner = inner_program(eqn)
            if inner is not None:
                self._inline(eqn, inner[0], inputs, env, own, times)
            elif eqn.primitive.name == "scan":
                self._scan(eqn, inputs, env, own, times)
            elif eqn.primitive.name == BARRIER:
                for var, tensor in zip(eqn.outvars, inputs, strict=True):
                    env[var] = self.tensor(var.aval, times, free=True) if tensor is None else tensor
            else:
                outputs = [self.tensor(var.aval, times) for var in eqn.outvars]
                env.update(zip(eqn.outvars, outputs, strict=True))
                if all(tensor is None or graph.tensors[tensor].free for tensor in inputs):
                    for tensor in outputs:
                        graph.tensors[tensor].free = True
                    continue
                rule = axis_rule_of(eqn)
                name = eqn.primitive.name
                if not rule.known:
                    graph.unknown[name] += 1
                operator = self.add(own, name, inputs, outputs, rule, times, flops_of(eqn))
                if operator.flops:
                    operator.dtype = str(dtype_of(eqn.invars[0]))
                    operator.one_pass = operator.dtype == "float32" and _is_one_pass(eqn)
                operator.pinned = eqn.params["sharding"] if name == "sharding_constraint" else None

    def _inline(
        self,
        eqn: JaxprEqn,
        program: Jaxpr,
        inputs: list[int | None],
        env: dict[Any, int],
        path: Path,
        times: int,
    ) -> None:
        inner = {var: self.tensor(var.aval, times, free=True) for var in program.constvars}
        again = is_recomputed(eqn)
        for number, (var, tensor) in enumerate(zip(program.invars, inputs, strict=True)):
            if tensor is None or self.graph.tensors[tensor].free:
                inner[var] = self.tensor(var.aval, times, free=True)
            elif again:  # behind a barrier: what others copied is not there
                inner[var] = behind = self.tensor(var.aval, times)
                dims = tuple(range(len(shape_of(var))))
                at = (*path, BARRIER, number)
                self.add(at, BARRIER, [tensor], [behind], AxisRule((dims,), (dims,)), times)
            else:
                inner[var] = tensor
        self.walk(program, inner, path, times)
        for var, result in zip(eqn.outvars, program.outvars, strict=True):
            constant = isinstance(result, Literal)
            env[var] = self.tensor(var.aval, times, free=True) if constant else inner[result]

    def _scan(
        self, eqn: JaxprEqn, inputs: list[int | None], env: dict[Any, int], path: Path, times: int
    ) -> None:
        """The body once, with its turns counted.

        A value that is carried lies alike before the loop, at the start and at the end of a turn;
        what is scanned over, and what is stacked, is not sharded along the turns.
        """
        graph, params = self.graph, eqn.params
        body = params["jaxpr"].jaxpr
        consts, carried = params["num_consts"], params["num_carry"]
        turns = times * params["length"]
        inner = {var: self.tensor(var.aval, turns, free=True) for var in body.constvars}
        carries: list[Operator] = []
        for number, (var, given) in enumerate(zip(body.invars, inputs, strict=True)):
            tensor = self.tensor(var.aval, times, free=True) if given is None else given
            if number < consts:
                inner[var] = tensor
                continue
            inner[var] = here = self.tensor(var.aval, turns)
            dims = tuple(range(len(shape_of(var))))
            if number < consts + carried:
                at = (*path, "carry", number - consts)
                after = self.tensor(var.aval, times)
                rule = AxisRule((dims,), (dims, dims))
                carries.append(self.add(at, "carry", [tensor], [here, after], rule, times))
            elif graph.tensors[tensor].free:
                graph.tensors[here].free = True
            else:
                at = (*path, "turn", number - consts - carried)
                rule = AxisRule(((None, *dims),), (dims,))
                self.add(at, "slice of scan", [tensor], [here], rule, turns)
        self.walk(body, inner, path, turns)
        for number, (result, var) in enumerate(zip(body.outvars, eqn.outvars, strict=True)):
            constant = isinstance(result, Literal)
            here = self.tensor(result.aval, turns, free=True) if constant else inner[result]
            dims = tuple(range(len(shape_of(result))))
            if number < carried:
                # A copy: the value may be an input of the loop, or another carried one.
                copy = self.tensor(result.aval, turns)
                rule = AxisRule((dims,), (dims,))
                self.add((*path, "end", number), "end of turn", [here], [copy], rule, turns)
                carries[number].inputs.append((copy, carries[number].outputs[0][1]))
                env[var] = carries[number].outputs[1][0]
            else:
                env[var] = stacked = self.tensor(var.aval, times)
                rule = AxisRule((dims,), ((None, *dims),))
                at = (*path, "stack", number - carried)
                self.add(at, "stack of scan", [here], [stacked], rule, turns)


def _is_one_pass(eqn: JaxprEqn) -> bool:
    asked = eqn.params.get("precision")
    if isinstance(asked, tuple):
        return all(one == Precision.DEFAULT for one in asked)
    return asked in (None, Precision.DEFAULT)


def _itemsize(aval: object) -> int:
    dtype = getattr(aval, "dtype", None)
    try:
        return np.dtype(dtype).itemsize
    except TypeError:  # keys of random numbers
        return 8
