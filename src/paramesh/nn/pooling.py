"""Pooling: the largest element or the mean of each window.

`pad_mode` is as in `conv`. Images are (n, c, h, w), or without n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from paramesh.nn import arguments
from paramesh.nn.cell import Cell
from paramesh.nn.inner import Inner, sharded
from paramesh.ops import pooling as ops
from paramesh.tensor.argument_types import Ints, TensorLike
from paramesh.tensor.base import Tensor

_MODES = ("same", "valid", "pad")


class _Pool(Cell):
    """What the pools share: the checked settings; `n` is the number of spatial axes."""

    n: ClassVar[int]

    def __init__(
        self, kernel_size: Ints, stride: Ints, pad_mode: str, padding: Ints, ceil_mode: bool
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.kernel_size = self._sizes("kernel_size", kernel_size)
        self.stride = self._sizes("stride", stride)
        mode = pad_mode.lower() if isinstance(pad_mode, str) else pad_mode
        self.pad_mode = arguments.choice(owner, "pad_mode", mode, _MODES)
        self.padding = self._sizes("padding", padding, low=0)
        self.ceil_mode = arguments.flag(owner, "ceil_mode", ceil_mode)
        if self.pad_mode != "pad" and (any(self.padding) or ceil_mode):
            raise ValueError(
                f"{owner}: padding={padding} and ceil_mode={ceil_mode} need pad_mode='pad', got "
                f"pad_mode={pad_mode!r}."
            )

    def _sizes(self, name: str, value: object, low: int = 1) -> tuple[int, ...]:
        """(down, right); down is that of a row for sequences."""
        sizes = arguments.integers(type(self).__name__, name, value, self.n, low)
        return (low, *sizes) if self.n == 1 else sizes

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, h, w) -> (n, c, h', w'), or (n, c, l) -> (n, c, l'); each also without n."""
        x = arguments.tensor(type(self).__name__, x)
        batched = self._batched(x)
        if self.n == 1:
            batched = batched.expand_dims(2)
        out = self._pool(batched)
        return out.reshape(*x.shape[: -self.n], *out.shape[-self.n :])

    def _batched(self, x: Tensor) -> Tensor:
        axes = ("h", "w") if self.n == 2 else ("l",)
        if x.ndim not in (self.n + 1, self.n + 2):
            wanted = ", ".join(("c", *axes))
            raise ValueError(
                f"{type(self).__name__}: expected an input (n, {wanted}) or ({wanted}), "
                f"got {x.shape}."
            )
        return x if x.ndim == self.n + 2 else x.expand_dims(0)

    def _pool(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def extend_repr(self) -> str:
        """The settings."""
        shown = {
            "kernel_size": self.kernel_size[-self.n :],
            "stride": self.stride[-self.n :],
            "pad_mode": self.pad_mode.upper(),
        }
        return ", ".join(f"{k}={v if len(v) != 1 else v[0]}" for k, v in shown.items())


class _MaxPool(_Pool):
    """The largest element of each window."""

    dilation: tuple[int, ...]

    def _pool(self, x: Tensor) -> Tensor:
        if sharded(self, "max_pool") and self.pad_mode != "pad" and set(self.dilation) == {1}:
            return self.max_pool(x)
        if self.pad_mode != "pad" and set(self.dilation) == {1}:
            return ops.max_pool(x, self.kernel_size, self.stride, self.pad_mode)
        return ops.max_pool2d(
            x, self.kernel_size, self.stride, self.padding, self.dilation, False, self.ceil_mode
        )

    def _check(self, dilation: Ints, return_indices: bool) -> None:
        owner = type(self).__name__
        self.dilation = self._sizes("dilation", dilation)
        if arguments.flag(owner, "return_indices", return_indices):
            raise ValueError(f"{owner}(return_indices): True is not offered, only the values.")
        if self.pad_mode == "same" and set(self.dilation) != {1}:
            raise ValueError(f"{owner}(dilation): {dilation} needs pad_mode 'pad' or 'valid'.")

    max_pool = Inner(lambda layer: ops.MaxPool(layer.kernel_size, layer.stride, layer.pad_mode))


class MaxPool2d(_MaxPool):
    """The largest element of each window of images.

    Args:
        kernel_size: size of the window, one int or (height, width).
        stride: steps, one int or (down, right).
        pad_mode: `same`, `valid` or `pad`, in any case; padding is never the largest.
        padding: for `pad`: one int or (rows, columns), at most half of the kernel.
        dilation: distance of the window's points, one int or (down, right).
        return_indices: not offered.
        ceil_mode: for `pad`: whether windows that leave the image at the end count.
        data_format: `NCHW` or `NHWC`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range, or settings that need `pad_mode="pad"`.
    """

    n: ClassVar[int] = 2

    def __init__(
        self,
        kernel_size: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        pad_mode: str = "valid",
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        data_format: str = "NCHW",
    ) -> None:
        super().__init__(kernel_size, stride, pad_mode, padding, ceil_mode)
        self._check(dilation, return_indices)
        self.data_format = _format("MaxPool2d", data_format)

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, h, w) -> (n, c, h', w'), also without n; channels last for `NHWC`."""
        return _channels_first(super().construct, x, self.data_format)


class MaxPool1d(_MaxPool):
    """The largest element of each window of sequences.

    Args:
        kernel_size: length of the window.
        stride: the step.
        pad_mode: `same`, `valid` or `pad`, in any case; padding is never the largest.
        padding: for `pad`: how much at both ends, at most half of the kernel.
        dilation: distance of the window's points.
        return_indices: not offered.
        ceil_mode: for `pad`: whether windows that leave the sequence at the end count.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range, or settings that need `pad_mode="pad"`.
    """

    n: ClassVar[int] = 1

    def __init__(
        self,
        kernel_size: int = 1,
        stride: int = 1,
        pad_mode: str = "valid",
        padding: int = 0,
        dilation: int = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, pad_mode, padding, ceil_mode)
        self._check(dilation, return_indices)


class _AvgPool(_Pool):
    """The mean of each window."""

    count_include_pad: bool
    divisor_override: int | None

    def _pool(self, x: Tensor) -> Tensor:
        counted = self.count_include_pad and not self.divisor_override
        if sharded(self, "avg_pool") and self.pad_mode != "pad" and counted:
            return self.avg_pool(x)
        if self.pad_mode == "same":
            return ops.avg_pool(x, self.kernel_size, self.stride, "same")
        return ops.avg_pool2d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override or 0,
        )

    avg_pool = Inner(lambda layer: ops.AvgPool(layer.kernel_size, layer.stride, layer.pad_mode))


class AvgPool2d(_AvgPool):
    """The mean of each window of images.

    Args:
        kernel_size: size of the window, one int or (height, width).
        stride: steps, one int or (down, right).
        pad_mode: `same` (padding never counts), `valid` or `pad`, in any case.
        padding: for `pad`: one int or (rows, columns), at most half of the kernel.
        ceil_mode: for `pad`: whether windows that leave the image at the end count.
        count_include_pad: for `pad`: whether the padding counts as zeros.
        divisor_override: what to divide by instead of the number of elements; not for `same`.
        data_format: `NCHW` or `NHWC`.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range, or settings that need `pad_mode="pad"`.
    """

    n: ClassVar[int] = 2

    def __init__(
        self,
        kernel_size: int | tuple[int, int] = 1,
        stride: int | tuple[int, int] = 1,
        pad_mode: str = "valid",
        padding: int | tuple[int, int] = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        data_format: str = "NCHW",
    ) -> None:
        super().__init__(kernel_size, stride, pad_mode, padding, ceil_mode)
        owner = "AvgPool2d"
        self.count_include_pad = arguments.flag(owner, "count_include_pad", count_include_pad)
        self.divisor_override = divisor_override
        if divisor_override is not None:
            arguments.integer(owner, "divisor_override", divisor_override)
            if self.pad_mode == "same":
                raise ValueError("AvgPool2d(divisor_override): not for pad_mode='same'.")
        self.data_format = _format(owner, data_format)

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, h, w) -> (n, c, h', w'), also without n; channels last for `NHWC`."""
        return _channels_first(super().construct, x, self.data_format)


class AvgPool1d(_AvgPool):
    """The mean of each window of sequences.

    Args:
        kernel_size: length of the window.
        stride: the step.
        pad_mode: `same` (padding never counts), `valid` or `pad`, in any case.
        padding: for `pad`: how much at both ends, at most half of the kernel.
        ceil_mode: for `pad`: whether windows that leave the sequence at the end count.
        count_include_pad: for `pad`: whether the padding counts as zeros.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range, or settings that need `pad_mode="pad"`.
    """

    n: ClassVar[int] = 1
    divisor_override = None

    def __init__(
        self,
        kernel_size: int = 1,
        stride: int = 1,
        pad_mode: str = "valid",
        padding: int = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        super().__init__(kernel_size, stride, pad_mode, padding, ceil_mode)
        self.count_include_pad = arguments.flag("AvgPool1d", "count_include_pad", count_include_pad)


def _format(owner: str, data_format: object) -> str:
    return arguments.choice(owner, "data_format", data_format, ("NCHW", "NHWC"))


def _channels_first(
    pool: Callable[[TensorLike], Tensor], x: TensorLike, data_format: str
) -> Tensor:
    if data_format == "NCHW":
        return pool(x)
    x = arguments.tensor("NHWC", x)
    if x.ndim not in (3, 4):
        return pool(x)
    first, last = ((0, 3, 1, 2), (0, 2, 3, 1)) if x.ndim == 4 else ((2, 0, 1), (1, 2, 0))
    return pool(x.transpose(*first)).transpose(*last)


class AdaptiveAvgPool1d(Cell):
    """Means of `output_size` windows that divide each sequence evenly.

    Raises:
        TypeError, ValueError: `output_size` is not an int of at least 1.
    """

    def __init__(self, output_size: int) -> None:
        super().__init__()
        self.output_size = arguments.integer("AdaptiveAvgPool1d", "output_size", output_size)

    def construct(self, input: TensorLike) -> Tensor:
        """(..., l) -> (..., output_size)."""
        input = arguments.tensor("AdaptiveAvgPool1d", input)
        if input.ndim not in (2, 3):
            raise ValueError(f"AdaptiveAvgPool1d: expected (n, c, l) or (c, l), got {input.shape}.")
        return ops.adaptive_avg_pool2d(input.expand_dims(-2), (1, self.output_size)).squeeze(-2)


class AdaptiveAvgPool2d(Cell):
    """Means of windows that divide each image evenly.

    Args:
        output_size: one int, or (height, width); None keeps that size.

    Raises:
        TypeError: neither an int nor two ints or Nones; ValueError: less than 1.
    """

    def __init__(self, output_size: int | tuple[int | None, int | None] | None) -> None:
        super().__init__()
        pair = output_size if isinstance(output_size, tuple | list) else (output_size,) * 2
        owner = "AdaptiveAvgPool2d"
        if len(pair) != 2:
            raise TypeError(f"{owner}(output_size): expected one size or two, got {output_size!r}.")
        self.output_size = tuple(
            None if n is None else arguments.integer(owner, "output_size", n) for n in pair
        )

    def construct(self, input: TensorLike) -> Tensor:
        """(..., h, w) -> (..., h', w')."""
        input = arguments.tensor("AdaptiveAvgPool2d", input)
        if input.ndim not in (3, 4):
            raise ValueError(
                f"AdaptiveAvgPool2d: expected (n, c, h, w) or (c, h, w), got {input.shape}."
            )
        return ops.adaptive_avg_pool2d(input, self.output_size)
