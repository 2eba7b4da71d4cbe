"""Outputs of branches and carries of loops: checks, and their errors.

Glossary
    eager       of a branch or loop: Python itself runs it, operator by operator
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from paramesh import context
from paramesh.array_types import Array, Tree
from paramesh.dtype import int32, to_dtype, x64
from paramesh.errors import TraceError
from paramesh.state import trace_scope
from paramesh.state.frames import AnyState
from paramesh.tensor.base import raw
from paramesh.tensor.promotion import cast, scalar_kind
from paramesh.tensor.trees import Nest
from paramesh.transforms.bodies import Body, name_of


def runs_eagerly(leaves: Iterable[Any] = ()) -> bool:
    """Whether Python runs branches and loops itself: in PyNative mode, uncompiled.

    Args:
        leaves: raw arrays that have to be concrete for it.
    """
    if context.get_context("mode") != context.PYNATIVE_MODE:
        return False
    scope = trace_scope.current()
    if scope is not None and scope.compiled:
        return False
    return not any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)


def known(value: Tree) -> bool | None:
    """The truth value of a raw value; None if it is traced."""
    try:
        return bool(value)
    except jax.errors.ConcretizationTypeError:
        return None


def single(what: str, which: str, value: Tree) -> Any:
    """The raw value, of shape (), of a bool, a number or a Tensor of one element.

    Raises:
        TypeError: it is something else. ValueError: it has several elements.
    """
    try:
        value = raw(value)
    except TypeError as error:
        raise TypeError(f"{what}: {which}: {error}") from None
    if scalar_kind(value) is not None:
        return value
    if np.prod(value.shape) != 1:
        raise ValueError(
            f"{what}: {which} must have one element, got shape {tuple(value.shape)}. "
            "Use .any() or .all(), or ops.where to choose element by element."
        )
    return value.reshape(())


def bound(which: str, value: Tree) -> Any:
    """A bound of a loop as Int32: a numpy number if it is concrete, otherwise a tracer.

    Raises:
        TypeError: it is not an integer.
    """
    value = single("fori_loop", which, value)
    if isinstance(value, bool) or not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(f"fori_loop: {which} must be an integer, got {value!r}.")
    if isinstance(value, jax.core.Tracer):
        return cast(value, int32)
    return np.int32(int(value))


def length_of(rows: Sequence[Any], length: int | None) -> int:
    """The number of iterations of `scan`.

    Raises:
        ValueError: it is not given, or lengths differ.
    """
    if not rows and length is None:
        raise ValueError("scan needs xs to iterate over, or length=.")
    if any(row.ndim == 0 for row in rows):
        raise ValueError("scan: xs has a Tensor of shape (), which has no axis to iterate over.")
    lengths = {int(row.shape[0]) for row in rows}
    if length is not None:
        lengths.add(length)
    if len(lengths) > 1:
        raise ValueError(f"scan: lengths that differ along the first axis: {sorted(lengths)}.")
    return lengths.pop()


def stacked(arrays: Sequence[Array]) -> Array:
    """Raw arrays of one shape along a new first axis."""
    with x64(*arrays):
        return jnp.stack(arrays)


def shapes_of(
    fn: Callable[..., Any], args_of: Callable[[list[Any]], Any], given: list[Any]
) -> tuple[Any, Body]:
    """((shapes of the outputs, of the written values), the run) of a function, not computed.

    Args:
        fn: the function.
        args_of: what it is called with, from raw arrays.
        given: the raw arrays.
    """
    bodies: list[Body] = []

    def probe(given: list[Any]) -> Any:
        body = Body(fn, args_of(given), {}, {}, "Tensor")
        bodies.append(body)
        return body.hand_out()[:2]

    shapes = jax.eval_shape(probe, given)
    return shapes, bodies[-1]


def check_carry(
    what: str, which: str, nest: Nest, given: list[Any], after: Nest, got: Sequence[Any]
) -> None:
    """Check that a loop's body returns the structure, shapes and types of what it takes.

    Raises:
        TypeError: another structure, shape or element type.
    """
    if nest.like(after) and all(map(_alike, given, got)):
        return
    raise TypeError(
        f"{what}: {which} must return the structure, shapes and element types that it takes; it "
        f"took {_shown(nest, given)} and returned {_shown(after, got)}. Start with the shape and "
        "type that the later values have."
    )


def check_branches(
    what: str, branches: Sequence[Callable[..., Any]], shapes: Sequence[Any], nests: Sequence[Nest]
) -> None:
    """Check that all branches return the same structure, shapes and types.

    Raises:
        TypeError: they differ in structure, shape or element type.
    """
    for branch, (got, _), nest in zip(branches[1:], shapes[1:], nests[1:], strict=True):
        if nests[0].like(nest) and all(map(_alike, shapes[0][0], got)):
            continue
        raise TypeError(
            f"{what}: the branches must return the same structure, shapes and element types; "
            f"'{name_of(branches[0])}' returns {_shown(nests[0], shapes[0][0])}, "
            f"'{name_of(branch)}' returns {_shown(nest, got)}."
        )


def check_states(
    what: str, states: Iterable[AnyState], shapes: Iterable[Any], values: Mapping[AnyState, Array]
) -> None:
    """Check that written Parameters keep their shapes and element types.

    Args:
        what: who writes them.
        states: what it writes.
        shapes: of the new values.
        values: {Parameter or pool: its value before}.

    Raises:
        TraceError: one does not.
    """
    for state, got in zip(states, shapes, strict=True):
        if not _alike(values[state], got):
            raise TraceError(
                f"{what} turns {_one(values[state])} of Parameter '{state.name}' into {_one(got)}. "
                "Inside loops and branches Parameters keep their shapes and element types."
            )


def _alike(a: Array, b: Array) -> bool:
    return tuple(np.shape(a)) == tuple(np.shape(b)) and a.dtype == b.dtype


def _one(array: Array) -> str:
    return f"{to_dtype(array.dtype)}{list(np.shape(array))}"


class _Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _shown(nest: Nest, arrays: Sequence[Any]) -> str:
    shown = nest.place([_Text(_one(array)) for array in arrays])
    return repr(shown)
