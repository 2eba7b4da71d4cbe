"""`shard`: strategies for a function or a Cell, as MindSpore's function of that name gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from paramesh.nn.cell import Cell
from paramesh.nn.sharding import Strategies

__all__ = ["shard"]


class _Function(Cell):
    """A function as a Cell that has strategies."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        super().__init__(auto_prefix=False)
        self.fn = fn

    def construct(self, *args: object, **kwargs: object) -> Any:
        """What the function gives."""
        return self.fn(*args, **kwargs)


def shard(
    fn: Callable[..., Any],
    in_strategy: Strategies | None = None,
    out_strategy: Strategies | None = None,
    parameter_plan: Mapping[str, Any] | None = None,
    device: str = "Ascend",
    level: int = 0,
) -> Callable[..., Any]:
    """A function whose inputs and outputs are sharded in the semi-automatic parallel mode.

    Args:
        fn: a Cell, whose strategies are set (`Cell.shard`), or a function of Tensors.
        in_strategy: for each positional input a tuple of ints, a `parallel.Layout`, or None.
        out_strategy: the same for each output.
        parameter_plan: {name: tuple of ints or Layout} for Parameters of a Cell.
        device: without effect, like `level`: both address MindSpore's compiler.
        level: see `device`.

    Returns:
        What to call: the call of the Cell, or a Cell that calls the function.

    Raises:
        TypeError: `fn` cannot be called, or as `Cell.shard`.
        LayoutError: as `Cell.shard`; a `parameter_plan` for a function, which has no Parameters of
            its own.
    """
    if isinstance(fn, Cell):
        return fn.shard(in_strategy, out_strategy, parameter_plan, device, level)
    if not callable(fn):
        raise TypeError(f"shard(fn): expected a Cell or a function, got {type(fn).__name__}.")
    made = _Function(fn)
    made.shard(in_strategy, out_strategy, parameter_plan, device, level)
    return made
