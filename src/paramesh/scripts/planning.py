"""Running a script up to its first training step, which is planned and not run."""

from __future__ import annotations

import contextlib
import functools
import threading
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
        with contextlib.suppress(_ReachedError):
            program()

    with _watched(found):
        try:
            code = running.run(until)
        except SystemExit as end:
            code = running.exit_code(end)
    return found[0] if found else code


def is_update_alone(fn: compiled.CompiledFunction) -> bool:
    """Whether a step is the call of an optimizer: what computes the gradients is not in it."""
    return isinstance(getattr(fn._hints, "__self__", None), Optimizer)


@contextlib.contextmanager
def _watched(found: list[Step]) -> Generator[None]:
    """Have the first training step of any thread go into `found`, and none run."""

    def look(fn: compiled.CompiledFunction, entry: Executable, args: Any, kwargs: Any) -> None:
        if found or any(_is_trained(state) for state in entry.written):
            found.append((fn, tuple(args), dict(kwargs)))
            raise _ReachedError

    def quiet(hook: Callable[..., object], report: threading.ExceptHookArgs) -> None:
        if report.exc_type is not _ReachedError:  # ends a thread
            hook(report)

    before, hook = placement.use(placement.Placement()), threading.excepthook
    compiled.before_first_run = look
    threading.excepthook = functools.partial(quiet, hook)
    try:
        yield
    finally:
        compiled.before_first_run = None
        threading.excepthook = hook
        placement.use(before)


def _is_trained(state: AnyState) -> bool:
    members = [param for _, param in state.entries()] if isinstance(state, Pool) else [state]
    # Counters and moments may ask for gradients too; a trained Parameter is no clone.
    return any(
        isinstance(param, Parameter) and param.requires_grad and param._original is None
        for param in members
    )
