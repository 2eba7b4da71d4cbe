"""What a person sees of an error from inside a network: which Cell, what it was given, which lines.

Between a call of a network and the line of the user's that went wrong lie dozens of frames of
paramesh and JAX. They are left out of the traceback, unless the environment variable
PARAMESH_TRACEBACK is `full` (or nothing else is left), and the error gets notes instead.
"""

from __future__ import annotations

import inspect
import os
import sys
from types import TracebackType
from typing import Any

VARIABLE = "PARAMESH_TRACEBACK"
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
#: Under which an error keeps the Cells that it came through, the innermost first.
_CELLS = "_paramesh_cells"
_OF_JAX = "JAX has removed its internal frames"
#: So few frames may stay away without a word.
_FEW = 3
_LONGEST = 60


def came_through(error: Exception, cell: Any, args: Any, kwargs: Any) -> None:
    """Note that an error leaves a Cell.

    Args:
        error: the error.
        cell: the Cell.
        args: what the Cell was called with.
        kwargs: likewise.
    """
    cells: list[Any] = error.__dict__.setdefault(_CELLS, [])
    # What it was given is traced, so texts are kept; of the innermost alone.
    cells.append((cell, "" if cells else _given(cell, args, kwargs)))


def shorten(error: Exception) -> None:
    """Prepare an error for the person who called: notes, and a short traceback.

    To be called where the error is caught, before a bare `raise`.
    """
    cells = error.__dict__.pop(_CELLS, None)
    if cells:
        inner, given = cells[0]
        outer = cells[-1][0]
        kind = type(inner).__name__
        path = _path(outer, inner)
        where = f"{type(outer).__name__}.{path} ({kind})" if path else kind
        error.add_note(f"In {where}, which was given {given or 'nothing'}.")
    if os.environ.get(VARIABLE) == "full":
        return
    hidden = _fold(error, keep_first=True)
    cause = error.__cause__
    if cause is not None and str(cause) in str(error) and not _of_user(cause):
        error.__cause__ = None  # it would say the same again, and nothing of the user's
        error.__suppress_context__ = True
    seen: set[int] = {id(error)}
    behind = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        hidden += _fold(behind, keep_first=False)
        behind = behind.__cause__ or behind.__context__
    notes = getattr(error, "__notes__", [])
    notes[:] = [note for note in notes if _OF_JAX not in note]
    if hidden > _FEW:
        error.add_note(
            f"{hidden} frames of paramesh and JAX are left out; {VARIABLE}=full shows them."
        )


def _fold(error: BaseException, keep_first: bool) -> int:
    """Take the inner frames out of a traceback; returns how many."""
    entries: list[TracebackType] = []
    entry = error.__traceback__
    while entry is not None:
        entries.append(entry)
        entry = entry.tb_next
    kept = [
        entry
        for at, entry in enumerate(entries)
        if (at == 0 and keep_first) or not _internal(entry.tb_frame.f_code.co_filename)
    ]
    folded = None
    for entry in reversed(kept):
        folded = TracebackType(folded, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
    error.__traceback__ = folded
    return len(entries) - len(kept)


def _of_user(error: BaseException) -> bool:
    """Whether a traceback goes through lines of the user's."""
    entry = error.__traceback__
    while entry is not None:
        if not _internal(entry.tb_frame.f_code.co_filename):
            return True
        entry = entry.tb_next
    return False


def _internal(file: str) -> bool:
    return file.startswith((_HERE, *_jax()))


def _jax() -> list[str]:
    file = getattr(sys.modules.get("jax"), "__file__", None)
    return [] if file is None else [os.path.dirname(os.path.abspath(file)) + os.sep]


def _path(outer: Any, inner: Any) -> str:
    return next((path for path, cell in outer.cells_and_names() if cell is inner), "")


def _given(cell: Any, args: Any, kwargs: Any) -> str:
    """The arguments of a Cell by the names that its `construct` gives them."""
    unnamed: tuple[Any, ...] = ()
    try:
        bound = inspect.signature(cell.construct).bind_partial(*args, **kwargs)
        named: dict[str, Any] = dict(bound.arguments)
    except (TypeError, ValueError):  # it takes other arguments: the error says so
        unnamed, named = args, dict(kwargs)
    texts = [f"{name}={_described(value)}" for name, value in named.items()]
    return ", ".join([*map(_described, unnamed), *texts])


def _described(value: Any) -> str:
    if isinstance(value, tuple | list):
        inside = ", ".join(map(_described, value[:4])) + (", …" if len(value) > 4 else "")
        return f"({inside})" if isinstance(value, tuple) else f"[{inside}]"
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        name = getattr(value, "name", None)
        of = f"Parameter '{name}' " if isinstance(name, str) else ""
        return f"{of}{value.dtype}{list(value.shape)}"
    text = repr(value)
    return text if len(text) <= _LONGEST else f"a {type(value).__name__}"
