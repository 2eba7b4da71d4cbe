"""Layers of `mint.nn` that pad with zeros, or make images larger, with torch's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from paramesh import nn, ops
from paramesh.nn.cell import Cell
from paramesh.tensor.argument_types import Ints, TensorLike


class ZeroPad1d(nn.ConstantPad1d):
    """Zeros around the last axis.

    Args:
        padding: an int, or (left, right).

    Raises:
        TypeError, ValueError: no such padding.
    """

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        super().__init__(padding, 0.0)


class ZeroPad3d(nn.ConstantPad3d):
    """Zeros around the last three axes.

    Args:
        padding: an int, or (left, right, top, bottom, front, back).

    Raises:
        TypeError, ValueError: no such padding.
    """

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        super().__init__(padding, 0.0)


class _Upsampling2d(Cell):
    mode = "nearest"
    corners: bool | None = None

    def __init__(
        self, size: Ints | None = None, scale_factor: float | Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if (size is None) == (scale_factor is None):
            raise ValueError(
                f"{type(self).__name__}: give size or scale_factor, one of them; got {size!r} and "
                f"{scale_factor!r}."
            )
        self.size, self.scale_factor = size, scale_factor

    def construct(self, input: TensorLike) -> Any:
        """(n, c, h, w) -> (n, c, h', w')."""
        return ops.interpolate(input, self.size, self.scale_factor, self.mode, self.corners)


class UpsamplingNearest2d(_Upsampling2d):
    """Larger images, each element as the nearest one before.

    Args:
        size: the new size, an int or (height, width).
        scale_factor: instead of it, a factor or two.

    Raises:
        ValueError: both of them, or none.
    """


class UpsamplingBilinear2d(_Upsampling2d):
    """Larger images, between the elements before; the corners keep their places.

    Args:
        size: the new size, an int or (height, width).
        scale_factor: instead of it, a factor or two.

    Raises:
        ValueError: both of them, or none.
    """

    mode = "bilinear"
    corners = True
