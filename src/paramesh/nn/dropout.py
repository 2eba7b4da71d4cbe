"""Dropout: random zeros in training (Srivastava et al. 2014).

The random numbers come from the default generator of `paramesh.random`: compiled programs draw
others at every run, and `set_seed` repeats them.
"""

from __future__ import annotations

from typing import ClassVar

from paramesh.nn import arguments
from paramesh.nn.cell import Cell
from paramesh.nn.inner import Inner, sharded
from paramesh.ops import random_ops
from paramesh.ops.creation import ones
from paramesh.ops.random_ops import dropout
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor


class Dropout(Cell):
    """Zero with probability p, x / (1 - p) otherwise; outside training, x.

    Args:
        keep_prob: 1 - p, in (0, 1]: as in MindSpore 1.x, and still the first argument.
        p: probability of a zero, in [0, 1); it counts if it is given.
        dtype: accepted for MindSpore's sake; the result has the input's element type.

    Raises:
        TypeError: not a number; ValueError: out of range.
    """

    def __init__(
        self, keep_prob: float = 0.5, p: float | None = None, dtype: DTypeLike | None = None
    ) -> None:
        super().__init__()
        self.keep_prob, self.p = keep_prob, p
        if p is not None:
            self._rate = arguments.number("Dropout", "p", p, 0, 1, open_end=True)
        else:
            kept = arguments.number("Dropout", "keep_prob", keep_prob, 0, 1)
            if kept == 0:
                raise ValueError("Dropout(keep_prob): expected a number in (0, 1], got 0.")
            self._rate = 1 - kept

    def construct(self, x: TensorLike) -> TensorLike:
        """(...) -> (...)."""
        if not self.training or self._rate <= 0:
            return x
        if sharded(self, "dropout"):
            return self.dropout(x)[0]
        return dropout(x, self._rate)

    def extend_repr(self) -> str:
        """The setting that was given."""
        return f"keep_prob={self.keep_prob}" if self.p is None else f"p={self.p}"

    dropout = Inner(lambda layer: random_ops.Dropout(1 - layer._rate))


class _DropoutChannels(Cell):
    """Whole channels zero with probability p, x / (1 - p) otherwise; outside training, x.

    Args:
        p: probability of a zero, in [0, 1].

    Raises:
        TypeError: not a number; ValueError: out of range.
    """

    shapes: ClassVar[tuple[str, ...]]

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = arguments.number(type(self).__name__, "p", p, 0, 1)

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, ...) -> the same."""
        x = arguments.tensor(type(self).__name__, x)
        if x.ndim not in [shape.count(",") + 1 for shape in self.shapes]:
            raise ValueError(
                f"{type(self).__name__}: expected an input {' or '.join(self.shapes)}, "
                f"got {x.shape}."
            )
        if not self.training or self.p == 0:
            return x
        if self.p == 1:
            return x * 0
        spatial = self.shapes[0].count(",") - 1
        channels = (*x.shape[: x.ndim - spatial], *[1] * spatial)
        return x * dropout(ones(channels, x.dtype), self.p)

    def extend_repr(self) -> str:
        """The probability."""
        return f"p={self.p}"


class Dropout1d(_DropoutChannels):
    """Whole channels of (n, c, l) or (c, l) zero with probability p in training."""

    shapes: ClassVar[tuple[str, ...]] = ("(n, c, l)", "(c, l)")


class Dropout2d(_DropoutChannels):
    """Whole channels of (n, c, h, w) or (c, h, w) zero with probability p in training."""

    shapes: ClassVar[tuple[str, ...]] = ("(n, c, h, w)", "(c, h, w)")


class Dropout3d(_DropoutChannels):
    """Whole channels of (n, c, d, h, w) or (c, d, h, w) zero with probability p in training."""

    shapes: ClassVar[tuple[str, ...]] = ("(n, c, d, h, w)", "(c, d, h, w)")
