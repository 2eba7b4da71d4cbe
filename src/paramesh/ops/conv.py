"""Convolutions over images and sequences.

`pad_mode` is MindSpore's: `valid` (no padding), `same` (the output has ceil(size / stride)
elements, the odd one of the padding at the end), `pad` (by the numbers that are given). Images
are (n, c, h, w), or (n, h, w, c) for `data_format="NHWC"`.
"""

from typing import Any

import jax
import jax.numpy as jnp

from paramesh.dtype import to_dtype
from paramesh.ops.array import ints
from paramesh.ops.table import Array, alias, function, primitive
from paramesh.state import placement
from paramesh.tensor.argument_types import Ints

# fmt: off
__all__ = [
    "conv2d", "conv1d", "conv2d_transpose", "Conv2D", "Conv2DTranspose", "Conv2DBackpropInput",
    "depthwise_conv2d", "DepthwiseConv2dNative",
]
# fmt: on


Padding = str | list[tuple[int, int]]

_LAYOUTS = {
    ("NCHW", 2): ("NCHW", "OIHW", "NCHW"),
    ("NHWC", 2): ("NHWC", "OHWI", "NHWC"),
    ("NCHW", 1): ("NCH", "OIH", "NCH"),
}


def pair(name: str, value: Ints, n: int = 2, least: int = 1) -> tuple[int, ...]:
    """One number for each spatial axis, from one, from n, or from one for every axis."""
    numbers = ints(value)
    if len(numbers) == 1:
        numbers = numbers * n
    if len(numbers) == n + 2 and numbers[:2] == (1, 1):
        numbers = numbers[2:]  # MindSpore 1.x wrote (1, 1, h, w)
    if len(numbers) != n or min(numbers) < least:
        raise ValueError(f"{name} must be one or {n} ints of at least {least}, got {value!r}.")
    return numbers


def pads_of(name: str, value: Ints, n: int = 2) -> list[tuple[int, int]]:
    """(before, after) of each spatial axis, from one number, from n, or from 2n."""
    numbers = ints(value)
    if len(numbers) not in (1, n, 2 * n) or min(numbers) < 0:
        raise ValueError(
            f"{name} must be one, {n} or {2 * n} ints of at least 0 (before and after each axis), "
            f"got {value!r}."
        )
    if len(numbers) == 2 * n:
        return [(numbers[2 * i], numbers[2 * i + 1]) for i in range(n)]
    return [(p, p) for p in (numbers * n if len(numbers) == 1 else numbers)]


def padding_of(pad_mode: str, padding: Ints, n: int = 2) -> Padding:
    mode = pad_mode.lower()
    if mode not in ("valid", "same", "pad"):
        raise ValueError(f"pad_mode must be 'valid', 'same' or 'pad', got {pad_mode!r}.")
    pads = pads_of("padding", padding, n)
    if mode == "pad":
        return pads
    if any(map(any, pads)):
        raise ValueError(f"padding={padding} needs pad_mode='pad', got pad_mode={pad_mode!r}.")
    return mode.upper()


def _convolve(
    x: jax.Array,
    weight: jax.Array,
    stride: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int,
    layout: str,
) -> jax.Array:
    n = x.ndim - 2
    names = _LAYOUTS.get((layout, n))
    if names is None or weight.ndim != x.ndim:
        raise ValueError(
            f"expected images (n, c, h, w) and kernels (out, in, h, w), or NHWC for both, got "
            f"{tuple(x.shape)} and {tuple(weight.shape)} with data_format={layout!r}."
        )
    if x.dtype != weight.dtype:
        raise TypeError(
            f"input and weight must be of one element type, got {to_dtype(x.dtype)} and "
            f"{to_dtype(weight.dtype)}: cast one."
        )
    channels, taken = x.shape[names[0].index("C")], weight.shape[names[1].index("I")]
    if channels != taken * groups or weight.shape[0] % groups:
        raise ValueError(
            f"the input has {channels} channels; a weight {tuple(weight.shape)} with "
            f"groups={groups} takes {taken * groups} and must give a multiple of {groups}."
        )

    return convolved(x, weight, stride, padding, dilation, groups, names)


def convolved(
    x: jax.Array,
    weight: jax.Array,
    stride: Ints,
    padding: Padding,
    dilation: Ints,
    groups: int,
    names: tuple[str, str, str],
) -> jax.Array:
    """The convolution over the spatial axes; `names`: the axes of input, weight and output."""
    n = x.ndim - 2

    def compute(x: jax.Array, weight: jax.Array) -> jax.Array:
        return jax.lax.conv_general_dilated(
            x,
            weight,
            pair("stride", stride, n),
            padding,
            rhs_dilation=pair("dilation", dilation, n),
            dimension_numbers=names,
            feature_group_count=groups,
        )

    return placement.current().undivided(compute, x, weight)


@function
def conv2d(
    input: Array,
    weight: Array,
    bias: Array = None,
    stride: Ints = 1,
    pad_mode: str = "valid",
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    *,
    group: int | None = None,
) -> Any:
    """Convolution of images: (n, c, h, w) and (out, c/groups, kh, kw) -> (n, out, h', w').

    Args:
        input: the images.
        weight: the kernels, (out, kh, kw, c/groups) for `NHWC`.
        bias: (out,), or None.
        stride: one step, or one for each spatial axis.
        pad_mode: `valid`, `same` or `pad`.
        padding: for `pad`: one number, (h, w), or (top, bottom, left, right).
        dilation: distance of the kernel's points, one or one for each spatial axis.
        groups: groups of channels that are convolved apart.
        data_format: `NCHW` or `NHWC`.
        group: MindSpore 1.x's name of `groups`.

    Raises:
        TypeError: images and kernels have different element types.
        ValueError: shapes that do not fit, paddings without `pad_mode="pad"`, or both `group` and
            `groups`.
    """
    pads = padding_of(pad_mode, padding)
    if group is not None and groups != 1:
        raise ValueError(f"give groups={groups} or group={group} (its name in MindSpore 1.x).")
    groups = groups if group is None else group
    out = _convolve(input, weight, stride, pads, dilation, groups, data_format)
    return _plus_bias(out, bias, data_format)


def _plus_bias(out: jax.Array, bias: jax.Array | None, data_format: str) -> jax.Array:
    if bias is None:
        return out
    axis = 1 if data_format == "NCHW" else out.ndim - 1
    if tuple(bias.shape) != (out.shape[axis],):
        raise ValueError(f"bias must be of shape ({out.shape[axis]},), got {tuple(bias.shape)}.")
    return out + bias.astype(out.dtype).reshape([-1 if i == axis else 1 for i in range(out.ndim)])


@function
def conv1d(
    input: Array,
    weight: Array,
    bias: Array = None,
    stride: Ints = 1,
    pad_mode: str = "valid",
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Any:
    """Convolution of sequences: (n, c, l) and (out, c/groups, k) -> (n, out, l').

    Args:
        input: the sequences.
        weight: the kernels.
        bias: (out,), or None.
        stride: the step.
        pad_mode: `valid`, `same` or `pad`.
        padding: for `pad`: one number, or (before, after).
        dilation: distance of the kernel's points.
        groups: groups of channels that are convolved apart.

    Raises:
        TypeError: sequences and kernels have different element types.
        ValueError: shapes that do not fit, or paddings without `pad_mode="pad"`.
    """
    pads = padding_of(pad_mode, padding, 1)
    out = _convolve(input, weight, stride, pads, dilation, groups, "NCHW")
    return _plus_bias(out, bias, "NCHW")


@function
def conv2d_transpose(
    dout: Array,
    weight: Array,
    input_size: Ints,
    stride: Ints = 1,
    pad_mode: str = "valid",
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    data_format: str = "NCHW",
) -> Any:
    """The transposed convolution: the gradient of `conv2d` with respect to its images.

    Args:
        dout: (n, out, h', w'), of the shape of that convolution's output.
        weight: its kernels (out, c/groups, kh, kw).
        input_size: the shape of its images and of the result, (n, c, h, w).
        stride: its step.
        pad_mode: its `pad_mode`.
        padding: its padding.
        dilation: its dilation.
        groups: its groups.
        data_format: `NCHW` or `NHWC`.

    Raises:
        TypeError: element types that differ.
        ValueError: shapes that do not belong to one convolution.
    """
    pads = padding_of(pad_mode, padding)

    def forward(x: jax.Array) -> jax.Array:
        return _convolve(x, weight, stride, pads, dilation, groups, data_format)

    images = jax.ShapeDtypeStruct(ints(input_size), dout.dtype)
    made = jax.eval_shape(forward, images)
    if made.shape != dout.shape:
        raise ValueError(
            f"a convolution of images {images.shape} gives {made.shape}, got dout {dout.shape}."
        )
    return jax.linear_transpose(forward, images)(dout)[0]


def _conv_settings(
    out_channel: int,
    kernel_size: Ints,
    mode: int = 1,
    pad_mode: str = "valid",
    pad: Ints = 0,
    stride: Ints = 1,
    dilation: Ints = 1,
    group: int = 1,
    data_format: str = "NCHW",
) -> dict[str, Any]:
    if mode != 1:
        raise ValueError(f"mode must be 1 (the only one that MindSpore has), got {mode}.")
    pair("kernel_size", kernel_size)
    return {
        "stride": stride,
        "pad_mode": pad_mode,
        "padding": pad,
        "dilation": dilation,
        "groups": group,
        "data_format": data_format,
    }


def _transpose_settings(
    out_channel: int,
    kernel_size: Ints,
    pad_mode: str = "valid",
    pad: Ints = 0,
    pad_list: Ints | None = None,
    mode: int = 1,
    stride: Ints = 1,
    dilation: Ints = 1,
    group: int = 1,
    data_format: str = "NCHW",
) -> dict[str, Any]:
    pads = pad if pad_list is None else pad_list
    return _conv_settings(
        out_channel, kernel_size, mode, pad_mode, pads, stride, dilation, group, data_format
    )


Conv2D = primitive("Conv2D", conv2d, _conv_settings)
Conv2DTranspose = primitive("Conv2DTranspose", conv2d_transpose, _transpose_settings)
Conv2DBackpropInput = alias("Conv2DBackpropInput", Conv2DTranspose)


@function
def depthwise_conv2d(
    input: Array,
    weight: Array,
    stride: Ints = 1,
    pad_mode: str = "valid",
    padding: Ints = 0,
    dilation: Ints = 1,
) -> Any:
    """Convolution of each channel by itself: (n, c, h, w), (m, c, kh, kw) -> (n, c * m, h', w').

    Args:
        input: the images.
        weight: m kernels for each channel.
        stride: one step, or one for each spatial axis.
        pad_mode: `valid`, `same` or `pad`.
        padding: for `pad`: one number, (h, w), or (top, bottom, left, right).
        dilation: distance of the kernel's points, one or one for each spatial axis.

    Raises:
        TypeError: images and kernels have different element types.
        ValueError: shapes that do not fit, or paddings without `pad_mode="pad"`.
    """
    if input.ndim != 4 or weight.ndim != 4 or input.shape[1] != weight.shape[1]:
        raise ValueError(
            f"expected images (n, c, h, w) and kernels (m, c, kh, kw) of one c, got "
            f"{tuple(input.shape)} and {tuple(weight.shape)}."
        )
    many, channels = weight.shape[:2]
    kernels = jnp.swapaxes(weight, 0, 1).reshape(channels * many, 1, *weight.shape[2:])
    pads = padding_of(pad_mode, padding)
    return _convolve(input, kernels, stride, pads, dilation, channels, "NCHW")


def _depthwise_settings(
    channel_multiplier: int,
    kernel_size: Ints,
    mode: int = 3,
    pad_mode: str = "valid",
    pad: Ints = 0,
    stride: Ints = 1,
    dilation: Ints = 1,
    group: int = 1,
) -> dict[str, Any]:
    if mode != 3:
        raise ValueError(f"mode must be 3 (the only one that MindSpore has), got {mode}.")
    return {
        "stride": stride,
        "pad_mode": pad_mode,
        "padding": pad,
        "dilation": dilation,
    }


DepthwiseConv2dNative = primitive("DepthwiseConv2dNative", depthwise_conv2d, _depthwise_settings)
