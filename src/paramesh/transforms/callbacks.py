"""Whether a program calls back into Python while it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from paramesh._compat.jax import ClosedJaxpr, Jaxpr


def calls_back(jaxpr: Jaxpr) -> bool:
    """Whether it, or a program inside it, has `jax.debug.callback`, `pure_callback` or the like."""
    for eqn in jaxpr.eqns:
        if "callback" in eqn.primitive.name or "debug_print" in eqn.primitive.name:
            return True
        if any(calls_back(inner) for inner in _inside(eqn.params.values())):
            return True
    return False


def _inside(values: Iterable[object]) -> Iterator[Jaxpr]:
    for value in values:
        if isinstance(value, ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, Jaxpr):
            yield value
        elif isinstance(value, list | tuple):
            yield from _inside(value)
