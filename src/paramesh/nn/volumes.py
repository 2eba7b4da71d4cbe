"""Layers over volumes (n, c, d, h, w), and adaptive pooling by the largest element."""

from __future__ import annotations

from typing import Any, ClassVar

from paramesh.dtype import float32
from paramesh.nn import arguments
from paramesh.nn.arguments import Init
from paramesh.nn.cell import Cell
from paramesh.nn.conv import BaseConv
from paramesh.ops import adaptive_pooling
from paramesh.ops import volumes as ops
from paramesh.tensor.argument_types import DTypeLike, Ints, TensorLike


class Conv3dTranspose(BaseConv):
    """Transposed convolution of volumes: the gradient of a `Conv3d` with respect to them.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: one int, or (depth, height, width).
        stride: steps of that convolution.
        pad_mode: `same`, `valid` or `pad`.
        padding: for `pad`: one int, or six (before and after each axis).
        dilation: distance of the kernel's points.
        group: groups of channels that are convolved apart.
        output_padding: for `pad`: how much larger the output is at the end of each axis.
        has_bias: whether there is a bias.
        weight_init: what the weight starts from: a Tensor, an Initializer, its name or a number.
        bias_init: the same for the bias.
        data_format: `NCDHW`, the only one.
        dtype: element type of the Parameters.

    Weights:
        weight: (in, out / group, depth, height, width).
        bias: (out,).

    Raises:
        TypeError: an argument of the wrong kind.
        ValueError: a number out of range; paddings without `pad`; channels that do not divide into
            groups; a start that does not fit.
    """

    n = 3
    formats = ("NCDHW",)
    transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        stride: int | tuple[int, int, int] = 1,
        pad_mode: str = "same",
        padding: int | tuple[int, ...] = 0,
        dilation: int | tuple[int, int, int] = 1,
        group: int = 1,
        output_padding: int | tuple[int, int, int] = 0,
        has_bias: bool = False,
        weight_init: Init = None,
        bias_init: Init = None,
        data_format: str = "NCDHW",
        dtype: DTypeLike = float32,
    ) -> None:
        owner = "Conv3dTranspose"
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            pad_mode,
            padding,
            dilation,
            group,
            has_bias,
            weight_init,
            bias_init,
            data_format,
            dtype,
        )
        self.output_padding = arguments.integers(owner, "output_padding", output_padding, 3, low=0)
        if self.pad_mode != "pad" and any(self.output_padding):
            raise ValueError(
                f"{owner}(output_padding): needs pad_mode='pad', got pad_mode={self.pad_mode!r}."
            )

    def construct(self, x: TensorLike) -> Any:
        """(n, c, d, h, w) -> (n, out, d', h', w').

        Raises:
            ValueError: an input of another shape; TypeError: of another element type.
        """
        x = self._expect(x, "(n, c, d, h, w)")
        return ops.conv3d_transpose(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.pad_mode,
            self.padding,
            self.dilation,
            self.group,
            self.output_padding,
        )


class _Pool3d(Cell):
    """What both pools share; inputs may be without n."""

    def _set(
        self, kernel_size: Ints, stride: Ints | None, pad_mode: str, padding: Ints, ceil_mode: bool
    ) -> None:
        owner = type(self).__name__
        mode = pad_mode.lower() if isinstance(pad_mode, str) else pad_mode
        self.kernel_size = arguments.integers(owner, "kernel_size", kernel_size, 3)
        self.stride = arguments.integers(owner, "stride", stride, 3)
        self.pad_mode = arguments.choice(owner, "pad_mode", mode, ("same", "valid", "pad"))
        self.padding = arguments.integers(owner, "padding", padding, 3, low=0)
        self.ceil_mode = arguments.flag(owner, "ceil_mode", ceil_mode)
        if self.pad_mode != "pad" and (any(self.padding) or ceil_mode):
            raise ValueError(
                f"{owner}: padding={padding} and ceil_mode={ceil_mode} need pad_mode='pad', got "
                f"pad_mode={pad_mode!r}."
            )

    def _batched(self, x: TensorLike) -> tuple[Any, bool]:
        x = arguments.tensor(type(self).__name__, x)
        if x.ndim not in (4, 5):
            raise ValueError(
                f"{type(self).__name__}: expected (n, c, d, h, w) or (c, d, h, w), got {x.shape}."
            )
        return (x, True) if x.ndim == 5 else (x.expand_dims(0), False)


class MaxPool3d(_Pool3d):
    """The largest element of each window of a volume.

    Args:
        kernel_size: size of the window, one int or (depth, height, width).
        stride: steps.
        pad_mode: `same`, `valid` or `pad`.
        padding: for `pad`: one int, or one for each axis.
        dilation: only 1.
        return_indices: not offered.
        ceil_mode: for `pad`: whether windows that leave the volume at the end count.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, or not offered.
    """

    def __init__(
        self,
        kernel_size: Ints = 1,
        stride: Ints | None = 1,
        pad_mode: str = "valid",
        padding: Ints = 0,
        dilation: Ints = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self._set(kernel_size, stride, pad_mode, padding, ceil_mode)
        if return_indices or set(arguments.integers("MaxPool3d", "dilation", dilation, 3)) != {1}:
            raise ValueError("MaxPool3d: return_indices=True and a dilation are not offered.")

    def construct(self, x: TensorLike) -> Any:
        """(n, c, d, h, w) -> (n, c, d', h', w'), also without n."""
        x, whole = self._batched(x)
        if self.pad_mode == "pad":
            out = ops.max_pool3d(
                x, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode
            )
        else:
            out = ops.max_pool3d_mode(x, self.kernel_size, self.stride, self.pad_mode)
        return out if whole else out.squeeze(0)


class AvgPool3d(_Pool3d):
    """The mean of each window of a volume.

    Args:
        kernel_size: size of the window, one int or (depth, height, width).
        stride: steps.
        pad_mode: `valid` or `pad`.
        padding: for `pad`: one int, or one for each axis.
        ceil_mode: for `pad`: whether windows that leave the volume at the end count.
        count_include_pad: whether the padding counts as zeros.
        divisor_override: what to divide by instead of the number of elements.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range, or not offered.
    """

    def __init__(
        self,
        kernel_size: Ints = 1,
        stride: Ints | None = 1,
        pad_mode: str = "valid",
        padding: Ints = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__()
        self._set(kernel_size, stride, pad_mode, padding, ceil_mode)
        if self.pad_mode == "same":
            raise ValueError("AvgPool3d(pad_mode): 'same' is not offered: give a padding.")
        self.count_include_pad = arguments.flag("AvgPool3d", "count_include_pad", count_include_pad)
        self.divisor_override = divisor_override or 0

    def construct(self, x: TensorLike) -> Any:
        """(n, c, d, h, w) -> (n, c, d', h', w'), also without n."""
        x, whole = self._batched(x)
        out = ops.avg_pool3d(
            x,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )
        return out if whole else out.squeeze(0)


class _Adaptive(Cell):
    pool: ClassVar[Any]

    def __init__(self, output_size: Ints, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def construct(self, input: TensorLike) -> Any:
        """Of the spatial axes those sizes; the others as they are."""
        more = {"return_indices": True} if self.return_indices else {}
        given = arguments.tensor(type(self).__name__, input)
        return type(self).pool(given, self.output_size, **more)

    def extend_repr(self) -> str:
        """The size."""
        return f"output_size={self.output_size}"


class AdaptiveAvgPool3d(_Adaptive):
    """Means of windows that divide each volume evenly.

    Args:
        output_size: one int, or (d', h', w'); None keeps the size of that axis.
    """

    pool = staticmethod(adaptive_pooling.adaptive_avg_pool3d)

    def __init__(self, output_size: Ints) -> None:
        super().__init__(output_size)


class AdaptiveMaxPool1d(_Adaptive):
    """The largest of windows that divide each sequence evenly.

    Args:
        output_size: the length.
    """

    pool = staticmethod(adaptive_pooling.adaptive_max_pool1d)

    def __init__(self, output_size: int) -> None:
        super().__init__(output_size)


class AdaptiveMaxPool2d(_Adaptive):
    """The largest of windows that divide each image evenly.

    Args:
        output_size: one int, or (h', w'); None keeps the size of that axis.
        return_indices: also where the elements were, in h * w, Int64.
    """

    pool = staticmethod(adaptive_pooling.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_Adaptive):
    """The largest of windows that divide each volume evenly.

    Args:
        output_size: one int, or (d', h', w'); None keeps the size of that axis.
        return_indices: also where the elements were, in d * h * w, Int32.
    """

    pool = staticmethod(adaptive_pooling.adaptive_max_pool3d)


class _LPPool(Cell):
    pool: ClassVar[Any]

    def __init__(
        self,
        norm_type: float,
        kernel_size: Ints,
        stride: Ints | None = None,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.norm_type = arguments.positive(owner, "norm_type", norm_type)
        self.kernel_size, self.stride = kernel_size, stride
        self.ceil_mode = arguments.flag(owner, "ceil_mode", ceil_mode)

    def construct(self, x: TensorLike) -> Any:
        """(n, c, ...) -> (n, c, ...), or (c, ...) -> (c, ...)."""
        x = arguments.tensor(type(self).__name__, x)
        return type(self).pool(x, self.norm_type, self.kernel_size, self.stride, self.ceil_mode)


class LPPool1d(_LPPool):
    """(sum of x ** p) ** (1 / p) of each window of a sequence.

    Args:
        norm_type: p.
        kernel_size: length of the window.
        stride: the step; None: the window's length.
        ceil_mode: whether windows that leave the sequence at the end count.
    """

    pool = staticmethod(ops.lp_pool1d)


class LPPool2d(_LPPool):
    """(sum of x ** p) ** (1 / p) of each window of an image.

    Args:
        norm_type: p.
        kernel_size: size of the window, one int or (height, width).
        stride: steps; None: the window's size.
        ceil_mode: whether windows that leave the image at the end count.
    """

    pool = staticmethod(ops.lp_pool2d)
