"""Operators outside of programs, each as one compiled call.

What an operator computes is several functions of JAX. Outside of programs each of them is a call of
its own, and in a gradient JAX derives each of them anew, every time: that takes ten times as long
as the computation. Here a function of arrays is compiled as a whole. In a gradient that is not
compiled, the call gives what the way back needs besides, and the way back is one compiled call too.

Whether a function can be compiled shows when it is traced. One that asks for values, reads or
writes Parameters or random state, or gives something else than arrays is refused; the caller
computes it as before, and is not to ask again.

Glossary
    kept        what a call gives for the way back, besides its inputs and outputs
    way         how inputs, outputs and what is kept become the function that goes back
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh._compat.jax import (
    Primitive,
    ShapedArray,
    ad,
    computes_now,
    define_linearization,
    define_way_back,
    outside_of_transforms,
    without_programs,
)
from paramesh.array_types import Array, ArrayLike, Tree
from paramesh.dtype import meets_64bit, watch_64bit, x64_enabled
from paramesh.errors import TraceError
from paramesh.state import placement, tracing
from paramesh.state.frames import AnyState

__all__ = ["REFUSALS", "OneCall", "possible"]


class Refused(TraceError, TypeError):
    """The function cannot be one compiled call."""


#: What a function may raise while it is traced, or for its arguments. Nothing that comes from
#: outside, such as from a signal handler, is among them.
REFUSALS: tuple[type[Exception], ...] = (
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
    AttributeError,
    NotImplementedError,
    TraceError,
)


class _Thread(threading.local):
    #: Whether a function is being traced here.
    traces = False


_thread = _Thread()


def possible() -> bool:
    """Whether what is computed on this thread is computed now, on one device."""
    return computes_now() and placement.current().plain and not without_programs()


def refuse_values() -> None:
    """Called by what asks for the values of a traced array.

    Raises:
        Refused: a function is being traced for one call; without it, it gets its values.
    """
    if _thread.traces:
        raise Refused("The values of an array were asked for.")


class _NoState(tracing.Frame):
    """Parameters and random state would be constants of what is compiled."""

    def __init__(self) -> None:
        super().__init__({}, None)

    def get(self, state: AnyState) -> Array:
        """Never gives a value.

        Raises:
            Refused: always.
        """
        raise Refused(f"'{state.name}' was read.")

    def put(self, state: AnyState, value: Array) -> None:
        """Takes no value.

        Raises:
            Refused: always.
        """
        raise Refused(f"'{state.name}' was written.")


class OneCall:
    """A function of arrays that is compiled as a whole, for each of their shapes and types.

    Args:
        fn: takes arrays and gives an array, or a tuple or list of some. It has to compute the same
            in every call.
        name: of the compiled program.

    Attributes:
        traces: how often the function was traced.
    """

    def __init__(self, fn: Callable[..., Any], name: str) -> None:
        self._fn = fn
        self.name = name
        self.traces = 0
        self._meets_64bit = False
        # Methods have no name of their own to give.
        self._plain = jax.jit(_named(lambda *arrays: self._traced(arrays), name))
        self._ways: dict[tuple[bool, ...], Callable[..., Any]] = {}

    def __call__(self, arrays: Sequence[Any]) -> Any:
        """What the function gives, where `possible()`.

        Args:
            arrays: raw, known or of a gradient that is not compiled; numbers as well.

        Raises:
            REFUSALS: the function refused its arguments, or cannot be compiled.
        """
        if outside_of_transforms():
            out = self._plain(*arrays)
        else:
            nests: list[Any] = []
            leaves = _call.bind(*arrays, of=self, nests=nests)
            out = jax.tree.unflatten(nests[0], leaves)
        if self._meets_64bit:
            meets_64bit()
        return out

    def _traced(self, arrays: Sequence[Any]) -> Any:
        self.traces += 1
        frame, traces = tracing.thread.frame, _thread.traces
        try:
            tracing.thread.frame, _thread.traces = _NoState(), True
            with watch_64bit() as marks:
                out = self._fn(*arrays)
                met = marks.met_64bit
        finally:
            tracing.thread.frame, _thread.traces = frame, traces
        if met and not x64_enabled():
            raise Refused("64-bit data appeared inside.")
        self._meets_64bit = self._meets_64bit or met
        if not _only_arrays(out):
            raise Refused(f"'{self.name}' gives something else than arrays.")
        return out

    def forward(self, moves: tuple[bool, ...], arrays: Sequence[Any]) -> Any:
        """(what the function gives, what is kept), for the way back to the inputs that move."""
        forward = self._ways.get(moves)
        if forward is None:
            forward = self._ways[moves] = jax.jit(
                _named(lambda *arrays: self._derived(moves, arrays), self.name)
            )
        return forward(*arrays)

    def _derived(self, moves: tuple[bool, ...], arrays: Sequence[Any]) -> tuple[Any, _Kept]:
        def of_moving(*moving: Array) -> Any:
            given = iter(moving)
            filled = [
                next(given) if move else array for move, array in zip(moves, arrays, strict=True)
            ]
            leaves, nest = jax.tree.flatten(self._traced(filled))
            return [leaf for leaf in leaves if _moves(leaf)], (leaves, nest)

        moving = [array for array, move in zip(arrays, moves, strict=True) if move]
        floats, back, (leaves, nest) = jax.vjp(of_moving, *moving, has_aux=True)
        given = iter(floats)
        leaves = [next(given) if _moves(leaf) else leaf for leaf in leaves]
        parts, build = jax.tree.flatten(back)
        known = {id(value): i for i, value in enumerate([*arrays, *leaves])}
        places = [known.get(id(part)) for part in parts]
        way = _Way(build, places, [_moves(leaf) for leaf in leaves], nest)
        return leaves, _Kept([p for p, at in zip(parts, places, strict=True) if at is None], way)


class _Way:
    """See the glossary; told apart by identity.

    Args:
        build: the structure of the function that goes back.
        places: for each of its arrays its place among inputs and outputs; None: it is kept.
        moving: for each output whether it has a derivative.
        nest: the structure of the outputs.
    """

    def __init__(
        self, build: Tree, places: Sequence[int | None], moving: Sequence[bool], nest: Tree
    ) -> None:
        self._build, self._places = build, places
        self.moving, self.nest = moving, nest
        self.needed = sorted({place for place in places if place is not None})
        self._at = {place: i for i, place in enumerate(self.needed)}

    def function(self, kept: Sequence[Any], needed: Sequence[Any]) -> Callable[..., Any]:
        """From the cotangents of the outputs to those of the inputs."""
        own = iter(kept)
        parts = [next(own) if at is None else needed[self._at[at]] for at in self._places]
        return jax.tree.unflatten(self._build, parts)


class _Kept:
    def __init__(self, arrays: Sequence[Any], way: _Way) -> None:
        self.arrays, self.way = arrays, way


jax.tree_util.register_pytree_node(
    _Kept, lambda kept: (tuple(kept.arrays), kept.way), lambda way, arrays: _Kept(arrays, way)
)


def _back(kept: _Kept, needed: Sequence[Any], cotangents: Sequence[Any]) -> Any:
    return kept.way.function(kept.arrays, needed)(list(cotangents))


_back_compiled = jax.jit(_back)


# As operators of JAX: where nothing moves the function itself, in a gradient with its way back.

_call = Primitive("one_call")
_call.multiple_results = True
_linear = Primitive("one_call_linear")
_linear.multiple_results = True


def _compute(*arrays: ArrayLike, of: OneCall, nests: list[Any]) -> list[Any]:
    leaves, nest = jax.tree.flatten(of._plain(*arrays))
    nests.append(nest)
    return leaves


def _linearize(
    _: bool, moves: Sequence[bool], *arrays: ArrayLike, of: OneCall, nests: list[Tree]
) -> Any:
    leaves, kept = of.forward(tuple(moves), arrays)
    way = kept.way
    nests.append(way.nest)
    among = (*arrays, *leaves)
    needed = [among[i] for i in way.needed]
    shapes = [
        ShapedArray(leaf.shape, leaf.dtype)
        for leaf, moving in zip(leaves, way.moving, strict=True)
        if moving
    ]

    def linear(_: object, *tangents: Array) -> list[Any]:
        given = [tangent for tangent, move in zip(tangents, moves, strict=True) if move]
        found = iter(_linear.bind(*given, kept=kept, needed=needed, shapes=shapes))
        return [
            next(found) if moving else ad.Zero(ShapedArray(leaf.shape, jax.dtypes.float0))
            for leaf, moving in zip(leaves, way.moving, strict=True)
        ]

    return leaves, way.moving, (), linear


def _transposed(
    cotangents: Sequence[Any], kept: _Kept, needed: Sequence[Any], shapes: object
) -> Any:
    return _back_compiled(kept, needed, [ad.instantiate_zeros(c) for c in cotangents])


_call.def_impl(_compute)
define_linearization(_call, _linearize)
define_way_back(_linear, _transposed)


def _named(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    fn.__name__ = fn.__qualname__ = name
    return fn


def _moves(value: Array) -> bool:
    return jnp.issubdtype(value.dtype, np.inexact)


def _only_arrays(out: Tree) -> bool:
    if type(out) in (tuple, list):
        return bool(out) and all(map(_only_arrays, out))
    return isinstance(out, jax.Array)
