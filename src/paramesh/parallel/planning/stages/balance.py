"""Borders of pipeline stages by modelled time: `paramesh.balanced_stages`.

A network is traced once, without values, with each Cell of its longest row of Cells marked. The
time of each is that of its equations by the cost model of the search, on one device. The row is cut
where the slowest stage is fastest. What comes before the row counts with its first Cell, what comes
after it with its last one, as stages have it (`pipeline/loop.py`). The backward pass of a Cell
takes about twice its forward pass, so forward passes alone are compared.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from paramesh._compat.jax import Atom, ClosedJaxpr, Jaxpr, JaxprEqn, Literal, dtype_of, shape_of
from paramesh.nn.cell import Cell
from paramesh.nn.containers import CellList, SequentialCell
from paramesh.parallel.pipeline.marks import ENTER, is_mark, mark
from paramesh.parallel.planning.devices import TargetDevices, parsed
from paramesh.parallel.planning.lowering import lowered_over
from paramesh.parallel.planning.making import function_of, inputs_of
from paramesh.parallel.planning.placements import OneDevice
from paramesh.parallel.search.graph import inner_program
from paramesh.parallel.search.machine import TARGETS, Machine, machine, target_of
from paramesh.parallel.search.rules import flops_of


def balanced_stages(
    network: Cell, *inputs: object, stages: int, target: str | None = None
) -> dict[str, int]:
    """Stages for the Cells of a network, so that the slowest stage is as fast as can be.

    It is a `stage_config`: `PipelineCell(net, 4, balanced_stages(net, *inputs, stages=2))`.
    The Cells are those of the `SequentialCell` or `CellList` that holds the most Parameters.

    Args:
        network: what a PipelineCell is made of, such as a `WithLossCell`. No Cell in it has a
            stage.
        *inputs: of a micro-batch: Tensors, arrays, or `jax.ShapeDtypeStruct`. Nothing is computed.
        stages: how many; at most as many as the row has Cells.
        target: the kind of the devices, such as "h100" or "h100:8"; None for those that are here.

    Raises:
        ValueError: `stages` is below 1, a Cell has a stage already, or there is no row of so many
            Cells.
        TypeError: `network` is no Cell.
    """
    if not isinstance(network, Cell):
        raise TypeError(f"balanced_stages: network must be a Cell, got {type(network).__name__}.")
    row = _row_of(network, stages)
    device = jax.devices()[0]
    kind = target_of(device.platform, device.device_kind)
    if target is not None:
        kind = TARGETS[parsed(target if ":" in target else f"{target}:1")[0]]
    on = TargetDevices("one device", kind, (1,), 1, (device,))
    place = _Watching(on)
    with _numbered([cell for _, cell in row]):
        lowered_over(place, function_of(network), *inputs_of(network, inputs, {}))
    assert place.closed is not None
    seconds = seconds_of_cells(place.closed, len(row), machine((1,), kind))
    ends = cut_evenly(seconds, stages)
    starts = [0, *ends[:-1]]
    return {
        name: stage
        for stage, (start, end) in enumerate(zip(starts, ends, strict=True))
        for name, _ in row[start:end]
    }


class _Watching(OneDevice):
    """One device, with marks where the Cells of a row begin and end."""

    closed: ClosedJaxpr | None = None

    def in_stage(self, stage: int, name: str, arrays: Sequence[Any], begins: bool) -> Sequence[Any]:
        """Mark what enters a Cell of the row."""
        return [mark(array, ENTER, stage, name) for array in arrays] if begins else arrays

    def rewritten(self, closed: ClosedJaxpr, states: Sequence[Any], written: Sequence[Any]) -> Any:
        """The program as it is."""
        self.closed = closed
        return closed


def _row_of(network: Cell, stages: int) -> list[tuple[str, Cell]]:
    if stages < 1:
        raise ValueError(f"balanced_stages: stages={stages} must be at least 1.")
    best: tuple[int, list[tuple[str, Cell]]] = (0, [])
    longest = 0
    for name, cell in network.cells_and_names():
        if cell.pipeline_stage is not None:
            raise ValueError(
                f"balanced_stages: Cell '{name}' ({type(cell).__name__}) has pipeline_stage="
                f"{cell.pipeline_stage}. Leave out the stages that are to be found, or these."
            )
        if not isinstance(cell, SequentialCell | CellList):
            continue
        row = [(f"{name}.{n}" if name else n, one) for n, one in cell.name_cells().items()]
        longest = max(longest, len(row))
        weight = sum(param.size for _, one in row for param in one.get_parameters())
        if len(row) >= stages and weight > best[0]:
            best = weight, row
    if not best[1]:
        raise ValueError(
            f"balanced_stages: {type(network).__name__} has no SequentialCell or CellList of at "
            f"least {stages} Cells with Parameters (the longest has {longest}). Set pipeline_stage "
            "of its Cells, or take fewer stages."
        )
    return best[1]


@contextmanager
def _numbered(cells: Sequence[Cell]) -> Generator[None]:
    try:
        for number, cell in enumerate(cells):
            cell.pipeline_stage = number
        yield
    finally:
        for cell in cells:
            cell.__dict__.pop("_pipeline_stage", None)


def seconds_of_cells(closed: ClosedJaxpr, count: int, on: Machine) -> list[float]:
    """The modelled time of each Cell of a row.

    Args:
        closed: a program in which they are marked.
        count: how many they are.
        on: one device.
    """
    seconds = [0.0] * count
    number: dict[Any, int] = {}
    waiting: list[tuple[JaxprEqn, float]] = []
    for eqn in closed.jaxpr.eqns:
        known = [number[v] for v in eqn.invars if not isinstance(v, Literal) and v in number]
        at = max(known, default=-1)
        if is_mark(eqn):
            at = max(at, eqn.params["stage"])
        spent = 0.0 if is_mark(eqn) else seconds_of_equation(eqn, on)
        if at < 0:
            waiting.append((eqn, spent))
            continue
        number.update(dict.fromkeys(eqn.outvars, at))
        seconds[at] += spent
    # What is made of inputs and Parameters alone counts where it is used first.
    users: dict[Any, int] = {}
    for eqn in reversed(closed.jaxpr.eqns):
        at = next((number[v] for v in eqn.outvars if v in number), None)
        if at is None:
            at = min((users[v] for v in eqn.outvars if v in users), default=count - 1)
        for var in eqn.invars:
            if not isinstance(var, Literal):
                users[var] = min(at, users.get(var, at))
    for eqn, spent in waiting:
        seconds[min((users[v] for v in eqn.outvars if v in users), default=count - 1)] += spent
    return seconds


def seconds_of_equation(eqn: JaxprEqn, on: Machine) -> float:
    """The modelled time of an equation, with the programs in it."""
    inner = inner_program(eqn)
    if inner is not None:
        return _seconds_of_program(inner[0], on)
    if eqn.primitive.name == "scan":
        return eqn.params["length"] * _seconds_of_program(eqn.params["jaxpr"].jaxpr, on)
    nbytes = sum(map(_nbytes, (*eqn.invars, *eqn.outvars)))
    return on.work_seconds(flops_of(eqn), nbytes, str(dtype_of(eqn.outvars[0])))


def _seconds_of_program(jaxpr: Jaxpr, on: Machine) -> float:
    return sum(seconds_of_equation(eqn, on) for eqn in jaxpr.eqns)


def _nbytes(var: Atom) -> float:
    size = getattr(dtype_of(var), "itemsize", np.dtype(np.float32).itemsize)
    return math.prod(shape_of(var)) * size


def cut_evenly(seconds: Sequence[float], parts: int) -> list[int]:
    """Where to cut a row so that its slowest part is as fast as can be: the end of each part.

    Of several such cuts, the one whose parts are the most alike (the least sum of squares).

    Args:
        seconds: of the row; at least `parts`.
        parts: how many, none of them empty.
    """
    total = [0.0, *itertools.accumulate(seconds)]
    count = len(seconds)

    def added(best: tuple[float, float, list[int]], start: int, end: int) -> Any:
        own = total[end] - total[start]
        return max(best[0], own), best[1] + own * own, [*best[2], end]

    known: dict[int, Any] = {0: (0.0, 0.0, [])}
    for part in range(1, parts + 1):
        known = {
            end: min(added(known[start], start, end) for start in known if start < end)
            for end in range(part, count - (parts - part) + 1)
        }
    return known[count][2]
