"""Resizing of arrays to the bits of OpenCV, which MindSpore resizes with.

OpenCV interpolates 8-bit images in fixed point: weights of 11 bits, a horizontal pass into 32-bit
integers, and a vertical pass that rounds. Pillow's filters are others (they widen with the scale),
so the passes are written out here; where OpenCV is installed, it does those in which it agrees with
them to the bit. Sources: `resize.cpp` of OpenCV 4, by its behaviour.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from paramesh.dataset import opencv
from paramesh.dataset.vision.modes import Inter

#: What OpenCV does with uint8 to the same bits, where it is installed.
_OPENCV = {Inter.NEAREST: "NEAREST", Inter.LINEAR: "LINEAR", Inter.AREA: "AREA"}

_BITS = 11
_ONE = 1 << _BITS


def resize(image: np.ndarray, height: int, width: int, interpolation: Inter) -> np.ndarray:
    """The image in another size.

    Args:
        image: (height, width) or (height, width, channels).
        height: of the result, in pixels.
        width: of the result, in pixels.
        interpolation: NEAREST, LINEAR, CUBIC, AREA, or PILCUBIC (Pillow's bicubic filter; uint8
            with 3 channels).

    Returns:
        An array of the same type. uint8 is rounded as OpenCV does: NEAREST and LINEAR to the bit,
        CUBIC and AREA up to one level at ties.
    """
    if interpolation == Inter.PILCUBIC:
        return _pillow_cubic(image, height, width)
    if image.shape[:2] == (height, width):
        return image.copy()
    if interpolation in _OPENCV:
        found = opencv.resize(image, height, width, _OPENCV[interpolation])
        if found is not None:
            return found
    planes = image if image.ndim == 3 else image[..., None]
    kind = planes.dtype
    if interpolation != Inter.NEAREST and kind.name not in ("uint8", "float32", "float64"):
        planes = planes.astype(np.float64 if kind.itemsize > 2 else np.float32)
    done = _resize(planes, height, width, interpolation)
    if done.dtype != kind:
        done = _saturated(done, kind)
    return done if image.ndim == 3 else done[..., 0]


def _resize(image: np.ndarray, height: int, width: int, interpolation: Inter) -> np.ndarray:
    rows, columns = image.shape[:2]
    if interpolation == Inter.NEAREST:
        y, x = _nearest(rows, height), _nearest(columns, width)
        flat = image.reshape(rows, -1).take(y, axis=0)
        taken = flat.take(_spread(x, image.shape[2]), axis=1, mode="clip")
        return taken.reshape(height, width, image.shape[2])
    halved = rows == 2 * height and columns == 2 * width
    if interpolation == Inter.AREA or (interpolation == Inter.LINEAR and halved):
        if rows >= height and columns >= width:
            return _area(image, height, width)
        return _linear(image, height, width, _area_taps)
    if interpolation == Inter.LINEAR:
        return _linear(image, height, width, _taps)
    return _cubic(image, height, width)


def _saturated(values: np.ndarray, kind: np.dtype[Any]) -> np.ndarray:
    """Rounded to even and clipped, for an integer type."""
    if kind.kind in "iu":
        info = np.iinfo(kind)
        values = np.clip(np.rint(values), info.min, info.max)
    return values.astype(kind)


@functools.lru_cache(maxsize=512)
def _nearest(size: int, wanted: int) -> np.ndarray:
    scale = 1.0 / (wanted / size)
    return np.minimum(np.floor(np.arange(wanted) * scale).astype(np.intp), size - 1)


def _positions(size: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """For each pixel of the result the one left of its centre, and the fraction, as float32."""
    scale = 1.0 / (wanted / size)
    centre = ((np.arange(wanted) + 0.5) * scale - 0.5).astype(np.float32)
    left = np.floor(centre)
    return left.astype(np.intp), centre - left


@functools.lru_cache(maxsize=512)
def _taps(size: int, wanted: int, horizontal: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First and second pixel, and the weight of the second.

    OpenCV drops the fraction at the borders of a row, but keeps it at those of a column, where both
    pixels are the same one; the rounding differs.
    """
    left, fraction = _positions(size, wanted)
    if horizontal:
        outside = (left < 0) | (left >= size - 1)
        fraction = np.where(outside, np.float32(0), fraction)
    return np.clip(left, 0, size - 1), np.clip(left + 1, 0, size - 1), fraction


@functools.lru_cache(maxsize=512)
def _area_taps(
    size: int, wanted: int, horizontal: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The taps with which AREA enlarges."""
    inverse = wanted / size
    at = np.arange(wanted)
    left = np.floor(at * (1.0 / inverse)).astype(np.intp)
    fraction = ((at + 1) - (left + 1) * inverse).astype(np.float32)
    fraction = np.where(fraction <= 0, np.float32(0), fraction - np.floor(fraction))
    if horizontal:
        fraction = np.where((left < 0) | (left >= size - 1), np.float32(0), fraction)
    return np.clip(left, 0, size - 1), np.clip(left + 1, 0, size - 1), fraction


def _spread(places: np.ndarray, channels: int) -> np.ndarray:
    """Of places of pixels, those of their values in a row of all channels."""
    return (places[:, None] * channels + np.arange(channels)).ravel()


class _Plan:
    """Where the pixels of a result lie in an image, and with which weights, for `_linear`.

    Attributes:
        used: the rows of the image that count; None: all.
        top, bottom: for each row of the result, two of those.
        down: the weights of the second, as float32 and in 1/2048.
        left, right: for each value of a row of the result, two values of a row of the image.
        along: the weights of the second, likewise.
    """

    def __init__(
        self, rows: int, columns: int, height: int, width: int, channels: int, taps: _Taps
    ) -> None:
        top, bottom, down = taps(rows, height, False)
        used = np.zeros(rows, bool)
        used[top] = used[bottom] = True
        place = np.cumsum(used) - 1
        self.used = None if used.all() else used
        self.top, self.bottom = place[top], place[bottom]
        self.down = down[:, None], _whole(down)[:, None]
        # Rows of values, not of pixels: numpy is slow where its innermost axis is as short as a
        # colour.
        left, right, along = taps(columns, width, True)
        self.left, self.right = _spread(left, channels), _spread(right, channels)
        along = along.repeat(channels)
        self.along = along, _whole(along)


_Taps = Callable[[int, int, bool], tuple[np.ndarray, np.ndarray, np.ndarray]]
_plan = functools.lru_cache(maxsize=64)(_Plan)


def _whole(fractions: np.ndarray) -> np.ndarray:
    return np.rint(fractions * np.float32(_ONE)).astype(np.int32)


def _linear(image: np.ndarray, height: int, width: int, taps: _Taps) -> np.ndarray:
    rows, columns, channels = image.shape
    plan = _plan(rows, columns, height, width, channels, taps)
    flat = image.reshape(rows, -1)
    if plan.used is not None:
        flat = flat[plan.used]
    if image.dtype == np.uint8:
        return _linear_bytes(flat, plan).reshape(height, width, channels)
    along, down = plan.along[0].astype(image.dtype), plan.down[0].astype(image.dtype)
    first, second = (flat.take(p, axis=1, mode="clip") for p in (plan.left, plan.right))
    found = first * (1 - along) + second * along
    found = found[plan.top] * (1 - down) + found[plan.bottom] * down
    return found.reshape(height, width, channels)


#: How many values are worked on at a time, so that they stay in the processor's cache.
_BLOCK = 1 << 15


def _linear_bytes(flat: np.ndarray, plan: _Plan) -> np.ndarray:
    """Both passes in fixed point. What the first gives has 15 bits."""
    length = len(plan.left)
    step = max(_BLOCK // length, 1)
    # The two weights of a pixel add up to 2048 whatever the fraction, so one product is enough.
    weights = plan.along[1]
    rows = np.empty((len(flat), length), np.int16)
    for at in range(0, len(flat), step):
        part = flat[at : at + step]
        first = part.take(plan.left, axis=1, mode="clip").astype(np.int32)
        second = part.take(plan.right, axis=1, mode="clip").astype(np.int32)
        second -= first
        second *= weights
        first <<= _BITS
        second += first
        second >>= 4
        rows[at : at + step] = second
    below = plan.down[1]
    above = _ONE - below
    done = np.empty((len(plan.top), length), np.uint8)
    for at in range(0, len(done), step):
        block = slice(at, at + step)
        upper = rows.take(plan.top[block], axis=0).astype(np.int32)
        upper *= above[block]
        upper >>= 16
        lower = rows.take(plan.bottom[block], axis=0).astype(np.int32)
        lower *= below[block]
        lower >>= 16
        upper += lower
        upper += 2
        upper >>= 2
        done[block] = upper
    return done


def cubic_weights(fraction: np.ndarray) -> np.ndarray:
    """The four weights of bicubic interpolation with a = -0.75, float32, the last axis of 4."""
    a = np.float32(-0.75)
    x = fraction.astype(np.float32)
    one = np.float32(1)
    first = ((a * (x + one) - 5 * a) * (x + one) + 8 * a) * (x + one) - 4 * a
    second = ((a + 2) * x - (a + 3)) * x * x + one
    third = ((a + 2) * (one - x) - (a + 3)) * (one - x) * (one - x) + one
    return np.stack([first, second, third, one - first - second - third], -1)


def _cubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns, channels = image.shape
    left, along = _positions(columns, width)
    top, down = _positions(rows, height)
    exact = image.dtype == np.uint8
    weights, weights_down = cubic_weights(along), cubic_weights(down)
    if exact:
        weights = np.rint(weights * np.float32(_ONE))
        weights_down = np.rint(weights_down * np.float32(_ONE))
    work = np.dtype(np.float64 if image.dtype == np.float64 else np.float32)
    flat = image.reshape(rows, -1)
    taps = [
        (_spread(np.clip(left + k - 1, 0, columns - 1), channels), weights[:, k].astype(work))
        for k in range(4)
    ]
    taps = [(places, part.repeat(channels)) for places, part in taps]
    wide = np.zeros((rows, width * channels), work)
    step = max(_BLOCK // (width * channels), 1)
    for at in range(0, rows, step):
        block, total = flat[at : at + step].astype(work), wide[at : at + step]
        for places, part in taps:
            taken = block.take(places, axis=1, mode="clip")
            taken *= part
            total += taken
    scale = np.float32(1.0 / (_ONE * _ONE)) if exact else np.float32(1)
    shares = [(weights_down[:, k] * scale).astype(work)[:, None] for k in range(4)]
    sources = [np.clip(top + k - 1, 0, rows - 1) for k in range(4)]
    done = np.zeros((height, width * channels), work)
    for at in range(0, height, step):
        here = slice(at, at + step)
        for k in range(4):
            taken = wide.take(sources[k][here], axis=0)
            taken *= shares[k][here]
            done[here] += taken
    done = done.reshape(height, width, channels)
    return _saturated(done, image.dtype) if exact else done


@functools.lru_cache(maxsize=256)
def _shares(size: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """(wanted, taps) each: the pixels that a pixel of the result covers, and their shares."""
    scale = size / wanted
    rows: list[list[tuple[int, float]]] = []
    for at in range(wanted):
        start, end = at * scale, (at + 1) * scale
        width = min(scale, size - start)
        last = min(math.floor(end), size - 1)
        first = min(math.ceil(start), last)
        taps = [(first - 1, (first - start) / width)] if first - start > 1e-3 else []
        taps += [(k, 1.0 / width) for k in range(first, last)]
        if end - last > 1e-3:
            taps.append((last, min(end - last, 1.0, width) / width))
        rows.append(taps)
    most = max(map(len, rows))
    places, shares = np.zeros((wanted, most), np.intp), np.zeros((wanted, most), np.float32)
    for at, taps in enumerate(rows):
        for k, (place, share) in enumerate(taps):
            places[at, k], shares[at, k] = place, share
    return places, shares


def _area(image: np.ndarray, height: int, width: int) -> np.ndarray:
    rows, columns, channels = image.shape
    if rows % height == 0 and columns % width == 0:
        tall, wide = rows // height, columns // width
        blocks = image.reshape(height, tall, width, wide, channels)
        if image.dtype == np.uint8:
            total = blocks.sum(axis=(1, 3), dtype=np.int32)
            if (tall, wide) == (2, 2):
                return ((total + 2) >> 2).astype(np.uint8)
            return _saturated(total * np.float32(1.0 / (tall * wide)), image.dtype)
        return blocks.sum(axis=(1, 3)) * image.dtype.type(1.0 / (tall * wide))
    work = image.dtype if image.dtype == np.float64 else np.dtype(np.float32)
    # In OpenCV's order of sums: along each row, then down the columns.
    places, shares = _shares(columns, width)
    shares = shares.astype(work, copy=False)
    flat = image.reshape(rows, -1)
    wide_rows = np.zeros((rows, width * channels), work)
    for k in range(places.shape[1]):
        taken = flat.take(_spread(places[:, k], channels), axis=1, mode="clip")
        wide_rows += taken * shares[:, k].repeat(channels)
    places, shares = _shares(rows, height)
    shares = shares.astype(work, copy=False)
    done = np.zeros((height, width * channels), work)
    for k in range(places.shape[1]):
        done += wide_rows.take(places[:, k], axis=0) * shares[:, k, None]
    done = done.reshape(height, width, channels)
    return _saturated(done, image.dtype) if image.dtype == np.uint8 else done


def _pillow_cubic(image: np.ndarray, height: int, width: int) -> np.ndarray:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise RuntimeError(
            f"Resize: Inter.PILCUBIC is for uint8 images with 3 channels, got {image.dtype} of the "
            f"shape {image.shape}."
        )
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
