"""Transposed convolutions; what they share with convolutions is in `conv`.

A transposed convolution is the gradient of a convolution with respect to its images: settings are
those of that convolution. `Conv1dTranspose` keeps MindSpore's weight, which has a height of 1.
"""

from __future__ import annotations

from paramesh.dtype import float32
from paramesh.nn import arguments
from paramesh.nn.arguments import Init
from paramesh.nn.conv import BaseConv, Padding
from paramesh.nn.inner import Inner, sharded
from paramesh.ops import conv as ops
from paramesh.ops.array import ExpandDims, Shape, Squeeze, pad
from paramesh.ops.nn_ops import BiasAdd, bias_add
from paramesh.tensor.argument_types import DTypeLike, TensorLike
from paramesh.tensor.base import Tensor


class _Transposed(BaseConv):
    """What transposed convolutions share: how large their output is."""

    transposed = True
    output_padding: tuple[int, ...]

    def _check_output_padding(self) -> None:
        if self.pad_mode != "pad" and any(self.output_padding):
            raise ValueError(
                f"{type(self).__name__}(output_padding): needs pad_mode='pad', got "
                f"pad_mode={self.pad_mode!r}."
            )
        for extra, stride, dilation in zip(
            self.output_padding, self.stride, self.dilation, strict=True
        ):
            if extra >= max(stride, dilation):
                raise ValueError(
                    f"{type(self).__name__}(output_padding): expected less than the stride or the "
                    f"dilation, got {self.output_padding}."
                )

    def _size(self, axis: int, size: int) -> int:
        """The output's size along a spatial axis."""
        reach = (self.kernel_size[axis] - 1) * self.dilation[axis] + 1
        grown = size * self.stride[axis]
        if self.pad_mode == "same":
            return grown
        if self.pad_mode == "valid":
            return grown + max(reach - self.stride[axis], 0)
        before, after = _both_sides(self.padding, axis)
        return grown - self.stride[axis] + reach - before - after

    def _images(self, x: Tensor) -> Tensor:
        sizes = tuple(self._size(axis, size) for axis, size in enumerate(x.shape[2:]))
        shape = (x.shape[0], self.out_channels, *sizes)
        if sharded(self, "conv2d_transpose", "bias_add"):
            out = self.conv2d_transpose(x, self.weight, shape)
            out = out if self.bias is None else self.bias_add(out, self.bias)
        else:
            out = ops.conv2d_transpose(
                x,
                self.weight,
                shape,
                self.stride,
                self.pad_mode,
                self.padding,
                self.dilation,
                self.group,
            )
            out = out if self.bias is None else bias_add(out, self.bias)
        down, right = self.output_padding
        return pad(out, (0, right, 0, down)) if down or right else out

    conv2d_transpose = Inner(
        lambda layer: ops.Conv2DTranspose(
            layer.out_channels,
            layer.kernel_size,
            pad_mode=layer.pad_mode,
            pad=layer.padding,
            stride=layer.stride,
            dilation=layer.dilation,
            group=layer.group,
        )
    )
    bias_add = Inner(lambda layer: BiasAdd())
    shape = Inner(lambda layer: Shape())


def _both_sides(padding: Padding, axis: int) -> tuple[int, int]:
    if isinstance(padding, tuple):
        return padding[2 * axis], padding[2 * axis + 1]
    return padding, padding


class Conv2dTranspose(_Transposed):
    """Transposed convolution: the gradient of a `Conv2d` with respect to its images.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: one int, or (height, width).
        stride: steps of that convolution, one int or (down, right).
        pad_mode: `same`, `valid` or `pad`.
        padding: for `pad`: one int, or (top, bottom, left, right).
        output_padding: for `pad`: rows below and columns to the right of the output, one int or
            (down, right). They are zeros, as in MindSpore.
        dilation: distance of the kernel's points, one int or (down, right).
        group: groups of channels that are convolved apart.
        has_bias: whether there is a bias.
        weight_init: initial value of the weight: a Tensor, an Initializer, its name or a number.
        bias_init: the same for the bias.
        dtype: element type of the Parameters.

    Weights:
        weight: (in, out / group, height, width).
        bias: (out,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range; paddings without `pad`; channels that do not divide into
            groups; an initial value that does not fit.
    """

    n = 2
    formats = ("NCHW",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        pad_mode: str = "same",
        padding: int | tuple[int, int, int, int] = 0,
        output_padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        group: int = 1,
        has_bias: bool = False,
        weight_init: Init = None,
        bias_init: Init = None,
        dtype: DTypeLike = float32,
    ) -> None:
        owner = "Conv2dTranspose"
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
            "NCHW",
            dtype,
        )
        self.output_padding = arguments.integers(owner, "output_padding", output_padding, 2, low=0)
        self._check_output_padding()

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, h, w) -> (n, out, h', w').

        Raises:
            ValueError: an input of another shape; TypeError: of another element type.
        """
        x = self._expect(x, "(n, c, h, w)")
        return self._images(x)


class Conv1dTranspose(_Transposed):
    """Transposed convolution of sequences: the gradient of a `Conv1d` with respect to them.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: length of the kernel.
        stride: the step of that convolution.
        pad_mode: `same`, `valid` or `pad`.
        padding: for `pad`: how much at both ends.
        dilation: distance of the kernel's points.
        group: groups of channels that are convolved apart.
        has_bias: whether there is a bias.
        weight_init: initial value of the weight: a Tensor, an Initializer, its name or a number.
        bias_init: the same for the bias.
        dtype: element type of the Parameters.

    Weights:
        weight: (in, out / group, 1, length).
        bias: (out,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range; paddings without `pad`; channels that do not divide into
            groups; an initial value that does not fit.
    """

    n = 1
    formats = ("NCL",)
    output_padding = (0, 0)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        pad_mode: str = "same",
        padding: int = 0,
        dilation: int = 1,
        group: int = 1,
        has_bias: bool = False,
        weight_init: Init = None,
        bias_init: Init = None,
        dtype: DTypeLike = float32,
    ) -> None:
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
            "NCL",
            dtype,
        )

    def _checked_padding(self, padding: Padding) -> Padding:
        pad = arguments.integer("Conv1dTranspose", "padding", padding, low=0)
        return 0, 0, pad, pad

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, l) -> (n, out, l').

        Raises:
            ValueError: an input of another shape; TypeError: of another element type.
        """
        x = self._expect(x, "(n, c, l)")
        return self._images(x.reshape(x.shape[0], x.shape[1], 1, x.shape[2])).squeeze(2)

    expand_dims = Inner(lambda layer: ExpandDims())
    squeeze = Inner(lambda layer: Squeeze(2))
