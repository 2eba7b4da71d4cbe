"""Pooling over images: the largest or the mean element of windows.

Images are (n, c, h, w), or (n, h, w, c) for `data_format="NHWC"`; `pad_mode` as in `conv.py`.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.dtype import to_dtype
from paramesh.ops.conv import Padding, padding_of, pads_of, pair
from paramesh.ops.table import Array, Floating, function, primitive
from paramesh.state import placement
from paramesh.tensor.argument_types import Ints

# fmt: off
__all__ = [
    "max_pool", "max_pool2d", "avg_pool", "avg_pool2d", "MaxPool", "AvgPool",
    "adaptive_avg_pool2d", "AdaptiveAvgPool2D",
]
# fmt: on


T = TypeVar("T")

#: Kernel, stride and (before, after) of the padding, for every axis of the input.
Window = tuple[tuple[int, ...], tuple[int, ...], tuple[tuple[int, int], ...]]


def _window(
    x: jax.Array, kernel: Ints, stride: Ints, padding: Padding, layout: str, ceil: bool = False
) -> Window:
    """Kernel, stride and padding for every axis of the input."""
    if layout not in ("NCHW", "NHWC") or x.ndim not in (3, 4):
        raise ValueError(
            f"expected images (n, c, h, w), or NHWC, got {tuple(x.shape)} with "
            f"data_format={layout!r}."
        )
    n = x.ndim - 2
    first = 2 if layout == "NCHW" else 1
    kernel, stride = pair("kernel_size", kernel, n), pair("stride", stride, n)
    sizes = x.shape[first : first + n]
    if not isinstance(padding, str) and any(
        2 * max(p) > k for p, k in zip(padding, kernel, strict=True)
    ):
        raise ValueError(f"padding {padding} is more than half of the kernel {kernel}.")
    pads = _pads_of_windows(sizes, kernel, stride, padding, ceil)

    def full(values: Sequence[T], fill: T) -> tuple[T, ...]:
        return (fill,) * first + tuple(values) + (fill,) * (x.ndim - first - n)

    return full(kernel, 1), full(stride, 1), full(pads, (0, 0))


def _pads_of_windows(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Padding,
    ceil: bool,
) -> Sequence[tuple[int, int]]:
    """(before, after) of each spatial axis, with what `ceil` adds at the end."""
    if isinstance(padding, str):
        return jax.lax.padtype_to_pads(sizes, kernel, stride, padding)
    return [
        (a, b + _missing(size + a + b, k, s, size + a) if ceil else b)
        for (a, b), size, k, s in zip(padding, sizes, kernel, stride, strict=True)
    ]


def _missing(size: int, kernel: int, stride: int, inside: int) -> int:
    """How much padding makes room for one more, incomplete window that begins inside."""
    windows = math.ceil(max(size - kernel, 0) / stride) + 1
    if (windows - 1) * stride >= inside:
        windows -= 1
    return max(0, (windows - 1) * stride + kernel - size)


#: Windows of more elements are left to XLA's own operator.
_FEW = 16


def _tile(sizes: tuple[int, ...], window: Window, dilation: tuple[int, ...] | None) -> bool:
    """Whether small windows stand next to each other: each element is in one of them at most."""
    kernel, stride, pads = window
    if kernel != stride or any(map(any, pads)) or not set(dilation or ()) <= {1}:
        return False
    return math.prod(kernel) <= _FEW and all(n >= k for n, k in zip(sizes, kernel, strict=True))


def _largest_of_tiles(x: jax.Array, kernel: tuple[int, ...]) -> jax.Array:
    """Element by element: the same numbers and gradients as XLA's operator.

    On the CPU the gradient of that one, a search for each window's largest element, takes up to
    30 times as long. The first of equal elements has the gradient, and NaN is the largest.
    """
    found: Any = None
    for start in itertools.product(*map(range, kernel)):
        ends = [(n // k - 1) * k + s + 1 for n, k, s in zip(x.shape, kernel, start, strict=True)]
        other = jax.lax.slice(x, start, ends, kernel)
        if found is None:
            found = other
        else:
            found = jnp.where((found >= other) | (found != found), found, other)
    return found


def _largest(x: jax.Array, window: Window, dilation: tuple[int, ...] | None = None) -> jax.Array:
    kernel, stride, pads = window
    if placement.current().platform == "cpu" and _tile(x.shape, window, dilation):
        return _largest_of_tiles(x, kernel)
    kind = to_dtype(x.dtype).kind
    lowest = np.array(-np.inf if kind == "float" else jnp.iinfo(x.dtype).min, x.dtype)

    def compute(x: jax.Array) -> jax.Array:
        return jax.lax.reduce_window(
            x, lowest, jax.lax.max, kernel, stride, pads, window_dilation=dilation
        )

    return placement.current().undivided(compute, x)


def _total(x: jax.Array, window: Window) -> jax.Array:
    kernel, stride, pads = window
    return jax.lax.reduce_window(x, np.array(0, x.dtype), jax.lax.add, kernel, stride, pads)


def _average(x: jax.Array, window: Window, count_pads: bool, divisor: int = 0) -> jax.Array:
    total = _total(x, window)
    if divisor or count_pads:
        return total / (divisor or math.prod(window[0]))
    return total / _total(jnp.ones(x.shape, x.dtype), window)


def _averaged(
    x: jax.Array,
    windows: Callable[[jax.Array, Padding], Window],
    pads: list[tuple[int, int]],
    ceil: bool,
    counted: bool,
    divisor: int,
) -> jax.Array:
    """Means of the windows that `windows` gives for an input and its padding, channels first."""
    window = windows(x, pads)
    if not counted or divisor or not ceil:
        return _average(x, window, counted, divisor)
    # Elements beyond the padding, which ceil_mode alone brings in, do not count.
    grown = jnp.pad(x, [(0, 0), (0, 0), *pads])
    return _average(grown, windows(grown, [(0, 0)] * len(pads)), False)


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
    pads = padding_of(pad_mode, 0, input.ndim - 2)
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
    apart = pair("dilation", dilation)
    kernel = pair("kernel_size", kernel_size)
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, apart, strict=True))
    steps = kernel if stride is None else stride
    window = _window(x, reach, steps, pads_of("padding", padding), "NCHW", ceil_mode)
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
    pads = padding_of(pad_mode, 0, input.ndim - 2)
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

    def windows(x: jax.Array, pads: Padding) -> Window:
        return _window(x, kernel_size, stride, pads, "NCHW", ceil_mode)

    pads = pads_of("padding", padding)
    return _averaged(input_x, windows, pads, ceil_mode, count_include_pad, divisor_override)


def _settings(
    kernel_size: Ints = 1, strides: Ints = 1, pad_mode: str = "valid", data_format: str = "NCHW"
) -> dict[str, Any]:
    return dict(locals())


MaxPool = primitive("MaxPool", max_pool, _settings)
AvgPool = primitive("AvgPool", avg_pool, _settings)


@function
def adaptive_avg_pool2d(input: Floating, output_size: int | Sequence[int | None] | None) -> Any:
    """Means of windows that divide each image evenly: (..., h, w) -> (..., h', w').

    Args:
        input: (c, h, w) or (n, c, h, w).
        output_size: one number, or (h', w'); None keeps the size of that axis.
    """
    wanted = output_size if isinstance(output_size, Sequence) else (output_size, output_size)
    sizes = input.shape[-2:]
    rows, columns = (
        _means(size, size if out is None else int(out), input.dtype)
        for size, out in zip(sizes, wanted, strict=True)
    )
    return jnp.einsum("ph,...hw,qw->...pq", rows, input, columns)


def _means(size: int, out: int, dtype: np.dtype[Any]) -> jax.Array:
    """(out, size): row i has the weights of the elements that are averaged into place i."""
    weights = np.zeros((out, size))
    for i in range(out):
        low, high = i * size // out, -(-(i + 1) * size // out)
        weights[i, low:high] = 1 / (high - low)
    return jnp.asarray(weights, dtype)


AdaptiveAvgPool2D = primitive(
    "AdaptiveAvgPool2D", adaptive_avg_pool2d, lambda output_size: {"output_size": output_size}
)
