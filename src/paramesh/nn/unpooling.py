"""Layers that undo a pooling by the largest element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from paramesh.nn import arguments
from paramesh.nn.cell import Cell
from paramesh.ops import unpooling as ops
from paramesh.tensor.argument_types import Ints, TensorLike


class _MaxUnpool(Cell):
    n: ClassVar[int]
    undo: ClassVar[Any]

    def __init__(self, kernel_size: Ints, stride: Ints | None = None, padding: Ints = 0) -> None:
        super().__init__()
        owner = type(self).__name__
        self.kernel_size = arguments.integers(owner, "kernel_size", kernel_size, self.n)
        given = 0 if stride is None else stride
        self.stride = arguments.integers(owner, "stride", given, self.n, 0)
        self.padding = arguments.integers(owner, "padding", padding, self.n, 0)

    def construct(
        self, x: TensorLike, indices: TensorLike, output_size: Sequence[int] | None = None
    ) -> Any:
        """(n, c, ...) values and their places -> (n, c, ...), zeros elsewhere; n may be missing.

        Args:
            x: what the pooling gave.
            indices: integers of the shape of `x`, counted over the axes behind the channels.
            output_size: the sizes, or the shape, of the result; None: the least that give `x`.

        Raises:
            TypeError: indices that are not integers.
            ValueError: shapes or sizes that do not fit.
        """
        owner = type(self).__name__
        x, indices = arguments.tensor(owner, x), arguments.tensor(owner, indices)
        return type(self).undo(x, indices, self.kernel_size, self.stride, self.padding, output_size)


class MaxUnpool1d(_MaxUnpool):
    """Values at the places of a pooling of sequences.

    Args:
        kernel_size: of the pooling.
        stride: of the pooling; None or 0: `kernel_size`.
        padding: of the pooling.

    Raises:
        TypeError: an argument of the wrong type. ValueError: a number out of range.
    """

    n = 1
    undo = staticmethod(ops.max_unpool1d)


class MaxUnpool2d(_MaxUnpool):
    """Values at the places of a pooling of images.

    Args:
        kernel_size: of the pooling, one int or (height, width).
        stride: of the pooling; None or 0: `kernel_size`.
        padding: of the pooling.

    Raises:
        TypeError: an argument of the wrong type. ValueError: a number out of range.
    """

    n = 2
    undo = staticmethod(ops.max_unpool2d)


class MaxUnpool3d(_MaxUnpool):
    """Values at the places of a pooling of volumes.

    Args:
        kernel_size: of the pooling, one int or (depth, height, width).
        stride: of the pooling; None or 0: `kernel_size`.
        padding: of the pooling.

    Raises:
        TypeError: an argument of the wrong type. ValueError: a number out of range.
    """

    n = 3
    undo = staticmethod(ops.max_unpool3d)
