"""Layers that pad: with a number, with what is mirrored at the edge, with the edge itself.

`padding` is an int for all sides, or a tuple that begins with the last axis: (left, right, top,
bottom, front, back). Negative numbers cut off.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp

from paramesh.dtype import x64
from paramesh.nn import arguments
from paramesh.nn.cell import Cell
from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import raw, wrap


class _Padding(Cell):
    """What the layers share; `n` is the number of axes that are padded, `mode` that of numpy."""

    n: ClassVar[int]
    mode: ClassVar[str]

    def __init__(self, padding: int | tuple[int, ...]) -> None:
        super().__init__()
        owner = type(self).__name__
        if not isinstance(padding, int | tuple | list):
            raise TypeError(f"{owner}(padding): expected an int or a tuple, got {padding!r}.")
        given = (padding,) * (2 * self.n) if isinstance(padding, int) else tuple(padding)
        if not all(isinstance(p, int) and not isinstance(p, bool) for p in given):
            raise TypeError(f"{owner}(padding): expected ints, got {padding!r}.")
        if len(given) % 2 or not 0 < len(given) <= 2 * self.n:
            raise ValueError(
                f"{owner}(padding): expected an int, or up to {2 * self.n} ints in pairs, "
                f"got {padding!r}."
            )
        if self.mode != "constant" and min(given) < 0:
            raise ValueError(f"{owner}(padding): expected no negative ints, got {padding!r}.")
        self.padding = given

    def _padded(self, x: TensorLike, **options: object) -> Any:
        owner = type(self).__name__
        value = raw(arguments.tensor(owner, x))
        least = self.n + (self.mode != "constant")
        if value.ndim < least:
            raise ValueError(f"{owner}: expected at least {least} axes, got shape {value.shape}.")
        pairs = [self.padding[i : i + 2] for i in range(0, len(self.padding), 2)]
        widths = [(0, 0)] * (value.ndim - len(pairs)) + pairs[::-1]
        with x64(value):
            for axis, (before, after) in enumerate(widths):
                first, last = max(-before, 0), value.shape[axis] - max(-after, 0)
                if (first, last) != (0, value.shape[axis]):
                    if first > last:
                        raise ValueError(f"{owner}: nothing is left of axis {axis}.")
                    value = value[(slice(None),) * axis + (slice(first, last),)]
            grown = [(max(a, 0), max(b, 0)) for a, b in widths]
            for axis, widest in enumerate(map(max, grown)):
                if self.mode == "reflect" and widest >= value.shape[axis] and widest:
                    raise ValueError(
                        f"{owner}: {widest} elements cannot be mirrored along axis {axis} of "
                        f"{value.shape}."
                    )
            return wrap(jnp.pad(value, grown, self.mode, **options))

    def construct(self, x: TensorLike) -> Any:
        """(..., l) -> (..., l'), along the last axes."""
        return self._padded(x)

    def extend_repr(self) -> str:
        """The padding."""
        return f"padding={self.padding}"


class _Constant(_Padding):
    mode = "constant"

    def __init__(self, padding: int | tuple[int, ...], value: float) -> None:
        super().__init__(padding)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{type(self).__name__}(value): expected a number, got {value!r}.")
        self.value = value

    def construct(self, x: TensorLike) -> Any:
        """(..., l) -> (..., l'), along the last axes."""
        return self._padded(x, constant_values=self.value)


class ConstantPad1d(_Constant):
    """A number around the last axis.

    Args:
        padding: an int, or (left, right).
        value: the number.

    Raises:
        TypeError, ValueError: no such padding or value.
    """

    n = 1


class ConstantPad2d(_Constant):
    """A number around the last two axes.

    Args:
        padding: an int, or (left, right, top, bottom).
        value: the number.

    Raises:
        TypeError, ValueError: no such padding or value.
    """

    n = 2


class ConstantPad3d(_Constant):
    """A number around the last three axes.

    Args:
        padding: an int, or (left, right, top, bottom, front, back).
        value: the number.

    Raises:
        TypeError, ValueError: no such padding or value.
    """

    n = 3


class ZeroPad2d(_Padding):
    """Zeros around the last two axes.

    Args:
        padding: an int, or (left, right, top, bottom).

    Raises:
        ValueError: no such padding.
    """

    n, mode = 2, "constant"


class ReflectionPad1d(_Padding):
    """What lies inside, mirrored at the ends of the last axis.

    Args:
        padding: an int, or (left, right), less than the axis.

    Raises:
        ValueError: no such padding.
    """

    n, mode = 1, "reflect"


class ReflectionPad2d(_Padding):
    """What lies inside, mirrored at the edges of the last two axes.

    Args:
        padding: an int, or (left, right, top, bottom), less than the axes.

    Raises:
        ValueError: no such padding.
    """

    n, mode = 2, "reflect"


class ReflectionPad3d(_Padding):
    """What lies inside, mirrored at the sides of the last three axes.

    Args:
        padding: an int, or (left, right, top, bottom, front, back), less than the axes.

    Raises:
        ValueError: no such padding.
    """

    n, mode = 3, "reflect"


class ReplicationPad1d(_Padding):
    """The first and last element again, at the ends of the last axis.

    Args:
        padding: an int, or (left, right).

    Raises:
        ValueError: no such padding.
    """

    n, mode = 1, "edge"


class ReplicationPad2d(_Padding):
    """The edge again, around the last two axes.

    Args:
        padding: an int, or (left, right, top, bottom).

    Raises:
        ValueError: no such padding.
    """

    n, mode = 2, "edge"


class ReplicationPad3d(_Padding):
    """The sides again, around the last three axes.

    Args:
        padding: an int, or (left, right, top, bottom, front, back).

    Raises:
        ValueError: no such padding.
    """

    n, mode = 3, "edge"
