"""Of operators that read images at places: regions, windows by chance, deformable convolution."""

from collections.abc import Sequence
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from paramesh.mindspore_gradients.classes import computation, gradient, pulled
from paramesh.ops import boxes, fractional_pooling, grids, linalg
from paramesh.ops.array import Ints, ints
from paramesh.ops.table import Array, Floating

__all__: list[str] = []


def _regions(
    dy: Floating,
    rois: Floating,
    input_size: Ints,
    spatial_scale: float,
    group_size: int,
    output_dim: int,
) -> Any:
    """PSROIPooling: takes (dy, rois); gives the gradient of the features, one image for each n."""
    sizes = ints(input_size)
    channels = output_dim * group_size**2
    shape = (rois.shape[0], channels, sizes[0], sizes[-1])
    regions = boxes.regions_of(rois)
    wanted = (regions.shape[0], output_dim, group_size, group_size)
    if tuple(dy.shape) != wanted:
        raise ValueError(f"dy must be of the output's shape {wanted}, got {tuple(dy.shape)}.")
    return boxes.region_gradient(dy, regions, shape, spatial_scale, group_size)


def _region_settings(
    input_size: Ints, spatial_scale: float, group_size: int, output_dim: int
) -> dict[str, Any]:
    if not isinstance(input_size, int | tuple) or isinstance(input_size, bool):
        raise TypeError(f"input_size must be an int or a tuple of ints, got {input_size!r}.")
    sizes = ints(input_size)
    if len(sizes) > 2 or min(sizes, default=0) < 1:
        raise ValueError(f"input_size must be one or two ints from 1 on, got {input_size}.")
    return boxes.region_settings(spatial_scale, group_size, output_dim) | {"input_size": sizes}


gradient(globals(), "PSROIPoolingGrad", _regions, _region_settings)


def _deformable(
    dout: Floating, x: Floating, offsets: Floating, data_format: str, **settings: Ints
) -> Any:
    """DeformableOffsets(settings): takes (dy, x, offsets); gives those of x and the offsets."""
    names = "strides", "pads", "ksize", "dilations", "deformable_groups"
    strides, pads, kernel, apart, groups = (ints(settings[name]) for name in names)

    def forward(v: jax.Array, o: jax.Array) -> Any:
        return grids.points_under_kernel(v, o, strides, pads, kernel, apart, groups[0])

    if data_format == "NCHW":
        return pulled(forward, dout, x, offsets)
    given = (jnp.moveaxis(v, -1, 1) for v in (dout, x, offsets))
    return tuple(jnp.moveaxis(v, 1, -1) for v in pulled(forward, *given))


gradient(
    globals(),
    "DeformableOffsetsGrad",
    _deformable,
    grids.deformable_settings("NCHW", "NHWC"),
)


def _overlapping(overlapping: bool = False) -> dict[str, Any]:
    return {"overlapping": overlapping}


def _largest(x: Array, y: Array, dy: Array, rows: Array, columns: Array, overlapping: bool) -> Any:
    """FractionalMaxPool(overlapping): takes (x, y, dy) and where windows begin along h and w."""

    def forward(v: jax.Array) -> Any:
        return fractional_pooling.pooled_by(v, (rows, columns), overlapping, True)

    if jnp.issubdtype(x.dtype, jnp.floating):
        return pulled(forward, dy, x)
    # Of any element type, so by positions: JAX derives floats alone.
    places = _places(x, (rows, columns), overlapping)
    flat = jnp.zeros(x.size, dy.dtype).at[places.reshape(-1)].add(dy.reshape(-1))
    return flat.reshape(x.shape)


def _places(x: jax.Array, sequences: Sequence[jax.Array], overlapping: bool) -> Any:
    """Where in the flat images the largest of each window is."""
    order = jnp.argsort(jnp.argsort(x.reshape(-1), stable=True, descending=True)).reshape(x.shape)
    rank = fractional_pooling.pooled_by(-order, sequences, overlapping, True)
    return jnp.argsort(order.reshape(-1))[-rank]


gradient(globals(), "FractionalMaxPoolGrad", _largest, _overlapping)


def _means(shape: Ints, dy: Array, rows: Array, columns: Array, overlapping: bool) -> Any:
    """FractionalAvgPool(overlapping): takes (shape of x, dy) and where windows begin."""
    sizes = ints(shape)
    floats = dy.dtype if jnp.issubdtype(dy.dtype, jnp.floating) else jnp.float32
    images = jax.ShapeDtypeStruct(sizes, floats)

    def forward(v: jax.Array) -> Any:
        return fractional_pooling.pooled_by(v, (rows, columns), overlapping, False)

    return jax.linear_transpose(forward, images)(dy.astype(floats))[0].astype(dy.dtype)


gradient(globals(), "FractionalAvgPoolGrad", _means, _overlapping)


def _by_place(x: Array, dy: Array, argmax: Array, data_format: str) -> Any:
    """FractionalMaxPool of windows of one size: takes (x, dy, argmax), the places in an image."""
    last = data_format[-1] == "C"
    alone = x.ndim == len(data_format) - 1
    value, given, at = (v[None] if alone else v for v in (x, dy, argmax))
    if last:
        value, given, at = (jnp.moveaxis(v, -1, 1) for v in (value, given, at))
    lead = value.shape[:2]
    flat = jnp.zeros((prod(lead), prod(value.shape[2:])), dy.dtype)
    rows = jnp.arange(prod(lead))[:, None]
    count = prod(lead)
    flat = flat.at[rows, at.reshape(count, -1)].add(given.reshape(count, -1))
    found = flat.reshape(value.shape)
    found = jnp.moveaxis(found, 1, -1) if last else found
    return found[0] if alone else found


gradient(
    globals(),
    "FractionalMaxPool3DGradWithFixedKsize",
    _by_place,
    lambda data_format="NCDHW": {"data_format": data_format},
)
gradient(
    globals(),
    "FractionalMaxPoolGradWithFixedKsize",
    _by_place,
    lambda data_format="NCHW": {"data_format": data_format},
)


def _distances(grad: Floating, x: Floating, y: Floating, out: Floating, p: float) -> Any:
    """Cdist(p): takes (dy, x, y, output); gives the gradient of x."""
    forward = computation(linalg.cdist)
    return pulled(lambda v: forward(v, y, p), grad, x)


gradient(globals(), "CdistGrad", _distances, lambda p=2.0: {"p": p})
