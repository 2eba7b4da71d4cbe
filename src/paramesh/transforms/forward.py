"""The forward pass of a function together with its backward pass, over `jax.vjp`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import ArrayLike, Tree
from paramesh.dtype import to_dtype, x64
from paramesh.errors import TraceError
from paramesh.providers import providers
from paramesh.state import tracing
from paramesh.tensor.base import raw
from paramesh.tensor.trees import Nest, unpack
from paramesh.transforms.bodies import Body, name_of, write
from paramesh.transforms.carriers import finished
from paramesh.transforms.integer_gradients import float_copy, to_integers, with_copies
from paramesh.transforms.reversible_loops import derivative


class Forward:
    """The forward pass of a function, with its backward pass.

    Args:
        fn: the function.
        args: of the call.
        kwargs: of the call.
        diff: {position: argument} to differentiate by.
        weights: Parameters to differentiate by.
        start: their raw values.
        has_aux: only the first output is differentiated.

    Attributes:
        arrays: the raw outputs that are differentiated.
        main: their Nest.
        value: the same as Tensors.
        aux: the other outputs.
        used: whether the function asked for one of the Parameters.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        diff: dict[int, Any],
        weights: Sequence[Any],
        start: list[Any],
        has_aux: bool,
    ) -> None:
        tracing.derives()
        given = {i: unpack(arg, "raw") for i, arg in diff.items()}
        self._nests = {i: nest for i, (_, nest) in given.items()}
        bodies: list[tuple[Body, Nest, Nest]] = []

        def call(*args: object, **kwargs: object) -> Any:
            main, aux = _split(finished(fn(*args, **kwargs), name_of(fn)), has_aux)
            arrays, main = unpack(main, "raw")
            others, aux = unpack(aux)
            return (main, arrays), (aux, others)

        def pure(values: list[Any], diff: dict[int, list[Any]]) -> Any:
            merged = tuple(
                self._nests[i].build(diff[i]) if i in diff else arg for i, arg in enumerate(args)
            )
            overlay = dict(zip(weights, values, strict=True))
            body = Body(call, merged, kwargs, overlay, name=name_of(fn), hands_out=True)
            (main, arrays), (aux, others) = body.nest.place(body.arrays)
            bodies.append((body, main, aux))
            return arrays, (others, *body.hand_out()[1:])

        leaves = {(i, k): leaf for i, (raws, _) in given.items() for k, leaf in enumerate(raws)}
        self._leaves = leaves
        floats = {place: leaf for place, leaf in leaves.items() if _differentiable(leaf)}
        self._integers = {place: leaf for place, leaf in leaves.items() if is_integers(leaf)}

        def flat(integers: list[Any], rest: tuple[list[Any], dict[Any, Any]]) -> Any:
            values, floats = rest
            at = {**leaves, **floats, **dict(zip(self._integers, integers, strict=True))}
            filled = {i: [at[i, k] for k in range(len(raws))] for i, (raws, _) in given.items()}
            return pure(values, filled)

        numbers = list(self._integers.values())
        if numbers and self._by_integers(flat, numbers, (start, floats)):
            shown = self._shown
        else:
            self._copies = False
            with derivative(reverse=True):
                self.arrays, self._back, self._extra = jax.vjp(
                    partial(flat, numbers), (start, floats), has_aux=True
                )
            shown = self.arrays
            _check_outputs(self.arrays)
        others, self._values, self._left = self._extra
        self._body, self.main, aux = bodies[-1]
        self.used = self._body.used
        self.value = self.main.tensors(shown)
        self.aux = aux.tensors(others)

    def _by_integers(self, flat: Callable[..., Any], numbers: list[Any], rest: Tree) -> bool:
        """Run the function so that integers have gradients; whether that is possible."""

        def with_gradients(copies: list[Any], rest: Tree) -> Any:
            main, others = with_copies(flat, numbers, copies, rest)
            wanted = [x[1] if isinstance(x, tuple) else x for x in main]
            _check_outputs(wanted)
            return wanted, ([x[0] if isinstance(x, tuple) else None for x in main], others)

        try:
            with derivative(reverse=True):
                self.arrays, self._back, (shown, self._extra) = jax.vjp(
                    with_gradients, [float_copy(x) for x in numbers], rest, has_aux=True
                )
        except (TraceError, jax.errors.ConcretizationTypeError) as error:
            if isinstance(error, TraceError) and providers.convert_control_flow(error):
                return self._by_integers(flat, numbers, rest)
            if not rest[0] and not rest[1]:
                raise
            warnings.warn(
                "The function asks for values of Tensors (bool(), item(), if, while), so that it "
                "is differentiated by its floats only: gradients by its integer inputs are zeros. "
                "Cast these inputs to a float type, or leave them out with grad_position.",
                stacklevel=2,
            )
            return False
        self._copies = True
        self._shown = [
            array if value is None else value
            for array, value in zip(self.arrays, shown, strict=True)
        ]
        return True

    def back(self, cotangents: list[Any]) -> tuple[list[Any], dict[int, Any]]:
        """(raw gradients by the Parameters, gradients by position) for these of the outputs."""
        if self._copies:
            by_integers, (by_weight, by_float) = self._back(cotangents)
            found = {
                place: to_integers(gradient, like)
                for (place, like), gradient in zip(self._integers.items(), by_integers, strict=True)
            }
        else:
            ((by_weight, by_float),) = self._back(cotangents)
            found = {}
        by_place = {**found, **by_float}
        gradients: dict[int, Any] = {}
        for i, nest in self._nests.items():
            own = [place for place in self._leaves if place[0] == i]
            gradients[i] = nest.tensors(
                [by_place[p] if p in by_place else zeros_of(self._leaves[p]) for p in own]
            )
        return by_weight, gradients

    def write(self) -> None:
        """Write to Parameters and attributes what the function wrote."""
        write(self._body.written, self._values)
        self._body.leave(self._left)


def _check_outputs(arrays: list[Any]) -> None:
    """Booleans among the outputs are constant nearly everywhere, and add nothing, as in MindSpore.

    Raises:
        TypeError: integers, through whose casts MindSpore passes gradients, or no numbers.
    """
    for array in arrays:
        if not _differentiable(array) and not _is_bool(array):
            raise TypeError(
                "The function whose gradient is wanted returned "
                f"{getattr(array, 'dtype', type(array).__name__)}: only floats have "
                "gradients. Return the loss first and the rest with has_aux=True."
            )
    if arrays and all(map(_is_bool, arrays)):
        warnings.warn(
            "The function whose gradient is wanted returned nothing but Bool, which does not "
            "change with its inputs: all gradients are zeros. Return the loss first and the rest "
            "with has_aux=True.",
            stacklevel=2,
        )


def _is_bool(value: object) -> bool:
    return getattr(value, "dtype", None) == np.bool_


def _split(out: Tree, has_aux: bool) -> tuple[Any, tuple[Any, ...]]:
    if not has_aux:
        return out, ()
    if not isinstance(out, tuple) or len(out) < 2:
        raise TypeError("has_aux=True: the function must return (loss, aux, ...).")
    return out[0], out[1:]


def _none(booleans: Any) -> Any:
    """What JAX takes as the cotangent of booleans."""
    return np.zeros(np.shape(booleans), jax.dtypes.float0)


def cotangents(leaves: list[Any], sens: Tree) -> list[Any]:
    """Raw cotangents of raw outputs, from the sensitivity; None for ones.

    Raises:
        ValueError: another number of values than outputs, or another shape than the output.
    """
    if sens is None:
        return [
            _none(leaf) if _is_bool(leaf) else jnp.ones(np.shape(leaf), leaf.dtype)
            for leaf in leaves
        ]
    given, _ = unpack(sens, "raw")
    if len(given) != len(leaves):
        raise ValueError(
            f"The sensitivity has {len(given)} values, the function returned {len(leaves)}."
        )
    cotangents = []
    for i, (value, leaf) in enumerate(zip(given, leaves, strict=True)):
        value = raw(value)
        shape = tuple(np.shape(value))
        if shape != tuple(leaf.shape) and shape != ():
            raise ValueError(
                f"The sensitivity of output {i} has shape {shape}, the output {tuple(leaf.shape)}."
            )
        flows = not _is_bool(leaf)
        cotangents.append(
            jnp.broadcast_to(jnp.asarray(value, leaf.dtype), leaf.shape) if flows else _none(leaf)
        )
    return cotangents


def differentiable(arg: Tree) -> bool:
    """Whether a nest has arrays, all of them of float and complex types."""
    leaves = jax.tree_util.tree_leaves(arg)
    return bool(leaves) and all(map(_differentiable, leaves))


def zeros_like(arg: Tree) -> Tree:
    """Zeros in the places of all arrays and numbers of a nest, as Tensors."""
    arrays, nest = unpack(arg, "raw")
    return nest.tensors([zeros_of(array) for array in arrays])


def zeros_of(value: ArrayLike) -> Any:
    """Raw zeros like an array or a number."""
    with x64(value):
        return jnp.zeros(np.shape(value), getattr(value, "dtype", jnp.float32))


def has_gradient(arg: Tree) -> bool:
    """Whether a nest has an array of floats or integers, or a number of type float."""
    leaves, _ = unpack(arg, "raw")
    return any(_differentiable(leaf) or is_integers(leaf) for leaf in leaves)


def is_integers(value: object) -> bool:
    """Whether something is an array of integers or booleans."""
    dtype = getattr(value, "dtype", None)
    return dtype is not None and (
        jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)
    )


def _differentiable(value: object) -> bool:
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return isinstance(value, float | complex)
    return to_dtype(dtype).kind in ("float", "complex")
