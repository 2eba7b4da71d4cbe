"""Images in another size: interpolation, and pixels against channels.

Glossary
    place   a position along an axis of the input, in elements, with a fraction
    asymmetric, half pixel, aligned   where the elements of the output lie in the input: at
            i * scale, at (i + 0.5) * scale - 0.5, or so that the corner elements keep their places

Images are (n, c, h, w). The sizes are known while a program is traced, so an axis is resized by one
matrix product or one gather.

Source: MindSpore's operators of these names; cubic convolution as in Keys (1981).
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from paramesh.ops.array import Ints, ints
from paramesh.ops.table import Array, Floating, alias, function, primitive

# fmt: off
__all__ = [
    "interpolate", "upsample", "resize_nearest_neighbor", "resize_bilinear_v2",
    "ResizeNearestNeighbor", "ResizeBilinear", "ResizeBilinearV2", "resize_linear_1d",
    "ResizeLinear1D", "pixel_shuffle", "pixel_unshuffle", "depth_to_space", "space_to_depth",
    "DepthToSpace", "SpaceToDepth",
]
# fmt: on

_ASYMMETRIC, _HALF, _ALIGNED = "asymmetric", "half pixel", "aligned"
_PLACINGS = {"align_corners": _ALIGNED, "half_pixel": _HALF, "asymmetric": _ASYMMETRIC}
#: Coefficients of cubic convolution, and into how many steps MindSpore divides an element for it.
_CUBIC = {"half pixel": -0.5, "aligned": -0.75}
_STEPS = 1024
#: mode -> (number of spatial axes, the method along each).
MODES = {
    "nearest": ((1, 2, 3), "nearest"),
    "linear": ((1,), "linear"),
    "bilinear": ((2,), "linear"),
    "trilinear": ((3,), "linear"),
    "bicubic": ((2,), "cubic"),
    "area": ((1, 2, 3), "area"),
    "nearest-exact": ((1, 2), "nearest-exact"),
}
#: The modes for which `align_corners` means nothing.
WITHOUT_CORNERS = ("nearest", "area", "nearest-exact")


def _placing(align_corners: bool, half_pixel_centers: bool) -> str:
    if align_corners and half_pixel_centers:
        raise ValueError("align_corners=True and half_pixel_centers=True exclude each other.")
    return _ALIGNED if align_corners else _HALF if half_pixel_centers else _ASYMMETRIC


def _places(size: int, out: int, placing: str) -> np.ndarray:
    at = np.arange(out, dtype=np.float64)
    if placing == _ALIGNED:
        return at * ((size - 1) / (out - 1)) if out > 1 else at * 0
    scale = np.float64(np.float32(size / out))
    return (at + 0.5) * scale - 0.5 if placing == _HALF else at * scale


def _nearest(size: int, out: int, placing: str) -> np.ndarray:
    """Index of the element that each element of the output is."""
    places = _places(size, out, placing)
    if placing == _ALIGNED:
        found = np.floor(places + 0.5)
    else:
        found = np.floor(places + (0.5 if placing == _HALF else 0))
    return np.clip(found, 0, size - 1).astype(np.int32)


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def _weights(size: int, out: int, placing: str, method: str) -> np.ndarray:
    """(out, size): what each element of the input counts for in each of the output."""
    weights = np.zeros((out, size))
    rows = np.arange(out)
    if method == "area":
        for i in range(out):
            low, high = i * size // out, -(-(i + 1) * size // out)
            weights[i, low:high] = 1 / (high - low)
        return weights
    places = _places(size, out, placing)
    if method == "linear":
        places = np.clip(places, 0, size - 1)
        low = np.floor(places).astype(int)
        part = places - low
        np.add.at(weights, (rows, low), 1 - part)
        np.add.at(weights, (rows, np.minimum(low + 1, size - 1)), part)
        return weights
    low = np.floor(places).astype(int)
    part = np.rint((places - low) * _STEPS) / _STEPS
    for step in range(-1, 3):
        at, share = low + step, _cubic(part - step, _CUBIC[placing])
        if placing == _HALF:  # what lies outside does not count
            share = np.where((at >= 0) & (at < size), share, 0)
        np.add.at(weights, (rows, np.clip(at, 0, size - 1)), share)
    return weights / weights.sum(1, keepdims=True)


def _resized(x: jax.Array, sizes: tuple[int, ...], placing: str, method: str) -> Any:
    for axis, out in enumerate(sizes, x.ndim - len(sizes)):
        size = x.shape[axis]
        if out == size and method != "nearest-exact":
            continue
        if method in ("nearest", "nearest-exact"):
            x = jnp.take(x, _nearest(size, out, placing), axis)
        else:
            matrix = jnp.asarray(_weights(size, out, placing, method), x.dtype)
            x = jnp.moveaxis(jnp.tensordot(x, matrix, ((axis,), (1,))), -1, axis)
    return x


@function
def interpolate(
    input: Array,
    size: Ints | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    *,
    sizes: Ints | None = None,
    scales: Sequence[float] | None = None,
    coordinate_transformation_mode: str = "align_corners",
) -> Any:
    """Sequences (n, c, l), images (n, c, h, w) or volumes (n, c, d, h, w) in another size.

    Args:
        input: (n, c, ...).
        size: the size of each spatial axis, one for all or a tuple.
        scale_factor: instead of `size`, a factor for each spatial axis, one for all or a tuple.
        mode: `nearest`, `nearest-exact`, `area`, `linear` (n, c, l), `bilinear` or `bicubic`
            (n, c, h, w), or `trilinear` (n, c, d, h, w).
        align_corners: whether the corner elements keep their places; for linear and cubic modes.
        recompute_scale_factor: MindSpore's; the scale is that of the sizes in any case.
        sizes: MindSpore 1.x's `size`, for `linear` and `bilinear`.
        scales: MindSpore 1.x's factors, of all axes.
        coordinate_transformation_mode: with these, `align_corners`, `half_pixel` or `asymmetric`.

    Raises:
        ValueError: both or neither of `size` and `scale_factor`; a mode that does not take the
            input; `align_corners` for another mode.
    """
    former = sizes is not None or scales is not None
    if former:
        if size is not None or scale_factor is not None or align_corners is not None:
            raise ValueError("sizes and scales are MindSpore 1.x's, which has no size besides.")
        if mode not in ("linear", "bilinear") or coordinate_transformation_mode not in _PLACINGS:
            raise ValueError(
                "with sizes or scales, mode is 'linear' or 'bilinear' and "
                f"coordinate_transformation_mode one of {', '.join(_PLACINGS)}; got {mode!r} and "
                f"{coordinate_transformation_mode!r}."
            )
        if scales is not None and len(scales) != input.ndim:
            raise ValueError(f"scales has {len(scales)} factors for {input.ndim} axes.")
        size, scale_factor = sizes, None if scales is None else tuple(scales[2:])
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(MODES)}, got {mode!r}.")
    axes, method = MODES[mode]
    n = input.ndim - 2
    if n not in axes:
        raise ValueError(f"mode={mode!r} does not take an input with {n} spatial axes.")
    if align_corners is not None and mode in WITHOUT_CORNERS:
        raise ValueError(f"align_corners means nothing for mode={mode!r}: leave it out.")
    wanted = _sizes(input.shape[2:], size, scale_factor)
    if former:
        placing = _PLACINGS[coordinate_transformation_mode]
    elif mode == "nearest":
        placing = _ASYMMETRIC
    else:
        placing = _ALIGNED if align_corners else _HALF
    return _resized(input, wanted, placing, method)


upsample = alias("upsample", interpolate)


def _sizes(shape: Any, size: Any, scale_factor: Any) -> tuple[int, ...]:
    if (size is None) == (scale_factor is None):
        raise ValueError(f"give either size or scale_factor, got {size} and {scale_factor}.")
    n = len(shape)
    if size is not None:
        wanted = ints(size)
    else:
        factors = scale_factor if isinstance(scale_factor, tuple | list) else (scale_factor,) * n
        wanted = tuple(
            math.floor(s * float(f)) for s, f in zip(shape, factors, strict=len(factors) != 1)
        )
    wanted = wanted * n if len(wanted) == 1 else wanted
    if len(wanted) != n or min(wanted) < 1:
        raise ValueError(f"expected {n} sizes of at least 1, got {wanted}.")
    return wanted


@function
def resize_nearest_neighbor(
    input: Array, size: Ints, align_corners: bool = False, half_pixel_centers: bool = False
) -> Any:
    """Images (n, c, h, w) in another size, each element the nearest one of the input.

    Args:
        input: the images.
        size: (h', w').
        align_corners: whether the corner elements keep their places.
        half_pixel_centers: whether elements are placed by their centres.
    """
    placing = _placing(align_corners, half_pixel_centers)
    return _resized(input, _sizes(input.shape[2:], size, None), placing, "nearest")


@function
def resize_bilinear_v2(
    image: Floating, size: Ints, align_corners: bool = False, half_pixel_centers: bool = False
) -> Any:
    """Images (n, c, h, w) in another size, each element between four of the input.

    Args:
        image: the images.
        size: (h', w').
        align_corners: whether the corner elements keep their places.
        half_pixel_centers: whether elements are placed by their centres.
    """
    placing = _placing(align_corners, half_pixel_centers)
    return _resized(image, _sizes(image.shape[2:], size, None), placing, "linear")


def _size_settings(
    size: Ints, align_corners: bool = False, half_pixel_centers: bool = False
) -> dict[str, Any]:
    return dict(size=size, align_corners=align_corners, half_pixel_centers=half_pixel_centers)


ResizeNearestNeighbor = primitive("ResizeNearestNeighbor", resize_nearest_neighbor, _size_settings)
ResizeBilinear = primitive("ResizeBilinear", resize_bilinear_v2, _size_settings)
ResizeBilinearV2 = primitive(
    "ResizeBilinearV2",
    resize_bilinear_v2,
    lambda align_corners=False, half_pixel_centers=False: dict(
        align_corners=align_corners, half_pixel_centers=half_pixel_centers
    ),
)


@function
def resize_linear_1d(
    x: Floating, size: Ints, coordinate_transformation_mode: str = "align_corners"
) -> Any:
    """Sequences (n, c, l) in another length, each element between two of the input.

    Args:
        x: the sequences.
        size: the new length.
        coordinate_transformation_mode: where the elements of the output lie in the input:
            `align_corners`, `half_pixel` or `asymmetric`.

    Raises:
        ValueError: another mode, or no sequences.
    """
    placing = _PLACINGS.get(coordinate_transformation_mode)
    if placing is None:
        raise ValueError(
            f"coordinate_transformation_mode must be one of {', '.join(_PLACINGS)}, got "
            f"{coordinate_transformation_mode!r}."
        )
    if x.ndim != 3:
        raise ValueError(f"expected (n, c, l), got {tuple(x.shape)}.")
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    found = _resized(wide, _sizes(x.shape[2:], size, None), placing, "linear")
    return found.astype(x.dtype)


ResizeLinear1D = primitive(
    "ResizeLinear1D",
    resize_linear_1d,
    lambda coordinate_transformation_mode="align_corners": dict(
        coordinate_transformation_mode=coordinate_transformation_mode
    ),
)

# Pixels against channels.


def _check_block(channels: int, block: int, least: int) -> None:
    if block < least or channels % (block * block):
        raise ValueError(
            f"{channels} channels do not divide by the square of {block}, which has to be at least "
            f"{least}."
        )


@function
def pixel_shuffle(input: Array, upscale_factor: int) -> Any:
    """Channels as pixels (Shi et al. 2016): (..., c * r * r, h, w) -> (..., c, h * r, w * r)."""
    *before, c, h, w = input.shape
    r = upscale_factor
    _check_block(c, r, 1)
    x = input.reshape(*before, c // r**2, r, r, h, w)
    x = jnp.moveaxis(x, (-4, -3), (-3, -1))
    return x.reshape(*before, c // r**2, h * r, w * r)


@function
def pixel_unshuffle(input: Array, downscale_factor: int) -> Any:
    """Pixels as channels: (..., c, h * r, w * r) -> (..., c * r * r, h, w)."""
    *before, c, h, w = input.shape
    r = downscale_factor
    if r < 1 or h % r or w % r:
        raise ValueError(f"an image {h} by {w} does not divide into blocks of {r}.")
    x = input.reshape(*before, c, h // r, r, w // r, r)
    x = jnp.moveaxis(x, (-3, -1), (-4, -3))
    return x.reshape(*before, c * r * r, h // r, w // r)


@function
def depth_to_space(x: Array, block_size: int) -> Any:
    """Channels as pixels, the block first: (n, r * r * c, h, w) -> (n, c, h * r, w * r)."""
    n, c, h, w = x.shape
    r = block_size
    _check_block(c, r, 2)
    parts = x.reshape(n, r, r, c // r**2, h, w)
    return parts.transpose(0, 3, 4, 1, 5, 2).reshape(n, c // r**2, h * r, w * r)


@function
def space_to_depth(x: Array, block_size: int) -> Any:
    """Pixels as channels, the block first: (n, c, h * r, w * r) -> (n, r * r * c, h, w)."""
    n, c, h, w = x.shape
    r = block_size
    if r < 2 or h % r or w % r:
        raise ValueError(f"an image {h} by {w} does not divide into blocks of {r}, from 2 on.")
    parts = x.reshape(n, c, h // r, r, w // r, r)
    return parts.transpose(0, 3, 5, 1, 2, 4).reshape(n, c * r * r, h // r, w // r)


DepthToSpace = primitive(
    "DepthToSpace", depth_to_space, lambda block_size: dict(block_size=block_size)
)
SpaceToDepth = primitive(
    "SpaceToDepth", space_to_depth, lambda block_size: dict(block_size=block_size)
)
