"""`bprop`: the gradients that a Cell computes itself.

Source: MindSpore 2.10. `bprop(*inputs, out, dout)` returns a gradient for each input of
`construct`, which is cast to the element type of the input. With `set_context(check_bprop=True)` a
gradient of another element type is an error. The Parameters of the Cell get zeros from it, which is
what MindSpore gives them.
"""

from __future__ import annotations

from typing import Any, Protocol

import jax
import jax.numpy as jnp

from paramesh import context
from paramesh.array_types import Array, Tree
from paramesh.dtype import to_dtype
from paramesh.state import tracing
from paramesh.tensor.base import raw
from paramesh.tensor.promotion import cast
from paramesh.tensor.trees import unpack
from paramesh.transforms.bodies import Body, write
from paramesh.transforms.integer_gradients import float_copy


class CellWithBprop(Protocol):
    """What is asked of the Cell."""

    def construct(self, *args: Tree, **kwargs: Tree) -> Tree:
        """What the Cell computes."""
        ...

    def _reachable_parameters(self) -> list[Any]:
        """Its Parameters, and those of the Cells inside."""
        ...

    def __getattr__(self, name: str) -> Any: ...


def with_bprop(cell: CellWithBprop, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call a Cell such that `bprop` stands for the derivative of `construct` by its inputs.

    Raises (when it is differentiated):
        ValueError: another number of gradients than inputs, or a gradient of another shape.
        TypeError: a gradient that is not a Tensor; with `check_bprop`, of another element type.
    """
    leaves, nest = unpack((args, kwargs))
    integers = [i for i, leaf in enumerate(leaves) if not _is_float(leaf)]
    # Gradients by integers leave through float copies: the integers themselves are cut off.
    copies = [float_copy(leaves[i]) for i in integers]
    for i in integers:
        leaves[i] = jnp.bitwise_or(leaves[i], jnp.zeros((), leaves[i].dtype))
    # Parameters are inputs, too: a gradient by them would end in a closure. Tables on servers have
    # rows alone, and no value.
    params = [p for p in cell._reachable_parameters() if not p.only_rows]
    bodies: list[Body] = []

    @jax.custom_vjp
    def call(leaves: list[Array], copies: list[Array], values: list[Array]) -> Any:
        del copies
        args, kwargs = nest.build(leaves)
        given = dict(zip(params, values, strict=True))
        name = type(cell).__name__
        body = Body(cell.construct, args, kwargs, given, "Tensor", name, hands_out=True)
        bodies.append(body)
        return body.hand_out()

    def forward(leaves: list[Array], copies: list[Array], values: list[Array]) -> Any:
        all_out = call(leaves, copies, values)
        return all_out, (leaves, copies, values, all_out[0])

    def backward(kept: Tree, all_cotangents: Tree) -> Tree:
        leaves, copies, values, out = kept
        args, kwargs = nest.build(leaves)
        tensors, cotangents = bodies[-1].nest.tensors, all_cotangents[0]
        with tracing.overlay(dict(zip(params, values, strict=True))):
            found = cell.bprop(*args, tensors(out), tensors(cotangents), **kwargs)
        gradients = _by_leaf(cell, found, (args, kwargs), leaves)
        of_leaves = [
            cast(g, to_dtype(leaf.dtype))
            if _is_float(leaf)
            else jax.custom_derivatives.zero_from_primal(leaf)
            for g, leaf in zip(gradients, leaves, strict=True)
        ]
        of_copies = [
            gradients[i].astype(copy.dtype) for i, copy in zip(integers, copies, strict=True)
        ]
        of_values = [jax.custom_derivatives.zero_from_primal(value) for value in values]
        return of_leaves, of_copies, of_values

    call.defvjp(forward, backward)
    out, written, left = call(leaves, copies, [tracing.read(param) for param in params])
    write(bodies[-1].written, written)
    bodies[-1].leave(left)
    return bodies[-1].nest.tensors(out)


def _by_leaf(
    cell: CellWithBprop,
    found: Tree,
    inputs: tuple[tuple[Tree, ...], dict[str, Tree]],
    leaves: list[Array],
) -> list[Array]:
    """The raw gradient of each array among the inputs."""
    who = f"{type(cell).__name__}.bprop"
    gradients = list(found) if isinstance(found, tuple | list) else [found]
    args = [*inputs[0], *inputs[1].values()]
    if len(gradients) == len(args):
        sizes = [len(unpack(arg)[0]) for arg in args]
    elif len(gradients) == len(leaves):
        sizes = [1] * len(leaves)
    else:
        count = (
            len(args) if len(args) == len(leaves) else f"{len(args)} (with {len(leaves)} arrays)"
        )
        raise ValueError(
            f"{who} returned {len(gradients)} gradients for {count} inputs: return one for each."
        )
    flat: list[Array] = []
    for i, (gradient, size) in enumerate(zip(gradients, sizes, strict=True)):
        if not size:  # a number or a string: what stands for its gradient is ignored
            continue
        arrays, _ = unpack(gradient)
        if len(arrays) != size:
            wanted = "a Tensor" if size == 1 else f"{size} Tensors"
            raise TypeError(
                f"{who}: the gradient of input {i} must be {wanted}, got "
                f"{type(gradient).__name__}. Where it is zero, return ops.zeros_like of the input."
            )
        for array, leaf in zip(arrays, leaves[len(flat) :][:size], strict=True):
            _check(who, i, array, leaf)
            flat.append(raw(array))
    return flat


def _check(who: str, i: int, array: Array, leaf: Array) -> None:
    if tuple(array.shape) != tuple(leaf.shape):
        raise ValueError(
            f"{who}: the gradient of input {i} has shape {tuple(array.shape)}, the input has "
            f"{tuple(leaf.shape)}."
        )
    if context.get_context("check_bprop") and array.dtype != leaf.dtype:
        raise TypeError(
            f"{who}: the gradient of input {i} is {to_dtype(array.dtype)}, the input is "
            f"{to_dtype(leaf.dtype)} (check_bprop=True). Cast it, or turn check_bprop off."
        )


def _is_float(value: Array) -> bool:
    return to_dtype(value.dtype).kind in ("float", "complex")
