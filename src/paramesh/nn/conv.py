"""Convolutions.

Glossary
    pad_mode    `same`: the output has ceil(size / stride) elements, the odd one of the padding at
                the end; `valid`: no padding; `pad`: by `padding`
    fan_in      number of inputs that one output is computed from: weights and biases start uniform
                on +-1/sqrt(fan_in), as in MindSpore 2.10

Images are (n, c, h, w). `Conv1d` keeps MindSpore's weight, which has a height of 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import jax
from jax import Array

from paramesh.dtype import float32, x64
from paramesh.initializer.factory import HeUniform, Uniform
from paramesh.nn import arguments
from paramesh.nn.arguments import Init
from paramesh.nn.cell import Cell
from paramesh.nn.inner import Inner, sharded
from paramesh.ops import conv as ops
from paramesh.ops.array import ExpandDims, Shape, Squeeze
from paramesh.ops.nn_ops import BiasAdd, bias_add
from paramesh.state import placement
from paramesh.tensor.argument_types import DTypeLike, Ints, TensorLike
from paramesh.tensor.base import Tensor, raw, wrap

#: How many zeros go around an image: one number for all sides, or one for each.
Padding = int | tuple[int, ...]

_MODES = ("same", "valid", "pad")
_DEFAULT = HeUniform(math.sqrt(5))


class BaseConv(Cell):
    """What all convolutions share: the checked settings and the Parameters.

    `kernel_size`, `stride` and `dilation` have one entry for each spatial axis of the weight: those
    of `Conv1d` have two.
    """

    #: Spatial axes of the input, and the names of its axes by `data_format`.
    n: ClassVar[int]
    formats: ClassVar[tuple[str, ...]]
    transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints,
        pad_mode: str,
        padding: Padding,
        dilation: Ints,
        group: int,
        has_bias: bool,
        weight_init: Init,
        bias_init: Init,
        data_format: str,
        dtype: DTypeLike,
    ) -> None:
        super().__init__()
        owner = type(self).__name__
        self.in_channels = arguments.integer(owner, "in_channels", in_channels)
        self.out_channels = arguments.integer(owner, "out_channels", out_channels)
        self.kernel_size = self._sizes("kernel_size", kernel_size)
        self.stride = self._sizes("stride", stride)
        self.pad_mode = arguments.choice(owner, "pad_mode", pad_mode, _MODES)
        self.padding = self._checked_padding(padding)
        self.dilation = self._sizes("dilation", dilation)
        self.group = arguments.integer(owner, "group", group)
        self.has_bias = arguments.flag(owner, "has_bias", has_bias)
        self.data_format = arguments.choice(owner, "data_format", data_format, self.formats)
        self._weight_init = _DEFAULT if weight_init is None else weight_init
        self._bias_init = bias_init
        _check_padding(owner, self.pad_mode, self.padding)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % group:
                raise ValueError(
                    f"{owner}: {name}={channels} does not divide into group={group} groups."
                )
        shape = self._weight_shape()
        self.weight = arguments.weight(owner, "weight_init", self._weight_init, shape, dtype)
        taken = shape[-1] if data_format == "NHWC" else shape[1]
        fan_in = taken * math.prod(self.kernel_size)
        self.bias = None
        if has_bias:
            start = Uniform(1 / math.sqrt(fan_in))
            self._bias_init = start if bias_init is None else bias_init
            self.bias = arguments.weight(
                owner, "bias_init", self._bias_init, (out_channels,), dtype
            )

    def _sizes(self, name: str, value: Ints) -> tuple[int, ...]:
        """One int for each spatial axis of the weight; sequences have a height of 1."""
        owner = type(self).__name__
        if self.n == 1:
            return 1, arguments.integer(owner, name, value)
        return arguments.integers(owner, name, value, self.n)

    def _checked_padding(self, padding: Padding) -> Padding:
        """An int of at least 0, or a tuple of (before, after) of each spatial axis."""
        owner = type(self).__name__
        if isinstance(padding, str):
            raise TypeError(
                f"{owner}(padding): expected an int, got {padding!r}. The kind of padding is "
                "pad_mode: 'same', 'valid' or 'pad'."
            )
        if isinstance(padding, tuple | list):
            return arguments.integers(owner, "padding", padding, 2 * self.n, low=0)
        return arguments.integer(owner, "padding", padding, low=0)

    def _weight_shape(self) -> tuple[int, ...]:
        if self.transposed:
            return (self.in_channels, self.out_channels // self.group, *self.kernel_size)
        if self.data_format == "NHWC":
            return (self.out_channels, *self.kernel_size, self.in_channels // self.group)
        return (self.out_channels, self.in_channels // self.group, *self.kernel_size)

    def extend_repr(self) -> str:
        """The settings, as MindSpore prints them."""
        shown = {
            "input_channels": self.in_channels,
            "output_channels": self.out_channels,
            "kernel_size": self.kernel_size,
            "stride": self.stride,
            "pad_mode": self.pad_mode,
            "padding": self.padding,
            "dilation": self.dilation,
            "group": self.group,
            "has_bias": self.has_bias,
            "weight_init": self._weight_init,
            "bias_init": self._bias_init,
            "format": self.data_format,
        }
        return ", ".join(f"{name}={value}" for name, value in shown.items())

    def _expect(self, x: TensorLike, shape: str) -> Tensor:
        """The input, refused if it has another number of axes or of channels."""
        x = arguments.tensor(type(self).__name__, x)
        ndim = shape.count(",") + 1
        if len(x.shape) != ndim:
            raise ValueError(f"{type(self).__name__}: expected an input {shape}, got {x.shape}.")
        channels = x.shape[shape.strip("()").split(", ").index("c")]
        if channels != self.in_channels:
            raise ValueError(
                f"{type(self).__name__}: the weight {self.weight} takes {self.in_channels} "
                f"channels, but the input {x.shape} has {channels}."
            )
        return x


def _check_padding(owner: str, pad_mode: str, padding: Padding) -> None:
    pads = padding if isinstance(padding, tuple) else (padding,)
    if pad_mode != "pad" and any(pads):
        raise ValueError(
            f"{owner}(padding): padding={padding} needs pad_mode='pad', got pad_mode={pad_mode!r}."
        )


class Conv2d(BaseConv):
    """Convolution of images.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: one int, or (height, width).
        stride: steps, one int or (down, right).
        pad_mode: `same`, `valid` or `pad`.
        padding: for `pad`: one int, or (top, bottom, left, right).
        dilation: distance of the kernel's points, one int or (down, right).
        group: groups of channels that are convolved apart.
        has_bias: whether there is a bias.
        weight_init: initial value of the weight: a Tensor, an Initializer, its name or a number.
        bias_init: the same for the bias.
        data_format: `NCHW` or `NHWC`.
        dtype: element type of the Parameters.

    Weights:
        weight: (out, in / group, height, width); for `NHWC` (out, height, width, in / group).
        bias: (out,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range; paddings without `pad`; channels that do not divide into
            groups; an initial value that does not fit.
    """

    n = 2
    formats = ("NCHW", "NHWC")

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        pad_mode: str = "same",
        padding: int | tuple[int, int, int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        group: int = 1,
        has_bias: bool = False,
        weight_init: Init = None,
        bias_init: Init = None,
        data_format: str = "NCHW",
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
            data_format,
            dtype,
        )

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, h, w) -> (n, out, h', w'), or the same with the channels last for `NHWC`.

        Raises:
            ValueError: an input of another shape; TypeError: of another element type.
        """
        x = self._expect(x, "(n, c, h, w)" if self.data_format == "NCHW" else "(n, h, w, c)")
        if sharded(self, "conv2d", "bias_add"):
            out = self.conv2d(x, self.weight)
            return out if self.bias is None else self.bias_add(out, self.bias)
        return ops.conv2d(
            x,
            self.weight,
            self.bias,
            self.stride,
            self.pad_mode,
            self.padding,
            self.dilation,
            self.group,
            self.data_format,
        )

    conv2d = Inner(
        lambda layer: ops.Conv2D(
            layer.out_channels,
            layer.kernel_size,
            pad_mode=layer.pad_mode,
            pad=layer.padding,
            stride=layer.stride,
            dilation=layer.dilation,
            group=layer.group,
            data_format=layer.data_format,
        )
    )
    bias_add = Inner(lambda layer: BiasAdd(layer.data_format))


class Conv1d(BaseConv):
    """Convolution of sequences.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: length of the kernel.
        stride: the step.
        pad_mode: `same`, `valid` or `pad`.
        padding: for `pad`: one int, or (before, after).
        dilation: distance of the kernel's points.
        group: groups of channels that are convolved apart.
        has_bias: whether there is a bias.
        weight_init: initial value of the weight: a Tensor, an Initializer, its name or a number.
        bias_init: the same for the bias.
        dtype: element type of the Parameters.

    Weights:
        weight: (out, in / group, 1, length).
        bias: (out,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range; paddings without `pad`; channels that do not divide into
            groups; an initial value that does not fit.
    """

    n = 1
    formats = ("NCL",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        pad_mode: str = "same",
        padding: int | tuple[int, int] = 0,
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

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, l) -> (n, out, l').

        Raises:
            ValueError: an input of another shape; TypeError: of another element type.
        """
        x = self._expect(x, "(n, c, l)")
        return ops.conv1d(
            x,
            self.weight.squeeze(2),
            self.bias,
            self.stride[1],
            self.pad_mode,
            self.padding,
            self.dilation[1],
            self.group,
        )

    conv2d = Inner(
        lambda layer: ops.Conv2D(
            layer.out_channels,
            layer.kernel_size,
            pad_mode=layer.pad_mode,
            pad=_of_a_row(layer.padding),
            stride=layer.stride,
            dilation=layer.dilation,
            group=layer.group,
        )
    )
    bias_add = Inner(lambda layer: BiasAdd())
    expand_dims = Inner(lambda layer: ExpandDims())
    squeeze = Inner(lambda layer: Squeeze(2))
    shape = Inner(lambda layer: Shape())


def _of_a_row(padding: Padding) -> tuple[int, ...]:
    return (0, 0, *padding) if isinstance(padding, tuple) else (0, 0, padding, padding)


class Conv3d(BaseConv):
    """Convolution of volumes.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: one int, or (depth, height, width).
        stride: steps, one int or one for each axis.
        pad_mode: `same`, `valid` or `pad`.
        padding: for `pad`: one int, or (front, back, top, bottom, left, right).
        dilation: distance of the kernel's points, one int or one for each axis.
        group: groups of channels that are convolved apart.
        has_bias: whether there is a bias.
        weight_init: initial value of the weight: a Tensor, an Initializer, its name or a number.
        bias_init: the same for the bias.
        data_format: `NCDHW`, the only one.
        dtype: element type of the Parameters.

    Weights:
        weight: (out, in / group, depth, height, width).
        bias: (out,).

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: a number out of range; paddings without `pad`; channels that do not divide into
            groups; an initial value that does not fit.
    """

    n = 3
    formats = ("NCDHW",)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        stride: int | tuple[int, int, int] = 1,
        pad_mode: str = "same",
        padding: int | tuple[int, int, int, int, int, int] = 0,
        dilation: int | tuple[int, int, int] = 1,
        group: int = 1,
        has_bias: bool = False,
        weight_init: Init = None,
        bias_init: Init = None,
        data_format: str = "NCDHW",
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
            data_format,
            dtype,
        )

    def construct(self, x: TensorLike) -> Tensor:
        """(n, c, d, h, w) -> (n, out, d', h', w').

        Raises:
            ValueError: an input of another shape; TypeError: of another element type.
        """
        x = self._expect(x, "(n, c, d, h, w)")
        value, weight = raw(x), raw(self.weight)
        if value.dtype != weight.dtype:
            raise TypeError(
                f"Conv3d: the input is {x.dtype}, {self.weight} is {wrap(weight).dtype}: cast one."
            )
        with x64(value):
            out = placement.current().undivided(self._convolve, value, weight)
        return wrap(out) if self.bias is None else bias_add(wrap(out), self.bias)

    bias_add = Inner(lambda layer: BiasAdd("NCDHW"))
    shape = Inner(lambda layer: Shape())

    def _convolve(self, value: Array, weight: Array) -> Array:
        return jax.lax.conv_general_dilated(
            value,
            weight,
            self.stride,
            self._sides() if self.pad_mode == "pad" else self.pad_mode.upper(),
            rhs_dilation=self.dilation,
            dimension_numbers=("NCDHW", "OIDHW", "NCDHW"),
            feature_group_count=self.group,
        )

    def _sides(self) -> Sequence[tuple[int, int]]:
        pads = self.padding
        flat = pads if isinstance(pads, tuple) else (pads,) * 6
        return [(flat[i], flat[i + 1]) for i in (0, 2, 4)]
