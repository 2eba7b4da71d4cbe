"""Brightness, contrast, saturation, hue and gamma.

Arrays are blended in float32 and rounded to even, as OpenCV does; Pillow images by Pillow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision.color_spaces import gray, hsv, rgb_of_hsv
from paramesh.dataset.vision.images import (
    ImageOperation,
    colored,
    looked_up,
    ranked,
    saturated,
)

__all__ = [
    "AdjustBrightness",
    "AdjustContrast",
    "AdjustGamma",
    "AdjustHue",
    "AdjustSaturation",
    "RandomColor",
    "RandomColorAdjust",
    "RandomLighting",
]


_LEVELS = np.arange(256, dtype=np.uint8)


def mixed(
    first: np.ndarray, weight: float, second: np.ndarray | float, other: float, kind: np.dtype[Any]
) -> np.ndarray:
    """`first * weight + second * other`, in the type `kind`.

    As OpenCV rounds float32: the first product, then the sum with the second in one step (fused).
    """
    if kind.itemsize > 4:
        return saturated(first * weight + np.asarray(second) * other, kind)
    if kind == np.uint8 and isinstance(second, float) and first.size > _LEVELS.size:
        return looked_up(first, mixed(_LEVELS, weight, second, other, kind))
    if isinstance(second, np.ndarray) and second.shape != first.shape:
        # One is gray. Numpy is slow where its innermost axis is as short as a colour.
        shape = np.broadcast_shapes(first.shape, second.shape)
        done = np.empty(shape, kind)
        for c in range(shape[2]):
            a, b = (x[..., c if x.shape[2] > 1 else 0] for x in (first, second))
            done[..., c] = mixed(a, weight, b, other, kind)
        return done
    product = np.multiply(first, np.float32(weight), dtype=np.float32)
    total = np.multiply(second, float(np.float32(other)), dtype=np.float64)
    return saturated(np.add(product, total).astype(np.float32), kind)


def blend(image: np.ndarray, second: np.ndarray | float, share: float) -> np.ndarray:
    """`image * share + second * (1 - share)`, in the image's type."""
    # MindSpore's factor is float32, its complement is taken in float64.
    share = float(np.float32(share))
    return mixed(image, share, second, 1.0 - share, image.dtype)


def brightness(image: np.ndarray, factor: float, name: str) -> np.ndarray:
    """An array `factor` times as bright."""
    colored(image, name)
    if image.dtype == np.uint8:
        return looked_up(image, _brighter(_LEVELS, factor))
    return _brighter(image, factor)


def _brighter(values: np.ndarray, factor: float) -> np.ndarray:
    work = np.float64 if values.dtype.itemsize > 4 else np.float32
    return saturated(np.multiply(values, work(np.float32(factor)), dtype=work), values.dtype)


def contrast(image: np.ndarray, factor: float, name: str) -> np.ndarray:
    """An array blended with its mean gray."""
    colored(image, name)
    mean = float(gray(image).mean(dtype=np.float64))
    return blend(image, mean if image.dtype.kind == "f" else float(int(mean + 0.5)), factor)


def saturation(image: np.ndarray, factor: float, name: str) -> np.ndarray:
    """An array blended with its gray image."""
    colored(image, name)
    return blend(image, gray(image)[..., None], factor)


def hue(image: np.ndarray, factor: float, name: str) -> np.ndarray:
    """An array with its hue turned by `factor` of the circle."""
    colored(image, name)
    if image.dtype != np.uint8:
        raise RuntimeError(f"{name}: expected uint8, got {image.dtype}.")
    turned = hsv(image)
    turned[..., 0] += np.uint8(int(np.float32(factor) * np.float32(255)) % 256)
    return rgb_of_hsv(turned)


def pil_hue(image: Image.Image, factor: float) -> Image.Image:
    """A Pillow image with its hue turned by `factor` of the circle; gray images stay."""
    if image.mode in ("L", "1", "I", "F"):
        return image
    h, s, v = image.convert("HSV").split()
    turned = np.array(h, np.uint8)
    turned += np.uint8(int(factor * 255) % 256)
    return Image.merge("HSV", (Image.fromarray(turned), s, v)).convert(image.mode)


class _Adjusted(ImageOperation):
    """One factor, one function for arrays, one of Pillow's."""

    _bounds: tuple[float, float] = (0, check.LARGEST)

    def _set(self, factor: float, argument: str) -> None:
        name = f"{type(self).__name__}.{argument}"
        check.number(factor, name)
        check.within(factor, *self._bounds, name)
        setattr(self, argument, factor)


class AdjustBrightness(_Adjusted):
    """The image `brightness_factor` times as bright.

    Args:
        brightness_factor: not negative; 0 is black, 1 the image.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative.
    """

    brightness_factor: float

    def __init__(self, brightness_factor: float) -> None:
        self._set(brightness_factor, "brightness_factor")

    def _array(self, image: np.ndarray) -> np.ndarray:
        return brightness(image, self.brightness_factor, "AdjustBrightness")

    def _pil(self, image: Image.Image) -> Image.Image:
        return ImageEnhance.Brightness(image).enhance(self.brightness_factor)


class AdjustContrast(_Adjusted):
    """The image blended with its mean gray.

    Args:
        contrast_factor: not negative; 0 is gray, 1 the image.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative.
    """

    contrast_factor: float

    def __init__(self, contrast_factor: float) -> None:
        self._set(contrast_factor, "contrast_factor")

    def _array(self, image: np.ndarray) -> np.ndarray:
        return contrast(image, self.contrast_factor, "AdjustContrast")

    def _pil(self, image: Image.Image) -> Image.Image:
        return ImageEnhance.Contrast(image).enhance(self.contrast_factor)


class AdjustSaturation(_Adjusted):
    """The image blended with its gray image.

    Args:
        saturation_factor: not negative; 0 is gray, 1 the image.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative.
    """

    saturation_factor: float

    def __init__(self, saturation_factor: float) -> None:
        self._set(saturation_factor, "saturation_factor")

    def _array(self, image: np.ndarray) -> np.ndarray:
        return saturation(image, self.saturation_factor, "AdjustSaturation")

    def _pil(self, image: Image.Image) -> Image.Image:
        return ImageEnhance.Color(image).enhance(self.saturation_factor)


class AdjustHue(_Adjusted):
    """The image with its hues turned.

    Args:
        hue_factor: the share of the circle, from -0.5 to 0.5.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """

    _bounds = (-0.5, 0.5)
    hue_factor: float

    def __init__(self, hue_factor: float) -> None:
        self._set(hue_factor, "hue_factor")

    def _array(self, image: np.ndarray) -> np.ndarray:
        return hue(image, self.hue_factor, "AdjustHue")

    def _pil(self, image: Image.Image) -> Image.Image:
        return pil_hue(image, self.hue_factor)


class AdjustGamma(ImageOperation):
    """`gain * image ** gamma`, of values scaled to 0 to 1.

    Args:
        gamma: not negative.
        gain: the factor.

    Raises:
        TypeError: one is no number.
        ValueError: one is outside.
    """

    def __init__(self, gamma: float, gain: float = 1) -> None:
        check.number(gamma, "AdjustGamma.gamma")
        check.within(gamma, 0, check.LARGEST, "AdjustGamma.gamma")
        check.number(gain, "AdjustGamma.gain")
        check.within(gain, -check.LARGEST, check.LARGEST, "AdjustGamma.gain")
        self.gamma = gamma
        self.gain = gain

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "AdjustGamma", (1, 3))
        if image.dtype.kind == "f":
            powered = np.power(image * image.dtype.type(self.gain), image.dtype.type(self.gamma))
            return np.clip(powered, 0, 1)
        if image.dtype != np.uint8:
            raise RuntimeError(f"AdjustGamma: expected uint8 or floats, got {image.dtype}.")
        at = (np.arange(256) / 255.0).astype(np.float32)
        powered = np.power(at, np.float32(self.gamma)).astype(np.float64)
        table = np.floor(np.minimum(powered * (255.0 + 1 - 1e-3) * self.gain, 255.0))
        return looked_up(image, table.astype(np.int64).astype(np.uint8))

    def _pil(self, image: Image.Image) -> Image.Image:
        table = [
            int((255 + 1 - 0.001) * self.gain * pow(x / 255.0, self.gamma)) for x in range(256)
        ]
        bands = len(image.getbands())
        return image.point(table * bands) if bands in (1, 3) else image


def check_degrees(degrees: Sequence[float], name: str) -> None:
    """Check a range of factors.

    Raises:
        TypeError: no list or tuple of numbers.
        ValueError: not two, negative, or not (min, max).
    """
    check.numbers_of(degrees, name)
    check.pair(degrees, name, ValueError)
    check.span(degrees, 0, check.LARGEST, name)


class RandomColor(ImageOperation):
    """`AdjustSaturation` by a random factor.

    Args:
        degrees: the smallest and the largest factor.

    Raises:
        TypeError: no list or tuple of numbers.
        ValueError: not two, negative, or not (min, max).
    """

    random = True

    def __init__(self, degrees: Sequence[float] = (0.1, 1.9)) -> None:
        check_degrees(degrees, "RandomColor.degrees")
        self.degrees = degrees

    def _array(self, image: np.ndarray) -> np.ndarray:
        colored(image, "RandomColor")
        share = float(np.float32(self.rng.uniform(self.degrees[0], self.degrees[1])))
        return mixed(gray(image)[..., None], 1.0 - share, image, share, image.dtype)

    def _pil(self, image: Image.Image) -> Image.Image:
        return ImageEnhance.Color(image).enhance(self.rng.uniform(self.degrees[0], self.degrees[1]))


def _factors(
    value: float | Sequence[float], centre: float, bounds: tuple[float, float], name: str
) -> tuple[float, float]:
    """The range of a factor: one number is the distance from the centre."""
    check.of_type(value, (int, float, list, tuple), name)
    if isinstance(value, int | float):
        if value < 0:
            raise ValueError(f"{name}: expected a distance that is not negative, got {value!r}.")
        low, high = centre - float(value), centre + float(value)
        if centre:
            low = max(0.0, low)
        value = (low, high)
    check.span(value, *bounds, name)
    return float(value[0]), float(value[1])


class RandomColorAdjust(ImageOperation):
    """Brightness, contrast, saturation and hue by random factors, in a random order.

    Args:
        brightness: (min, max), or a distance d for (1 - d, 1 + d).
        contrast: likewise.
        saturation: likewise.
        hue: (min, max) from -0.5 to 0.5, or a distance d for (-d, d).

    Raises:
        TypeError: one is neither a number nor two numbers.
        ValueError: one is outside, or not (min, max).
    """

    random = True

    def __init__(
        self,
        brightness: float | Sequence[float] = (1, 1),
        contrast: float | Sequence[float] = (1, 1),
        saturation: float | Sequence[float] = (1, 1),
        hue: float | Sequence[float] = (0, 0),
    ) -> None:
        name = "RandomColorAdjust"
        wide = (0.0, float(check.LARGEST))
        self.brightness = _factors(brightness, 1, wide, f"{name}.brightness")
        self.contrast = _factors(contrast, 1, wide, f"{name}.contrast")
        self.saturation = _factors(saturation, 1, wide, f"{name}.saturation")
        self.hue = _factors(hue, 0, (-0.5, 0.5), f"{name}.hue")

    def _steps(self) -> list[tuple[int, float]]:
        """Which adjustments, in their order, and by how much; those that change nothing are left
        out.
        """
        ranges = (self.brightness, self.contrast, self.saturation, self.hue)
        factors = [float(self.rng.uniform(*r)) for r in ranges]
        order = [int(i) for i in self.rng.permutation(4)]
        return [(i, factors[i]) for i in order]

    def _array(self, image: np.ndarray) -> np.ndarray:
        name = "RandomColorAdjust"
        colored(image, name)
        steps: tuple[Callable[..., np.ndarray], ...] = (brightness, contrast, saturation, hue)
        for i, factor in self._steps():
            # Arrays are spared what changes nothing; Pillow's way to HSV and back does change them.
            if factor != (0.0 if i == 3 else 1.0):
                image = steps[i](image, factor, name)
        return image

    def _pil(self, image: Image.Image) -> Image.Image:
        enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
        for i, factor in self._steps():
            image = pil_hue(image, factor) if i == 3 else enhancers[i](image).enhance(factor)
        return image


#: Eigenvectors of the colours of ImageNet, times the roots of their eigenvalues (Krizhevsky 2012).
_LIGHTING = np.array(
    [
        [55.46 * -0.5675, 4.794 * 0.7192, 1.148 * 0.4009],
        [55.46 * -0.5808, 4.794 * -0.0045, 1.148 * -0.8140],
        [55.46 * -0.5836, 4.794 * -0.6948, 1.148 * 0.4203],
    ]
)


class RandomLighting(ImageOperation):
    """Noise along the principal components of ImageNet's colours.

    Args:
        alpha: the standard deviation of the weights.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative.
    """

    random = True

    def __init__(self, alpha: float = 0.05) -> None:
        check.natural_float(alpha, "RandomLighting.alpha")
        self.alpha = alpha

    def _shift(self) -> np.ndarray:
        return _LIGHTING @ self.rng.normal(0.0, self.alpha, 3)

    def _array(self, image: np.ndarray) -> np.ndarray:
        colored(image, "RandomLighting")
        moved = np.add(image, self._shift().astype(np.float32), dtype=np.float32)
        return saturated(moved, image.dtype)

    def _pil(self, image: Image.Image) -> Image.Image:
        pixels = np.asarray(image.convert("RGB")) + self._shift()
        return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
