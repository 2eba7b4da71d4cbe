"""Transforms that map each value by a table: invert, equalize, contrast, posterize, solarize."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageOps

from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision.images import ImageOperation, colored, looked_up, ranked

__all__ = [
    "AutoContrast",
    "Equalize",
    "Invert",
    "Posterize",
    "RandomAutoContrast",
    "RandomEqualize",
    "RandomInvert",
    "RandomPosterize",
    "RandomSolarize",
    "Solarize",
]


def _bytes(image: np.ndarray, name: str) -> np.ndarray:
    ranked(image, name, (1, 3))
    if image.dtype != np.uint8:
        raise RuntimeError(f"{name}: expected uint8, got {image.dtype}.")
    return image


def _by_tables(image: np.ndarray, tables: list[np.ndarray]) -> np.ndarray:
    if image.ndim == 2:
        return looked_up(image, tables[0])
    done = np.empty(image.shape, np.uint8)
    for i, table in enumerate(tables):
        done[..., i] = looked_up(np.ascontiguousarray(image[..., i]), table)
    return done


def _histograms(image: np.ndarray) -> list[np.ndarray]:
    planes = image[..., None] if image.ndim == 2 else image
    return [np.bincount(planes[..., i].ravel(), minlength=256) for i in range(planes.shape[2])]


def invert(image: np.ndarray, name: str = "Invert") -> np.ndarray:
    """255 minus an array (height, width, 3)."""
    colored(image, name)
    return 255 - image


def equalize(image: np.ndarray, name: str = "Equalize") -> np.ndarray:
    """An array whose channels have flat histograms."""

    def table(counts: np.ndarray) -> np.ndarray:
        first = int(np.flatnonzero(counts)[0])
        rest = int(counts.sum() - counts[first])
        if not rest:
            return np.full(256, first, np.uint8)
        sums = np.cumsum(counts)
        sums -= sums[first]
        scale = np.float32(255) / np.float32(rest)
        return np.clip(np.rint(sums.astype(np.float32) * scale), 0, 255).astype(np.uint8)

    return _by_tables(_bytes(image, name), [table(c) for c in _histograms(image)])


def auto_contrast(
    image: np.ndarray, cutoff: float = 0.0, ignore: Sequence[int] = (), name: str = "AutoContrast"
) -> np.ndarray:
    """An array whose channels reach from 0 to 255."""

    def table(counts: np.ndarray) -> np.ndarray:
        counts = counts.copy()
        counts[list(ignore)] = 0
        # MindSpore drops the fraction of the percentage.
        cut = int(np.float32(int(cutoff) / np.float32(100)) * np.float32(counts.sum()))
        if cut:
            for side in (counts, counts[::-1]):
                before = np.cumsum(side) - side
                side -= np.clip(cut - before, 0, side)
        kept = np.flatnonzero(counts)
        if kept.size == 0 or kept[-1] <= kept[0]:
            return np.arange(256, dtype=np.uint8)
        low, high = int(kept[0]), int(kept[-1])
        scale = np.float32(255.0 / (high - low))
        offset = np.float32(-low) * scale
        at = np.arange(256, dtype=np.float32) * scale + offset
        return np.clip(np.trunc(at), 0, 255).astype(np.uint8)

    return _by_tables(_bytes(image, name), [table(c) for c in _histograms(image)])


def posterize(image: np.ndarray, bits: int, name: str = "Posterize") -> np.ndarray:
    """An array whose values keep their highest bits."""
    ranked(image, name, (1, 3))
    if image.dtype != np.uint8:
        raise RuntimeError(f"{name}: expected uint8, got {image.dtype}.")
    return image & np.uint8((0xFF << (8 - bits)) & 0xFF)


def solarize(image: np.ndarray, low: float, high: float, name: str = "Solarize") -> np.ndarray:
    """An array with the values from `low` to `high` inverted (if equal: all from `low` on)."""
    ranked(image, name, (1, 3))
    inside = image >= low
    if low != high:
        inside &= image <= high
    return np.where(inside, 255 - image, image).astype(image.dtype, copy=False)


class Invert(ImageOperation):
    """255 minus the image."""

    def _array(self, image: np.ndarray) -> np.ndarray:
        return invert(image)

    def _pil(self, image: Image.Image) -> Image.Image:
        return ImageOps.invert(image)


class Equalize(ImageOperation):
    """The image with a flat histogram in each channel."""

    def _array(self, image: np.ndarray) -> np.ndarray:
        return equalize(image)

    def _pil(self, image: Image.Image) -> Image.Image:
        return ImageOps.equalize(image)


def _contrast_arguments(cutoff: float, ignore: int | Sequence[int] | None, name: str) -> list[int]:
    check.number(cutoff, f"{name}.cutoff")
    check.within(cutoff, 0, 50, f"{name}.cutoff", below=True)
    if ignore is None:
        return []
    check.of_type(ignore, (list, tuple, int), f"{name}.ignore")
    values = [ignore] if isinstance(ignore, int) else list(ignore)
    for i, value in enumerate(values):
        check.of_type(value, int, f"{name}.ignore[{i}]")
        check.within(value, 0, 255, f"{name}.ignore[{i}]")
    return values


class AutoContrast(ImageOperation):
    """The image with each channel stretched to 0 to 255.

    Args:
        cutoff: the percentage of the pixels that is dropped at both ends of the histogram, from 0
            to below 50. For arrays its fraction is dropped, as in MindSpore.
        ignore: a value, or values, that do not count.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(self, cutoff: float = 0.0, ignore: int | Sequence[int] | None = None) -> None:
        self.ignore = _contrast_arguments(cutoff, ignore, type(self).__name__)
        self.cutoff = cutoff

    def _array(self, image: np.ndarray) -> np.ndarray:
        return auto_contrast(image, self.cutoff, self.ignore, type(self).__name__)

    def _pil(self, image: Image.Image) -> Image.Image:
        return ImageOps.autocontrast(image, self.cutoff, self.ignore)  # type: ignore[arg-type]


class RandomAutoContrast(ImageOperation):
    """`AutoContrast` with probability `prob`.

    Args:
        cutoff: the percentage of the pixels that is dropped at both ends of the histogram.
        ignore: a value, or values, that do not count.
        prob: from 0 to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    random = True

    def __init__(
        self, cutoff: float = 0.0, ignore: int | Sequence[int] | None = None, prob: float = 0.5
    ) -> None:
        self.ignore = _contrast_arguments(cutoff, ignore, "RandomAutoContrast")
        check.probability(prob, "RandomAutoContrast.prob")
        self.cutoff = cutoff
        self.prob = prob

    def _array(self, image: np.ndarray) -> np.ndarray:
        if self.rng.random() >= self.prob:
            return image
        return auto_contrast(image, self.cutoff, self.ignore, "RandomAutoContrast")


class _Sometimes(ImageOperation):
    random = True

    def __init__(self, prob: float = 0.5) -> None:
        check.probability(prob, f"{type(self).__name__}.prob")
        self.prob = prob


class RandomInvert(_Sometimes):
    """`Invert` with probability `prob`.

    Args:
        prob: from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """

    def _array(self, image: np.ndarray) -> np.ndarray:
        return invert(image, "RandomInvert") if self.rng.random() < self.prob else image


class RandomEqualize(_Sometimes):
    """`Equalize` with probability `prob`.

    Args:
        prob: from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """

    def _array(self, image: np.ndarray) -> np.ndarray:
        return equalize(image, "RandomEqualize") if self.rng.random() < self.prob else image


class Posterize(ImageOperation):
    """The image with fewer bits for each value.

    Args:
        bits: how many are kept, from 0 to 8.

    Raises:
        TypeError: it is no int.
        ValueError: it is outside.
    """

    def __init__(self, bits: int) -> None:
        check.of_type(bits, int, "Posterize.bits")
        check.within(bits, 0, 8, "Posterize.bits")
        self.bits = bits

    def _array(self, image: np.ndarray) -> np.ndarray:
        return posterize(image, self.bits)


class RandomPosterize(ImageOperation):
    """`Posterize` with a random number of bits.

    Args:
        bits: the number, or (min, max), from 1 to 8.

    Raises:
        TypeError: no int and no two ints.
        ValueError: outside, or not (min, max).
    """

    random = True

    def __init__(self, bits: int | Sequence[int] = (8, 8)) -> None:
        check.of_type(bits, (int, list, tuple), "RandomPosterize.bits")
        pair = (bits, bits) if isinstance(bits, int) else bits
        check.pair(pair, "RandomPosterize.bits")
        check.numbers_of(pair, "RandomPosterize.bits", int)
        check.span(pair, 1, 8, "RandomPosterize.bits")
        self.bits = pair

    def _array(self, image: np.ndarray) -> np.ndarray:
        bits = int(self.rng.integers(self.bits[0], self.bits[1] + 1))
        return posterize(image, bits, "RandomPosterize")


class Solarize(ImageOperation):
    """The image with the values in a range inverted.

    Args:
        threshold: (min, max) of the range, from 0 to 255; one number: from it on.

    Raises:
        TypeError: no number and no two numbers.
        ValueError: outside, or not (min, max).
    """

    def __init__(self, threshold: float | Sequence[float]) -> None:
        name = "Solarize.threshold"
        check.of_type(threshold, (float, int, list, tuple), name)
        pair = (threshold, threshold) if isinstance(threshold, int | float) else threshold
        check.numbers_of(pair, name)
        check.span(pair, 0, 255, name)
        self.threshold = pair

    def _array(self, image: np.ndarray) -> np.ndarray:
        return solarize(image, self.threshold[0], self.threshold[1])


class RandomSolarize(ImageOperation):
    """`Solarize` with a random range.

    Args:
        threshold: a tuple of the smallest and the largest bound, from 0 to 255.

    Raises:
        TypeError: no tuple of ints.
        ValueError: not two, outside, or not (min, max).
    """

    random = True

    def __init__(self, threshold: tuple[int, int] = (0, 255)) -> None:
        name = "RandomSolarize.threshold"
        check.of_type(threshold, tuple, name)
        check.numbers_of(threshold, name, int)
        check.pair(threshold, name, ValueError)
        check.span(threshold, 0, 255, name)
        self.threshold = threshold

    def _array(self, image: np.ndarray) -> np.ndarray:
        low, high = self.threshold
        first, second = sorted(int(v) for v in self.rng.integers(low, high + 1, 2))
        return solarize(image, first, second, "RandomSolarize")
