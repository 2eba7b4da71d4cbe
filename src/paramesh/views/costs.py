"""A look at a network while it is traced: what goes into its Cells, what comes out, what it costs.

The network is traced as a pure function of the values of its Parameters, from their shapes alone:
nothing is computed, no recipe runs, and what the network writes (moving averages, random state) is
dropped. XLA counts the operations of a Cell in the program of that Cell alone, before it optimises;
those of the whole network are counted in the compiled program as well.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from paramesh.dtype import to_dtype
from paramesh.nn import cell_call
from paramesh.nn.cell import Cell
from paramesh.state import tracing
from paramesh.tensor.base import Tensor, wrap
from paramesh.tensor.trees import Nest, unpack
from paramesh.transforms.bodies import Body, in_64bit_if_met


@dataclass(frozen=True)
class Array:
    """What an array is, without its elements."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return str(self.shape)


@dataclass(frozen=True)
class Call:
    """One call of a Cell.

    Args:
        arrays: its inputs, as `jax.ShapeDtypeStruct`.
        nest: how they were.
        outputs: what came out.
    """

    arrays: tuple[Any, ...]
    nest: Nest
    outputs: tuple[Array, ...]


@dataclass
class Watched:
    """What was seen.

    Attributes:
        calls: of each Cell, in their order.
        lowered: the program of the whole, as `jax.stages.Lowered`.
    """

    calls: dict[Cell, list[Call]] = field(default_factory=dict)
    lowered: Any = None


def described(leaves: Sequence[Any]) -> tuple[Array, ...]:
    """What arrays are."""
    return tuple(Array(tuple(leaf.shape), str(to_dtype(leaf.dtype))) for leaf in leaves)


@tracing.public_call
def watch(net: Cell, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Watched:
    """Trace a network for these inputs.

    Args:
        net: the network.
        args: its inputs; a `jax.ShapeDtypeStruct` may stand for a Tensor.
        kwargs: likewise.
    """
    seen = Watched()

    def note(cell: Cell, args: object, kwargs: object, out: object) -> None:
        leaves, nest = unpack((args, kwargs))
        shapes = tuple(_shape(leaf) for leaf in leaves)
        seen.calls.setdefault(cell, []).append(Call(shapes, nest, described(unpack(out)[0])))

    given = tuple(map(_tensor, args)), {name: _tensor(value) for name, value in kwargs.items()}
    leaves, nest = unpack(given)
    shapes = [_shape(leaf) for leaf in leaves]

    def lower() -> Any:
        seen.calls.clear()
        with _watched_by(note):
            return _lowered(net, shapes, nest)

    seen.lowered = in_64bit_if_met(shapes, lower)
    return seen


@tracing.public_call
def flops_of(cell: Cell, calls: Sequence[Call]) -> float | None:
    """Operations of all these calls of a Cell, as XLA counts them; None where it does not."""
    counted: dict[Any, float | None] = {}
    total = 0.0
    for call in calls:
        key = tuple((a.shape, str(a.dtype)) for a in call.arrays)
        if key not in counted:
            lowered = in_64bit_if_met(
                call.arrays, lambda call=call: _lowered(cell, call.arrays, call.nest)
            )
            counted[key] = flops_in(lowered.cost_analysis())
        found = counted[key]
        if found is None:
            return None
        total += found
    return total


def flops_in(costs: object) -> float | None:
    """What an analysis of JAX says of the operations; None if it says nothing."""
    first = costs[0] if isinstance(costs, list) and costs else costs
    found = first.get("flops") if isinstance(first, Mapping) else None
    if isinstance(first, Mapping) and found is None:
        return 0.0  # a program that only moves elements has no such entry
    return None if found is None or found < 0 else float(found)


def _lowered(cell: Cell, shapes: Sequence[Any], nest: Nest) -> Any:
    params = list(cell.get_parameters())
    values = [jax.ShapeDtypeStruct(p.shape, p.dtype.np_dtype) for p in params]

    def pure(values: list[Any], leaves: list[Any]) -> Any:
        args, kwargs = nest.build(leaves)
        overlay = dict(zip(params, values, strict=True))
        # With what it writes: XLA would not count what nobody asks for.
        return Body(cell, args, kwargs, overlay, hands_out=True).hand_out()[:2]

    pure.__name__ = type(cell).__name__
    return jax.jit(pure).lower(values, list(shapes))


@contextmanager
def _watched_by(note: Callable[..., None]) -> Generator[None]:
    outer = cell_call.thread.watcher
    cell_call.thread.watcher = note
    try:
        yield
    finally:
        cell_call.thread.watcher = outer


def _shape(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(np.shape(leaf), leaf.dtype)


def _tensor(value: object) -> Any:
    if isinstance(value, jax.ShapeDtypeStruct):
        return wrap(value)
    return Tensor(value) if isinstance(value, np.ndarray | jax.Array) else value
