"""`vjp`, `jvp`, `jacrev`, `jacfwd` and `hessian` over Tensors and Parameters.

Sources: JAX's functions of these names; `vjp`, `jvp`, `jacrev` and `jacfwd` with MindSpore 2.10's
arguments. Functions may read and write Parameters: what they write is written once, as by a plain
call. Every returned Tensor holds a concrete array.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh import context
from paramesh.array_types import Tree
from paramesh.parameter import Parameter
from paramesh.state import tracing
from paramesh.tensor.base import wrap
from paramesh.tensor.trees import Nest, unpack
from paramesh.transforms.bodies import Body, in_64bit_if_met, name_of, write
from paramesh.transforms.carriers import finished
from paramesh.transforms.compiled_function import CompiledFunction
from paramesh.transforms.forward import (
    Forward,
    cotangents,
    differentiable,
    has_gradient,
    zeros_like,
)
from paramesh.transforms.gradients import Weights, check_weights
from paramesh.transforms.reachability import parameters_of
from paramesh.transforms.reversible_loops import derivative


@tracing.public_call
def vjp(
    fn: Callable[..., Any], *inputs: Tree, weights: Weights = None, has_aux: bool = False
) -> Any:
    """The outputs of a function, and a function from their cotangents to gradients.

    Args:
        fn: a Cell or function.
        inputs: of the call; gradients by integers are of their own type, as those of `grad`.
        weights: Parameters to differentiate by as well: a ParameterTuple, a list, or one Parameter.
        has_aux: only the first output is differentiated, the others are returned as they are.

    Returns:
        (outputs, `vjp_fn`), with `has_aux` (output, `vjp_fn`, aux): the other outputs as a tuple,
        or the only other one. `vjp_fn` takes a
        Tensor like each output and gives a tuple of gradients by the inputs; with `weights`, a
        pair of it and the gradients by the Parameters. Python ints get zeros.

    Raises:
        TypeError: an output that is differentiated is not a float.
        ValueError: `vjp_fn` is given something with another structure than the outputs.
    """
    chosen = check_weights(weights) or []
    diff = {i: arg for i, arg in enumerate(inputs) if has_gradient(arg)}
    start = [tracing.read(weight) for weight in chosen]
    arrays, _ = unpack([start, inputs])
    forward = in_64bit_if_met(arrays, lambda: Forward(fn, inputs, {}, diff, chosen, start, has_aux))
    forward.write()
    rest = [zeros_like(arg) if i not in diff else None for i, arg in enumerate(inputs)]

    def vjp_fn(*outputs: Tree) -> Any:
        given = cotangents(forward.arrays, outputs)
        by_weight, by_input = in_64bit_if_met([*given, *arrays], lambda: forward.back(given))
        gradients = tuple(by_input.get(i, zero) for i, zero in enumerate(rest))
        if weights is None:
            return gradients
        of_weights = tuple(wrap(g) for g in by_weight)
        return gradients, of_weights[0] if isinstance(weights, Parameter) else of_weights

    return (forward.value, vjp_fn, _alone(forward.aux)) if has_aux else (forward.value, vjp_fn)


@tracing.public_call
def jvp(fn: Callable[..., Any], inputs: Tree, v: Tree, has_aux: bool = False) -> Any:
    """The outputs of a function, and their derivative in the direction `v` of the inputs.

    Args:
        fn: a Cell or function.
        inputs: a Tensor, or a tuple with all arguments of the call, of float types.
        v: of the same structure, shapes and element types.
        has_aux: only the first output is differentiated, the others are returned as they are.

    Returns:
        (outputs, derivatives), with `has_aux` (output, derivative, aux): the other outputs as a
        tuple, or the only other one.

    Raises:
        TypeError: an input is not a float. ValueError: `v` has other shapes than `inputs`.
    """
    args = inputs if isinstance(inputs, tuple) else (inputs,)
    directions = v if isinstance(v, tuple) else (v,)
    given, nest = unpack(args, "Tensor")
    along, _ = unpack(directions, "Tensor")
    shapes = [[tuple(np.shape(x)) for x in xs] for xs in (given, along)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"jvp: the inputs have shapes {shapes[0]}, v has {shapes[1]}.")
    if not differentiable(args):
        raise TypeError("jvp: the inputs must be of float types; close over the others.")
    along = [jnp.asarray(x, y.dtype) for x, y in zip(along, given, strict=True)]

    def compute() -> Any:
        pure, bodies = _pure(fn, nest, has_aux)
        with derivative(reverse=False):
            out, derived, handed = jax.jvp(pure, (given,), (along,), has_aux=True)
        return bodies[-1], out, derived, handed

    (body, main, aux), out, derived, (others, values, left) = in_64bit_if_met(given, compute)
    write(body.written, values)
    body.leave(left)
    outs = (main.tensors(out), main.tensors(derived))
    return (*outs, _alone(aux.tensors(others))) if has_aux else outs


def _alone(aux: Any) -> Any:
    """Several further outputs as a tuple, and a single one itself, as MindSpore gives it."""
    return aux[0] if len(aux) == 1 else aux


def _pure(fn: Callable[..., Any], nest: Nest, has_aux: bool) -> tuple[Any, list[Any]]:
    """A function of raw inputs -> (raw outputs, extra outputs), and a list of its runs."""
    bodies: list[Any] = []

    def call(*args: object) -> Any:
        out = finished(fn(*args), name_of(fn))
        if has_aux and (not isinstance(out, tuple) or len(out) < 2):
            raise TypeError("has_aux=True: the function must return (output, aux, ...).")
        main, aux = (out[0], out[1:]) if has_aux else (out, ())
        arrays, main = unpack(main, "Tensor")
        others, aux = unpack(aux, "Tensor")
        return (main, arrays), (aux, others)

    def pure(given: list[Any]) -> Any:
        body = Body(call, nest.build(given), {}, {}, name=name_of(fn), hands_out=True)
        (main, arrays), (aux, others) = body.nest.place(body.arrays)
        bodies.append((body, main, aux))
        return arrays, (others, *body.hand_out()[1:])

    return pure, bodies


class Jacobian:
    """What `jacrev` and `jacfwd` return: a function that computes Jacobians.

    Args:
        transform: `jax.jacrev` or `jax.jacfwd`.
        fn: the function.
        positions: the arguments to differentiate by.
        has_aux: see `jacrev`.
    """

    def __init__(
        self,
        transform: Callable[..., Any],
        fn: Callable[..., Any],
        positions: int | tuple[int, ...],
        has_aux: bool,
    ) -> None:
        wanted = positions if isinstance(positions, tuple) else (positions,)
        if not wanted or not all(isinstance(i, int) and not isinstance(i, bool) for i in wanted):
            raise TypeError(f"grad_position must be an int or a tuple of ints, got {positions!r}.")
        self.fn, self._transform, self._has_aux = fn, transform, has_aux
        self._single, self._positions = len(wanted) == 1, wanted
        self.__name__ = f"{transform.__name__}_of_{name_of(fn)}"
        self._compiled = CompiledFunction(
            self._run,
            hints=lambda: parameters_of(fn),
            kept_with=fn,
            way=(transform.__name__, positions, has_aux),
        )
        self._compiled.__name__ = self.__name__

    def _reachable_parameters(self) -> list[Parameter]:
        return parameters_of(self.fn)

    def _function_inside(self) -> Any:
        return self.fn

    @tracing.public_call
    def __call__(self, *args: object) -> Any:
        """The Jacobians for these arguments."""
        if context.get_context("mode") == context.GRAPH_MODE:
            return self._compiled(*args)
        return self._run(*args)

    def _run(self, *args: object) -> Any:
        for i in self._positions:
            if not -len(args) <= i < len(args):
                raise ValueError(
                    f"{self.__name__}: grad_position {i} but the function was called with "
                    f"{len(args)} arguments."
                )
            if not differentiable(args[i]):
                raise TypeError(
                    f"{self.__name__}: argument {i} is "
                    f"{getattr(args[i], 'dtype', type(args[i]).__name__)}: only floats have "
                    "derivatives."
                )
        places = [i % len(args) for i in self._positions]
        given, nest = unpack(tuple(args[i] for i in places), "Tensor")

        def call(*chosen: Tree) -> Any:
            merged = list(args)
            for i, arg in zip(places, chosen, strict=True):
                merged[i] = arg
            return self.fn(*merged)

        call.__name__ = name_of(self.fn)

        def compute() -> Any:
            pure, bodies = _pure(call, nest, self._has_aux)
            with derivative(reverse=self._transform is jax.jacrev):
                jacobians, handed = self._transform(pure, has_aux=True)(given)
            return bodies[-1], jacobians, handed

        arrays, _ = unpack(args)
        (body, main, aux), jacobians, (others, values, left) = in_64bit_if_met(arrays, compute)
        write(body.written, values)
        body.leave(left)
        by_output = [nest.tensors(by_input) for by_input in jacobians]
        out = main.place([by[0] if self._single else by for by in by_output])
        return (out, _alone(aux.tensors(others))) if self._has_aux else out


def jacrev(
    fn: Callable[..., Any], grad_position: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Jacobian:
    """A function that computes the Jacobian of `fn`, row by row (good for few outputs).

    Args:
        fn: a Cell or function of Tensors.
        grad_position: which arguments to differentiate by.
        has_aux: only the first output is differentiated, the others are returned as they are.

    Returns:
        For an output of shape `o` and an argument of shape `a`, a Tensor of shape `o + a`; a tuple
        where a tuple of positions was asked for, in the place of each output. With `has_aux`,
        (Jacobian, aux): the other outputs as a tuple, or the only other one.

    Raises:
        TypeError, ValueError: an argument is not a float, or a position that the call does not
            have.
    """
    return Jacobian(jax.jacrev, fn, grad_position, has_aux)


def jacfwd(
    fn: Callable[..., Any], grad_position: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Jacobian:
    """As `jacrev`, column by column (good for few inputs).

    Raises:
        TypeError, ValueError: as `jacrev`.
    """
    return Jacobian(jax.jacfwd, fn, grad_position, has_aux)


def hessian(
    fn: Callable[..., Any], grad_position: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Jacobian:
    """A function that computes the second derivatives of `fn`: `jacfwd(jacrev(fn))`.

    Returns:
        For an output of shape `o` and an argument of shape `a`, a Tensor of shape `o + a + a`.

    Raises:
        TypeError, ValueError: as `jacrev`.
    """
    return jacfwd(jacrev(fn, grad_position, has_aux), grad_position, has_aux)
