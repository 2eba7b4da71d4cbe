"""The layout of a Tensor in the middle of a program, as MindSpore's `reshard` gives it."""

from typing import Any

from paramesh.ops.creation import Identity
from paramesh.tensor.base import Tensor

__all__ = ["reshard"]


def reshard(tensor: Tensor, layout: object) -> Any:
    """The Tensor, sharded by a layout from here on; its gradient is sharded alike.

    It is `Identity().shard((layout,), (layout,))`: in the parallel modes with one global view a
    program moves what is on other devices. In other modes, and outside of programs, nothing
    happens.

    Args:
        tensor: (...), of any element type.
        layout: a `parallel.Layout` with axes, or a strategy such as (2, 4).

    Returns:
        The same values.

    Raises:
        TypeError: no Tensor, or no layout.
        LayoutError: a layout that does not fit the shape or the devices.
    """
    if not isinstance(tensor, Tensor):
        raise TypeError(f"reshard: tensor must be a Tensor, got {type(tensor).__name__}.")
    if not isinstance(layout, tuple) and not hasattr(layout, "tensor_map"):
        raise TypeError(
            f"reshard: layout must be a Layout or a tuple of ints, got {type(layout).__name__}."
        )
    return Identity().shard((layout,), (layout,))(tensor)
