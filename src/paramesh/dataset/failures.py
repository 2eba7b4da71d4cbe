"""Errors of a user's code in a pipeline: raised with the line that failed, wherever it ran."""

from __future__ import annotations

import traceback

_OURS = ("paramesh/dataset/", "paramesh\\dataset\\")


class PipelineError(RuntimeError):
    """A function or source of the user's raised an exception; RuntimeError, as in MindSpore.

    `__cause__` is the user's exception, if it ran in this process.
    """


def of_user(what: str, error: BaseException) -> PipelineError:
    """The error that says what failed, and where in the user's code.

    Args:
        what: such as "map, column 'image': Resize".
        error: the exception, being handled.
    """
    if isinstance(error, PipelineError):
        return error
    return PipelineError(f"{what} raised {type(error).__name__}: {error}{_shown(error)}")


def _shown(error: BaseException) -> str:
    """The traceback without the pipeline's own frames."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(part in frame.filename for part in _OURS)
    ]
    if not frames:
        return ""
    return "\n" + "".join(traceback.format_list(frames)).rstrip()


def name_of(function: object) -> str:
    """How a user's function is called in an error."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__name__
