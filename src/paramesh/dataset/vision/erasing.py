"""Rectangles taken out of an image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.operation import TensorOperation
from paramesh.dataset.vision.images import ImageOperation, ranked

__all__ = ["CutOut", "Erase", "RandomErasing"]


class Erase(ImageOperation):
    """The image with a rectangle of one colour; what reaches out of the image is dropped.

    Args:
        top: of the rectangle.
        left: of the rectangle.
        height: of the rectangle.
        width: of the rectangle.
        value: one number from 0 to 255, or a tuple of three.
        inplace: True: the given array is changed.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        top: int,
        left: int,
        height: int,
        width: int,
        value: float | tuple[float, float, float] = 0.0,
        inplace: bool = False,
    ) -> None:
        check.natural(top, "Erase.top")
        check.natural(left, "Erase.left")
        check.positive_int(height, "Erase.height")
        check.positive_int(width, "Erase.width")
        check.flag(inplace, "Erase.inplace")
        check.of_type(value, (float, int, tuple), "Erase.value")
        colors = (value,) * 3 if isinstance(value, int | float) else value
        check.numbers_of(colors, "Erase.value")
        if len(colors) != 3:
            raise TypeError(f"Erase.value: expected a number or a tuple of 3, got {value!r}.")
        check.each(colors, lambda v, n: check.within(v, 0, 255, n), "Erase.value")
        self.box = (top, left, height, width)
        self.value = colors
        self.inplace = inplace

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "Erase", (1, 3))
        top, left, height, width = self.box
        done = image if self.inplace else image.copy()
        value = np.array(self.value).astype(image.dtype)
        channels = image.shape[2] if image.ndim == 3 else 1
        done[top : top + height, left : left + width] = (
            value[:channels] if image.ndim == 3 else value[0]
        )
        return done


class CutOut(ImageOperation):
    """The image with black squares; parts of them may lie outside.

    Args:
        length: of a side, in pixels.
        num_patches: how many.
        is_hwc: True: (height, width, channels); False: (channels, height, width).

    Raises:
        TypeError: one is of another kind.
        ValueError: one is not above 0.
    """

    random = True

    def __init__(self, length: int, num_patches: int = 1, is_hwc: bool = True) -> None:
        check.of_type(length, int, "CutOut.length")
        check.of_type(num_patches, int, "CutOut.num_patches")
        check.flag(is_hwc, "CutOut.is_hwc")
        check.within(length, 1, check.LARGEST, "CutOut.length")
        check.within(num_patches, 1, check.LARGEST, "CutOut.num_patches")
        self.length = length
        self.num_patches = num_patches
        self.is_hwc = is_hwc

    def _array(self, image: np.ndarray) -> np.ndarray:
        if image.ndim != 3:
            raise RuntimeError(
                f"CutOut: expected an image of three axes, got the shape {image.shape}."
            )
        done = image.copy()
        planes = done if self.is_hwc else done.transpose(1, 2, 0)
        height, width = planes.shape[:2]
        side = self.length
        if side > height or side > width:
            raise RuntimeError(
                f"CutOut: a square of {side} does not fit into the image of {height} x {width}."
            )
        for _ in range(self.num_patches):
            top = int(self.rng.integers(height + side + 1)) - side
            left = int(self.rng.integers(width + side + 1)) - side
            planes[max(top, 0) : top + side, max(left, 0) : left + side] = 0
        return done


class RandomErasing(TensorOperation):
    """An array (channels, height, width) with a random rectangle of one colour or of noise.

    Args:
        prob: of the rectangle, from 0 to 1.
        scale: the smallest and the largest share of the area.
        ratio: the smallest and the largest width / height.
        value: an int from 0 to 255, three of them, or "random" for normal noise.
        inplace: True: the given array is changed.
        max_attempts: how many rectangles are drawn until one fits; then nothing is erased.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or not (min, max).
    """

    random = True

    def __init__(
        self,
        prob: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: int | str | Sequence[int] = 0,
        inplace: bool = False,
        max_attempts: int = 10,
    ) -> None:
        name = "RandomErasing"
        check.probability(prob, f"{name}.prob")
        for pair, argument in ((scale, "scale"), (ratio, "ratio")):
            check.numbers_of(pair, f"{name}.{argument}")
            check.span(pair, 0, check.LARGEST, f"{name}.{argument}")
        check.positive(scale[1], f"{name}.scale[1]")
        check.positive(ratio[0], f"{name}.ratio[0]")
        check.of_type(value, (int, list, tuple, str), f"{name}.value")
        if isinstance(value, str):
            check.choice(value, ("random",), f"{name}.value")
        elif isinstance(value, int):
            check.within(value, 0, 255, f"{name}.value")
        else:
            check.numbers_of(value, f"{name}.value", int)
            if len(value) != 3:
                raise ValueError(f"{name}.value: expected one int or three, got {value!r}.")
            check.each(value, lambda v, n: check.within(v, 0, 255, n), f"{name}.value")
        check.flag(inplace, f"{name}.inplace")
        check.of_type(max_attempts, int, f"{name}.max_attempts")
        check.within(max_attempts, 1, check.LARGEST, f"{name}.max_attempts")
        self.prob = prob
        self.scale = scale
        self.ratio = ratio
        self.value = value
        self.inplace = inplace
        self.max_attempts = max_attempts

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Erase a rectangle.

        Raises:
            TypeError: no array of three axes.
        """
        rng = self.rng
        if rng.random() >= self.prob:
            return image
        if not isinstance(image, np.ndarray) or image.ndim != 3:
            raise TypeError(
                f"RandomErasing: expected an array (channels, height, width), got "
                f"{getattr(image, 'shape', type(image).__name__)}. Use ToTensor before it."
            )
        channels, height, width = image.shape
        for _ in range(self.max_attempts):
            area = rng.uniform(self.scale[0], self.scale[1]) * height * width
            aspect = rng.uniform(self.ratio[0], self.ratio[1])
            wide = round(math.sqrt(area * aspect))
            tall = round(wide / aspect)
            if tall < height and wide < width:
                top = int(rng.integers(height - tall + 1))
                left = int(rng.integers(width - wide + 1))
                done = image if self.inplace else image.copy()
                done[:, top : top + tall, left : left + wide] = self._value((channels, tall, wide))
                return done
        return image

    def _value(self, shape: tuple[int, int, int]) -> Any:
        if isinstance(self.value, str):
            return self.rng.normal(size=shape)
        return self.value if isinstance(self.value, int) else np.array(self.value)[:, None, None]
