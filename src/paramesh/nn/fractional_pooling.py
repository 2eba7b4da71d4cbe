"""Pooling by windows of one size whose places are drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from paramesh.nn.cell import Cell
from paramesh.ops import fractional_pooling as ops
from paramesh.tensor.argument_types import Ints, TensorLike


class _FractionalMaxPool(Cell):
    pool: ClassVar[Any]

    def __init__(
        self,
        kernel_size: Ints,
        output_size: Ints | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        _random_samples: TensorLike | None = None,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        if (output_size is None) == (output_ratio is None):
            raise ValueError(
                f"{owner}: give either output_size or output_ratio, got {output_size} and "
                f"{output_ratio}."
            )
        if not isinstance(return_indices, bool):
            raise TypeError(f"{owner}: return_indices must be a bool, got {return_indices!r}.")
        self.kernel_size = kernel_size
        self.output_size = output_size
        self.output_ratio = output_ratio
        self.return_indices = return_indices
        self._random_samples = _random_samples

    def construct(self, input: TensorLike) -> Any:
        """The largest elements, and with `return_indices` their places in each image.

        Args:
            input: (n, c, ...) or (c, ...).

        Raises:
            ValueError: sizes that do not fit.
        """
        return type(self).pool(
            input,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            self._random_samples,
        )


class FractionalMaxPool2d(_FractionalMaxPool):
    """The largest of windows whose places are drawn, of images (Graham 2014).

    Args:
        kernel_size: (kh, kw), or one number.
        output_size: (h', w'), or one number.
        output_ratio: instead of `output_size`, its parts of h and w: between 0 and 1.
        return_indices: also where the elements were, in h * w, Int64.
        _random_samples: (n, c, 2), from 0 to 1, for the columns and rows; None: drawn.

    Raises:
        TypeError: `return_indices` is no bool.
        ValueError: both or neither of `output_size` and `output_ratio`.
    """

    pool = staticmethod(ops.fractional_max_pool2d)


class FractionalMaxPool3d(_FractionalMaxPool):
    """The largest of windows whose places are drawn, of volumes (Graham 2014).

    Args:
        kernel_size: (kd, kh, kw), or one number.
        output_size: (d', h', w'), or one number.
        output_ratio: instead of `output_size`, its parts of d, h and w: between 0 and 1.
        return_indices: also where the elements were, in d * h * w, Int64.
        _random_samples: (n, c, 3), from 0 to 1; None: drawn.

    Raises:
        TypeError: `return_indices` is no bool.
        ValueError: both or neither of `output_size` and `output_ratio`.
    """

    pool = staticmethod(ops.fractional_max_pool3d)
