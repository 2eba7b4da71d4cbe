"""Affine and perspective maps of arrays to the bits of OpenCV, which MindSpore warps with.

OpenCV rounds the source coordinates to 1/32 pixel and, for uint8, the weights to 15 bits. Source:
`imgwarp.cpp` of OpenCV 4, by its behaviour.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

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
    if interpolation == Inter.NEAREST:
        done = _pixels(planes, xs, ys, colors)
    else:
        mask = (1 << _FRACTION) - 1
        whole = xs >> _FRACTION, ys >> _FRACTION
        fractions = xs & mask, ys & mask
        cubic = interpolation == Inter.CUBIC
        done = _weighted(planes, whole, fractions, colors, cubic)
    return done if image.ndim == 3 else done[..., 0]


def _pixels(image: np.ndarray, x: np.ndarray, y: np.ndarray, fill: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    taken = image[np.clip(y, 0, height - 1), np.clip(x, 0, width - 1)]
    if not inside.all():
        taken[~inside] = fill
    return taken


def _weighted(
    image: np.ndarray,
    whole: tuple[np.ndarray, np.ndarray],
    fractions: tuple[np.ndarray, np.ndarray],
    fill: np.ndarray,
    cubic: bool,
) -> np.ndarray:
    size, first = (4, -1) if cubic else (2, 0)
    exact = image.dtype == np.uint8
    table = _table(cubic, exact)
    weights = table[fractions[1], fractions[0]]
    work = (
        np.dtype(np.int32)
        if exact
        else np.dtype(np.float64 if image.dtype.itemsize > 4 else np.float32)
    )
    total = np.zeros((*whole[0].shape, image.shape[2]), work)
    for row in range(size):
        for column in range(size):
            taken = _pixels(image, whole[0] + (first + column), whole[1] + (first + row), fill)
            total += taken.astype(work) * weights[..., row, column, None].astype(work, copy=False)
    if exact:
        total += 1 << (_WEIGHT - 1)
        total >>= _WEIGHT
        return np.clip(total, 0, 255).astype(np.uint8)
    if image.dtype.kind in "iu":
        info = np.iinfo(image.dtype)
        total = np.clip(np.rint(total), info.min, info.max)
    return total.astype(image.dtype)


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
