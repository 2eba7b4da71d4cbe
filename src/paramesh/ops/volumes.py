"""Volumes (n, c, d, h, w): convolutions and pooling."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.ops.array import Ints
from paramesh.ops.conv import Padding, _plus_bias, convolved, padding_of, pads_of, pair
from paramesh.ops.pooling import Window, _average, _averaged, _largest, _pads_of_windows
from paramesh.ops.table import Array, Floating, function, primitive, tuple_function

# fmt: off
__all__ = [
    "conv3d", "conv3d_transpose", "Conv3D", "Conv3DTranspose", "conv_transpose2d", "max_pool3d",
    "max_pool3d_mode", "MaxPool3D", "avg_pool3d", "AvgPool3D", "avg_pool1d", "lp_pool1d",
    "lp_pool2d", "max_pool_with_argmax", "MaxPoolWithArgmax", "lrn", "LRN",
]
# fmt: on

_NAMES = ("NCDHW", "OIDHW", "NCDHW")


def _convolve(
    x: jax.Array, weight: jax.Array, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    if x.ndim != weight.ndim or x.shape[1] != weight.shape[1] * groups:
        raise ValueError(
            f"an input {tuple(x.shape)} does not fit a weight {tuple(weight.shape)} with "
            f"groups={groups}."
        )
    names = _NAMES if x.ndim == 5 else ("NCHW", "OIHW", "NCHW")
    return convolved(x, weight, stride, padding, dilation, groups, names)


@function
def conv3d(
    input: Array,
    weight: Array,
    bias: Array = None,
    stride: Ints = 1,
    pad_mode: str = "valid",
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Any:
    """Convolution of volumes: (n, c, d, h, w) and (out, c/groups, kd, kh, kw) -> (n, out, ...).

    Args:
        input: the volumes.
        weight: the kernels.
        bias: (out,), or None.
        stride: one step, or one for each spatial axis.
        pad_mode: `valid`, `same` or `pad`.
        padding: for `pad`: one number, three, or six (before and after each axis).
        dilation: distance of the kernel's points.
        groups: groups of channels that are convolved apart.
    """
    out = _convolve(input, weight, stride, padding_of(pad_mode, padding, 3), dilation, groups)
    return _plus_bias(out, bias, "NCHW")


@function
def conv3d_transpose(
    input_x: Array,
    weight: Array,
    bias: Array = None,
    stride: Ints = 1,
    pad_mode: str = "valid",
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
    output_padding: Ints = 0,
) -> Any:
    """The transposed convolution of volumes (or images): the gradient of `conv3d` by its volumes.

    Args:
        input_x: (n, in, d, h, w).
        weight: (in, out/groups, kd, kh, kw).
        bias: (out,), or None.
        stride: the step of that convolution.
        pad_mode: its `pad_mode`.
        padding: its padding.
        dilation: its dilation.
        groups: its groups.
        output_padding: how much larger the output is at the end of each axis.

    Returns:
        (n, out, d', h', w').
    """
    n = input_x.ndim - 2
    kernel, steps = weight.shape[2:], pair("stride", stride, n)
    apart = pair("dilation", dilation, n)
    extra = pair("output_padding", output_padding, n, 0)
    pads = padding_of(pad_mode, padding, n)
    sizes = []
    for axis, size in enumerate(input_x.shape[2:]):
        reach = (kernel[axis] - 1) * apart[axis] + 1
        if pads == "SAME":
            sizes.append(size * steps[axis])
        elif pads == "VALID":
            sizes.append(size * steps[axis] + max(reach - steps[axis], 0))
        else:
            before, after = pads[axis]
            grown = (size - 1) * steps[axis] + reach - before - after  # type: ignore[operator]
            sizes.append(grown + extra[axis])
    if any(extra) and isinstance(pads, str):
        raise ValueError(f"output_padding needs pad_mode='pad', got {pad_mode!r}.")
    shape = (input_x.shape[0], weight.shape[1] * groups, *sizes)
    images = jax.ShapeDtypeStruct(shape, input_x.dtype)

    def forward(x: jax.Array) -> Any:
        return _convolve(x, weight, steps, pads, apart, groups)

    out = jax.linear_transpose(forward, images)(input_x)[0]
    return _plus_bias(out, bias, "NCHW")


@function
def conv_transpose2d(
    input: Array,
    weight: Array,
    bias: Array = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Any:
    """The transposed convolution of images: (n, in, h, w), (in, out/groups, kh, kw).

    Args:
        input: the images.
        weight: the kernels.
        bias: (out,), or None.
        stride: the step of the convolution whose gradient it is.
        padding: its padding: one number or (h, w).
        output_padding: how much larger the output is at the end of each axis.
        groups: groups of channels.
        dilation: distance of the kernel's points.
    """
    return conv3d_transpose.__wrapped__(  # type: ignore[attr-defined]
        input, weight, bias, stride, "pad", padding, dilation, groups, output_padding
    )


def _volume_settings(
    out_channel: int,
    kernel_size: Ints,
    mode: int = 1,
    pad_mode: str = "valid",
    pad: Ints = 0,
    stride: Ints = 1,
    dilation: Ints = 1,
    group: int = 1,
    data_format: str = "NCDHW",
) -> dict[str, Any]:
    if mode != 1 or data_format != "NCDHW":
        raise ValueError(f"only mode=1 and 'NCDHW' are offered, got {mode} and {data_format!r}.")
    return dict(stride=stride, pad_mode=pad_mode, padding=pad, dilation=dilation, groups=group)


def _transposed_settings(
    in_channel: int,
    out_channel: int,
    kernel_size: Ints,
    mode: int = 1,
    pad_mode: str = "valid",
    pad: Ints = 0,
    stride: Ints = 1,
    dilation: Ints = 1,
    group: int = 1,
    output_padding: Ints = 0,
    data_format: str = "NCDHW",
) -> dict[str, Any]:
    settings = _volume_settings(
        out_channel, kernel_size, mode, pad_mode, pad, stride, dilation, group, data_format
    )
    return settings | {"output_padding": output_padding}


Conv3D = primitive("Conv3D", conv3d, _volume_settings)
Conv3DTranspose = primitive("Conv3DTranspose", conv3d_transpose, _transposed_settings)

# Pooling.


def _window(
    x: jax.Array, kernel: Ints, stride: Ints, padding: Padding, ceil: bool = False
) -> Window:
    n = x.ndim - 2
    kernel, stride = pair("kernel_size", kernel, n), pair("stride", stride, n)
    pads = _pads_of_windows(x.shape[2:], kernel, stride, padding, ceil)
    return (1, 1, *kernel), (1, 1, *stride), ((0, 0), (0, 0), *pads)


@function
def max_pool3d(
    x: Array,
    kernel_size: Ints,
    stride: Ints | None = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """The largest element of each window: (n, c, d, h, w) -> (n, c, d', h', w').

    Args:
        x: the volumes.
        kernel_size: size of the window.
        stride: steps; None: the kernel's size.
        padding: around the volume; it is never the largest.
        dilation: only 1.
        ceil_mode: whether windows that leave the volume at the end count.
        return_indices: not offered.

    Raises:
        ValueError: a setting that is not offered.
    """
    if return_indices or set(pair("dilation", dilation, 3)) != {1}:
        raise ValueError("return_indices=True and a dilation are not offered.")
    steps = kernel_size if stride is None else stride
    return _largest(x, _window(x, kernel_size, steps, pads_of("padding", padding, 3), ceil_mode))


@function
def max_pool3d_mode(
    x: Array,
    kernel_size: Ints = 1,
    strides: Ints = 1,
    pad_mode: str = "valid",
    padding: Ints = 0,
    ceil_mode: bool = False,
) -> Any:
    """`max_pool3d` by `pad_mode`: `valid`, `same` or `pad`; `ceil_mode` is for `pad`."""
    pads = padding_of(pad_mode, padding, 3)
    return _largest(x, _window(x, kernel_size, strides, pads, ceil_mode))


@function
def avg_pool3d(
    input_x: Floating,
    kernel_size: Ints = 1,
    stride: Ints = 1,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int = 0,
) -> Any:
    """The mean of each window: (n, c, d, h, w) -> (n, c, d', h', w').

    Args:
        input_x: the volumes.
        kernel_size: size of the window.
        stride: steps.
        padding: zeros around the volume.
        ceil_mode: whether windows that leave the volume at the end count.
        count_include_pad: whether the padding counts as zeros.
        divisor_override: what to divide by instead of the number of elements, if not 0.
    """
    return _means_of_windows(
        input_x, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _means_of_windows(
    x: jax.Array,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil: bool,
    counted: bool,
    divisor: int = 0,
) -> jax.Array:
    def windows(x: jax.Array, pads: Padding) -> Window:
        return _window(x, kernel, stride, pads, ceil)

    pads = pads_of("padding", padding, x.ndim - 2)
    return _averaged(x, windows, pads, ceil, counted, divisor)


@function
def avg_pool1d(
    input_x: Floating,
    kernel_size: int = 1,
    stride: int = 1,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    """The mean of each window: (n, c, l) -> (n, c, l'); settings as in `avg_pool3d`."""
    return _means_of_windows(input_x, kernel_size, stride, padding, ceil_mode, count_include_pad)


def _max3_settings(
    kernel_size: Ints = 1,
    strides: Ints = 1,
    pad_mode: str = "VALID",
    pad_list: Ints = 0,
    ceil_mode: bool | None = None,
    data_format: str = "NCDHW",
) -> dict[str, Any]:
    if data_format != "NCDHW":
        raise ValueError("only data_format='NCDHW' is offered.")
    if ceil_mode and pad_mode.lower() != "pad":
        raise ValueError(f"ceil_mode=True needs pad_mode='pad', got {pad_mode!r}.")
    return dict(
        kernel_size=kernel_size,
        strides=strides,
        pad_mode=pad_mode,
        padding=pad_list,
        ceil_mode=bool(ceil_mode),
    )


def _average3_settings(
    kernel_size: Ints = 1,
    strides: Ints = 1,
    pad_mode: str = "valid",
    pad: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int = 0,
    data_format: str = "NCDHW",
) -> dict[str, Any]:
    if pad_mode.lower() == "same" or data_format != "NCDHW":
        raise ValueError("only pad_mode 'valid' and 'pad' and data_format='NCDHW' are offered.")
    return dict(
        kernel_size=kernel_size,
        stride=strides,
        padding=pad,
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
        divisor_override=divisor_override,
    )


MaxPool3D = primitive("MaxPool3D", max_pool3d_mode, _max3_settings)
AvgPool3D = primitive("AvgPool3D", avg_pool3d, _average3_settings)


def _powers(x: jax.Array, norm_type: float, kernel: Any, stride: Any, ceil: bool, n: int) -> Any:
    if x.ndim == n + 1:
        return _powers(x[None], norm_type, kernel, stride, ceil, n)[0]
    if x.ndim != n + 2:
        raise ValueError(f"expected {n + 1} or {n + 2} axes, got shape {x.shape}.")
    window = _window(x, kernel, kernel if stride is None else stride, [(0, 0)] * n, ceil)
    total = _average(x**norm_type, window, True) * math.prod(window[0])
    return total ** (1 / norm_type)


@function
def lp_pool1d(
    x: Floating,
    norm_type: float,
    kernel_size: int,
    stride: int | None = None,
    ceil_mode: bool = False,
) -> Any:
    """(sum of x ** p) ** (1 / p) of each window: (n, c, l) -> (n, c, l'), n may be missing."""
    return _powers(x, norm_type, kernel_size, stride, ceil_mode, 1)


@function
def lp_pool2d(
    x: Floating,
    norm_type: float,
    kernel_size: Ints,
    stride: Ints | None = None,
    ceil_mode: bool = False,
) -> Any:
    """(sum of x ** p) ** (1 / p) of each window: (n, c, h, w) -> (n, c, h', w'), n may be
    missing.
    """
    return _powers(x, norm_type, kernel_size, stride, ceil_mode, 2)


@tuple_function
def max_pool_with_argmax(
    input: Array, kernel_size: Ints = 1, strides: Ints = 1, pad_mode: str = "valid"
) -> Any:
    """(the largest element of each window, its place in the image (c * h * w): Int32).

    As in MindSpore the place counts the elements of the channels before, too.
    """
    h, w = input.shape[2:]
    window = _window(input, kernel_size, strides, padding_of(pad_mode, 0))
    places = jnp.broadcast_to(jnp.arange(h * w, dtype=jnp.int32).reshape(h, w), input.shape)

    def join(a: jax.Array, b: jax.Array) -> Any:
        first = (a[0] > b[0]) | ((a[0] == b[0]) & (a[1] < b[1]))
        return jnp.where(first, a[0], b[0]), jnp.where(first, a[1], b[1])

    lowest = np.array(-np.inf if jnp.issubdtype(input.dtype, jnp.floating) else
                      jnp.iinfo(input.dtype).min, input.dtype)  # fmt: skip
    start = (lowest, np.int32(np.iinfo(np.int32).max))
    _, at = jax.lax.reduce_window((jax.lax.stop_gradient(input), places), start, join, *window)
    flat = input.reshape(*input.shape[:2], h * w)
    values = jnp.take_along_axis(flat, at.reshape(*at.shape[:2], -1), 2)
    before = (h * w * jnp.arange(input.shape[1], dtype=jnp.int32))[:, None, None]
    return values.reshape(at.shape), at + before


def _argmax_settings(
    kernel_size: Ints = 1, strides: Ints = 1, pad_mode: str = "valid", data_format: str = "NCHW"
) -> dict[str, Any]:
    if data_format != "NCHW":
        raise ValueError(f"data_format must be 'NCHW', got {data_format!r}.")
    return dict(kernel_size=kernel_size, strides=strides, pad_mode=pad_mode)


MaxPoolWithArgmax = primitive("MaxPoolWithArgmax", max_pool_with_argmax, _argmax_settings)


@function
def lrn(
    x: Floating,
    depth_radius: int = 5,
    bias: float = 1.0,
    alpha: float = 1.0,
    beta: float = 0.5,
    norm_region: str = "ACROSS_CHANNELS",
) -> Any:
    """X / (bias + alpha * the squares of the channels around) ** beta (Krizhevsky et al. 2012).

    Args:
        x: (n, c, h, w).
        depth_radius: how many channels on each side.
        bias: see above.
        alpha: see above.
        beta: see above.
        norm_region: only `ACROSS_CHANNELS`.
    """
    if norm_region != "ACROSS_CHANNELS":
        raise ValueError(f"norm_region must be 'ACROSS_CHANNELS', got {norm_region!r}.")
    squares = jnp.pad(x * x, [(0, 0), (depth_radius, depth_radius), (0, 0), (0, 0)])
    total = sum(squares[:, i : i + x.shape[1]] for i in range(2 * depth_radius + 1))
    return x / (bias + alpha * total) ** beta


LRN = primitive(
    "LRN",
    lrn,
    lambda depth_radius=5, bias=1.0, alpha=1.0, beta=0.5, norm_region="ACROSS_CHANNELS": dict(
        depth_radius=depth_radius, bias=bias, alpha=alpha, beta=beta, norm_region=norm_region
    ),
)
