"""The forward pass of a function together with its backward pass, over `jax.vjp`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import ArrayLike, Tree
from paramesh.dtype import to_dtype, x64
from paramesh.tensor.base import raw
from paramesh.tensor.trees import Nest, unpack
from paramesh.transforms.bodies import Body, name_of, write


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
        given = {i: unpack(arg, "raw") for i, arg in diff.items()}
        self._nests = {i: nest for i, (_, nest) in given.items()}
        bodies: list[tuple[Body, Nest, Nest]] = []

        def call(*args: object, **kwargs: object) -> Any:
            main, aux = _split(fn(*args, **kwargs), has_aux)
            arrays, main = unpack(main, "raw")
            others, aux = unpack(aux)
            _check_outputs(arrays)
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

        raws = {i: arrays for i, (arrays, _) in given.items()}
        self.arrays, self._back, (others, self._values, self._left) = jax.vjp(
            pure, start, raws, has_aux=True
        )
        self._body, self.main, aux = bodies[-1]
        self.value = self.main.tensors(self.arrays)
        self.aux = aux.tensors(others)

    def back(self, cotangents: list[Any]) -> tuple[list[Any], dict[int, Any]]:
        """(raw gradients by the Parameters, gradients by position) for these of the outputs."""
        by_weight, by_diff = self._back(cotangents)
        return by_weight, {i: self._nests[i].tensors(grads) for i, grads in by_diff.items()}

    def write(self) -> None:
        """Write to Parameters and attributes what the function wrote."""
        write(self._body.written, self._values)
        self._body.leave(self._left)


def _check_outputs(arrays: list[Any]) -> None:
    for array in arrays:
        if not _differentiable(array):
            raise TypeError(
                "The function whose gradient is wanted returned "
                f"{getattr(array, 'dtype', type(array).__name__)}: only floats have "
                "gradients. Return the loss first and the rest with has_aux=True."
            )


def _split(out: Tree, has_aux: bool) -> tuple[Any, tuple[Any, ...]]:
    if not has_aux:
        return out, ()
    if not isinstance(out, tuple) or len(out) < 2:
        raise TypeError("has_aux=True: the function must return (loss, aux, ...).")
    return out[0], out[1:]


def cotangents(leaves: list[Any], sens: Tree) -> list[Any]:
    """Raw cotangents of raw outputs, from the sensitivity; None for ones.

    Raises:
        ValueError: another number of values than outputs, or another shape than the output.
    """
    if sens is None:
        return [jnp.ones(np.shape(leaf), leaf.dtype) for leaf in leaves]
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
        cotangents.append(jnp.broadcast_to(jnp.asarray(value, leaf.dtype), leaf.shape))
    return cotangents


def differentiable(arg: Tree) -> bool:
    """Whether a nest has arrays, all of them of float and complex types."""
    leaves = jax.tree_util.tree_leaves(arg)
    return bool(leaves) and all(map(_differentiable, leaves))


def zeros_like(arg: Tree) -> Tree:
    """Zeros in the places of all arrays and numbers of a nest, as Tensors."""

    def zero(value: ArrayLike) -> Any:
        with x64(value):
            return jnp.zeros(np.shape(value), getattr(value, "dtype", jnp.float32))

    arrays, nest = unpack(arg, "raw")
    return nest.tensors([zero(array) for array in arrays])


def _differentiable(value: object) -> bool:
    dtype = getattr(value, "dtype", None)
    if dtype is None:
        return isinstance(value, float | complex)
    return to_dtype(dtype).kind in ("float", "complex")
