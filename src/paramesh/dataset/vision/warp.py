"""Affine and perspective maps of arrays to the bits of OpenCV, which MindSpore warps with.

OpenCV rounds the source coordinates to 1/32 pixel and, for uint8, the weights to 15 bits. Source:
`imgwarp.cpp` of OpenCV 4, by its behaviour.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from paramesh.dataset.vision.modes import Inter
from paramesh.dataset.vision.resampling import cubic_weights

#: Bits of the fraction of a coordinate, and of affine products before they are added.
_FRACTION = 5
_PRODUCT = 10
_WEIGHT = 15


def affine(
    image: np.ndarray,
    matrix: Sequence[Sequence[float]] | np.ndarray,
    size: tuple[int, int],
    interpolation: Inter,
    fill: np.ndarray,
) -> np.ndarray:
    """The image under an affine map.

    Args:
        image: (height, width) or (height, width, channels).
        matrix: (2, 3): from the image's x and y to the result's.
        size: height and width of the result.
        interpolation: NEAREST, CUBIC; all others are LINEAR.
        fill: for each channel, what lies outside of the image.
    """
    (a, b, c), (d, e, f) = np.asarray(matrix, np.float64).tolist()
    det = a * e - b * d
    det = 1.0 / det if det else 0.0
    a, b, d, e = e * det, -b * det, -d * det, a * det
    c, f = -a * c - b * f, -d * c - e * f
    height, width = size
    x = np.arange(width)
    y = np.arange(height)[:, None]
    scale = 1 << _PRODUCT
    across = np.rint(a * x * scale).astype(np.int64), np.rint(d * x * scale).astype(np.int64)
    nearest = interpolation == Inter.NEAREST
    half = scale // 2 if nearest else scale // (1 << _FRACTION) // 2
    shift = _PRODUCT if nearest else _PRODUCT - _FRACTION
    xs = (np.rint((b * y + c) * scale).astype(np.int64) + half + across[0]) >> shift
    ys = (np.rint((e * y + f) * scale).astype(np.int64) + half + across[1]) >> shift
    return _sampled(image, xs, ys, interpolation, fill)


def perspective(
    image: np.ndarray,
    matrix: np.ndarray,
    interpolation: Inter,
    fill: np.ndarray,
) -> np.ndarray:
    """The image under a projective map, in its own size.

    Args:
        image: (height, width) or (height, width, channels).
        matrix: (3, 3): from the image's x, y, 1 to the result's.
        interpolation: NEAREST, CUBIC; all others are LINEAR.
        fill: for each channel, what lies outside of the image.
    """
    inverse = np.linalg.inv(matrix)
    height, width = image.shape[:2]
    x, y = np.arange(width), np.arange(height)[:, None]
    across, down, depth = (r[0] * x + r[1] * y + r[2] for r in inverse)
    unit = 1.0 if interpolation == Inter.NEAREST else float(1 << _FRACTION)
    with np.errstate(divide="ignore"):
        depth = np.where(depth != 0, unit / depth, 0.0)
    limit = 2.0**31 - 1
    xs = np.rint(np.clip(across * depth, -limit, limit)).astype(np.int64)
    ys = np.rint(np.clip(down * depth, -limit, limit)).astype(np.int64)
    return _sampled(image, xs, ys, interpolation, fill)


def _sampled(
    image: np.ndarray, xs: np.ndarray, ys: np.ndarray, interpolation: Inter, fill: np.ndarray
) -> np.ndarray:
    """The image at fixed-point coordinates (whole ones for NEAREST)."""
    planes = image if image.ndim == 3 else image[..., None]
    colors = fill.astype(planes.dtype)
    # A frame of one pixel around the image is what lies outside of it.
    height, width, channels = planes.shape
    framed = np.empty((channels, height + 2, width + 2), planes.dtype)
    framed[...] = colors[:, None, None]
    framed[:, 1:-1, 1:-1] = planes.transpose(2, 0, 1)
    flat = framed.reshape(channels, -1)
    if interpolation == Inter.NEAREST:
        found = flat.take(_places(ys, height, width + 2) + _places(xs, width, 1), axis=1)
        done = np.ascontiguousarray(np.moveaxis(found, 0, -1))
    else:
        mask = (1 << _FRACTION) - 1
        whole = xs >> _FRACTION, ys >> _FRACTION
        fractions = xs & mask, ys & mask
        done = _weighted(flat, (height, width), whole, fractions, interpolation == Inter.CUBIC)
    return done if image.ndim == 3 else done[..., 0]


def _places(at: np.ndarray, size: int, step: int) -> np.ndarray:
    """Places in the frame along one axis."""
    return (np.clip(at, -1, size) + 1) * step


def _weighted(
    flat: np.ndarray,
    size: tuple[int, int],
    whole: tuple[np.ndarray, np.ndarray],
    fractions: tuple[np.ndarray, np.ndarray],
    cubic: bool,
) -> np.ndarray:
    taps, first = (4, -1) if cubic else (2, 0)
    kind = flat.dtype
    exact = kind == np.uint8
    work = np.dtype(np.int32 if exact else np.float64 if kind.itemsize > 4 else np.float32)
    weights = _table(cubic, exact).astype(work, copy=False)[fractions[1], fractions[0]]
    across = [_places(whole[0] + (first + k), size[1], 1) for k in range(taps)]
    down = [_places(whole[1] + (first + k), size[0], size[1] + 2) for k in range(taps)]
    steps = [
        (down[row] + across[column], np.ascontiguousarray(weights[..., row, column]))
        for row in range(taps)
        for column in range(taps)
    ]
    done = np.empty((*whole[0].shape, flat.shape[0]), kind)
    for channel, values in enumerate(flat.astype(work)):
        total: Any = np.zeros(whole[0].shape, work)
        for places, weight in steps:
            total += values.take(places) * weight
        if exact:
            total += 1 << (_WEIGHT - 1)
            total >>= _WEIGHT
            np.clip(total, 0, 255, out=total)
        elif kind.kind in "iu":
            info = np.iinfo(kind)
            total = np.clip(np.rint(total), info.min, info.max)
        done[..., channel] = total
    return done


@functools.cache
def _table(cubic: bool, exact: bool) -> np.ndarray:
    """(32, 32, n, n): the weights of the pixels for each fraction of y and x."""
    fractions = np.arange(1 << _FRACTION, dtype=np.float32) * np.float32(1 / (1 << _FRACTION))
    one = cubic_weights(fractions) if cubic else np.stack([1 - fractions, fractions], -1)
    table = one[:, None, :, None] * one[None, :, None, :]
    if not exact:
        return table
    whole = np.rint(table * np.float32(1 << _WEIGHT)).astype(np.int32)
    # The weights have to add up to one: the rest goes to the largest of the middle ones.
    rest = (1 << _WEIGHT) - whole.sum((2, 3))
    if cubic:
        middle = whole[:, :, 2:, 2:].reshape(32, 32, 4)
        pick = np.where(rest > 0, middle.argmax(-1), middle.argmin(-1))
        for y, x in zip(*np.nonzero(rest), strict=True):
            row, column = divmod(int(pick[y, x]), 2)
            whole[y, x, 2 + row, 2 + column] += rest[y, x]
    return whole
