"""`cond`, `switch`, `while_loop`, `fori_loop` and `scan` over Tensors, that write Parameters.

They are `jax.lax`'s functions of these names. Conditions, operands and what loops carry are Tensors
(or arrays, or numbers) in any containers, and branches and bodies may read and write Parameters:
each iteration sees the values of the iteration before, and afterwards they have the values of the
last iteration (or of the branch that was taken).

In PyNative mode, outside of compiled functions, Python runs the branch or the loop operator by
operator, as everything else.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.array_types import Array, Tree
from paramesh.dtype import bool_, int32
from paramesh.errors import TraceError
from paramesh.state import tracing
from paramesh.tensor.base import TensorInput, wrap
from paramesh.tensor.promotion import cast
from paramesh.tensor.trees import Nest, unpack
from paramesh.transforms import reversible_loops
from paramesh.transforms.bodies import Body, in_64bit_if_met, name_of, write
from paramesh.transforms.loop_values import (
    bound,
    check_branches,
    check_carry,
    check_states,
    known,
    length_of,
    runs_eagerly,
    shapes_of,
    single,
    stacked,
)


@tracing.public_call
def cond(
    pred: TensorInput,
    true_fun: Callable[..., Any],
    false_fun: Callable[..., Any],
    *operands: Tree,
) -> Any:
    """`true_fun(*operands)` where `pred` is true, otherwise `false_fun(*operands)`.

    Args:
        pred: a bool, or a Tensor of one element.
        true_fun: a Cell or function, which may read and write Parameters.
        false_fun: another one, with outputs of the same shapes and element types.
        operands: Tensors, arrays and numbers, in any containers.

    Returns:
        The outputs of the one that was taken. The gradient is that of the one that was taken.

    Raises:
        TypeError: the outputs differ in structure, shape or element type.
        ValueError: `pred` has more than one element.
    """
    value = single("cond", "pred", pred)
    truth = cast(value, bool_) if isinstance(value, jax.Array) else bool(value)
    return _choose("cond", truth, (false_fun, true_fun), operands)


@tracing.public_call
def switch(index: TensorInput, branches: Sequence[Callable[..., Any]], *operands: Tree) -> Any:
    """`branches[index](*operands)`; an index out of range takes the nearest.

    Args:
        index: an int, or an integer Tensor of one element.
        branches: Cells and functions, as those of `cond`.
        operands: as those of `cond`.

    Raises:
        TypeError: `index` is not an integer, or the outputs differ.
        ValueError: there are no branches.
    """
    branches = tuple(branches)
    if not branches:
        raise ValueError("switch needs at least one branch.")
    value = single("switch", "index", index)
    if not jnp.issubdtype(jnp.result_type(value), jnp.integer):
        raise TypeError(f"switch: index must be an integer, got {value!r}.")
    if isinstance(value, jax.Array):
        value = cast(value, int32)
    return _choose("switch", value, branches, operands)


def _choose(
    what: str, index: Any, branches: tuple[Callable[..., Any], ...], operands: tuple[Any, ...]
) -> Any:
    given, nest = unpack(operands, "Tensor")
    if runs_eagerly([index]):
        taken = branches[min(max(int(index), 0), len(branches) - 1)]
        return taken(*nest.build(given))

    def compute() -> Any:
        found = [shapes_of(branch, nest.build, given) for branch in branches]
        shapes, bodies = [shape for shape, _ in found], [body for _, body in found]
        check_branches(what, branches, shapes, [body.nest for body in bodies])
        states = list(dict.fromkeys(state for body in bodies for state in body.written))
        values = {state: tracing.read(state) for state in states}
        for branch, body, shape in zip(branches, bodies, shapes, strict=True):
            check_states(f"{what}: '{name_of(branch)}'", body.written, shape[1], values)

        def pure(branch: Callable[..., Any]) -> Callable[..., Any]:
            def run(given: list[Any]) -> Any:
                return Body(branch, nest.build(given), {}, {}, "Tensor").hand_out(states)[:2]

            return run

        runs = [pure(branch) for branch in branches]
        if what == "cond":
            arrays, after = jax.lax.cond(index, runs[1], runs[0], given)
        else:
            arrays, after = jax.lax.switch(index, runs, given)
        out = functools.reduce(Nest.joined, [body.nest for body in bodies])
        return out, arrays, states, after

    out, arrays, states, after = in_64bit_if_met(given, compute)
    write(states, after)
    return out.build(arrays)


@tracing.public_call
def while_loop(
    cond_fun: Callable[[Any], Any], body_fun: Callable[[Any], Any], init_val: Tree
) -> Any:
    """`val = body_fun(val)` as long as `cond_fun(val)` is true, from `init_val` on.

    Args:
        cond_fun: val -> a bool or a Tensor of one element; may read Parameters.
        body_fun: val -> val of the same structure, shapes and element types; may read and write
            Parameters.
        init_val: Tensors, arrays and numbers, in any containers.

    Returns:
        The last val. It has derivatives in both modes. The way back runs the loop again, and in
        compiled functions with an unknown number of turns several times (see
        `reversible_loops`); `scan`, which keeps its values, is faster.

    Raises:
        TypeError: `body_fun` returns a value of another structure, shape or element type.
        TraceError: `cond_fun` writes a Parameter.
    """
    given, nest = unpack(init_val, "Tensor")
    while runs_eagerly():
        goes_on = known(single("while_loop", "the condition", cond_fun(nest.build(given))))
        if goes_on is None:  # traced by JAX, which has to run the loop from here
            break
        if not goes_on:
            return nest.build(given)
        before = given
        given, after = unpack(body_fun(nest.build(given)), "Tensor")
        check_carry("while_loop", "body_fun", nest, before, after, given)

    def args_of(arrays: list[Any]) -> tuple[Any, ...]:
        return (nest.build(arrays),)

    def compute() -> Any:
        shapes, body = shapes_of(body_fun, args_of, given)
        check_carry("while_loop", "body_fun", nest, given, body.nest, shapes[0])
        _, decided = shapes_of(cond_fun, args_of, given)
        if decided.written:
            names = ", ".join(f"'{state.name}'" for state in decided.written)
            raise TraceError(
                f"while_loop: the condition '{name_of(cond_fun)}' writes {names}; only the body "
                "can write Parameters."
            )
        states, start = _start("while_loop: the body", body, shapes[1])

        def go_on(carry: Tree) -> Any:
            arrays, values = carry
            overlay = dict(zip(states, values, strict=True))
            found, _, _ = Body(cond_fun, args_of(arrays), {}, overlay, "raw").hand_out()
            if len(found) != 1:
                raise TypeError(
                    f"while_loop: '{name_of(cond_fun)}' must return one bool or Tensor of one "
                    f"element, got {len(found)} values."
                )
            return cast(jnp.asarray(single("while_loop", "the condition", found[0])), bool_)

        def turn(carry: Tree) -> Any:
            arrays, values = carry
            overlay = dict(zip(states, values, strict=True))
            return Body(body_fun, args_of(arrays), {}, overlay, "Tensor").hand_out(states)[:2]

        return states, *reversible_loops.while_loop(go_on, turn, (given, start))

    states, arrays, values = in_64bit_if_met(given, compute)
    write(states, values)
    return nest.build(arrays)


@tracing.public_call
def fori_loop(
    lower: TensorInput,
    upper: TensorInput,
    body_fun: Callable[[Any, Any], Any],
    init_val: Tree,
    *,
    unroll: int | bool | None = None,
) -> Any:
    """`val = body_fun(i, val)` for i from `lower` to `upper - 1`, from `init_val` on.

    Args:
        lower: an int, or an integer Tensor of one element.
        upper: likewise. If both are known while the function is traced, gradients are faster.
        body_fun: (i, val) -> val, with i a Tensor of shape () and type Int32; as that of
            `while_loop`.
        init_val: Tensors, arrays and numbers, in any containers.
        unroll: how many iterations the compiler unrolls (`jax.lax.fori_loop`).

    Returns:
        The last val.

    Raises:
        TypeError: a bound is not an integer, or `body_fun` returns another structure, shape or
            type.
    """
    first, end = bound("lower", lower), bound("upper", upper)
    given, nest = unpack(init_val, "Tensor")
    if runs_eagerly([*given, first, end]):
        for i in range(int(first), int(end)):
            before = given
            val = nest.build(given)
            given, after = unpack(body_fun(wrap(jnp.asarray(i, np.int32)), val), "Tensor")
            check_carry("fori_loop", "body_fun", nest, before, after, given)
        return nest.build(given)

    def compute() -> Any:
        def args_of(arrays: list[Any]) -> tuple[Any, ...]:
            return wrap(arrays[0]), nest.build(arrays[1:])

        shapes, body = shapes_of(body_fun, args_of, [np.int32(0), *given])
        check_carry("fori_loop", "body_fun", nest, given, body.nest, shapes[0])
        states, start = _start("fori_loop: the body", body, shapes[1])

        def turn(i: Array, carry: Tree) -> Any:
            arrays, values = carry
            overlay = dict(zip(states, values, strict=True))
            args = args_of([cast(i, int32), *arrays])
            return Body(body_fun, args, {}, overlay, "Tensor").hand_out(states)[:2]

        return states, *reversible_loops.fori_loop(first, end, turn, (given, start), unroll)

    states, arrays, values = in_64bit_if_met(given, compute)
    write(states, values)
    return nest.build(arrays)


@tracing.public_call
def scan(
    fn: Callable[[Any, Any], tuple[Any, Any]],
    init: Tree,
    xs: Tree = None,
    length: int | None = None,
    reverse: bool = False,
    unroll: int | bool = 1,
) -> tuple[Any, Any]:
    """`carry, y = fn(carry, x)` for each x of `xs`, from the carry `init` on.

    Each iteration sees the Parameters of the iteration before; after the loop they have the last
    values. A first trace finds out which ones are written, so `fn` is traced twice.

    Args:
        fn: (carry, x) -> (carry, y), of Tensors in any containers; the carry keeps its structure,
            shapes and element types.
        init: the first carry.
        xs: to iterate over, along the first axis of each Tensor. None: x is None.
        length: number of iterations, if there is no `xs`.
        reverse: from the last x to the first; the ys are in the order of the xs.
        unroll: how many iterations the compiler unrolls (`jax.lax.scan`).

    Returns:
        (the last carry, the ys, joined along a new first axis).

    Raises:
        ValueError: neither `xs` nor `length`, or lengths that differ.
        TypeError: `fn` does not return a pair, or a carry of another structure, shape or type.
    """
    given, nest = unpack(init, "Tensor")
    rows, of_rows = unpack((xs,))
    count = length_of(rows, length)

    def call(carry: Tree, x: Tree) -> Any:
        out = fn(carry, x)
        if not isinstance(out, tuple) or len(out) != 2:
            raise TypeError(
                f"scan: '{name_of(fn)}' must return a pair (carry, y), got {type(out).__name__}."
            )
        carry, carry_nest = unpack(out[0], "Tensor")
        ys, y_nest = unpack(out[1], "Tensor")
        return (carry, carry_nest), (ys, y_nest)

    if runs_eagerly([*given, *rows]):
        kept: list[list[Any]] = []
        y_nest: Any = None
        for i in reversed(range(count)) if reverse else range(count):
            before, at = given, [row[i] for row in rows]
            (given, after), (ys, y_nest) = call(nest.build(given), of_rows.build(at)[0])
            check_carry("scan", "fn", nest, before, after, given)
            kept.append(ys)
        if kept:
            kept = kept[::-1] if reverse else kept
            ys = [stacked(parts) for parts in zip(*kept, strict=True)]
            return nest.build(given), y_nest.build(ys)

    def compute() -> Any:
        bodies: list[tuple[Body, Any, Any]] = []

        def turn_of(
            arrays: list[Any], at: list[Any], overlay: Mapping[Any, Any], states: Any = None
        ) -> Any:
            args = (nest.build(arrays), of_rows.build(at)[0])
            body = Body(call, args, {}, overlay, name=name_of(fn))
            (carry, carry_nest), (ys, y_nest) = body.nest.place(body.arrays)
            bodies.append((body, carry_nest, y_nest))
            written = body.hand_out(states)[1]
            return carry, written, ys

        def probe(arrays: list[Any], at: list[Any]) -> Any:
            return turn_of(arrays, at, {})[:2]

        at = [jax.ShapeDtypeStruct(row.shape[1:], row.dtype) for row in rows]
        shapes, of_states = jax.eval_shape(probe, given, at)
        body, carry_nest, _ = bodies[-1]
        check_carry("scan", "fn", nest, given, carry_nest, shapes)
        states, start = _start("scan: the function", body, of_states)

        def turn(carry: Tree, at: list[Any]) -> Any:
            arrays, values = carry
            overlay = dict(zip(states, values, strict=True))
            arrays, values, ys = turn_of(arrays, at, overlay, states)
            return (arrays, values), ys

        (arrays, values), ys = jax.lax.scan(
            turn, (given, start), rows, count, reverse=reverse, unroll=unroll
        )
        return states, arrays, values, bodies[-1][2].build(ys)

    states, arrays, values, ys = in_64bit_if_met([*given, *rows], compute)
    write(states, values)
    return nest.build(arrays), ys


def _start(what: str, body: Body, shapes: Tree) -> tuple[list[Any], list[Any]]:
    """(what a body writes, the values of that before the first turn)."""
    values = {state: tracing.read(state) for state in body.written}
    check_states(what, body.written, shapes, values)
    return list(values), list(values.values())
