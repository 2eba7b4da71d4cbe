"""Loops whose number of turns is not known, with gradients in reverse mode.

`jax.lax.while_loop` has derivatives in forward mode only, because the values of all turns would
have to be kept for the way back. Here a few are kept: on the way back the loop first runs again, to
keep its values at `_KEPT` turns that are equally far apart; each stretch between two of them then
does the same again, and turns in what is left between them are computed from the start of it. A
loop of n turns costs about 4 n turns up to n = `_KEPT` ** 2, and needs room for 2 * `_KEPT` values
of what it carries; longer ones cost more, but need no more room.

A function of such a loop cannot be differentiated in forward mode (JAX refuses it for functions
with a gradient of their own). So `derivative` says which one is being taken, and a loop of either
kind is chosen. Gradients of such gradients are taken in forward mode (`hessian`), not in reverse
mode.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Generator
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from paramesh._compat.jax import ClosedJaxpr, jaxpr_as_fun
from paramesh.array_types import Array, ArrayLike, Tree
from paramesh.dtype import x64_enabled, x64_if

#: Values of earlier turns that are kept at once, on each of two levels.
_KEPT = 32


class _Modes(threading.local):
    def __init__(self) -> None:
        self.stack: tuple[bool, ...] = ()


_modes = _Modes()


@contextlib.contextmanager
def derivative(reverse: bool) -> Generator[None]:
    """While a function is differentiated.

    Args:
        reverse: in reverse mode; otherwise in forward mode.
    """
    before = _modes.stack
    _modes.stack = (*before, reverse)
    try:
        yield
    finally:
        _modes.stack = before


def while_loop(go_on: Callable[[Any], Any], turn: Callable[[Any], Any], start: Tree) -> Any:
    """`jax.lax.while_loop`, with a gradient in reverse mode where one is being taken.

    Args:
        go_on: what is carried -> whether there is another turn.
        turn: what is carried -> the same after a turn.
        start: arrays in any containers.
    """
    if not _modes.stack or not _modes.stack[-1]:
        return jax.lax.while_loop(go_on, turn, start)
    return _reversible(go_on, turn, start)


def fori_loop(
    first: ArrayLike,
    end: ArrayLike,
    turn: Callable[[Any, Any], Any],
    start: Tree,
    unroll: int | bool | None = None,
) -> Any:
    """`jax.lax.fori_loop`; likewise, if its bounds are not known.

    Args:
        first: the first index.
        end: one more than the last.
        turn: (index, what is carried) -> the same after a turn.
        start: arrays in any containers.
        unroll: how many turns the compiler unrolls.
    """
    known = not isinstance(first, jax.core.Tracer) and not isinstance(end, jax.core.Tracer)
    if known or not _modes.stack:
        return jax.lax.fori_loop(first, end, turn, start, unroll=unroll)
    _, last = while_loop(
        lambda carry: carry[0] < end,
        lambda carry: (carry[0] + 1, turn(carry[0], carry[1])),
        (jnp.asarray(first), start),
    )
    return last


def _reversible(go_on: Callable[..., Any], turn: Callable[..., Any], start: Tree) -> Any:
    start = jax.tree_util.tree_map(jnp.asarray, start)
    leaves, tree = jax.tree_util.tree_flatten(start)
    asks, of_asks = _closed(lambda *given: go_on(tree.unflatten(given)), leaves)
    turns, of_turns = _closed(
        lambda *given: jax.tree_util.tree_leaves(turn(tree.unflatten(given))), leaves
    )
    n = len(leaves)
    given = [*leaves, *of_turns, *of_asks]
    floats = [i for i, leaf in enumerate(given) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    others = [i for i in range(len(given)) if i not in set(floats)]

    def whole(by_float: Tree, by_other: Tree) -> list[Any]:
        found: list[Any] = [None] * len(given)
        for places, values in ((floats, by_float), (others, by_other)):
            for place, value in zip(places, values, strict=True):
                found[place] = value
        return found

    def counted(values: list[Any]) -> tuple[list[Any], Array]:
        """The last carry, and the number of turns."""
        first, of_turn, of_ask = _parts(values, n, len(of_turns))

        def more(state: Tree) -> Any:
            return asks(*of_ask, *state[0])[0]

        def once(state: Tree) -> Any:
            return turns(*of_turn, *state[0]), state[1] + 1

        return jax.lax.while_loop(more, once, (first, np.int32(0)))

    @jax.custom_vjp
    def run(by_float: list[Any], by_other: list[Any]) -> list[Any]:
        return counted(whole(by_float, by_other))[0]

    def forth(by_float: list[Any], by_other: list[Any]) -> Any:
        out, count = counted(whole(by_float, by_other))
        return out, (by_float, by_other, count)

    wide = x64_enabled()

    def back(kept: Tree, cotangents: list[Any]) -> Any:
        # JAX calls it later, perhaps not in the mode in which the loop was traced.
        with x64_if(wide):
            return gradients_of(kept, cotangents)

    def gradients_of(kept: Tree, cotangents: list[Any]) -> Any:
        by_float, by_other, count = kept
        first, of_turn, _ = _parts(whole(by_float, by_other), n, len(of_turns))
        way = _WayBack(turns, of_turn, first)
        wanted = [cotangents[i] for i in way.floats]
        by_first, by_const = way.segment(first, count, (wanted, way.zeros()), levels=2)
        found = dict(zip(way.floats, by_first, strict=True))
        found |= {n + i: g for i, g in zip(way.const_floats, by_const, strict=True)}
        of_floats = [
            found[place] if place in found else jnp.zeros_like(value)
            for place, value in zip(floats, by_float, strict=True)
        ]
        return of_floats, [np.zeros(value.shape, jax.dtypes.float0) for value in by_other]

    run.defvjp(forth, back)
    out = run([given[i] for i in floats], [given[i] for i in others])
    return tree.unflatten(out)


def _parts(values: list[Any], n: int, consts: int) -> tuple[list[Any], list[Any], list[Any]]:
    return values[:n], values[n : n + consts], values[n + consts :]


def _closed(fn: Callable[..., Any], leaves: list[Any]) -> tuple[Callable[..., Any], list[Any]]:
    """A function without anything closed over: of (what it closes over, its inputs)."""
    closed = jax.make_jaxpr(fn)(*leaves)
    jaxpr = closed.jaxpr
    opened = jaxpr.replace(constvars=[], invars=[*jaxpr.constvars, *jaxpr.invars])
    return jaxpr_as_fun(ClosedJaxpr(opened, [])), [jnp.asarray(c) for c in closed.consts]


class _WayBack:
    """Gradients of a number of turns, from the last one to the first.

    Args:
        turns: (constants, carry) -> carry.
        consts: the constants.
        like: a carry.
    """

    def __init__(self, turns: Callable[..., Any], consts: list[Any], like: list[Any]) -> None:
        self.turns, self.consts = turns, consts
        self.floats = _floats(like)
        self.const_floats = _floats(consts)

    def zeros(self) -> list[Any]:
        return [jnp.zeros_like(self.consts[i]) for i in self.const_floats]

    def advance(self, carry: list[Any], count: Array) -> list[Any]:
        return jax.lax.fori_loop(0, count, lambda _, state: self.turns(*self.consts, *state), carry)

    def segment(self, first: list[Any], count: Array, gradients: Tree, levels: int) -> Any:
        """Gradients before `count` turns from a carry on, of those after them."""
        if not levels:
            return jax.lax.fori_loop(
                0,
                count,
                lambda i, after: self.turn(self.advance(first, count - 1 - i), after),
                gradients,
            )
        apart = jnp.maximum(1, -(-count // _KEPT))
        pieces = -(-count // apart)

        def keep(i: Array, state: Tree) -> Any:
            carry, rows = state
            rows = [row.at[i].set(value) for row, value in zip(rows, carry, strict=True)]
            return self.advance(carry, jnp.minimum(apart, count - i * apart)), rows

        rows = [jnp.zeros((_KEPT, *value.shape), value.dtype) for value in first]
        _, rows = jax.lax.fori_loop(0, pieces, keep, (first, rows))

        def piece(i: Array, after: Tree) -> Any:
            at = pieces - 1 - i
            begin = [row[at] for row in rows]
            length = jnp.minimum(apart, count - at * apart)
            return self.segment(begin, length, after, levels - 1)

        return jax.lax.fori_loop(0, pieces, piece, gradients)

    def turn(self, before: list[Any], gradients: Tree) -> Any:
        """Gradients before one turn."""
        after, by_const = gradients

        def of_floats(values: list[Any], consts: list[Any]) -> list[Any]:
            given, closed = list(before), list(self.consts)
            for place, value in zip(self.floats, values, strict=True):
                given[place] = value
            for place, value in zip(self.const_floats, consts, strict=True):
                closed[place] = value
            out = self.turns(*closed, *given)
            return [out[i] for i in self.floats]

        _, pull = jax.vjp(
            of_floats,
            [before[i] for i in self.floats],
            [self.consts[i] for i in self.const_floats],
        )
        by_value, more = pull(after)
        return by_value, [a + b for a, b in zip(by_const, more, strict=True)]


def _floats(values: list[Any]) -> list[int]:
    return [i for i, value in enumerate(values) if jnp.issubdtype(value.dtype, jnp.inexact)]
