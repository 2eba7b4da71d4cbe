"""Evaluates a program of Float32 numbers in Float64: what it would give without rounding.

The program is traced as it is, and each of its steps is made with Float64 in place of Float32;
constants and arguments are the Float32 numbers. So the difference from the result of the program
itself, or from another program for the same numbers, is rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

#: Steps that contain a program, which is evaluated in their place.
_CALLS = frozenset(
    {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "checkpoint", "remat2"}
)
_SCATTERS: dict[str, Callable[..., Any]] = {
    "scatter": jax.lax.scatter,
    "scatter-add": jax.lax.scatter_add,
    "scatter-max": jax.lax.scatter_max,
    "scatter-min": jax.lax.scatter_min,
    "scatter-mul": jax.lax.scatter_mul,
}
_TYPES = ("new_dtype", "dtype", "preferred_element_type")
#: These would need their inner programs translated.
_REFUSED = frozenset({"while", "scan", "cond"})


def _wide(kind: Any) -> Any:
    return jnp.dtype(jnp.float64) if kind is not None and kind == jnp.float32 else kind


def _widened(value: Any) -> Any:
    array = jnp.asarray(value)
    return array.astype(_wide(array.dtype))


def _rounded(value: Any) -> Any:
    """To the nearest Float32, kept as Float64."""
    return jax.lax.reduce_precision(value, 8, 23) if value.dtype == jnp.float64 else value


def _evaluate(jaxpr: Any, captured: Any, *args: Any, after: Callable[[Any], Any]) -> list[Any]:
    values: dict[Any, Any] = {}

    def read(name: Any) -> Any:
        if isinstance(name, core.Literal):
            return jnp.asarray(name.val, _wide(name.aval.dtype))  # type: ignore[attr-defined]
        return values[name]

    for names, given in ((jaxpr.constvars, captured), (jaxpr.invars, args)):
        values.update(zip(names, map(_widened, given), strict=True))
    for step in jaxpr.eqns:
        kind, params = step.primitive.name, dict(step.params)
        inputs = [read(name) for name in step.invars]
        if kind in _CALLS:
            inner = params.get("jaxpr", params.get("call_jaxpr"))
            constants = getattr(inner, "consts", ())
            outputs = _evaluate(getattr(inner, "jaxpr", inner), constants, *inputs, after=after)
        elif kind in _SCATTERS:
            options = {k: params[k] for k in ("indices_are_sorted", "unique_indices", "mode")}
            found = _SCATTERS[kind](*inputs, params["dimension_numbers"], **options)
            outputs = [after(found)]
        elif kind in _REFUSED:
            raise NotImplementedError(f"{kind} in Float64")
        else:
            params |= {key: _wide(params[key]) for key in _TYPES if key in params}
            found = step.primitive.bind(*inputs, **params)
            outputs = list(map(after, found if step.primitive.multiple_results else [found]))
        values.update(zip(step.outvars, outputs, strict=True))
    return [read(name) for name in jaxpr.outvars]


def doubled(fn: Callable[[Any], Any], example: Any, rounded: bool = False) -> Callable[[Any], Any]:
    """A function that gives the results of `fn` as Float64 numpy arrays.

    Args:
        fn: takes a pytree of arrays, and gives one.
        example: arguments as it will be called with; those of Float32 may come as Float64.
        rounded: the result of each step is rounded to Float32: what a program gives in which each
            step is as exact as Float32 can be.

    Raises:
        NotImplementedError: the program has loops or branches.
    """
    traced, shape = jax.make_jaxpr(fn, return_shape=True)(example)
    kinds = [jnp.asarray(leaf).dtype for leaf in jax.tree.leaves(example)]
    # Compiling is what takes long here.
    options = {"xla_backend_optimization_level": 0}
    run = jax.jit(
        lambda *leaves: _evaluate(
            traced.jaxpr, traced.consts, *leaves, after=_rounded if rounded else lambda x: x
        ),
        compiler_options=options,
    )

    def call(value: Any) -> Any:
        with jax.enable_x64(True):
            leaves = [
                np.asarray(leaf, _wide(kind))
                for leaf, kind in zip(jax.tree.leaves(value), kinds, strict=True)
            ]
            results = [np.asarray(result) for result in run(*leaves)]
        return jax.tree.unflatten(jax.tree.structure(shape), results)

    return call
