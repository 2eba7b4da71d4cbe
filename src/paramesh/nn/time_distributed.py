"""TimeDistributed: one layer at each step of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from paramesh.nn.cell import Cell
from paramesh.ops import array
from paramesh.ops.array import axis_in
from paramesh.ops.table import Primitive
from paramesh.tensor.base import Tensor


class TimeDistributed(Cell):
    """Runs a layer at each step of a sequence.

    Args:
        layer: the layer, or an operator.
        time_axis: the axis of the steps.
        reshape_with_axis: an axis that takes the steps in, so that the layer runs once; None: it
            runs for each step.

    Raises:
        TypeError: no layer, or axes that are no ints.
    """

    def __init__(
        self,
        layer: Cell | Primitive | Callable[..., Any],
        time_axis: int,
        reshape_with_axis: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(layer, Cell | Primitive):
            raise TypeError(
                f"TimeDistributed: layer must be a Cell or an operator, got {type(layer).__name__}."
            )
        for name, axis in (("time_axis", time_axis), ("reshape_with_axis", reshape_with_axis)):
            if isinstance(axis, bool) or not isinstance(axis, int | None):
                raise TypeError(f"TimeDistributed: {name} must be an int, got {axis!r}.")
        self.layer = layer
        self.time_axis = time_axis
        self.reshape_with_axis = reshape_with_axis

    def construct(self, inputs: Tensor) -> Any:
        """The layer's outputs, along `time_axis` as the inputs are.

        Args:
            inputs: of three axes or more, the steps along `time_axis`.

        Raises:
            TypeError: no Tensor. ValueError: fewer axes, or axes that do not fit.
        """
        if not isinstance(inputs, Tensor):
            raise TypeError(f"TimeDistributed takes a Tensor, got {type(inputs).__name__}.")
        if inputs.ndim < 3:
            raise ValueError(f"TimeDistributed takes three axes or more, got {inputs.shape}.")
        time = axis_in(self.time_axis, inputs.ndim)
        if self.reshape_with_axis is None:
            steps = [self._layer(step) for step in inputs.unbind(time)]
            return array.stack(tuple(steps), time)
        return self._at_once(inputs, time, axis_in(self.reshape_with_axis, inputs.ndim))

    def _layer(self, value: Tensor) -> Any:
        return self.layer(value)

    def _at_once(self, inputs: Tensor, time: int, other: int) -> Any:
        last = inputs.ndim - 1
        to = last - 1 if other == last else other + 1 if time > other else other - 1
        at = min(to, other)
        order = list(range(inputs.ndim))
        order.insert(min(to, time), order.pop(max(to, time)))
        moved = inputs.transpose(*order)
        together = moved.reshape((*moved.shape[:at], -1, *moved.shape[at + 2 :]))
        out = self._layer(together)
        if out.ndim <= at or out.shape[at] != together.shape[at]:
            raise ValueError(
                f"TimeDistributed: the layer gave {out.shape} of {together.shape}, so that steps "
                "cannot be taken apart again. Leave reshape_with_axis out."
            )
        return out.reshape((*out.shape[:at], *moved.shape[at : at + 2], *out.shape[at + 1 :]))
