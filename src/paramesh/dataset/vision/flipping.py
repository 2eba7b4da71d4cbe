"""Mirror images."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from paramesh.dataset.argument_types import Picture
from paramesh.dataset.pixels import Pixels, contiguous, lazy, made
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision.images import ImageOperation, ranked

__all__ = ["HorizontalFlip", "RandomHorizontalFlip", "RandomVerticalFlip", "VerticalFlip"]


class _Flip(ImageOperation):
    """A mirror image."""

    def _view(self, image: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def _pil(self, image: Image.Image) -> Image.Image:
        raise NotImplementedError

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, type(self).__name__)
        return contiguous(self._view(image))

    def lazily(self, image: Picture | Pixels) -> Any:
        """As when it is called; the result may wait."""
        pixels = lazy(image)
        if pixels is None or pixels.planar:
            return self(made(image))
        return pixels.of(self._view(pixels.source))


class HorizontalFlip(_Flip):
    """The image with left and right exchanged."""

    def _view(self, image: np.ndarray) -> np.ndarray:
        return image[:, ::-1]

    def _pil(self, image: Image.Image) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


class VerticalFlip(_Flip):
    """The image with top and bottom exchanged."""

    def _view(self, image: np.ndarray) -> np.ndarray:
        return image[::-1]

    def _pil(self, image: Image.Image) -> Image.Image:
        return image.transpose(Image.Transpose.FLIP_TOP_BOTTOM)


class _Sometimes(_Flip):
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

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, type(self).__name__)
        return super()._array(image) if self.rng.random() < self.prob else image

    def _pil(self, image: Image.Image) -> Image.Image:
        return super()._pil(image) if self.rng.random() < self.prob else image

    def lazily(self, image: Picture | Pixels) -> Any:
        """As when it is called; the result may wait."""
        pixels = lazy(image)
        if pixels is None or pixels.planar:
            return self(made(image))
        return super().lazily(image) if self.rng.random() < self.prob else image


class RandomHorizontalFlip(_Sometimes, HorizontalFlip):
    """The image, with probability `prob` with left and right exchanged.

    Args:
        prob: from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """


class RandomVerticalFlip(_Sometimes, VerticalFlip):
    """The image, with probability `prob` with top and bottom exchanged.

    Args:
        prob: from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """
