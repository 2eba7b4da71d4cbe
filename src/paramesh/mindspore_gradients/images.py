"""Of convolutions, of pooling, and of images in another size."""

from collections.abc import Callable
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.mindspore_gradients.classes import computation, gradient, pulled
from paramesh.ops import conv, pooling, resizing, volumes
from paramesh.ops.array import Ints, ints
from paramesh.ops.table import Array

__all__: list[str] = []


def _windows(
    kernel_size: Ints = 1, strides: Ints = 1, pad_mode: str = "valid", data_format: str = "NCHW"
) -> dict[str, Any]:
    return dict(
        kernel_size=kernel_size,
        strides=strides,
        pad_mode=pad_mode.lower(),
        data_format=data_format,
    )


def _pooled(pool: Callable[..., Any]) -> Callable[..., Any]:
    def compute(x: Array, out: Array, grad: Array, **settings: object) -> Any:
        return pulled(lambda v: computation(pool)(v, **settings), grad, x)

    compute.__doc__ = f"{pool.__name__} with these settings: takes (x, y, dy), y being the output."
    return compute


def _pooled_twice(pool: Callable[..., Any]) -> Callable[..., Any]:
    def compute(x: Array, out: Array, grad: Array, **settings: object) -> Any:
        return jax.jvp(lambda v: computation(pool)(v, **settings), (x,), (grad,))[1]

    compute.__doc__ = (
        f"The derivative of {pool.__name__}'s gradient by its dy: takes (x, y, grad), grad being "
        "of the shape of x."
    )
    return compute


gradient(globals(), "MaxPoolGrad", _pooled(pooling.max_pool), _windows)
gradient(globals(), "AvgPoolGrad", _pooled(pooling.avg_pool), _windows)
gradient(globals(), "MaxPoolGradGrad", _pooled_twice(pooling.max_pool), _windows)


gradient(
    globals(),
    "MaxPool3DGradGrad",
    _pooled_twice(volumes.max_pool3d_mode),
    lambda kernel_size=(1, 1, 1, 1, 1), strides=(1, 1, 1, 1, 1), pad_mode="VALID",
    data_format="NCDHW": dict(
        kernel_size=ints(kernel_size)[-3:], strides=ints(strides)[-3:], pad_mode=pad_mode.lower()
    ),
)  # fmt: skip


def _by_position(x: Array, grad: Array, argmax: Array, **_: object) -> Any:
    """MaxPoolWithArgmax: takes (x, dy, argmax), the positions that the forward operator gave."""
    n = x.shape[0]
    flat, images = jnp.zeros((n, prod(x.shape[1:])), grad.dtype), jnp.arange(n)[:, None]
    return flat.at[images, argmax.reshape(n, -1)].add(grad.reshape(n, -1)).reshape(x.shape)


def _picked(x: Array, grad: Array, argmax: Array, **_: object) -> Any:
    """What MaxPoolWithArgmax picks of `grad`: takes (x, grad, argmax)."""
    n = x.shape[0]
    picked = jnp.take_along_axis(grad.reshape(n, -1), argmax.reshape(n, -1), 1)
    return picked.reshape(argmax.shape)


gradient(globals(), "MaxPoolGradWithArgmax", _by_position, _windows)
gradient(globals(), "MaxPoolGradGradWithArgmax", _picked, _windows)


def _by_kernel(out: Array, x: Array, w_shape: Ints, **settings: object) -> Any:
    """Conv2D's gradient by the kernels: takes (dy, x, shape), the shape being the kernels'."""
    forward = computation(conv.conv2d)
    kernels = jnp.zeros(ints(w_shape), x.dtype)
    return pulled(lambda w: forward(x, w, **settings), out, kernels)


def _convolution(
    out_channel: int,
    kernel_size: Ints,
    pad_mode: str = "valid",
    pad: Ints = 0,
    pad_list: Ints = (0, 0, 0, 0),
    mode: int = 1,
    stride: Ints = (1, 1),
    dilation: Ints = (1, 1, 1, 1),
    group: int = 1,
    data_format: str = "NCHW",
) -> dict[str, Any]:
    if mode != 1:
        raise ValueError(f"mode must be 1, got {mode!r}.")
    return dict(
        stride=ints(stride)[-2:],
        pad_mode=pad_mode.lower(),
        padding=pad,
        dilation=ints(dilation)[-2:],
        groups=group,
        data_format=data_format,
    )


gradient(globals(), "Conv2DBackpropFilter", _by_kernel, _convolution)


def _places(align_corners: bool = False, half_pixel_centers: bool = False) -> dict[str, Any]:
    return dict(align_corners=align_corners, half_pixel_centers=half_pixel_centers)


def _bilinear(grad: Array, image: Array, **settings: object) -> Any:
    """ResizeBilinear(settings): takes (dy, x), x being the input."""
    forward = computation(resizing.resize_bilinear_v2)
    return pulled(lambda v: forward(v, grad.shape[2:], **settings), grad, image)


gradient(globals(), "ResizeBilinearGrad", _bilinear, _places)


def _nearest(grads: Array, size: Ints, **settings: object) -> Any:
    """ResizeNearestNeighbor(settings): takes (dy, size), (h, w) of the input."""
    shape = (*grads.shape[:2], *ints(size))
    places = jnp.arange(prod(shape)).reshape(shape)
    places = computation(resizing.resize_nearest_neighbor)(places, grads.shape[2:], **settings)
    zeros = jnp.zeros(prod(shape), grads.dtype)
    return zeros.at[places.reshape(-1)].add(grads.reshape(-1)).reshape(shape)


gradient(globals(), "ResizeNearestNeighborGrad", _nearest, _places)
