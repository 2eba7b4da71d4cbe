"""A traced program with some of its equations done in another way.

Glossary
    equation    one operator of a jaxpr, JAX's form of a traced program
    inner       the programs inside of an equation: the body of a scan, the branches of a cond
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import Sharding

from paramesh._compat.jax import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

#: An equation and the values of its operands -> the values of its results.
Way = Callable[[Any, list[Any]], Sequence[Any]]
#: Whether an equation is to be done in another way.
Wanted = Callable[[Any], bool]

#: Equations that are a program and what its gradient is to be; nobody asks for that any more.
_CALLS = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")
#: What is inside of these is done by each device alone.
_MANUAL = ("shard_map", "custom_partitioning")


def inner_of(eqn: JaxprEqn) -> list[tuple[str, int | None, Any]]:
    """The programs inside of an equation: (parameter, place in it, program)."""
    found: list[tuple[str, int | None, Any]] = []
    for key, value in eqn.params.items():
        if isinstance(value, ClosedJaxpr | Jaxpr):
            found.append((key, None, value))
        elif isinstance(value, tuple | list):
            found += [
                (key, i, v) for i, v in enumerate(value) if isinstance(v, ClosedJaxpr | Jaxpr)
            ]
    return found


def contains(jaxpr: Jaxpr, wanted: Wanted) -> bool:
    """Whether a program, or one inside of it, has such an equation."""
    for eqn in jaxpr.eqns:
        if wanted(eqn):
            return True
        if eqn.primitive.name in _MANUAL:
            continue
        if any(contains(_open(inner), wanted) for _, _, inner in inner_of(eqn)):
            return True
    return False


def rewritten(closed: ClosedJaxpr, wanted: Wanted, way: Way) -> Any:
    """The program with such equations done in another way.

    The program itself where there are none.
    """
    if not contains(closed.jaxpr, wanted):
        return closed

    def run(*args: object) -> list[Any]:
        return evaluated(closed.jaxpr, closed.consts, args, wanted, way)

    return jax.make_jaxpr(run)(*map(like, closed.jaxpr.invars))


def like(var: Any) -> jax.ShapeDtypeStruct:
    """What stands for the value of a variable while a program is traced."""
    aval = var.aval
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=aval.weak_type)


def bound(eqn: JaxprEqn, values: Sequence[Any], **changed: object) -> list[Any]:
    """The results of an equation as it is, or with other parameters."""
    given = eqn.primitive.get_bind_params({**eqn.params, **changed})
    functions, params = given if isinstance(given, tuple) else ((), given)
    out = eqn.primitive.bind(*functions, *values, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def evaluated(
    jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], wanted: Wanted, way: Way
) -> list[Any]:
    """The outputs of a program for these arguments."""
    env: dict[Any, Any] = {}
    env.update(zip(jaxpr.constvars, consts, strict=True))
    env.update(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        values = [v.val if isinstance(v, Literal) else env[v] for v in eqn.invars]
        results = _results(eqn, values, wanted, way)
        env.update(zip(eqn.outvars, results, strict=True))
    return [v.val if isinstance(v, Literal) else env[v] for v in jaxpr.outvars]


def _results(eqn: JaxprEqn, values: list[Any], wanted: Wanted, way: Way) -> Sequence[Any]:
    name = eqn.primitive.name
    if wanted(eqn):
        return way(eqn, values)
    inner = [] if name in _MANUAL else inner_of(eqn)
    if not any(contains(_open(program), wanted) for _, _, program in inner):
        return bound(eqn, values)
    if name in _CALLS:
        program = inner[0][2]
        return evaluated(_open(program), _consts(program), values, wanted, way)
    if name in ("jit", "pjit") and not _laid_out(eqn):
        program = inner[0][2]
        return evaluated(program.jaxpr, program.consts, values, wanted, way)
    changed: dict[str, Any] = {}
    for key, at, program in inner:
        closed = program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, [])
        new = rewritten(closed, wanted, way)
        if not isinstance(program, ClosedJaxpr):
            if new.consts:
                raise NotImplementedError(
                    f"{name} with constants in its program cannot be rewritten: {new.jaxpr}"
                )
            new = new.jaxpr
        if at is None:
            changed[key] = new
        else:
            entries = changed.get(key, eqn.params[key])
            changed[key] = type(entries)(new if i == at else e for i, e in enumerate(entries))
    return bound(eqn, values, **changed)


def _laid_out(eqn: JaxprEqn) -> bool:
    """Whether an inner `jit` says how its inputs or outputs are sharded."""
    places = (*eqn.params.get("in_shardings", ()), *eqn.params.get("out_shardings", ()))
    return any(isinstance(place, Sharding) for place in places)


def _open(program: ClosedJaxpr | Jaxpr) -> Any:
    return program.jaxpr if isinstance(program, ClosedJaxpr) else program


def _consts(program: ClosedJaxpr | Jaxpr) -> Sequence[Any]:
    return program.consts if isinstance(program, ClosedJaxpr) else ()
