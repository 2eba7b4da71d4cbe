"""Other channels: gray, HSV, an alpha channel, another order."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.operation import TensorOperation
from paramesh.dataset.vision.color_spaces import gray, hsv_floats, rgb_floats
from paramesh.dataset.vision.images import ImageOperation, PilOperation, ranked
from paramesh.dataset.vision.modes import ConvertMode

__all__ = ["ConvertColor", "Grayscale", "HsvToRgb", "RandomGrayscale", "RgbToHsv"]

_M = ConvertMode
#: Which channel each channel of the result is; -1: opaque.
_ORDER = {
    _M.COLOR_BGR2BGRA: (0, 1, 2, -1),
    _M.COLOR_BGRA2BGR: (0, 1, 2),
    _M.COLOR_BGR2RGBA: (2, 1, 0, -1),
    _M.COLOR_RGBA2BGR: (2, 1, 0),
    _M.COLOR_BGR2RGB: (2, 1, 0),
    _M.COLOR_BGRA2RGBA: (2, 1, 0, 3),
    _M.COLOR_GRAY2BGR: (0, 0, 0),
    _M.COLOR_GRAY2BGRA: (0, 0, 0, -1),
}
_NEEDED = {
    _M.COLOR_BGRA2BGR: 4,
    _M.COLOR_RGBA2BGR: 4,
    _M.COLOR_BGRA2RGBA: 4,
    _M.COLOR_BGRA2GRAY: 4,
    _M.COLOR_RGBA2GRAY: 4,
    _M.COLOR_GRAY2BGR: 1,
    _M.COLOR_GRAY2BGRA: 1,
}


class ConvertColor(ImageOperation):
    """The image with other channels.

    Args:
        convert_mode: from which channels to which.

    Raises:
        TypeError: it is no `ConvertMode`.
    """

    def __init__(self, convert_mode: ConvertMode) -> None:
        check.of_type(convert_mode, ConvertMode, "ConvertColor.convert_mode")
        self.convert_mode = convert_mode

    def _array(self, image: np.ndarray) -> np.ndarray:
        mode = self.convert_mode
        ranked(image, "ConvertColor")
        needed = _NEEDED.get(mode, 3)
        planes = image if image.ndim == 3 else image[..., None]
        if planes.shape[2] != needed:
            raise RuntimeError(
                f"ConvertColor: {mode.name} is for images of {needed} channels, got the shape "
                f"{image.shape}."
            )
        order = _ORDER.get(mode)
        if order is None:
            first = mode in (_M.COLOR_RGB2GRAY, _M.COLOR_RGBA2GRAY)
            return gray(planes, 0, 2) if first else gray(planes, 2, 0)
        done = np.empty((*planes.shape[:2], len(order)), image.dtype)
        for i, source in enumerate(order):
            done[..., i] = planes[..., source] if source >= 0 else _opaque(image.dtype)
        return done


def _opaque(kind: np.dtype[Any]) -> Any:
    return np.iinfo(kind).max if kind.kind in "iu" else 1


def _gray_pil(image: Image.Image, channels: int) -> Image.Image:
    made = image.convert("L")
    return made if channels == 1 else Image.merge("RGB", (made,) * 3)


class Grayscale(PilOperation):
    """A Pillow image in gray.

    Args:
        num_output_channels: 1 or 3.

    Raises:
        TypeError: it is no int.
        ValueError: it is neither 1 nor 3.
    """

    def __init__(self, num_output_channels: int = 1) -> None:
        check.of_type(num_output_channels, int, "Grayscale.num_output_channels")
        check.choice(num_output_channels, (1, 3), "Grayscale.num_output_channels")
        self.num_output_channels = num_output_channels

    def _pil(self, image: Image.Image) -> Image.Image:
        return _gray_pil(image, self.num_output_channels)


class RandomGrayscale(PilOperation):
    """A Pillow image, in gray with probability `prob`; it keeps its number of channels.

    Args:
        prob: from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """

    random = True

    def __init__(self, prob: float = 0.1) -> None:
        check.probability(prob, "RandomGrayscale.prob")
        self.prob = prob

    def _pil(self, image: Image.Image) -> Image.Image:
        if self.rng.random() >= self.prob:
            return image
        return _gray_pil(image, 1 if image.mode == "L" else 3)


class _Space(TensorOperation):
    """From one colour space to another, for images and batches of floats from 0 to 1."""

    def __init__(self, is_hwc: bool = False) -> None:
        check.flag(is_hwc, f"{type(self).__name__}.is_hwc")
        self.is_hwc = is_hwc

    def _axis(self, images: np.ndarray) -> int:
        name = type(self).__name__
        check.of_type(images, np.ndarray, f"{name}(images)")
        axis = -1 if self.is_hwc else -3
        if images.ndim not in (3, 4) or images.shape[axis] != 3:
            raise TypeError(
                f"{name}: expected an image or a batch of them with 3 channels along axis {axis}, "
                "got "
                f"the shape {images.shape}."
            )
        return axis


class RgbToHsv(_Space):
    """Hue, saturation and value of floats from 0 to 1, as float64.

    Args:
        is_hwc: True: the channels are the last axis; False: the third from the end.

    Raises:
        TypeError: it is no bool.
    """

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Convert an image or a batch.

        Raises:
            TypeError: no array, or of another shape.
        """
        return hsv_floats(images, self._axis(images))


class HsvToRgb(_Space):
    """Red, green and blue of floats from 0 to 1, as float64.

    Args:
        is_hwc: True: the channels are the last axis; False: the third from the end.

    Raises:
        TypeError: it is no bool.
    """

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Convert an image or a batch.

        Raises:
            TypeError: no array, or of another shape.
        """
        return rgb_floats(images, self._axis(images))
