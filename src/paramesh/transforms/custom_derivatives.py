"""`custom_vjp`: functions with a gradient of their own, over Tensors and Parameters.

Source: `jax.custom_vjp`. For Cells, write a `bprop` method instead.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Array, Tree
from paramesh.dtype import to_dtype
from paramesh.state import tracing
from paramesh.tensor.promotion import cast
from paramesh.tensor.trees import Nest, unpack
from paramesh.transforms.bodies import Body, in_64bit_if_met, name_of, write


class custom_vjp:  # noqa: N801 - the name that JAX gives it
    """A function whose gradient is given by two others; a decorator.

        @paramesh.custom_vjp
        def clipped(x):
            return x

        clipped.defvjp(lambda x: (x, None), lambda kept, dout: (dout.clip(-1, 1),))

    All three take and return Tensors. They may read Parameters; gradients by these do not flow
    through the function; pass them as arguments for that.

    Args:
        fun: (*args) -> outputs.
        nondiff_argnums: arguments that are not Tensors (functions, strings, ints); they are the
            first arguments of the backward function.
    """

    def __init__(self, fun: Callable[..., Any], nondiff_argnums: Iterable[int] = ()) -> None:
        functools.update_wrapper(self, fun, updated=())
        self.fun = fun
        self._constants = frozenset(nondiff_argnums)
        self._forward: Callable[..., Any] | None = None
        self._backward: Callable[..., Any] | None = None

    def _function_inside(self) -> Any:
        return self.fun

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Define the two functions.

        Args:
            fwd: (*args) -> (outputs, what is saved for the backward pass).
            bwd: (*nondiff_args, kept, gradients of the outputs) -> a tuple of gradients, one for
                each differentiable argument; None is zero.
        """
        self._forward, self._backward = fwd, bwd

    @tracing.public_call
    def __call__(self, *args: object) -> Any:
        """`fun(*args)`.

        Raises:
            TypeError: no gradient is defined yet, or its number or shapes differ from those of the
                arguments.
        """
        if self._forward is None or self._backward is None:
            raise TypeError(f"custom_vjp: call {name_of(self.fun)}.defvjp(fwd, bwd) first.")
        given, nest = unpack(
            tuple(None if i in self._constants else arg for i, arg in enumerate(args)), "Tensor"
        )
        states = self._states(args, nest, given)
        start = [tracing.read(state) for state in states]
        out: list[Body] = []
        arrays, values = in_64bit_if_met(
            [*given, *start], lambda: self._derivable(args, nest, states, out)(given, start)
        )
        write(out[-1].written, values)
        return out[-1].nest.build(arrays)

    def _states(self, args: tuple[Any, ...], nest: Nest, given: list[Any]) -> list[Any]:
        """The Parameters that any of the functions reads."""
        found: dict[Any, None] = {}
        forward = self._forward
        assert forward is not None

        def probe(given: list[Any]) -> Any:
            frame = tracing.ReadRecorder(tracing.current())
            with tracing.entered(frame):
                body = Body(
                    forward, self._filled(args, nest, given), {}, {}, name=name_of(self.fun)
                )
                out, kept = self._split(body.nest.build(body.arrays))
                arrays, outs = unpack(out, "Tensor")
                self._gradients(args, kept, outs.tensors(arrays))
                body.hand_out()
            found.update(frame.read)
            return None

        jax.eval_shape(probe, given)
        return list(found)

    def _derivable(
        self, args: tuple[Any, ...], nest: Nest, states: list[Any], bodies: list[Body]
    ) -> Any:
        kept_as: list[Nest] = []

        @jax.custom_vjp
        def call(given: list[Any], values: list[Any]) -> Any:
            body = Body(
                self.fun,
                self._filled(args, nest, given),
                {},
                dict(zip(states, values, strict=True)),
                "Tensor",
            )
            bodies.append(body)
            return body.hand_out()[:2]

        def forward(given: list[Any], values: list[Any]) -> Any:
            def run(*args: object) -> Any:
                out, kept = self._split(self._forward(*args))  # type: ignore[misc]
                return unpack(out, "Tensor"), unpack(kept, "Tensor")

            body = Body(
                run,
                self._filled(args, nest, given),
                {},
                dict(zip(states, values, strict=True)),
                name=name_of(self.fun),
            )
            (arrays, outs), (kept, kept_nest) = body.nest.place(body.arrays)
            _, written, _ = body.hand_out()
            body.nest = outs
            bodies.append(body)
            kept_as.append(kept_nest)
            return (arrays, written), (kept, given, values)

        def backward(saved: Tree, cotangents: Tree) -> Any:
            kept, given, values = saved
            with tracing.overlay(dict(zip(states, values, strict=True))):
                grads = self._gradients(
                    args, kept_as[-1].build(kept), bodies[-1].nest.tensors(cotangents[0])
                )
            return _matched(name_of(self.fun), grads, args, self._constants, nest, given), [
                jnp.zeros_like(v) if _is_float(v) else _no_tangent(v) for v in values
            ]

        call.defvjp(forward, backward)
        return call

    def _filled(self, args: tuple[Any, ...], nest: Nest, given: list[Any]) -> tuple[Any, ...]:
        built = nest.build(given)
        return tuple(arg if i in self._constants else built[i] for i, arg in enumerate(args))

    def _split(self, out: Tree) -> tuple[Any, Any]:
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(
                f"custom_vjp: the forward function of '{name_of(self.fun)}' must return a pair "
                f"(outputs, saved), got {type(out).__name__}."
            )
        return out

    def _gradients(self, args: tuple[Any, ...], kept: Tree, cotangents: Tree) -> Any:
        constants = [args[i] for i in sorted(self._constants) if i < len(args)]
        return self._backward(*constants, kept, cotangents)  # type: ignore[misc]


def _is_float(value: Array) -> bool:
    return to_dtype(value.dtype).kind in ("float", "complex")


def _no_tangent(value: Array) -> Any:
    return np.zeros(value.shape, jax.dtypes.float0)


def _matched(
    name: str,
    grads: Tree,
    args: tuple[Any, ...],
    constants: frozenset[int],
    nest: Nest,
    given: list[Any],
) -> list[Any]:
    """Raw gradients for the raw inputs, from what the backward function returned."""
    derived = [i for i in range(len(args)) if i not in constants]
    grads = grads if isinstance(grads, tuple | list) else (grads,)
    if len(grads) != len(derived):
        raise TypeError(
            f"custom_vjp: the backward function of '{name}' returned {len(grads)} gradients for "
            f"{len(derived)} arguments."
        )
    of_args = nest.tensors(given)
    found: list[Any] = []
    for i, grad in zip(derived, grads, strict=True):
        wanted, _ = unpack(of_args[i])
        got = [None] * len(wanted) if grad is None else unpack(grad, "Tensor")[0]
        if len(got) != len(wanted):
            raise TypeError(
                f"custom_vjp: the backward function of '{name}' returned {len(got)} values for "
                f"argument {i}, which has {len(wanted)}."
            )
        for value, leaf in zip(got, wanted, strict=True):
            if not _is_float(leaf):
                found.append(_no_tangent(leaf))
            elif value is None:
                found.append(jnp.zeros_like(leaf))
            elif tuple(value.shape) != tuple(leaf.shape):
                raise TypeError(
                    f"custom_vjp: the backward function of '{name}' returned a gradient of shape "
                    f"{tuple(value.shape)} for argument {i} of shape {tuple(leaf.shape)}."
                )
            else:
                found.append(cast(value, to_dtype(leaf.dtype)))
    return found
