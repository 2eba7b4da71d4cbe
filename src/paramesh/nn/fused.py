"""Layers with their normalisation and activation, and layers over one operator.

Source: MindSpore's `Conv2dBnAct`, `DenseBnAct` and the layers of these names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp

from paramesh.dtype import x64
from paramesh.nn import arguments
from paramesh.nn.activation import LeakyReLU, get_activation
from paramesh.nn.arguments import Init
from paramesh.nn.basic import Dense
from paramesh.nn.cell import Cell
from paramesh.nn.conv import Conv2d
from paramesh.nn.normalization import BatchNorm1d, BatchNorm2d
from paramesh.ops import array, blocks, creation, graph_marks, linalg, rearranging, reduce, resizing
from paramesh.ops import math as math_ops
from paramesh.ops.table import Primitive
from paramesh.tensor.argument_types import Ints, TensorLike
from paramesh.tensor.base import raw, wrap


def _chosen(owner: str, activation: str | Cell | Callable[..., Any] | None, alpha: float) -> Any:
    if activation is None or isinstance(activation, str):
        return LeakyReLU(alpha) if activation == "leakyrelu" else get_activation(activation, owner)
    if not isinstance(activation, Cell | Primitive):
        raise TypeError(
            f"{owner}(activation): expected a name, a Cell or a class operator, got {activation!r}."
        )
    return activation


class Conv2dBnAct(Cell):
    """A `Conv2d`, then a `BatchNorm2d`, then an activation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: one int, or (height, width).
        stride: steps.
        pad_mode: `same`, `valid` or `pad`.
        padding: for `pad`.
        dilation: distance of the kernel's points.
        group: groups of channels that are convolved apart.
        has_bias: whether there is a bias.
        weight_init: what the weight starts from.
        bias_init: the same for the bias.
        has_bn: whether there is a BatchNorm.
        momentum: of the BatchNorm.
        eps: of the BatchNorm.
        activation: a name, a Cell or a class operator; None: none.
        alpha: slope of `leakyrelu`.
        after_fake: MindSpore's, without effect.

    Weights:
        those of `conv` and `batchnorm`.
    """

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
        weight_init: Init = "normal",
        bias_init: Init = "zeros",
        has_bn: bool = False,
        momentum: float = 0.997,
        eps: float = 1e-5,
        activation: str | Cell | Callable[..., Any] | None = None,
        alpha: float = 0.2,
        after_fake: bool = True,
    ) -> None:
        super().__init__()
        owner = "Conv2dBnAct"
        self.conv = Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            pad_mode=pad_mode,
            padding=padding,
            dilation=dilation,
            group=group,
            has_bias=has_bias,
            weight_init=weight_init,
            bias_init=bias_init,
        )
        self.has_bn = arguments.flag(owner, "has_bn", has_bn)
        if has_bn:
            self.batchnorm = BatchNorm2d(out_channels, eps, momentum)
        self.activation = _chosen(owner, activation, alpha)
        self.has_act = self.activation is not None

    def construct(self, x: TensorLike) -> Any:
        """(n, c, h, w) -> (n, out, h', w')."""
        x = self.conv(x)
        x = self.batchnorm(x) if self.has_bn else x
        return self.activation(x) if self.has_act else x


class DenseBnAct(Cell):
    """A `Dense`, then a `BatchNorm1d`, then an activation.

    Args:
        in_channels: size of the input's last axis.
        out_channels: size of the output's last axis.
        weight_init: what the weight starts from.
        bias_init: the same for the bias.
        has_bias: whether there is a bias.
        has_bn: whether there is a BatchNorm.
        momentum: of the BatchNorm.
        eps: of the BatchNorm.
        activation: a name, a Cell or a class operator; None: none.
        alpha: slope of `leakyrelu`.
        after_fake: MindSpore's, without effect.

    Weights:
        those of `dense` and `batchnorm`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        weight_init: Init = "normal",
        bias_init: Init = "zeros",
        has_bias: bool = True,
        has_bn: bool = False,
        momentum: float = 0.9,
        eps: float = 1e-5,
        activation: str | Cell | Callable[..., Any] | None = None,
        alpha: float = 0.2,
        after_fake: bool = True,
    ) -> None:
        super().__init__()
        owner = "DenseBnAct"
        self.dense = Dense(in_channels, out_channels, weight_init, bias_init, has_bias)
        self.has_bn = arguments.flag(owner, "has_bn", has_bn)
        if has_bn:
            self.batchnorm = BatchNorm1d(out_channels, eps, momentum)
        self.activation = _chosen(owner, activation, alpha)
        self.has_act = self.activation is not None

    def construct(self, x: TensorLike) -> Any:
        """(n, in_channels) -> (n, out_channels)."""
        x = self.dense(x)
        x = self.batchnorm(x) if self.has_bn else x
        return self.activation(x) if self.has_act else x


# Over one operator.


class PixelShuffle(Cell):
    """Channels as pixels: (..., c * r * r, h, w) -> (..., c, h * r, w * r).

    Args:
        upscale_factor: r.
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = arguments.integer("PixelShuffle", "upscale_factor", upscale_factor)

    def construct(self, input: TensorLike) -> Any:
        """See the class."""
        return resizing.pixel_shuffle(input, self.upscale_factor)


class PixelUnshuffle(Cell):
    """Pixels as channels: (..., c, h * r, w * r) -> (..., c * r * r, h, w).

    Args:
        downscale_factor: r.
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = arguments.integer(
            "PixelUnshuffle", "downscale_factor", downscale_factor
        )

    def construct(self, input: TensorLike) -> Any:
        """See the class."""
        return resizing.pixel_unshuffle(input, self.downscale_factor)


class ChannelShuffle(Cell):
    """Channels of groups mixed, one of each in turn (Zhang et al. 2018).

    Args:
        groups: how many groups the channels (axis 1) make.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = arguments.integer("ChannelShuffle", "groups", groups)

    def construct(self, x: TensorLike) -> Any:
        """(n, c, ...) -> (n, c, ...)."""
        return blocks.channel_shuffle(x, self.groups)


class ResizeBilinear(Cell):
    """Images in another size, between their elements.

    Args:
        half_pixel_centers: whether elements are placed by their centres.
    """

    def __init__(self, half_pixel_centers: bool = False) -> None:
        super().__init__()
        self.half_pixel_centers = arguments.flag(
            "ResizeBilinear", "half_pixel_centers", half_pixel_centers
        )

    def construct(
        self,
        x: TensorLike,
        size: Ints | None = None,
        scale_factor: float | Sequence[float] | None = None,
        align_corners: bool = False,
    ) -> Any:
        """(n, c, h, w) -> (n, c, h', w').

        Args:
            x: the images.
            size: (h', w').
            scale_factor: instead of `size`, a whole number for both.
            align_corners: whether the corner elements keep their places.

        Raises:
            ValueError: both or neither of `size` and `scale_factor`.
        """
        if (size is None) == (scale_factor is None):
            raise ValueError(f"ResizeBilinear: give size or scale_factor: {size}, {scale_factor}.")
        if size is None:
            scale = arguments.integer("ResizeBilinear", "scale_factor", scale_factor)
            size = (x.shape[2] * scale, x.shape[3] * scale)
        return resizing.resize_bilinear_v2(x, size, align_corners, self.half_pixel_centers)


class Unflatten(Cell):
    """One axis as several.

    Args:
        axis: which.
        unflattened_size: their sizes.
    """

    def __init__(self, axis: int, unflattened_size: tuple[int, ...]) -> None:
        super().__init__()
        self.axis, self.unflattened_size = axis, tuple(unflattened_size)

    def construct(self, x: TensorLike) -> Any:
        """(..., n, ...) -> (..., *unflattened_size, ...)."""
        at = array.axis_in(self.axis, x.ndim)
        return x.reshape(*x.shape[:at], *self.unflattened_size, *x.shape[at + 1 :])


class MatMul(Cell):
    """The product of two matrices.

    Args:
        transpose_x1: whether the first is transposed before.
        transpose_x2: whether the second is.
    """

    def __init__(self, transpose_x1: bool = False, transpose_x2: bool = False) -> None:
        super().__init__()
        self.transpose_x1, self.transpose_x2 = transpose_x1, transpose_x2

    def construct(self, x1: TensorLike, x2: TensorLike) -> Any:
        """(..., n, k) and (..., k, m) -> (..., n, m)."""
        x1 = x1.swapaxes(-1, -2) if self.transpose_x1 and x1.ndim > 1 else x1
        x2 = x2.swapaxes(-1, -2) if self.transpose_x2 and x2.ndim > 1 else x2
        return math_ops.matmul(x1, x2)


class Norm(Cell):
    """The root of the sum of squares over axes.

    Args:
        axis: which; (): all.
        keep_dims: whether they stay, of size 1.
    """

    def __init__(self, axis: int | tuple[int, ...] = (), keep_dims: bool = False) -> None:
        super().__init__()
        self.axis, self.keep_dims = axis, keep_dims

    def construct(self, x: TensorLike) -> Any:
        """(...) -> (...) without these axes."""
        return linalg.vector_norm(x, 2, self.axis if self.axis != () else None, self.keep_dims)


class Range(Cell):
    """Numbers from `start` to `limit`.

    Args:
        start: the first; without `limit`, the limit, from 0.
        limit: where they end, without it.
        delta: their distance.
    """

    def __init__(self, start: float, limit: float | None = None, delta: float = 1) -> None:
        super().__init__()
        self.numbers = (0, start, delta) if limit is None else (start, limit, delta)

    def construct(self) -> Any:
        """(numbers,)."""
        return creation.arange(*self.numbers)


class Roll(Cell):
    """Moved along axes, what leaves at one end coming in at the other.

    Args:
        shift: by how much, an int or one for each axis.
        axis: along which.
    """

    def __init__(self, shift: int | tuple[int, ...], axis: int | tuple[int, ...]) -> None:
        super().__init__()
        self.shift, self.axis = shift, axis

    def construct(self, input_x: TensorLike) -> Any:
        """(...) -> (...)."""
        return rearranging.rolled(input_x, self.shift, self.axis)


class Tril(Cell):
    """The lower triangle of matrices, zeros elsewhere."""

    def construct(self, x: TensorLike, k: int = 0) -> Any:
        """(..., n, m) -> (..., n, m); from diagonal `k` down."""
        return creation.tril(x, k)


class Triu(Cell):
    """The upper triangle of matrices, zeros elsewhere."""

    def construct(self, x: TensorLike, k: int = 0) -> Any:
        """(..., n, m) -> (..., n, m); from diagonal `k` up."""
        return creation.triu(x, k)


class Moments(Cell):
    """Mean and variance over axes.

    Args:
        axis: which; None: all.
        keep_dims: whether they stay, of size 1.
    """

    def __init__(
        self, axis: int | tuple[int, ...] | None = None, keep_dims: bool | None = None
    ) -> None:
        super().__init__()
        self.axis, self.keep_dims = axis, bool(keep_dims)

    def construct(self, x: TensorLike) -> tuple[Any, Any]:
        """(mean, variance), the variance divided by the number of elements."""
        axes = () if self.axis is None else self.axis
        return x.mean(axes, keepdims=self.keep_dims), x.var(axes, keepdims=self.keep_dims)


class ReduceLogSumExp(Cell):
    """The logarithm of the sum of exp over axes.

    Args:
        axis: which.
        keep_dims: whether they stay, of size 1.
    """

    def __init__(self, axis: int | tuple[int, ...], keep_dims: bool = False) -> None:
        super().__init__()
        self.axis, self.keep_dims = axis, keep_dims

    def construct(self, x: TensorLike) -> Any:
        """(...) -> (...) without these axes."""
        return reduce.logsumexp(x, self.axis, self.keep_dims)


class CentralCrop(Cell):
    """The middle of images.

    Args:
        central_fraction: the part of height and width that is kept, in (0, 1].

    Raises:
        TypeError: an argument that is not a number.
        ValueError: a number out of range; in a call, images of another number of axes.
    """

    def __init__(self, central_fraction: float) -> None:
        super().__init__()
        self.central_fraction = arguments.number(
            "CentralCrop", "central_fraction", central_fraction, 0, 1
        )
        arguments.positive("CentralCrop", "central_fraction", self.central_fraction)

    def construct(self, image: TensorLike) -> Any:
        """(n, c, h, w) or (c, h, w)."""
        if image.ndim not in (3, 4):
            raise ValueError(
                f"CentralCrop: image must be (n, c, h, w) or (c, h, w), got shape {image.shape}."
            )
        for axis in (-2, -1):
            size = image.shape[axis]
            first = int((size - size * self.central_fraction) / 2)
            image = rearranging.narrow(image, axis, first, size - 2 * first)
        return image


class RReLU(Cell):
    """x, and below 0 x times a number: by chance in training, the mean otherwise.

    Args:
        lower: the least of these numbers.
        upper: the largest.

    Raises:
        TypeError: an argument that is not a number.
        ValueError: `lower` is above `upper`.
    """

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3) -> None:
        super().__init__()
        self._lower = arguments.number("RReLU", "lower", lower)
        self._upper = arguments.number("RReLU", "upper", upper)
        if self._lower > self._upper:
            raise ValueError(
                f"RReLU(lower): expected at most upper, {self._upper}, got {self._lower}."
            )

    def construct(self, input_x: TensorLike) -> Any:
        """(...) -> (...)."""
        value = raw(arguments.tensor("RReLU", input_x))
        with x64(value):
            if self.training:
                slope = raw(graph_marks.rand_like(wrap(value)))
                slope = self._lower + slope * (self._upper - self._lower)
            else:
                slope = jnp.asarray((self._lower + self._upper) / 2, value.dtype)
            return wrap(jnp.where(value >= 0, value, value * slope))
