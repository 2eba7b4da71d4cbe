"""Stacked layers under the names that they have apart: `blocks.fc.weight` as `blocks.0.fc.weight`.

A `Stack` has one Parameter for all layers. MindSpore's networks, and checkpoints of other
libraries, have one for each. `by_layer` gives what a network has under the names of the second
kind; loading takes either.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp

from paramesh.nn.cell import Cell
from paramesh.nn.stack import Stack, live
from paramesh.nn.stacking import values_by_layer
from paramesh.parameter import Parameter
from paramesh.state.weak_members import members
from paramesh.tensor.base import Tensor, raw, wrap


class _Column(NamedTuple):
    """A stacked Parameter, or a state that follows one, and its names layer by layer."""

    whole: Parameter
    names: list[str]


def by_layer(net: Cell) -> dict[str, Tensor]:
    """{name: Tensor} of everything in a network, stacked layers under a name for each.

    For `save_checkpoint(by_layer(net), "net.ckpt")`, whose file a network of separate layers loads.
    The state of an optimizer is cut as the Parameters that it is for. What has no data yet is given
    as a recipe.

    Args:
        net: a network, an optimizer, or a training Cell with both.

    Raises:
        TypeError: `net` is no Cell.
        ValueError: a layer's name is that of another Parameter.
    """
    if not isinstance(net, Cell):
        raise TypeError(f"by_layer: net must be a Cell, got {type(net).__name__}.")
    mine = dict(net.parameters_dict())
    columns = _columns(net, mine)
    found: dict[str, Tensor] = {}
    for name, param in mine.items():
        column = columns.get(name)
        if column is None:
            rows = {name: param}
        else:
            rows = dict(zip(column.names, _rows(param, len(column.names)), strict=True))
        for row, value in rows.items():
            if row in found or (row in mine and row != name):
                raise ValueError(
                    f"by_layer: a layer of '{name}' would be named '{row}', which is another "
                    "Parameter's name. Rename one of them."
                )
            found[row] = value
    return found


def joined(net: Cell, mine: Mapping[str, Parameter], given: Mapping[str, Any]) -> dict[str, Any]:
    """What is loaded, with values that are there layer by layer put together for stacks.

    Args:
        net: the network.
        mine: its Parameters by name.
        given: what is loaded.
    """
    found = dict(given)
    for name, column in _columns(net, mine).items():
        if name in given or not all(isinstance(given.get(n), Parameter) for n in column.names):
            continue
        rows = [found.pop(n) for n in column.names]
        kinds = {(row.shape, row.dtype) for row in rows}
        if len(kinds) > 1:  # the message of loading shows them as they are
            found.update(zip(column.names, rows, strict=True))
            continue
        found[name] = Parameter(wrap(jnp.stack([raw(row) for row in rows])), name=name)
    return found


def _columns(net: Cell, mine: Mapping[str, Parameter]) -> dict[str, _Column]:
    stacks = {cell for _, cell in net.cells_and_names() if isinstance(cell, Stack)}
    names: dict[Parameter, tuple[str, int]] = {}
    for stack in {*stacks, *members(live)}:
        for path, whole in stack.stacked().items():
            names[whole] = path, len(stack)
    found: dict[str, _Column] = {}
    for name, param in mine.items():
        original = param if param in names else None
        if original is None and param._original is not None:
            followed = param._original()
            if followed is not None and followed in names and followed.shape == param.shape:
                original = followed
        if original is None:
            continue
        path, n = names[original]
        if name.endswith(path):
            before = name.removesuffix(path)
            found[name] = _Column(param, [f"{before}{i}.{path}" for i in range(n)])
    return found


def _rows(param: Parameter, n: int) -> list[Tensor]:
    try:
        return values_by_layer(param)
    except TypeError:  # a state with a recipe of its own
        return [Tensor(wrap(raw(param.value())[i])) for i in range(n)]
