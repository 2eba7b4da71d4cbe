"""`L1Regularizer`: what is added to a loss to keep weights small.

Source: MindSpore's layer of this name.
"""

from __future__ import annotations

import math

from paramesh.nn import arguments
from paramesh.nn.cell import Cell
from paramesh.tensor.base import Tensor


class L1Regularizer(Cell):
    """The sum of the weights' absolute values, times a factor.

    Args:
        scale: the factor, above 0 and finite.

    Raises:
        TypeError: `scale` is no number; in the call, the weights are no Tensor of numbers.
        ValueError: `scale` is not above 0, or not finite.
    """

    def __init__(self, scale: float) -> None:
        super().__init__()
        if isinstance(scale, float) and not math.isfinite(scale):
            raise ValueError(f"L1Regularizer(scale): expected a finite number, got {scale}.")
        self.scale = arguments.positive("L1Regularizer", "scale", scale)

    def construct(self, weights: Tensor) -> Tensor:
        """(...) -> ()."""
        arguments.tensor("L1Regularizer", weights)
        if weights.dtype.kind == "bool":
            raise TypeError("L1Regularizer: the weights must be numbers, got Bool.")
        return weights.abs().sum() * self.scale
