"""Where a NaN comes from: the Cell, the operator, the line and the Parameters.

With `jax_debug_nans` (or `jax_debug_infs`) JAX looks at what a program gives out. A program of a
whole step says little, so the function is run again, operator by operator and without effects,
until one gives a number that is none.
"""

from __future__ import annotations

import itertools
import linecache
import traceback
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from paramesh import errors
from paramesh.errors import NotFiniteError
from paramesh.parameter import Parameter
from paramesh.state import tracing
from paramesh.transforms.reachability import is_cell, parameters_of

_PACKAGE = str(Path(errors.__file__).parent)
#: So many Parameters are in a message.
_SHOWN = 6


def located(error: Exception, run: Callable[[], Any] | None, root: object) -> Exception:
    """The error that says more.

    Args:
        error: what JAX raised.
        run: calls the function again; None if it was run operator by operator.
        root: the function or Cell that was called.
    """
    if isinstance(error, NotFiniteError):
        return error
    found: BaseException | None = error
    if run is not None:
        found = None
        try:
            with tracing.entered(tracing.Frame({}, None)):  # what it writes is dropped
                run()
        except FloatingPointError as again:
            found = again
        except Exception:  # it cannot be run so: then nothing more is known
            found = None
    lines = [_first(error)]
    params: dict[Parameter, None] = {}
    cells: list[Any] = []
    if found is not None:
        frames = list(_frames(found.__traceback__))
        cells = _cells(frames)
        where = f" in Cell '{_path(cells)}' ({type(cells[-1]).__name__})" if cells else ""
        lines = [f"{_first(found).capitalize()}{where}."]
        line = _user_line(frames)
        if line:
            lines.append(f"  {line}")
        updated = _parameter_of(frames)
        if updated is not None:
            lines.append(f"  while Parameter '{updated.name}' is updated")
            params[updated] = None
        if cells:
            params |= dict.fromkeys(p for p in cells[-1]._params.values() if p is not None)
    wrong = {p: None for p in parameters_of(root) if _is_live(p) and not _finite(p)}
    for param in list({**wrong, **params})[:_SHOWN]:
        if _is_live(param):
            lines.append(f"  Parameter {_about(param)}")
    if found is None:
        lines.append(
            "  Run operator by operator, the function gives none: it comes from how XLA joined "
            "operators, or from what random numbers were drawn."
        )
    made = NotFiniteError("\n".join(lines))
    made.cell = _path(cells) if cells else None
    made.parameters = [p.name for p in wrong]
    return made


def _first(error: BaseException) -> str:
    if len(error.args) > 1:  # jit's: ('jit(f)', 'nan')
        return f"invalid value ({error.args[1]}) in what {error.args[0]} gives"
    text = str(error).splitlines()[0]
    if text.startswith("('"):
        name, _, rest = text.partition("',")
        return f"invalid value ({rest.split(chr(39))[1]}) in what {name[2:]} gives"
    return text.split(". Because")[0].rstrip(".")


def _frames(trace: types.TracebackType | None) -> Iterator[tuple[types.FrameType, int]]:
    yield from traceback.walk_tb(trace)


def _cells(frames: list[tuple[types.FrameType, int]]) -> list[Any]:
    """The Cells whose `construct` was running, the outermost first."""
    found: list[Any] = []
    for frame, _ in frames:
        first = frame.f_code.co_varnames[:1]  # what construct calls the Cell
        cell = frame.f_locals.get(first[0]) if first else None
        runs = is_cell(cell) and frame.f_code.co_name == "construct"
        if runs and (not found or found[-1] is not cell):
            found.append(cell)
    return found


def _path(cells: list[Any]) -> str:
    """`Net.layers.0.fc`: the outermost Cell's class, and the attributes that lead to the last."""
    path = type(cells[0]).__name__
    for outer, inner in itertools.pairwise(cells):
        known = next((name for name, c in outer.cells_and_names() if c is inner), None)
        path += f".{known}" if known else f".({type(inner).__name__})"
    return path


def _user_line(frames: list[tuple[types.FrameType, int]]) -> str:
    """The last line that is none of paramesh's or of a library's."""
    for frame, line in reversed(frames):
        file = frame.f_code.co_filename
        if file.startswith(_PACKAGE) or "site-packages" in file:
            continue
        text = linecache.getline(file, line).strip()
        return f"{file}:{line}" + (f": {text}" if text else "")
    return ""


def _parameter_of(frames: list[tuple[types.FrameType, int]]) -> Parameter | None:
    """The Parameter that an optimizer was updating."""
    for frame, _ in reversed(frames):
        param = frame.f_locals.get("param")
        if isinstance(param, Parameter):
            return param
    return None


def _is_live(param: Parameter) -> bool:
    return not param.has_init and param.dtype.is_floating()


def _finite(param: Parameter) -> bool:
    return bool(np.isfinite(param.asnumpy().astype(np.float64)).all())


def _about(param: Parameter) -> str:
    values = param.asnumpy().astype(np.float64)
    fine = values[np.isfinite(values)]
    bad = values.size - fine.size
    span = f"from {fine.min():.4g} to {fine.max():.4g}" if fine.size else "nothing finite"
    wrong = f", {bad} of {values.size} not finite" if bad else ""
    return f"'{param.name}' {param.dtype}{list(param.shape)}: {span}{wrong}"


def names_of_not_finite(params: Iterable[Any]) -> list[str]:
    """Those with an element that is not finite, as messages show them."""
    return [_about(param) for param in params if _is_live(param) and not _finite(param)]
