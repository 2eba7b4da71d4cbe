"""Running a script up to its first training step, which is planned and not run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import Any

from paramesh.optim.optimizer import Optimizer
from paramesh.parameter import Parameter, Pool
from paramesh.scripts import running
from paramesh.state import placement
from paramesh.state.frames import AnyState
from paramesh.transforms import compiled_function as compiled
from paramesh.transforms.executable import Executable

Step = tuple[compiled.CompiledFunction, tuple[Any, ...], dict[str, Any]]


class _ReachedError(BaseException):
    """Ends a script at its first training step; no `except Exception` of the script stops it."""

    def __init__(self, step: Step) -> None:
        super().__init__()
        self.step = step


def first_step(program: Callable[[], None]) -> Step | int:
    """Run a program until a compiled step would train for the first time.

    The devices that its settings ask for need not be there: it runs on one. Programs that come
    before, and change no trained Parameter, run.

    Args:
        program: runs the script; what it raises is shown as python shows it.

    Returns:
        (function, arguments, arguments by keyword) of the step; the exit code of a program that
        ended without one.
    """
    found: list[Step] = []

    def until() -> None:
        try:
            program()
        except _ReachedError as reached:
            found.append(reached.step)

    with _watched():
        try:
            code = running.run(until)
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return found[0] if found else code


def is_update_alone(fn: compiled.CompiledFunction) -> bool:
    """Whether a step is the call of an optimizer: what computes the gradients is not in it."""
    return isinstance(getattr(fn._hints, "__self__", None), Optimizer)


@contextlib.contextmanager
def _watched() -> Generator[None]:
    before = placement.use(placement.Placement())
    compiled.before_first_run = _look
    try:
        yield
    finally:
        compiled.before_first_run = None
        placement.use(before)


def _look(fn: compiled.CompiledFunction, entry: Executable, args: Any, kwargs: Any) -> None:
    if any(_is_trained(state) for state in entry.written):
        raise _ReachedError((fn, tuple(args), dict(kwargs)))


def _is_trained(state: AnyState) -> bool:
    members = [param for _, param in state.entries()] if isinstance(state, Pool) else [state]
    # Counters and moments may ask for gradients too; a trained Parameter is no clone.
    return any(
        isinstance(param, Parameter) and param.requires_grad and param._original is None
        for param in members
    )
