"""Views of single objects in notebooks: one line, and what lies behind it after a click.

A view computes nothing that the object has not computed: of a recipe it shows the recipe, of an
array that lies in several processes its shape. Only arrays of at most `_MOST` elements are read.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeGuard

import jax
import jax.core
import numpy as np

from paramesh.array_types import HostArray
from paramesh.nn.cell import Cell
from paramesh.parallel.modes.layout_table import LayoutTable, byte_text
from paramesh.parameter import Parameter, ParameterTuple
from paramesh.tensor.base import Tensor
from paramesh.views import markup
from paramesh.views.places import place_of, place_of_array

if TYPE_CHECKING:
    from paramesh.optim import Optimizer

#: Arrays with more elements are not read: that could take seconds, and another copy of them.
_MOST = 1 << 20
#: Parameters in the settings of a layer, as its repr has them.
_PARAMETERS = re.compile(r"(, )?\w+=Parameter \(name=\S*, shape=\([^)]*\), [^)]*\)")
#: So many rows of a table are shown.
_MOST_ROWS = 200


def html_of(value: object) -> str:
    """The view of a Tensor, Parameter, ParameterTuple, Cell, optimizer or table of layouts.

    Raises:
        TypeError: there is no view of it.
    """
    for kind, view in _VIEWS.items():
        if isinstance(value, kind):
            return view(value)
    raise TypeError(f"html_of: there is no view of a {type(value).__name__}.")


def _tensor(tensor: Tensor) -> str:
    title = f"Tensor {tensor.shape} {tensor.dtype}, {byte_text(tensor.nbytes)}"
    return markup.block(markup.folded(title, *_inside(tensor), opened=tensor.size <= 64))


def _parameter(param: Parameter) -> str:
    trained = "trainable" if param.requires_grad else "frozen"
    about = f"{param.shape} {param.dtype}, {byte_text(param.nbytes)}, {trained}, {place_of(param)}"
    title = markup.joined(("Parameter ", markup.strong(param.name), " ", about))
    return markup.block(markup.folded(title, *_inside(param)))


def _inside(tensor: Tensor) -> list[str]:
    """The recipe, or values and what they are like."""
    if tensor.has_init:
        return [markup.pale(f"recipe, not run yet: {tensor.init!r}")]
    value = tensor._concrete() if isinstance(tensor, Parameter) else tensor._get()
    if isinstance(value, jax.core.Tracer) or not hasattr(value, "dtype"):
        return [markup.pale(f"traced: {value}")]
    lines = [] if isinstance(tensor, Parameter) else [markup.pale(place_of_array(value))]
    if not getattr(value, "is_fully_addressable", True):
        return [*lines, markup.pale("it lies in parts over several processes")]
    if tensor.size > _MOST:
        return [*lines, markup.pale(f"{tensor.size:,} elements, too many to show here")]
    array = np.asarray(value)
    facts = [text for fact in (*lines, *_statistics(array)) for text in (fact, " ")]
    return [*facts, markup.code(_values(array))]


def _statistics(array: HostArray) -> list[markup.Markup]:
    if not array.size or array.dtype.kind in "bc":
        return []
    wide = array if array.dtype.kind in "iu" else array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    bad = wide.size - finite.size
    if not finite.size:
        return [markup.strong("no finite element")]
    facts = f"min {finite.min():.4g}, max {finite.max():.4g}, mean {finite.mean():.4g}"
    parts = [markup.pale(f"{facts}, std {finite.std():.4g}")]
    if bad:
        parts.append(markup.strong(f"{bad:,} NaN or infinite"))
    return parts


def _values(array: HostArray) -> str:
    shown = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    return np.array2string(shown, threshold=200, edgeitems=3, separator=", ")


def _parameters(params: Iterable[Parameter]) -> markup.Markup:
    listed = list(params)
    rows = [
        [
            p.name,
            str(p.shape),
            str(p.dtype),
            byte_text(p.nbytes),
            "yes" if p.requires_grad else "no",
            place_of(p),
        ]
        for p in listed[:_MOST_ROWS]
    ]
    made = markup.table(["name", "shape", "dtype", "bytes", "trainable", "where"], rows, right=[3])
    more = len(listed) - len(rows)
    return markup.joined([made, markup.pale(f"and {more:,} more")] if more else [made])


def _tuple(params: ParameterTuple) -> str:
    size = sum(p.nbytes for p in params)
    title = f"{_number(len(params), 'Parameter')}, {byte_text(size)}"
    return markup.block(markup.folded(title, _parameters(params)))


def _cell(cell: Cell) -> str:
    if is_optimizer(cell):
        return _optimizer(cell)
    return markup.block(_tree("", cell, set(), True))


def _tree(name: str, cell: Cell, seen: set[Cell], opened: bool = False) -> markup.Markup:
    params = list(cell.get_parameters())
    about = f"{sum(p.size for p in params):,} elements" if params else ""
    # Parameters have a table of their own.
    arguments = "" if cell.name_cells() else _PARAMETERS.sub("", cell.extend_repr()).strip(", ")
    kind = f"{type(cell).__name__}({arguments})"
    title = markup.joined(
        ([markup.strong(name), ": "] if name else []) + [kind, " ", markup.pale(about)]
    )
    if cell in seen:
        return markup.joined([title, markup.pale(" (shown above)"), markup.Markup("<br>")])
    seen.add(cell)
    inside: list[str] = []
    own = list(cell.get_parameters(expand=False))
    if own:
        inside.append(_parameters(own))
    inside += [_tree(inner, child, seen) for inner, child in cell.name_cells().items()]
    if not inside:
        return markup.joined([title, markup.Markup("<br>")])
    return markup.folded(title, *inside, opened=opened)


def is_optimizer(value: object) -> TypeGuard[Optimizer]:
    """Whether an object is an optimizer; without importing them."""
    home = sys.modules.get("paramesh.optim.optimizer")  # without it there is none
    return home is not None and isinstance(value, home.Optimizer)


def optimizer_state(optimizer: Optimizer) -> dict[str, list[Parameter]]:
    """The state of an optimizer by kind: `moment1`, ...; "" for what belongs to no Parameter."""
    names = {p.name for p in optimizer.parameters}
    groups: dict[str, list[Parameter]] = {}
    for param in optimizer.get_parameters():
        if param.name in names:
            continue
        prefix = next(
            (param.name.removesuffix(f".{name}") for name in _tails(param.name) if name in names),
            "",
        )
        groups.setdefault(prefix, []).append(param)
    return groups


def _optimizer(optimizer: Optimizer) -> str:
    trained = list(optimizer.parameters)
    groups = optimizer_state(optimizer)
    size = sum(p.nbytes for params in groups.values() for p in params)
    title = markup.joined(
        (
            markup.strong(type(optimizer).__name__),
            f" of {_number(len(trained), 'Parameter')}, {byte_text(size)} of state",
        )
    )
    folds = [
        markup.folded(
            f"{prefix or 'step and rates'}: {_number(len(params), 'Parameter')}, "
            f"{byte_text(sum(p.nbytes for p in params))}",
            _parameters(params),
        )
        for prefix, params in groups.items()
    ]
    return markup.block(
        markup.folded(
            title,
            *folds,
            markup.folded(f"trains {_number(len(trained), 'Parameter')}", _parameters(trained)),
            opened=True,
        )
    )


def _tails(name: str) -> Iterable[str]:
    """What comes after each dot of a name, the longest first."""
    while "." in name:
        name = name.partition(".")[2]
        yield name


def _layouts(table: LayoutTable) -> str:
    staged = table.stages > 1
    rows = [
        [
            row.name,
            *(["-" if row.stage is None else str(row.stage)] if staged else []),
            str(row.shape),
            row.dtype,
            " x ".join(map(str, row.parts)) if max(row.parts, default=1) > 1 else "whole",
            str(row.slice_shape),
            str(row.replicas),
            byte_text(row.bytes_per_device),
        ]
        for row in table.rows
    ]
    columns = ["shape", "dtype", "parts", "slice", "copies", "per device"]
    header = ["parameter", *(["stage"] if staged else []), *columns]
    devices = _number(table.device_num * table.stages, "device")
    title = (
        f"{_number(len(rows), 'Parameter')} on {devices}: "
        f"{byte_text(table.bytes_per_device)} on each, of {byte_text(table.bytes_whole)}"
    )
    if staged:
        title = title.replace("on each", f"at most on each, in {table.stages} stages")
    right = [5 + staged, 6 + staged]
    return markup.block(markup.folded(title, markup.table(header, rows, right=right), opened=True))


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")


_VIEWS: dict[type, Callable[[Any], str]] = {
    Parameter: _parameter,
    Tensor: _tensor,
    ParameterTuple: _tuple,
    Cell: _cell,
    LayoutTable: _layouts,
}
