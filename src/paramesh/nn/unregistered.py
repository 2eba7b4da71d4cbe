"""Cells and Parameters in plain lists, tuples and dicts, which are not registered.

As in MindSpore, an attribute that is a list of Cells registers none of them: they run, and are
neither trained nor saved. That is rarely intended, so there is a warning: when the Parameters are
asked for, since lists may be filled, and their contents registered, after they were assigned.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from paramesh.parameter import Parameter

#: So many elements of a container are looked at, through so many levels.
_MOST, _DEEPEST = 1000, 4
#: So many names are in the warning.
_SHOWN = 3

CONTAINERS = (list, tuple, dict)
Container = list[Any] | tuple[Any, ...] | dict[Any, Any]


class ParameterOwner(Protocol):
    """A Cell, of which only its Parameters and plain attributes are asked here."""

    def get_parameters(self) -> Iterable[Parameter]:
        """Its Parameters, and those of the Cells inside."""
        ...


class UnregisteredWarning(UserWarning):
    """Trainable Parameters are in a plain list, tuple or dict, and so are not found."""


def warn_of(
    root: ParameterOwner, cells: Iterable[ParameterOwner], known: Iterable[Parameter]
) -> None:
    """Warn, once for each attribute, of plain containers with trainable Parameters.

    Args:
        root: the Cell whose Parameters were asked for.
        cells: it, and the Cells below it.
        known: the Parameters of all of them.
    """
    holders = [cell for cell in cells if cell.__dict__.get("_plain")]
    if not holders:
        return
    registered = set(known)
    for cell in holders:
        warned: set[str] = cell.__dict__.setdefault("_warned", set())
        for attribute in cell.__dict__["_plain"]:
            value = cell.__dict__.get(attribute)
            if attribute in warned or not isinstance(value, CONTAINERS):
                continue
            names, in_cells = _lost(value, registered)
            if names:
                warned.add(attribute)
                _warn(root, cell, attribute, value, names, in_cells)


def _lost(value: Container, registered: set[Parameter]) -> tuple[list[str], bool]:
    """Names of trainable Parameters that are not registered, and whether they are in Cells."""
    lost: dict[Parameter, None] = {}
    cells = False
    for item in _items(value, _DEEPEST):
        inside = [item] if isinstance(item, Parameter) else item.get_parameters()
        mine = [p for p in inside if p.requires_grad and p not in registered]
        cells = cells or (bool(mine) and not isinstance(item, Parameter))
        lost.update(dict.fromkeys(mine))
    return [param.name for param in lost], cells


def _items(value: Container, depth: int) -> Iterator[Parameter | ParameterOwner]:
    elements = value.values() if isinstance(value, dict) else value
    for element in itertools.islice(elements, _MOST):
        if isinstance(element, Parameter) or hasattr(type(element), "get_parameters"):
            yield element
        elif isinstance(element, CONTAINERS) and depth:
            yield from _items(element, depth - 1)


def _warn(
    root: ParameterOwner,
    cell: ParameterOwner,
    attribute: str,
    value: Container,
    names: list[str],
    cells: bool,
) -> None:
    kind = "dict" if isinstance(value, dict) else type(value).__name__
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    if not cells:
        instead = "Use paramesh.ParameterTuple, or an attribute for each"
    elif isinstance(value, dict):
        instead = "Use nn.CellDict"
    else:
        instead = "Use nn.CellList or nn.SequentialCell"
    warnings.warn(
        f"{type(cell).__name__}.{attribute} is a plain {kind}, so its contents are not registered "
        f"in {type(root).__name__}, as in MindSpore: {shown}{more} will be neither trained nor "
        f"saved. {instead}.",
        UnregisteredWarning,
        stacklevel=5,
    )
