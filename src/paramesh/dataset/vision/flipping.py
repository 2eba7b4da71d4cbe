"""Mirror images."""

from __future__ import annotations

import numpy as np
from PIL import Image

from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision.images import ImageOperation, ranked

__all__ = ["HorizontalFlip", "RandomHorizontalFlip", "RandomVerticalFlip", "VerticalFlip"]


class HorizontalFlip(ImageOperation):
    """The image with left and right exchanged."""

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, type(self).__name__)
        return np.ascontiguousarray(image[:, ::-1])

    def _pil(self, image: Image.Image) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


class VerticalFlip(ImageOperation):
    """The image with top and bottom exchanged."""

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, type(self).__name__)
        return np.ascontiguousarray(image[::-1])

    def _pil(self, image: Image.Image) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


class _Sometimes:
    """A flip that happens with a probability.

    Args:
        prob: from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """

    random = True

    def __init__(self, prob: float = 0.5) -> None:
        check.probability(prob, f"{type(self).__name__}.prob")
        self.prob = prob


class RandomHorizontalFlip(_Sometimes, HorizontalFlip):
    """The image, with probability `prob` with left and right exchanged.

    Args:
        prob: from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "RandomHorizontalFlip")
        return super()._array(image) if self.rng.random() < self.prob else image

    def _pil(self, image: Image.Image) -> Image.Image:
        return super()._pil(image) if self.rng.random() < self.prob else image


class RandomVerticalFlip(_Sometimes, VerticalFlip):
    """The image, with probability `prob` with top and bottom exchanged.

    Args:
        prob: from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "RandomVerticalFlip")
        return super()._array(image) if self.rng.random() < self.prob else image

    def _pil(self, image: Image.Image) -> Image.Image:
        return super()._pil(image) if self.rng.random() < self.prob else image
