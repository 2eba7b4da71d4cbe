"""What would make a step fit into the memory of a device: each remedy is tried, and compiled.

layouts         the search under the limit: the cheapest layouts with which less memory is used
recompute       the activations inside of the repeated Cells are computed again (Chen et al.
                2016, arXiv:1604.06174)
accumulation    the batch in micro-batches, one after another, whose gradients are added up
"""

from __future__ import annotations

import collections
import contextlib
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from paramesh import context
from paramesh.errors import LayoutError
from paramesh.nn.cell import Cell
from paramesh.parallel.planning.report import Remedy, StepPlan
from paramesh.transforms.reachability import cells_of

#: Into how many micro-batches a batch is split at most.
_MOST_MICRO_BATCHES = 16
#: How often the search gets a lower limit, as the compiler took more than the search counted.
_ROUNDS = 3
#: Below the limit, as what the search counts of two plans is not off by the same factor.
_ROOM = 0.97


class Tried(NamedTuple):
    """A remedy, and the plan with it; None where there is none."""

    remedy: Remedy
    plan: StepPlan | None


def remedies_for(
    fn: Callable[..., Any], found: StepPlan, made: Callable[..., StepPlan]
) -> list[Tried]:
    """What makes the step of a plan that does not fit need less.

    Args:
        fn: the function of the step.
        found: the plan.
        made: plans the step again; its argument is a limit for what the search counts.

    Returns:
        The remedies, the cheapest first among those that fit; those that do not are last.
    """
    assert found.memory.limit is not None
    tries: list[Tried | None] = [_layouts(found, made)]
    with _recomputed(fn) as names:
        if names:
            how = f"{names[0]}.recompute()"
            how += f", and the {len(names) - 1} beside it" if len(names) > 1 else ""
            tries.append(_tried("recompute", how, made))
    already = context.get_auto_parallel_context("grad_accumulation_step")
    count = 2 * already
    while count <= _MOST_MICRO_BATCHES:
        with _accumulated(count):
            one = _tried(
                f"accumulation of {count} micro-batches",
                f"set_auto_parallel_context(grad_accumulation_step={count})",
                made,
            )
        if one is None:
            break
        tries.append(one)
        if one.remedy.fits or not _helps(one, found):
            break
        count *= 2
    known = [one for one in tries if one is not None]
    return sorted(known, key=lambda one: (not one.remedy.fits, one.remedy.seconds))


def _helps(one: Tried, found: StepPlan) -> bool:
    return one.remedy.total is not None and one.remedy.total < found.memory.total


def _tried(name: str, how: str, made: Callable[..., StepPlan]) -> Tried | None:
    """A changed step; None where it cannot be changed so."""
    try:
        plan = made()
    except (ValueError, TypeError, LayoutError):  # the batch does not divide, no part of a step
        return None
    return Tried(
        Remedy(name, how, plan.memory.total, plan.seconds, bool(plan.fits)),
        plan,
    )


def _layouts(found: StepPlan, made: Callable[..., StepPlan]) -> Tried:
    name = "other layouts"
    limit = found.memory.limit
    assert limit is not None
    plan = found
    for _ in range(_ROUNDS):
        counted = plan.search.memory()
        most = min(_ROOM * limit / plan.memory.total, 0.95) * counted
        try:
            plan = made(most)
        except LayoutError:
            break
        if plan.fits:
            break
    if plan is found:
        return Tried(Remedy(name, "none were found that hold less", None, 0.0, False), None)
    how = f"set_auto_parallel_context(device_memory={round(plan.search.memory() * 1.01)})"
    return Tried(Remedy(name, how, plan.memory.total, plan.seconds, bool(plan.fits)), plan)


@contextlib.contextmanager
def _accumulated(count: int) -> Generator[None]:
    before = context.get_auto_parallel_context("grad_accumulation_step")
    context.set_auto_parallel_context(grad_accumulation_step=count)
    try:
        yield
    finally:
        context.set_auto_parallel_context(grad_accumulation_step=before)


@contextlib.contextmanager
def _recomputed(fn: Callable[..., Any]) -> Generator[list[str]]:
    """Have the repeated Cells of a function compute again; gives their names."""
    cells = [cell for cell in cells_of(fn) if isinstance(cell, Cell)]
    chosen = _repeated(cells)
    before = [cell.__dict__["_recompute"] for _, cell in chosen]
    for _, cell in chosen:
        cell.recompute()
    try:
        yield [name for name, _ in chosen]
    finally:
        for (_, cell), options in zip(chosen, before, strict=True):
            cell.__dict__["_recompute"] = options
            cell._changed()


def _repeated(cells: list[Cell]) -> list[tuple[str, Cell]]:
    """The repeated Cells that hold the most, such as the layers of a deep network.

    They are of one class and in one Cell. Those that compute again already are left out.
    """
    groups: dict[Any, list[tuple[str, Cell]]] = collections.defaultdict(list)
    for outer in cells:
        for name, cell in outer.cells_and_names():
            inner = any(True for _ in cell.cells())
            if inner and name and cell.__dict__["_recompute"] is None:
                groups[name.rpartition(".")[0], type(cell)].append((name, cell))
    weights = {
        key: sum(sum(p.size for p in cell.trainable_params()) for _, cell in own)
        for key, own in groups.items()
        if len(own) > 1
    }
    if not weights or not max(weights.values()):
        return []
    return groups[max(weights, key=lambda key: weights[key])]
