"""Parameters and Cells that are reachable from a function, found without running it.

The Parameters are hints: they save `jit` a second trace and are never trusted. The Cells are what a
program of the function may depend on, called or not.
"""

from __future__ import annotations

import functools
import types
from typing import Any

from paramesh.parameter import Parameter
from paramesh.state.protocols import VisitedCell


def parameters_of(thing: object, depth: int = 4) -> list[Parameter]:
    """Parameters reachable from a function, Cell, optimizer or container: hints for `jit`."""
    return [item for item in _found(thing, depth) if isinstance(item, Parameter)]


def cells_of(thing: object, depth: int = 4) -> list[VisitedCell]:
    """Cells reachable from a function, Cell, optimizer or container, without those inside them."""
    return [item for item in _found(thing, depth) if not isinstance(item, Parameter)]


def containers_of(thing: object, depth: int = 2) -> list[Any]:
    """Lists, dicts and sets that a function names, of its module or of functions around it.

    Those of functions and Cells that it names as well; but not what attributes of Cells hold.
    """
    found: dict[int, Any] = {}
    _collect_containers(thing, depth, found)
    return [item for item in found.values() if type(item) in (list, dict, set)]


def _collect_containers(thing: object, depth: int, found: dict[int, Any]) -> None:
    if depth < 0 or id(thing) in found:
        return
    thing = getattr(thing, "__func__", thing)
    if hasattr(type(thing), "_function_inside"):
        _collect_containers(thing._function_inside(), depth, found)  # type: ignore[attr-defined]
    elif isinstance(thing, functools.partial):
        _collect_containers(thing.func, depth, found)
    elif isinstance(thing, types.FunctionType):
        found[id(thing)] = thing
        for item in _named_by(thing):
            _collect_containers(item, depth - 1, found)
    elif is_cell(thing) and id(thing) not in found:
        found[id(thing)] = thing
        for item in (type(thing).construct, *thing._inside()):  # type: ignore[attr-defined]
            _collect_containers(item, depth, found)
    elif type(thing) in (list, dict, set):
        found[id(thing)] = thing


def _named_by(function: types.FunctionType) -> list[Any]:
    """What a function names of its module, and of the functions around it."""
    names = function.__code__.co_names
    items = [function.__globals__[n] for n in names if n in function.__globals__]
    for cell in function.__closure__ or ():
        try:
            items.append(cell.cell_contents)
        except ValueError:  # not yet assigned
            continue
    return items


def is_cell(thing: object) -> bool:
    """Whether an object is a Cell."""
    return hasattr(type(thing), "_inside")


def _found(thing: object, depth: int) -> dict[Parameter | VisitedCell, None]:
    found: dict[Parameter | VisitedCell, None] = {}
    _collect(thing, depth, found, set())
    return found


def _collect(
    thing: Any, depth: int, found: dict[Parameter | VisitedCell, None], seen: set[int]
) -> None:
    if depth < 0 or id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, Parameter):
        found[thing] = None
        return
    reachable = getattr(type(thing), "_reachable_parameters", None)
    if reachable is not None:
        found.update(dict.fromkeys(reachable(thing)))
        if is_cell(thing):
            found[thing] = None
    if hasattr(type(thing), "_function_inside"):
        _collect(thing._function_inside(), depth, found, seen)
    elif isinstance(thing, types.MethodType):
        _collect(thing.__self__, depth, found, seen)
    elif isinstance(thing, functools.partial):
        for item in (thing.func, *thing.args, *thing.keywords.values()):
            _collect(item, depth - 1, found, seen)
    elif isinstance(thing, types.FunctionType):
        for item in _named_by(thing):
            _collect(item, depth - 1, found, seen)
    elif isinstance(thing, list | tuple | set):
        for item in list(thing)[:1000]:
            _collect(item, depth - 1, found, seen)
    elif isinstance(thing, dict):
        for item in list(thing.values())[:1000]:
            _collect(item, depth - 1, found, seen)
