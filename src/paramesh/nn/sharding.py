"""`Cell.shard`: how a Cell's inputs, outputs and Parameters are sharded over devices.

The strategies are two hooks of the Cell, which give its inputs and outputs to the current
placement. A placement that shards nothing returns them unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from paramesh.errors import LayoutError
from paramesh.nn.submodules import Submodules
from paramesh.parameter import Parameter
from paramesh.state import placement

#: For each input or output a tuple of ints, a `parallel.Layout`, or None.
Strategies = tuple[Any, ...]


class ShardInputs:
    """A forward pre-hook that shards the inputs by strategies."""

    def __init__(self, strategies: Strategies) -> None:
        self.strategies = strategies

    def __call__(self, cell: Submodules, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The inputs, sharded by the current placement."""
        name = f"{type(cell).__name__}.shard: in_strategy"
        return placement.current().constrain(inputs, self.strategies, name)


class ShardOutputs:
    """A forward hook that shards the outputs by strategies."""

    def __init__(self, strategies: Strategies) -> None:
        self.strategies = strategies

    def __call__(self, cell: Submodules, inputs: object, output: Any) -> Any:
        """The outputs, sharded by the current placement."""
        several = isinstance(output, tuple)
        name = f"{type(cell).__name__}.shard: out_strategy"
        values = placement.current().constrain(
            output if several else (output,), self.strategies, name
        )
        return values if several else values[0]


def check_strategies(owner: str, in_strategy: object, out_strategy: object) -> None:
    """Refuse strategies that are not in a tuple.

    Raises:
        TypeError: neither a tuple nor None.
    """
    for what, given in (("in_strategy", in_strategy), ("out_strategy", out_strategy)):
        if given is not None and not isinstance(given, tuple):
            raise TypeError(
                f"{owner}.shard: {what} must be a tuple with an entry for each value, such as "
                f"((2, 1),), or None, got {type(given).__name__} ({given!r})."
            )


def planned_layouts(cell: Submodules, parameter_plan: object) -> list[tuple[Parameter, Any]]:
    """The Parameters that `parameter_plan` names, with their layouts.

    Args:
        cell: the Cell that has the Parameters.
        parameter_plan: {name: tuple of ints or Layout}; a name is the Parameter's full name or its
            path in the Cell, with or without "self." before it.

    Raises:
        TypeError: `parameter_plan` is not a mapping.
        LayoutError: names without a Parameter; all of them are listed.
    """
    if parameter_plan is None:
        return []
    owner = type(cell).__name__
    if not isinstance(parameter_plan, Mapping):
        raise TypeError(
            f"{owner}.shard: parameter_plan must be {{name: strategy}}, such as "
            f"{{'weight': (1, 4)}}, got {type(parameter_plan).__name__}."
        )
    by_path = dict(cell.parameters_and_names())
    by_name = {param.name: param for param in by_path.values()} | by_path
    names = {name: str(name).removeprefix("self.") for name in parameter_plan}
    unknown = [str(name) for name, path in names.items() if path not in by_name]
    if unknown:
        raise LayoutError(
            f"{owner}.shard: parameter_plan names {', '.join(unknown)}, but the Parameters here "
            f"are {', '.join(by_path) or 'none'}."
        )
    return [(by_name[names[name]], layout) for name, layout in parameter_plan.items()]
