"""Conversions between colours, to the bits of OpenCV for uint8.

Sources: OpenCV's `cvtColor`, by its behaviour: gray with weights of 15 bits, HSV by tables of 12
bits.
"""

from __future__ import annotations

import numpy as np

from paramesh.dataset import opencv

#: The share of red, green and blue in gray.
_GRAY = (0.299, 0.587, 0.114)
_GRAY_15 = (9798, 19235, 3735)


def gray(image: np.ndarray, red: int = 0, blue: int = 2) -> np.ndarray:
    """(height, width) of an image whose red and blue are at these channels."""
    if image.dtype == np.uint8 and (red, blue, image.shape[-1]) == (0, 2, 3):
        found = opencv.gray(image)
        if found is not None:
            return found
    r, g, b = image[..., red], image[..., 1], image[..., blue]
    if image.dtype == np.uint8:
        total = r * np.int32(_GRAY_15[0])
        total += g * np.int32(_GRAY_15[1])
        total += b * np.int32(_GRAY_15[2])
        total += 1 << 14
        total >>= 15
        return total.astype(np.uint8)
    work = image.dtype if image.dtype.kind == "f" else np.dtype(np.float64)
    mixed = r * work.type(_GRAY[0]) + g * work.type(_GRAY[1]) + b * work.type(_GRAY[2])
    if image.dtype.kind in "iu":
        return np.rint(mixed).astype(image.dtype)
    return mixed


def _table(top: int, factor: float) -> np.ndarray:
    at = np.arange(256, dtype=np.float64)
    at[0] = 1
    table = np.rint((top << 12) / (factor * at)).astype(np.int32)
    table[0] = 0
    return table


_SATURATION = _table(255, 1.0)
_HUE = _table(256, 6.0)


def hsv(image: np.ndarray) -> np.ndarray:
    """Hue (a circle of 256), saturation and value of a uint8 image (height, width, 3) in RGB."""
    found = opencv.hsv(image)
    if found is not None:
        return found
    # By channels: numpy is slow where its innermost axis is as short as a colour.
    r, g, b = (image[..., i].astype(np.int32) for i in range(3))
    value = np.maximum(np.maximum(r, g), b)
    range_ = value - np.minimum(np.minimum(r, g), b)
    saturation = (range_ * _SATURATION[value] + (1 << 11)) >> 12
    hue = np.where(value == r, g - b, np.where(value == g, b - r + 2 * range_, r - g + 4 * range_))
    hue = (hue * _HUE[range_] + (1 << 11)) >> 12
    hue[hue < 0] += 256
    made = np.empty(image.shape, np.uint8)
    for i, channel in enumerate((np.clip(hue, 0, 255), saturation, value)):
        made[..., i] = channel
    return made


def _shades() -> np.ndarray:
    """(3, 256): of each hue of a byte, g in `v (1 - s g)`, which red, green and blue are."""
    h = np.arange(256, dtype=np.float32) * np.float32(6.0 / 255)
    h = np.where(h >= 6, h - np.float32(6), h)
    sector = np.floor(h)
    f = h - sector
    sector = np.clip(sector.astype(np.intp), 0, 5)
    choices = np.stack([np.zeros_like(f), np.ones_like(f), f, 1 - f])
    order = np.array(((0, 2, 1, 1, 3, 0), (3, 0, 0, 2, 1, 1), (1, 1, 3, 0, 0, 2)))
    return np.ascontiguousarray(choices[order[:, sector], np.arange(256)])


_SHADES = _shades()


def rgb_of_hsv(image: np.ndarray) -> np.ndarray:
    """The RGB image of what `hsv` gives; OpenCV's way back takes the circle of hues as 255 wide."""
    h = np.ascontiguousarray(image[..., 0])
    s = image[..., 1].astype(np.float32)
    s *= np.float32(1 / 255)
    v = image[..., 2].astype(np.float32)
    v *= np.float32(1 / 255)
    made = np.empty(image.shape, np.uint8)
    channel = np.empty(h.shape, np.float32)
    for i, shades in enumerate(_SHADES):
        opencv.look_up(h, shades, channel)
        channel *= s
        np.subtract(1, channel, out=channel)
        channel *= v
        channel *= np.float32(255)
        # OpenCV's vector code takes 32 pixels at a time and cuts fractions off; the rest of a row
        # is rounded.
        rest = channel[:, image.shape[1] // 32 * 32 :]
        np.rint(rest, out=rest)
        made[..., i] = np.clip(channel, 0, 255, out=channel)
    return made


def hsv_floats(image: np.ndarray, axis: int) -> np.ndarray:
    """Hue, saturation and value, from 0 to 1, of floats from 0 to 1, as python's colorsys has them.

    Args:
        image: red, green and blue along `axis`.
        axis: of the colours.
    """
    r, g, b = np.moveaxis(image.astype(np.float64, copy=False), axis, 0)
    most = np.maximum(np.maximum(r, g), b)
    range_ = most - np.minimum(np.minimum(r, g), b)
    some = range_ != 0
    width = np.where(some, range_, 1)
    rc, gc, bc = (most - r) / width, (most - g) / width, (most - b) / width
    hue = np.where(r == most, bc - gc, np.where(g == most, 2.0 + rc - bc, 4.0 + gc - rc))
    hue = np.where(some, (hue / 6.0) % 1.0, 0.0)
    saturation = np.where(some, range_ / np.where(most == 0, 1, most), 0.0)
    return np.stack([hue, saturation, most], axis)


def rgb_floats(image: np.ndarray, axis: int) -> np.ndarray:
    """Red, green and blue of what `hsv_floats` gives, as python's colorsys has them."""
    h, s, v = np.moveaxis(image.astype(np.float64, copy=False), axis, 0)
    sector = (h * 6.0).astype(np.int64)
    f = h * 6.0 - sector
    p, q, t = v * (1.0 - s), v * (1.0 - s * f), v * (1.0 - s * (1.0 - f))
    six = (sector % 6)[None]
    choices = ((v, q, p, p, t, v), (t, v, v, q, p, p), (p, p, t, v, v, q))
    made = [np.take_along_axis(np.stack(c), six, 0)[0] for c in choices]
    return np.stack([np.where(s == 0.0, v, m) for m in made], axis)
