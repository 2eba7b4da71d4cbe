"""Sharper and softer images."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance

from paramesh.dataset import opencv
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision.adjusting import blend, check_degrees
from paramesh.dataset.vision.images import ImageOperation, ranked, saturated

__all__ = ["AdjustSharpness", "GaussianBlur", "RandomAdjustSharpness", "RandomSharpness"]


def sharpness(image: np.ndarray, factor: float, name: str) -> np.ndarray:
    """An array blended with its smoothed image; the outermost pixels stay."""
    ranked(image, name)
    work = np.float64 if image.dtype.itemsize > 4 else np.float32
    smooth = image.copy()
    if min(image.shape[:2]) > 2:
        values = image.astype(work)
        rows = values[:-2] + values[1:-1] + values[2:]
        total = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
        total += 4 * values[1:-1, 1:-1]
        total /= 13
        smooth[1:-1, 1:-1] = saturated(total, image.dtype)
    return blend(image, smooth, factor)


class AdjustSharpness(ImageOperation):
    """The image blended with its smoothed image.

    Args:
        sharpness_factor: not negative; 0 is smooth, 1 the image, 2 sharper.

    Raises:
        TypeError: it is no number.
        ValueError: it is negative.
    """

    def __init__(self, sharpness_factor: float) -> None:
        check.natural_float(sharpness_factor, "AdjustSharpness.sharpness_factor")
        self.sharpness_factor = sharpness_factor

    def _array(self, image: np.ndarray) -> np.ndarray:
        return sharpness(image, self.sharpness_factor, "AdjustSharpness")


class RandomAdjustSharpness(ImageOperation):
    """`AdjustSharpness` with probability `prob`.

    Args:
        degree: the factor, not negative.
        prob: from 0 to 1.

    Raises:
        TypeError: one is no number.
        ValueError: one is outside.
    """

    random = True

    def __init__(self, degree: float, prob: float = 0.5) -> None:
        check.natural_float(degree, "RandomAdjustSharpness.degree")
        check.probability(prob, "RandomAdjustSharpness.prob")
        self.degree = degree
        self.prob = prob

    def _array(self, image: np.ndarray) -> np.ndarray:
        if self.rng.random() >= self.prob:
            return image
        return sharpness(image, self.degree, "RandomAdjustSharpness")


class RandomSharpness(ImageOperation):
    """`AdjustSharpness` by a random factor.

    Args:
        degrees: the smallest and the largest factor.

    Raises:
        TypeError: no list or tuple of numbers.
        ValueError: not two, negative, or not (min, max).
    """

    random = True

    def __init__(self, degrees: Sequence[float] = (0.1, 1.9)) -> None:
        check_degrees(degrees, "RandomSharpness.degrees")
        self.degrees = degrees

    def _array(self, image: np.ndarray) -> np.ndarray:
        return sharpness(
            image, self.rng.uniform(self.degrees[0], self.degrees[1]), "RandomSharpness"
        )

    def _pil(self, image: Image.Image) -> Image.Image:
        return ImageEnhance.Sharpness(image).enhance(
            self.rng.uniform(self.degrees[0], self.degrees[1])
        )


@functools.lru_cache(maxsize=256)
def gaussian_kernel(size: int, sigma: float) -> np.ndarray:
    """The taps of a Gaussian."""
    at = np.arange(size) - (size - 1) * 0.5
    taps = np.exp(-0.5 / (sigma * sigma) * at * at)
    return taps / taps.sum()


@functools.lru_cache(maxsize=256)
def _fixed_kernel(size: int, sigma: float) -> tuple[int, ...]:
    """The taps in 1/256, each rounded with the error of the one before."""
    taps = gaussian_kernel(size, sigma)
    fixed, error = [], 0.0
    for tap in taps[: size // 2]:
        exact = float(tap) * 256 + error
        fixed.append(math.floor(exact + 0.5) if exact % 1 != 0.5 else round(exact))
        error = exact - fixed[-1]
    return (*fixed, 256 - 2 * sum(fixed), *fixed[::-1])


def _along(image: np.ndarray, taps: Sequence[Any], axis: int) -> np.ndarray:
    """The convolution along an axis, with the image mirrored at its edges."""
    half = len(taps) // 2
    if not half:
        return image * taps[0]
    around = [(half, half) if a == axis else (0, 0) for a in range(image.ndim)]
    wide = np.pad(image, around, mode="reflect" if image.shape[axis] > 1 else "edge")
    length = image.shape[axis]
    total = np.zeros_like(image)
    for k, tap in enumerate(taps):
        total += wide[(slice(None),) * axis + (slice(k, k + length),)] * tap
    return total


class GaussianBlur(ImageOperation):
    """The image smoothed by a Gaussian.

    Args:
        kernel_size: the number of taps, odd: one int, or (width, height).
        sigma: the standard deviation in pixels: one number, or (width, height); None or 0: `0.15 *
            kernel_size + 0.35`.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or `kernel_size` is even.
    """

    def __init__(
        self, kernel_size: int | Sequence[int], sigma: float | Sequence[float] | None = None
    ) -> None:
        name = "GaussianBlur"
        check.of_type(kernel_size, (int, list, tuple), f"{name}.kernel_size")
        sizes = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
        check.pair(sizes, f"{name}.kernel_size")
        for i, size in enumerate(sizes):
            check.of_type(size, int, f"{name}.kernel_size[{i}]")
            check.within(size, 1, check.LARGEST, f"{name}.kernel_size[{i}]")
            if size % 2 != 1:
                raise ValueError(f"{name}.kernel_size[{i}]: expected an odd number, got {size}.")
        check.of_type(sigma, (int, float, list, tuple, type(None)), f"{name}.sigma")
        sigmas: tuple[Any, ...]
        if sigma is None:
            sigmas = (0.0, 0.0)
        else:
            sigmas = (sigma, sigma) if isinstance(sigma, int | float) else tuple(sigma)
        check.pair(sigmas, f"{name}.sigma")
        check.each(sigmas, check.natural_float, f"{name}.sigma")
        self.kernel_size = sizes
        wide, tall = (
            float(np.float32(s if s > 0 else n * 0.15 + 0.35))
            for s, n in zip(sigmas, sizes, strict=True)
        )
        self.sigma = (wide, tall)

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "GaussianBlur")
        found = opencv.blur(image, self.kernel_size, self.sigma)
        if found is not None:
            return found
        (wide, tall), (across, down) = self.kernel_size, self.sigma
        if image.dtype == np.uint8:
            total = _along(image.astype(np.int32), _fixed_kernel(wide, across), 1)
            total = _along(total, _fixed_kernel(tall, down), 0)
            return ((total + (1 << 15)) >> 16).astype(np.uint8)
        work = np.float64 if image.dtype.itemsize > 4 else np.float32
        values = _along(image.astype(work), gaussian_kernel(wide, across).astype(work).tolist(), 1)
        values = _along(values, gaussian_kernel(tall, down).astype(work).tolist(), 0)
        return saturated(values, image.dtype)
