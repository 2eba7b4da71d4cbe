"""How Cells become the layers of a `Stack`, and Cells of their own again."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from paramesh.array_types import Tree
from paramesh.dtype import DType
from paramesh.initializer.stacked import layers_of
from paramesh.nn.cell import Cell
from paramesh.parameter import Parameter
from paramesh.tensor.base import Tensor, raw, wrap

_PLAIN = (int, float, complex, str, bytes, bool, type(None), DType)
#: What a layer's Parameter says of itself that holds for the stacked one.
_FLAGS = (
    "requires_grad",
    "layerwise_parallel",
    "parallel_optimizer",
    "parallel_optimizer_comm_recompute",
    "comm_fusion",
    "requires_aggr",
    "cache_enable",
    "key",
)
#: What a Cell has that says nothing of what it computes.
_OWN = ("_version", "_compiled", "_attributes", "_attributes_at", "_plain", "_told", "param_prefix")


class Members:
    """What a Cell of a template has in place of its table of Parameters.

    Those that are stacked are found by name, so that `construct` reads and writes them, and are not
    counted: they belong to the stack.
    """

    def __init__(self, before: Any, stacked: Mapping[Any, Any]) -> None:
        #: The table that was there: of a stack inside a layer, another one of these.
        self.before = before
        self.hidden = {name for name, param in before.items() if param in stacked}

    def __contains__(self, name: object) -> bool:
        return name in self.before

    def __getitem__(self, name: str) -> Any:
        return self.before[name]

    def __setitem__(self, name: str, param: object) -> None:
        self.before[name] = param
        self.hidden.discard(name)

    def __delitem__(self, name: str) -> None:
        del self.before[name]
        self.hidden.discard(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.items())

    def get(self, name: str, default: object = None) -> Any:
        """The Parameter of a name."""
        return self.before.get(name, default)

    def items(self) -> list[tuple[str, Any]]:
        """(name, Parameter) of those that are not stacked."""
        return [(n, p) for n, p in self.before.items() if n not in self.hidden]

    def keys(self) -> list[str]:
        """Their names."""
        return [name for name, _ in self.items()]

    def values(self) -> list[Any]:
        """The Parameters."""
        return [param for _, param in self.items()]


def check_arguments(
    make_cell: object,
    n: object,
    run: object,
    runs: Sequence[str],
    remat: object,
    in_axes: Tree,
    parts: object,
) -> None:
    """Refuse what `stack` cannot take.

    Raises:
        TypeError, ValueError: see `stack`.
    """
    if isinstance(make_cell, Cell) or not callable(make_cell):
        raise TypeError(
            f"stack: make_cell must be a function that makes a Cell, got "
            f"{type(make_cell).__name__}. Write lambda: Layer(…)."
        )
    for name, value in (("n", n), ("parts", parts)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"stack: {name} must be an int, got {value!r}.")
        if value < 1:
            raise ValueError(f"stack: {name} must be at least 1, got {value}.")
    if run not in runs:
        raise ValueError(f"stack: run must be {' or '.join(map(repr, runs))}, got {run!r}.")
    if not isinstance(remat, bool | dict):
        raise TypeError(f"stack: remat must be a bool or a dict of options, got {remat!r}.")
    if run == "scan" and in_axes is not None:
        raise ValueError(
            "stack: in_axes is for run='vmap'. In a scan, what layers get of their own is the xs "
            "of Stack.scan."
        )
    if run == "vmap" and remat:
        raise ValueError("stack: remat is for run='scan'; call recompute() on the Cell instead.")


def made(make_cell: Callable[[], Any], n: int) -> list[Cell]:
    """The layers.

    Raises:
        TypeError: no Cells.
        ValueError: one Cell several times, or Cells that differ in more than values.
    """
    cells: list[Cell] = []
    for _ in range(n):
        cell = make_cell()
        if not isinstance(cell, Cell):
            raise TypeError(f"stack: make_cell must make a Cell, got {type(cell).__name__}.")
        if any(cell is other for other in cells):
            raise ValueError(
                f"stack: make_cell gave the same {type(cell).__name__} twice; it has to make a new "
                "one at each call."
            )
        cells.append(cell)
    first = dict(cells[0].cells_and_names())
    for i, cell in enumerate(cells[1:], 1):
        other = dict(cell.cells_and_names())
        if list(first) != list(other):
            raise ValueError(
                f"stack: layer {i} has other Cells inside than layer 0: {_others(first, other)}."
            )
        for path, inner in first.items():
            _check_alike(path, inner, other[path], i)
    return cells


def _others(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    extra = [*(p for p in one if p not in other), *(p for p in other if p not in one)]
    return ", ".join(repr(path) for path in extra[:5]) or "in another order"


def _check_alike(path: str, one: Cell, other: Cell, i: int) -> None:
    where = f"'{path}'" if path else "the layer"
    if type(one) is not type(other):
        raise ValueError(
            f"stack: {where} is a {type(one).__name__} in layer 0 and a {type(other).__name__} in "
            f"layer {i}. Layers differ in the values of their Parameters alone."
        )
    for name, value in one.__dict__.items():
        if name in _OWN or not _is_plain(value):
            continue
        theirs = other.__dict__.get(name)
        if type(theirs) is not type(value) or theirs != value:
            raise ValueError(
                f"stack: {type(one).__name__}.{name} ({where}) is {value!r} in layer 0 and "
                f"{theirs!r} in layer {i}. Layers differ in the values of their Parameters alone: "
                "make it a Parameter with requires_grad=False, or give it as xs of Stack.scan."
            )


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN)


def columns(cells: Sequence[Cell]) -> dict[str, list[Parameter]]:
    """{attribute path: the Parameter of each layer}, without those that all layers share.

    Raises:
        ValueError: layers whose Parameters differ in paths, shapes, element types or flags.
    """
    return _aligned([dict(cell.parameters_and_names()) for cell in cells])


def transient_columns(cells: Sequence[Cell]) -> dict[str, list[Parameter]]:
    """The same of Parameters that belong to no checkpoint, such as those of caches.

    Raises:
        ValueError: as `columns`.
    """
    return _aligned([transient(cell) for cell in cells])


def transient(cell: Cell) -> dict[str, Parameter]:
    """{attribute path: Parameter} of those that belong to no checkpoint."""
    found: dict[str, Parameter] = {}
    for path, inner in cell.cells_and_names():
        for name, param in inner.__dict__.get("_transient", {}).items():
            found[f"{path}.{name}" if path else name] = param
    return found


def _aligned(tables: Sequence[Mapping[str, Parameter]]) -> dict[str, list[Parameter]]:
    found: dict[str, list[Parameter]] = {}
    for i, table in enumerate(tables):
        if list(table) != list(tables[0]):
            raise ValueError(
                f"stack: layer {i} has other Parameters than layer 0: {_others(tables[0], table)}."
            )
    for path, first in tables[0].items():
        params = [table[path] for table in tables]
        distinct = len(set(params))
        if len(tables) > 1 and distinct == 1:
            continue
        if distinct != len(params):
            raise ValueError(
                f"stack: '{path}' is one Parameter in some layers and another in others; share it "
                "between all or none."
            )
        for i, param in enumerate(params):
            mine, theirs = _about(first), _about(param)
            if mine != theirs:
                raise ValueError(
                    f"stack: '{path}' is {mine} in layer 0 and {theirs} in layer {i}; stacked "
                    "layers have Parameters of the same shapes, element types and flags."
                )
        found[path] = params
    return found


def _about(param: Parameter) -> str:
    frozen = "" if param.requires_grad else ", requires_grad=False"
    return f"{param.dtype}{list(param.shape)}{frozen}"


def hide(cell: Cell, stacked: Mapping[Any, Any]) -> None:
    """Leave the Parameters that are stacked to the stack."""
    for _, inner in cell.cells_and_names():
        inner.__dict__["_params"] = Members(inner._params, stacked)


def revealed(cell: Cell, stacked: Mapping[Parameter, Parameter], i: int) -> Cell:
    """A copy of the template that has the values of layer `i` as its own."""
    names = {place: place.name for place in stacked}
    memo: dict[int, Any] = {}
    for place, whole in stacked.items():
        memo[id(place)] = with_flags(Parameter(_row(whole, i), name=names[place]), whole)
    twin = copy.deepcopy(cell, memo)
    for _, inner in twin.cells_and_names():
        members: Any = inner._params
        if isinstance(members, Members):
            inner.__dict__["_params"] = members.before
    twin.update_parameters_name("")
    return twin


def with_flags(param: Parameter, like: Parameter) -> Parameter:
    """The Parameter, with the flags of another; returns it."""
    for flag in _FLAGS:
        setattr(param, flag, getattr(like, flag))
    return param


def _row(whole: Parameter, i: int) -> Tensor:
    recipe = whole.recipe
    if recipe is not None:
        return Tensor._from_recipe(layers_of(recipe)[i])
    return Tensor(wrap(raw(whole.value())[i]))


def values_by_layer(whole: Parameter) -> list[Tensor]:
    """The values of each layer of a stacked Parameter, as recipes while it has none."""
    recipe = whole.recipe
    if recipe is not None:
        return [Tensor._from_recipe(layer) for layer in layers_of(recipe)]
    return [Tensor(wrap(row)) for row in raw(whole.value())]


def axes_of(in_axes: Tree, args: Sequence[Any]) -> list[Any]:
    """The axis of each positional argument.

    Raises:
        TypeError: no int, None or tuple of them.
        ValueError: a tuple of another length.
    """
    if isinstance(in_axes, tuple | list):
        if len(in_axes) != len(args):
            raise ValueError(
                f"Stack: in_axes={tuple(in_axes)} is for {len(in_axes)} arguments, got {len(args)}."
            )
        axes = list(in_axes)
    else:
        axes = [in_axes] * len(args)
    for axis in axes:
        if axis is not None and (isinstance(axis, bool) or not isinstance(axis, int)):
            raise TypeError(f"Stack: in_axes must hold ints and None, got {axis!r}.")
    return [None if axis is None else operator.index(axis) for axis in axes]


def check_rows(n: int, given: Sequence[Sequence[Any]], axes: Sequence[Any]) -> None:
    """Refuse arguments that have no entry for each layer.

    Raises:
        ValueError: an axis of another size, or that is not there.
    """
    for at, (arrays, axis) in enumerate(zip(given, axes, strict=True)):
        for array in arrays if axis is not None else ():
            size = array.shape[axis] if -array.ndim <= axis < array.ndim else None
            if size != n:
                raise ValueError(
                    f"Stack: argument {at} of shape {tuple(array.shape)} has "
                    f"{'no axis' if size is None else f'size {size} on axis'} {axis}; with "
                    f"in_axes={axis} it needs {n} there, one for each layer. in_axes=None gives "
                    "every layer the whole."
                )
