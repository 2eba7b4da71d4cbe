"""Functions that run inside a transform, and their extra outputs.

Inside a transform of JAX (a gradient, a loop, a branch) values belong to that transform. What a
function does there to objects outside has to be returned as extra outputs: the Parameters that it
writes, and Tensors that it leaves in attributes of Cells. All transforms run functions through
this module, so that they agree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast

from paramesh.array_types import Array
from paramesh.dtype import int64, is_64bit, watch_64bit, x64, x64_enabled
from paramesh.state import trace_scope, tracing
from paramesh.state.frames import AnyState
from paramesh.tensor.trees import unpack
from paramesh.transforms.carriers import finished, refuse_carriers

T = TypeVar("T")


class Body:
    """One run of a function inside a transform.

    Args:
        fn: the function.
        args: of the call.
        kwargs: of the call.
        values: of Parameters, for this run.
        numbers: how python numbers among its outputs are treated, see `unpack`.
        name: for messages.

    Attributes:
        arrays: the raw outputs.
        nest: their Nest.
        written: the Parameters and pools that it wrote.
        used: whether it asked for one of `values`.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        args: Iterable[Any],
        kwargs: Mapping[str, Any],
        values: Mapping[AnyState, Array],
        numbers: str | None = None,
        name: str = "",
        hands_out: bool = False,
    ) -> None:
        with (
            trace_scope.enter(name or name_of(fn)) as scope,
            tracing.overlay(values) as frame,
        ):
            out = finished(fn(*args, **kwargs), name or name_of(fn))
            self.arrays, self.nest = unpack(out, numbers)
            for leaf in self.nest.static:
                refuse_carriers(leaf, name or name_of(fn))
            del out  # a Tensor that is only returned does not leak
            self.written: list[AnyState] = list(frame.written)
            self._frame, self.used = frame, frame.used
            crossing = scope.leaked_attributes() if hands_out else []
            self._left = [(attribute, *unpack(attribute.now)) for attribute in crossing]
            for attribute in crossing:
                attribute.restore()
            scope.check()

    def hand_out(
        self, states: Sequence[AnyState] | None = None
    ) -> tuple[list[Any], list[Array], list[list[Any]]]:
        """(raw outputs, values of Parameters and pools, raw arrays in attributes), once.

        No traced value is kept here afterwards.

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
        """Assign to the attributes what `hand_out` returned for them."""
        for (attribute, _, nest), arrays in zip(self._left, left, strict=True):
            setattr(attribute.cell, attribute.name, nest.build(arrays))


def write(states: Iterable[AnyState], values: Iterable[Array]) -> None:
    """Write what a transform returned for Parameters and pools."""
    for state, value in zip(states, values, strict=True):
        tracing.write(state, value)


def lifted(transform: Callable[[Callable[..., Any]], Callable[..., Any]], fn: Callable[..., Any]):
    """`transform(fn)` for a JAX transform and a function that may write Parameters.

    `transform` must return the outputs of its function with the same shapes and element types
    (checkpoint and jit do). Parameters that `fn` writes are extra outputs, and written outside.
    """

    @tracing.public_call
    def run(*args: object, **kwargs: object) -> Any:
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


def in_64bit_if_met(arrays: Iterable[object], compute: Callable[[], T]) -> T:
    """`compute()`, a second time in JAX's 64-bit mode if it meets 64-bit data.

    A trace has to be in that mode from its beginning. `compute` must have no side effects.

    Args:
        arrays: raw arrays that it works on.
        compute: returns the result.
    """
    if any(map(is_64bit, arrays)):
        with x64(int64):
            return compute()
    failed, result = None, None
    with watch_64bit() as marks:
        try:
            result = compute()
        except Exception as error:
            # With 64-bit data outside of the mode anything may fail.
            if not marks.met_64bit or x64_enabled():
                raise
            failed = error
        again = marks.met_64bit and not x64_enabled()
    if failed is None and not again:
        return cast(T, result)
    with x64(int64):
        return compute()


def name_of(fn: Callable[..., Any]) -> str:
    """The name of a function or Cell, for messages."""
    return getattr(fn, "__name__", type(fn).__name__)
