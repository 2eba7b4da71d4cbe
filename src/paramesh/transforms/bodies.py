"""Functions that run inside a transform, and what they hand out besides their outputs.

Inside a transform of JAX (a gradient, a loop, a branch) values belong to that transform. What a
function does there to things outside has to be handed out as outputs: the Parameters that it
writes, and Tensors that it leaves in attributes of Cells. All transforms run functions by this
module, so that they agree on it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paramesh.dtype import int64, is_64bit, watch_64bit, x64, x64_enabled
from paramesh.state import trace_scope, tracing
from paramesh.tensor.trees import unpack


class Body:
    """One run of a function inside a transform.

    Args:
        fn: the function.
        args: what it is called with.
        kwargs: likewise.
        values: of Parameters, for this run.
        numbers: what python numbers among its outputs are, see `unpack`.
        name: for messages.

    Attributes:
        arrays: the raw outputs.
        nest: how they were.
        written: the Parameters and pools that it wrote.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        args: Any,
        kwargs: Mapping[str, Any],
        values: Mapping[Any, Any],
        numbers: str | None = None,
        name: str = "",
        hands_out: bool = False,
    ) -> None:
        with (
            trace_scope.enter(name or name_of(fn)) as scope,
            tracing.overlay(values) as frame,
        ):
            out = fn(*args, **kwargs)
            self.arrays, self.nest = unpack(out, numbers)
            del out  # a Tensor that is only returned is not left anywhere
            self.written: list[Any] = list(frame.written)
            self._frame = frame
            crossing = scope.leaked_attributes() if hands_out else []
            self._left = [(attribute, *unpack(attribute.now)) for attribute in crossing]
            for attribute in crossing:
                attribute.restore()
            scope.check()

    def hand_out(self, states: Any = None) -> tuple[list[Any], list[Any], list[list[Any]]]:
        """(raw outputs, values of Parameters and pools, raw arrays in attributes), once.

        Nothing traced is left here afterwards.

        Args:
            states: of which Parameters and pools; None: of the written ones.
        """
        frame = self._frame
        values = [frame.get(s) for s in (self.written if states is None else states)]
        out = self.arrays, values, [arrays for _, arrays, _ in self._left]
        self.arrays, self._frame = [], tracing.Frame({}, None)
        self._left = [(attribute, [], nest) for attribute, _, nest in self._left]
        return out

    def leave(self, left: list[list[Any]]) -> None:
        """Assign the attributes what was handed out for them."""
        for (attribute, _, nest), arrays in zip(self._left, left, strict=True):
            setattr(attribute.cell, attribute.name, nest.build(arrays))


def write(states: Any, values: Any) -> None:
    """Write what a transform handed out for Parameters and pools."""
    for state, value in zip(states, values, strict=True):
        tracing.write(state, value)


def lifted(transform: Callable[[Callable[..., Any]], Callable[..., Any]], fn: Callable[..., Any]):
    """`transform(fn)` for a JAX transform and a function that may write Parameters.

    `transform` must pass the outputs of its function through unchanged in kind (checkpoint and
    jit do). Parameters that `fn` writes are handed out as extra outputs and written outside.
    """

    @tracing.public_call
    def run(*args: Any, **kwargs: Any) -> Any:
        bodies: list[Body] = []
        given, nest = unpack((args, kwargs))

        def pure(given: list[Any]) -> Any:
            args, kwargs = nest.build(given)
            body = Body(fn, args, kwargs, {}, hands_out=True)
            bodies.append(body)
            return body.hand_out()

        arrays, values, left = transform(pure)(given)
        body = bodies[-1]
        write(body.written, values)
        body.leave(left)
        return body.nest.build(arrays)

    return run


def in_64bit_if_met(arrays: Any, compute: Callable[[], Any]) -> Any:
    """`compute()`, a second time in JAX's 64-bit mode if it meets 64-bit data.

    What is traced has to be traced in that mode as a whole. `compute` must leave nothing behind.

    Args:
        arrays: raw arrays that it works on.
        compute: gives the result.
    """
    if any(map(is_64bit, arrays)):
        with x64(int64):
            return compute()
    failed = None
    with watch_64bit() as marks:
        try:
            result = compute()
        except Exception as error:
            # In the middle of 64-bit data without the mode anything may fail.
            if not marks.met_64bit or x64_enabled():
                raise
            failed, result = error, None
        again = marks.met_64bit and not x64_enabled()
    if failed is None and not again:
        return result
    with x64(int64):
        return compute()


def name_of(fn: Any) -> str:
    """The name of a function or Cell, for messages."""
    return getattr(fn, "__name__", type(fn).__name__)
