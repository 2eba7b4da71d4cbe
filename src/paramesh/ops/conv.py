"""Convolutions and pooling over images.

`pad_mode` is MindSpore's: `valid` (no padding), `same` (the output has ceil(size / stride)
elements, the odd one of the padding at the end), `pad` (by the numbers that are given). Images
are (n, c, h, w), or (n, h, w, c) for `data_format="NHWC"`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import to_dtype
from paramesh.ops.array import Ints, ints
from paramesh.ops.table import Array, Floating, alias, function, primitive

# fmt: off
__all__ = [
    "conv2d", "conv1d", "conv2d_transpose", "Conv2D", "Conv2DTranspose", "Conv2DBackpropInput",
    "max_pool", "max_pool2d", "avg_pool", "avg_pool2d", "MaxPool", "AvgPool",
    "adaptive_avg_pool2d", "AdaptiveAvgPool2D",
]
# fmt: on


Padding = str | list[tuple[int, int]]

_LAYOUTS = {
    ("NCHW", 2): ("NCHW", "OIHW", "NCHW"),
    ("NHWC", 2): ("NHWC", "OHWI", "NHWC"),
    ("NCHW", 1): ("NCH", "OIH", "NCH"),
}


def _pair(name: str, value: Any, n: int = 2, least: int = 1) -> tuple[int, ...]:
    """One number for each spatial axis, from one, from n, or from one for every axis."""
    numbers = ints(value)
    if len(numbers) == 1:
        numbers = numbers * n
    if len(numbers) == n + 2 and numbers[:2] == (1, 1):
        numbers = numbers[2:]  # MindSpore 1.x wrote (1, 1, h, w)
    if len(numbers) != n or min(numbers) < least:
        raise ValueError(f"{name} must be one or {n} ints of at least {least}, got {value!r}.")
    return numbers


def _pads(name: str, value: Any, n: int = 2) -> list[tuple[int, int]]:
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


def _padding(pad_mode: str, padding: Any, n: int = 2) -> Padding:
    mode = pad_mode.lower()
    if mode not in ("valid", "same", "pad"):
        raise ValueError(f"pad_mode must be 'valid', 'same' or 'pad', got {pad_mode!r}.")
    pads = _pads("padding", padding, n)
    if mode == "pad":
        return pads
    if any(map(any, pads)):
        raise ValueError(f"padding={padding} needs pad_mode='pad', got pad_mode={pad_mode!r}.")
    return mode.upper()


def _convolve(
    x: Any, weight: Any, stride: Any, padding: Padding, dilation: Any, groups: int, layout: str
) -> Any:
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
    return jax.lax.conv_general_dilated(
        x,
        weight,
        _pair("stride", stride, n),
        padding,
        rhs_dilation=_pair("dilation", dilation, n),
        dimension_numbers=names,
        feature_group_count=groups,
    )


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

    Raises:
        TypeError: images and kernels have different element types.
        ValueError: shapes that do not fit, or paddings without `pad_mode="pad"`.
    """
    pads = _padding(pad_mode, padding)
    out = _convolve(input, weight, stride, pads, dilation, groups, data_format)
    return _plus_bias(out, bias, data_format)


def _plus_bias(out: Any, bias: Any, data_format: str) -> Any:
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
    pads = _padding(pad_mode, padding, 1)
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
    pads = _padding(pad_mode, padding)

    def forward(x: Any) -> Any:
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
    _pair("kernel_size", kernel_size)
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

# Pooling.


def _window(x: Any, kernel: Any, stride: Any, padding: Padding, layout: str, ceil: bool = False):
    """Kernel, stride and padding for every axis of the input."""
    if layout not in ("NCHW", "NHWC") or x.ndim not in (3, 4):
        raise ValueError(
            f"expected images (n, c, h, w), or NHWC, got {tuple(x.shape)} with "
            f"data_format={layout!r}."
        )
    n = x.ndim - 2
    first = 2 if layout == "NCHW" else 1
    kernel, stride = _pair("kernel_size", kernel, n), _pair("stride", stride, n)
    sizes = x.shape[first : first + n]
    if isinstance(padding, str):
        pads = jax.lax.padtype_to_pads(sizes, kernel, stride, padding)
    else:
        if any(2 * max(p) > k for p, k in zip(padding, kernel, strict=True)):
            raise ValueError(f"padding {padding} is more than half of the kernel {kernel}.")
        pads = [
            (a, b + _missing(size + a + b, k, s, size + a) if ceil else b)
            for (a, b), size, k, s in zip(padding, sizes, kernel, stride, strict=True)
        ]

    def full(values: Any, fill: Any) -> tuple[Any, ...]:
        return (fill,) * first + tuple(values) + (fill,) * (x.ndim - first - n)

    return full(kernel, 1), full(stride, 1), full(pads, (0, 0))


def _missing(size: int, kernel: int, stride: int, inside: int) -> int:
    """How much padding makes room for one more, incomplete window that begins inside."""
    windows = math.ceil(max(size - kernel, 0) / stride) + 1
    if (windows - 1) * stride >= inside:
        windows -= 1
    return max(0, (windows - 1) * stride + kernel - size)


def _largest(x: Any, window: Any, dilation: Any = None) -> Any:
    kernel, stride, pads = window
    kind = to_dtype(x.dtype).kind
    lowest = np.array(-np.inf if kind == "float" else jnp.iinfo(x.dtype).min, x.dtype)
    return jax.lax.reduce_window(
        x, lowest, jax.lax.max, kernel, stride, pads, window_dilation=dilation
    )


def _total(x: Any, window: Any) -> Any:
    kernel, stride, pads = window
    return jax.lax.reduce_window(x, np.array(0, x.dtype), jax.lax.add, kernel, stride, pads)


def _average(x: Any, window: Any, count_pads: bool, divisor: int = 0) -> Any:
    total = _total(x, window)
    if divisor or count_pads:
        return total / (divisor or math.prod(window[0]))
    return total / _total(jnp.ones(x.shape, x.dtype), window)


@function
def max_pool(
    input: Array,
    kernel_size: Ints = 1,
    strides: Ints = 1,
    pad_mode: str = "valid",
    data_format: str = "NCHW",
) -> Any:
    """The largest element of each window: (n, c, h, w) -> (n, c, h', w').

    Args:
        input: the images, or sequences (n, c, l).
        kernel_size: size of the window, one or one for each spatial axis.
        strides: steps, one or one for each spatial axis.
        pad_mode: `valid` or `same`; padding is never the largest.
        data_format: `NCHW` or `NHWC`.
    """
    pads = _padding(pad_mode, 0, input.ndim - 2)
    return _largest(input, _window(input, kernel_size, strides, pads, data_format))


@function
def max_pool2d(
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    return_indices: bool = False,
    ceil_mode: bool = False,
) -> Any:
    """The largest element of each window: (n, c, h, w) -> (n, c, h', w').

    Args:
        x: the images.
        kernel_size: size of the window, one or one for each spatial axis.
        stride: steps; None: the kernel's size.
        padding: one number or (h, w), at most half of the kernel; it is never the largest.
        dilation: distance of the window's points.
        return_indices: not offered.
        ceil_mode: whether windows that leave the image at the end count.

    Raises:
        ValueError: `return_indices`, or numbers out of range.
    """
    if return_indices:
        raise ValueError("return_indices=True is not offered: max_pool2d gives the values alone.")
    apart = _pair("dilation", dilation)
    kernel = _pair("kernel_size", kernel_size)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, apart, strict=True))
    steps = kernel if stride is None else stride
    window = _window(x, reach, steps, _pads("padding", padding), "NCHW", ceil_mode)
    return _largest(x, ((1, 1, *kernel), *window[1:]), (1, 1, *apart))


@function
def avg_pool(
    input: Floating,
    kernel_size: Ints = 1,
    strides: Ints = 1,
    pad_mode: str = "valid",
    data_format: str = "NCHW",
) -> Any:
    """The mean of each window, without padding: (n, c, h, w) -> (n, c, h', w').

    Args:
        input: the images, or sequences (n, c, l).
        kernel_size: size of the window, one or one for each spatial axis.
        strides: steps, one or one for each spatial axis.
        pad_mode: `valid` or `same`.
        data_format: `NCHW` or `NHWC`.
    """
    pads = _padding(pad_mode, 0, input.ndim - 2)
    return _average(input, _window(input, kernel_size, strides, pads, data_format), False)


@function
def avg_pool2d(
    input_x: Floating,
    kernel_size: Ints = 1,
    stride: Ints = 1,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int = 0,
) -> Any:
    """The mean of each window: (n, c, h, w) -> (n, c, h', w').

    Args:
        input_x: the images.
        kernel_size: size of the window, one or one for each spatial axis.
        stride: steps, one or one for each spatial axis.
        padding: one number or (h, w), at most half of the kernel.
        ceil_mode: whether windows that leave the image at the end count.
        count_include_pad: whether the padding counts as zeros.
        divisor_override: what to divide by instead of the number of elements, if not 0.
    """
    pads = _pads("padding", padding)
    window = _window(input_x, kernel_size, stride, pads, "NCHW", ceil_mode)
    if not count_include_pad or divisor_override or not ceil_mode:
        return _average(input_x, window, count_include_pad, divisor_override)
    # Elements beyond the padding, which ceil_mode alone brings in, do not count.
    grown = jnp.pad(input_x, [(0, 0), (0, 0), *pads])
    window = _window(grown, kernel_size, stride, [(0, 0), (0, 0)], "NCHW", True)
    return _average(grown, window, False)


MaxPool = primitive(
    "MaxPool",
    max_pool,
    lambda kernel_size=1, strides=1, pad_mode="valid", data_format="NCHW": dict(
        kernel_size=kernel_size, strides=strides, pad_mode=pad_mode, data_format=data_format
    ),
)
AvgPool = primitive(
    "AvgPool",
    avg_pool,
    lambda kernel_size=1, strides=1, pad_mode="valid", data_format="NCHW": dict(
        kernel_size=kernel_size, strides=strides, pad_mode=pad_mode, data_format=data_format
    ),
)


@function
def adaptive_avg_pool2d(input: Floating, output_size: Any) -> Any:
    """Means of windows that divide each image evenly: (..., h, w) -> (..., h', w').

    Args:
        input: (c, h, w) or (n, c, h, w).
        output_size: one number, or (h', w'); None keeps the size of that axis.
    """
    wanted = output_size if isinstance(output_size, tuple | list) else (output_size, output_size)
    sizes = input.shape[-2:]
    rows, columns = (
        _means(size, size if out is None else int(out), input.dtype)
        for size, out in zip(sizes, wanted, strict=True)
    )
    return jnp.einsum("ph,...hw,qw->...pq", rows, input, columns)


def _means(size: int, out: int, dtype: Any) -> Any:
    """(out, size): row i has the weights of the elements that are averaged into place i."""
    weights = np.zeros((out, size))
    for i in range(out):
        low, high = i * size // out, -(-(i + 1) * size // out)
        weights[i, low:high] = 1 / (high - low)
    return jnp.asarray(weights, dtype)


AdaptiveAvgPool2D = primitive(
    "AdaptiveAvgPool2D", adaptive_avg_pool2d, lambda output_size: {"output_size": output_size}
)
