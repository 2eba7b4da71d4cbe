"""`vmap` of functions over Parameters: read by all examples, or cut so that each has a part.

Glossary
    example   one run of the function among those of the batch
    part      of a Parameter that is an argument with an axis in `in_axes`: what one example sees of
              it, a Parameter of its own that it may write
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from paramesh import random
from paramesh.array_types import Tree
from paramesh.errors import TraceError
from paramesh.initializer import initializer
from paramesh.parameter import Parameter
from paramesh.state import tracing
from paramesh.tensor.base import raw, wrap
from paramesh.transforms.bodies import Body, write

#: The name of the axis of examples, while they draw random numbers.
_EXAMPLE = "paramesh.vmap"


class _Draws(Exception):
    """The function draws random numbers."""


def vmap(fn: Callable[..., Any], in_axes: Tree = 0, out_axes: Tree = 0) -> Callable[..., Any]:
    """`jax.vmap` of a Cell or function that uses Parameters.

    A Parameter that the function reads is shared by all examples. One that is an argument with an
    axis in `in_axes` is cut along it: each example has its part, and may write it (`ops.Adam` of
    many variables). Random numbers are others in each example.

    Args:
        fn: the Cell or function.
        in_axes: for each argument its axis of examples, None for what all of them get.
        out_axes: where that axis is in each output.

    Raises:
        TraceError: `fn` writes a Parameter that is no such argument: over a batch there would be
            many new values for it. Use `functional_call(..., mutable=True)` and reduce them
            yourself.
    """

    @tracing.public_call
    def run(*args: Tree, **kwargs: Tree) -> Any:
        axes = in_axes if isinstance(in_axes, tuple | list) else [in_axes] * len(args)
        parts = {
            i: _part_of(arg, axis)
            for i, (arg, axis) in enumerate(zip(args, axes, strict=False))
            if isinstance(arg, Parameter) and isinstance(axis, int)
        }
        given = [wrap(raw(arg)) if i in parts else arg for i, arg in enumerate(args)]
        try:
            out, values, written = _examples(fn, in_axes, out_axes, axes, parts, None)(
                given, kwargs
            )
        except _Draws:
            key = random.next_key()
            out, values, written = _examples(fn, in_axes, out_axes, axes, parts, key)(given, kwargs)
        chosen = [i for i in parts if parts[i] in written]
        write([args[i] for i in chosen], [values[i] for i in chosen])
        return out

    return run


def _part_of(param: Parameter, axis: int) -> Parameter:
    """What stands for a Parameter in one example; it has no values of its own."""
    shape = list(param.shape)
    if not -len(shape) <= axis < len(shape):
        raise ValueError(
            f"vmap: Parameter '{param.name}' of shape {param.shape} has no axis {axis}."
        )
    del shape[axis]
    return Parameter(
        initializer("zeros", shape, param.dtype), param.name, requires_grad=param.requires_grad
    )


def _examples(
    fn: Callable[..., Any],
    in_axes: Tree,
    out_axes: Tree,
    axes: Tree,
    parts: dict[int, Parameter],
    key: jax.Array | None,
) -> Callable[..., Any]:
    """All examples: (arguments, named ones) -> (outputs, {position: new value}, what was written).

    Raises _Draws if they need random numbers and there is no key.
    """
    written: list[Any] = []
    stream = random.default_generator().state

    def one(*args: Tree, **kwargs: Tree) -> Any:
        overlay: dict[Any, Any] = {part: raw(args[i]) for i, part in parts.items()}
        if key is not None:
            own = jax.random.fold_in(key, jax.lax.axis_index(_EXAMPLE))
            words = jax.random.key_data(own)
            overlay[stream] = jnp.concatenate([words, jnp.zeros_like(words)])
        seen = [parts.get(i, arg) for i, arg in enumerate(args)]
        body = Body(fn, seen, kwargs, overlay)
        if key is None and stream in body.written:
            raise _Draws
        known = {*overlay}
        _refuse([state for state in body.written if state not in known])
        written[:] = body.written
        outputs, values, _ = body.hand_out([*parts.values()])
        return body.nest.build(outputs), dict(zip(parts, values, strict=True))

    def run(args: list[Any], kwargs: dict[str, Any]) -> Any:
        back = {i: axes[i] for i in parts}
        name = None if key is None else _EXAMPLE
        out, values = jax.vmap(one, in_axes, (out_axes, back), axis_name=name)(*args, **kwargs)
        return out, values, written

    return run


def _refuse(states: list[Any]) -> None:
    if states:
        names = ", ".join(f"'{state.name}'" for state in states)
        raise TraceError(
            f"vmap: the function writes {names}, which would get one value for each example. "
            "Pass it as an argument with an axis in in_axes, use functional_call(net, values, x, "
            "mutable=True) under jax.vmap and reduce the values it returns, or set_train(False)."
        )
