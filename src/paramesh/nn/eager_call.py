"""A Cell in PyNative mode: operator by operator, or as a program where only that can do it.

With data_parallel in a process of several devices, eager code computes with the batch of all of
them together. A training step adds up what each device has of it, so it needs a program: a Cell
that computes gradients and then has devices meet is run anew as one, and from then on. What the
first attempt had written is taken back: Parameters and their state (the journal of the call),
attributes of Cells and Tensors (its scope), and the position of the random generator.

The same is done where a gradient by a table on servers is computed.

A Cell that takes gradients, such as an optimizer, cannot be run so: they are of the whole batch
already, and a program would take parts of them for those of single devices. The error stays.
"""

from __future__ import annotations

import warnings
from typing import Any, Protocol

from paramesh.errors import CompiledWarning, ProgramNeededError
from paramesh.nn import cell_call
from paramesh.parameter import form_waiting
from paramesh.state import placement, trace_scope, tracing
from paramesh.transforms.compiled_function import CompiledFunction
from paramesh.transforms.not_finite import located


class CallableCell(cell_call.RunnableCell, Protocol):
    """What is needed here of a Cell."""

    def _program(self) -> CompiledFunction: ...
    def _reachable_parameters(self) -> Any: ...


#: Made once: to decorate costs as much as an operator.
_together = tracing.public_call(tracing.together)


def call(cell: CallableCell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What the Cell computes; outside of every trace."""
    __tracebackhide__ = True
    inside = tracing.thread.journal is not None  # of another Cell
    place = placement.current()
    try:
        if inside or not place.needs_programs:
            return _by_operators(cell, args, kwargs)
        if cell.__dict__.get("_program_needed") != place.key:
            place.before_eager(cell._reachable_parameters)
            if place.division is not None and place.meets:
                form_waiting()  # optimizers keep shards of their state, as in programs
            try:
                return _tried(cell, args, kwargs)
            except _Untried as untried:
                _note(cell, untried.error)
                cell.__dict__["_program_needed"] = place.key
    except FloatingPointError as error:  # of jax_debug_nans
        if inside:
            raise
        raise located(error, None, cell) from None
    return _as_program(cell, args, kwargs)


def _by_operators(cell: CallableCell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return _together(lambda: cell_call.run(cell, args, kwargs))


class _Untried(Exception):
    """The attempt ended where devices were to meet, and nothing is left of it."""

    def __init__(self, error: ProgramNeededError) -> None:
        super().__init__(str(error))
        self.error = error


def _tried(cell: CallableCell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """As `_by_operators`.

    Raises:
        _Untried: the Cell has to run as a program, and can.
    """

    def attempt() -> Any:
        with trace_scope.enter(type(cell).__name__):
            return cell_call.run(cell, args, kwargs)

    def run() -> Any:
        journal = tracing.thread.journal
        assert journal is not None
        try:
            return attempt()
        except ProgramNeededError as error:
            able = (error.alike or journal.derives) and tracing.thread.journal is journal
            if not able or journal.flushed:
                raise
            journal.take_back()
            raise _Untried(error) from None

    return _together(run)


def _note(cell: object, error: ProgramNeededError) -> None:
    reason = str(error).partition(". ")[0]
    warnings.warn(
        f"'{type(cell).__name__}' runs as a compiled program, in PyNative mode too. {reason}.",
        CompiledWarning,
        stacklevel=4,
    )


def _as_program(cell: CallableCell, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        return cell._program()(*args, **kwargs)
    except Exception as error:
        error.add_note(
            f"'{type(cell).__name__}' runs as a compiled program, in PyNative mode too: see the "
            "CompiledWarning at its first call."
        )
        raise
