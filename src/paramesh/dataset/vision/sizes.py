"""Resizing, and crops that are resized."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from paramesh.dataset.argument_types import EncodedImage, Picture, Size
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision import arguments
from paramesh.dataset.vision.decoding import decoded, encoded_bytes, opened
from paramesh.dataset.vision.images import ImageOperation, ranked
from paramesh.dataset.vision.modes import Inter
from paramesh.dataset.vision.resampling import resize

__all__ = [
    "RandomCropDecodeResize",
    "RandomResize",
    "RandomResizedCrop",
    "Resize",
    "ResizedCrop",
]

_PIL = {
    Inter.NEAREST: Image.Resampling.NEAREST,
    Inter.ANTIALIAS: Image.Resampling.LANCZOS,
    Inter.LINEAR: Image.Resampling.BILINEAR,
    Inter.CUBIC: Image.Resampling.BICUBIC,
}

#: As `resize_size` gives it.
Checked = int | tuple[int, int]


def pil_filter(interpolation: Inter, name: str) -> Image.Resampling:
    """Pillow's filter.

    Raises:
        TypeError: Pillow has none.
    """
    if interpolation not in _PIL:
        raise TypeError(f"{name}: Inter.{interpolation.name} is for arrays, got a Pillow image.")
    return _PIL[interpolation]


def array_filter(interpolation: Inter, name: str) -> Inter:
    """The interpolation, if arrays have it.

    Raises:
        TypeError: it is Pillow's.
    """
    if interpolation == Inter.ANTIALIAS:
        raise TypeError(
            f"{name}: Inter.ANTIALIAS is for Pillow images, got an array. Use ToPIL first."
        )
    return interpolation


def wanted_size(height: int, width: int, size: Checked) -> tuple[int, int]:
    """The height and width of the result: one int is the length of the shorter side."""
    if not isinstance(size, int):
        return size
    if height < width:
        return size, int(np.float32(width) / np.float32(height) * np.float32(size))
    return int(np.float32(height) / np.float32(width) * np.float32(size)), size


def resize_array(image: np.ndarray, size: Checked, interpolation: Inter, name: str) -> np.ndarray:
    """An array in another size.

    Raises:
        RuntimeError: its shape does not fit, or the size is more than 1000 times its own.
    """
    ranked(image, name)
    rows, columns = image.shape[:2]
    height, width = wanted_size(rows, columns, size)
    if height > 1000 * rows or width > 1000 * columns:
        raise RuntimeError(
            f"{name}: {height} x {width} is more than 1000 times the image's size of {rows} x "
            f"{columns}."
        )
    return resize(image, height, width, array_filter(interpolation, name))


def resize_pil(image: Image.Image, size: Checked, interpolation: Inter, name: str) -> Image.Image:
    """A Pillow image in another size."""
    chosen = pil_filter(interpolation, name)
    if isinstance(size, int):
        width, height = image.size
        if min(width, height) == size:
            return image
        ratio = width / height
        width, height = (size, int(size / ratio)) if width < height else (int(size * ratio), size)
        return image.resize((width, height), chosen)
    return image.resize((size[1], size[0]), chosen)


class Resize(ImageOperation):
    """The image in another size.

    Args:
        size: the length of the shorter side, or (height, width), in pixels.
        interpolation: for arrays as OpenCV's (AREA and PILCUBIC for these alone), for Pillow
            images as Pillow's (ANTIALIAS for these alone).

    Raises:
        TypeError: `size` is no int and no two ints, or `interpolation` no `Inter`.
        ValueError: a length is not above 0.
    """

    def __init__(self, size: Size, interpolation: Inter | None = Inter.LINEAR) -> None:
        if interpolation is None:
            raise KeyError("Resize.interpolation: expected an Inter, got None.")
        self.size = arguments.resize_size(size, "Resize.size")
        self.interpolation = arguments.interpolation(interpolation, "Resize.interpolation")

    def _array(self, image: np.ndarray) -> np.ndarray:
        return resize_array(image, self.size, self.interpolation, "Resize")

    def _pil(self, image: Image.Image) -> Image.Image:
        return resize_pil(image, self.size, self.interpolation, "Resize")


class RandomResize(ImageOperation):
    """`Resize` with an interpolation drawn from NEAREST, LINEAR, CUBIC and AREA.

    Args:
        size: the length of the shorter side, or (height, width), in pixels.

    Raises:
        TypeError: `size` is no int and no two ints.
        ValueError: a length is not above 0.
    """

    random = True

    def __init__(self, size: Size) -> None:
        self.size = arguments.resize_size(size, "RandomResize.size")

    def _array(self, image: np.ndarray) -> np.ndarray:
        return resize_array(image, self.size, drawn_interpolation(self.rng), "RandomResize")


def drawn_interpolation(rng: np.random.Generator) -> Inter:
    """One of the four interpolations of arrays."""
    return (Inter.NEAREST, Inter.LINEAR, Inter.CUBIC, Inter.AREA)[int(rng.integers(4))]


class ResizedCrop(ImageOperation):
    """A part of the image, resized.

    Args:
        top: of the part.
        left: of the part.
        height: of the part.
        width: of the part.
        size: of the result: one int for a square, or (height, width).
        interpolation: as in `Resize`.

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
        size: Size,
        interpolation: Inter = Inter.BILINEAR,
    ) -> None:
        check.natural(top, "ResizedCrop.top")
        check.natural(left, "ResizedCrop.left")
        check.positive_int(height, "ResizedCrop.height")
        check.positive_int(width, "ResizedCrop.width")
        self.interpolation = arguments.interpolation(interpolation, "ResizedCrop.interpolation")
        self.size = arguments.crop_size(size, "ResizedCrop.size")
        self.box = (top, left, height, width)

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "ResizedCrop")
        return resize_array(
            cut(image, self.box, "ResizedCrop"), self.size, self.interpolation, "ResizedCrop"
        )


def cut(image: np.ndarray, box: tuple[int, int, int, int], name: str) -> np.ndarray:
    """The part (top, left, height, width) of an array, as a view.

    Raises:
        RuntimeError: it reaches out of the image.
    """
    top, left, height, width = box
    rows, columns = image.shape[:2]
    if top < 0 or left < 0 or top + height > rows or left + width > columns:
        raise RuntimeError(
            f"{name}: rows {top} to {top + height} and columns {left} to {left + width} reach out "
            "of "
            f"the image of {rows} x {columns}."
        )
    return image[top : top + height, left : left + width]


def drawn_box(
    rng: np.random.Generator,
    height: int,
    width: int,
    scale: Sequence[float],
    ratio: Sequence[float],
    max_attempts: int,
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a part of random area and aspect ratio.

    Args:
        rng: the generator.
        height: of the image.
        width: of the image.
        scale: the smallest and the largest share of the area.
        ratio: the smallest and the largest width / height, drawn by its logarithm.
        max_attempts: how many are drawn; if none fits, the largest one in the middle whose ratio is
            allowed.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for _ in range(max_attempts):
        area = rng.uniform(scale[0], scale[1]) * height * width
        aspect = math.exp(rng.uniform(low, high))
        wide = round(math.sqrt(area * aspect))
        tall = round(wide / aspect)
        if 0 < wide <= width and 0 < tall <= height:
            top = int(rng.integers(height - tall + 1))
            left = int(rng.integers(width - wide + 1))
            return top, left, tall, wide
    tall, wide = height, width
    if width / height < ratio[0]:
        tall = round(width / ratio[0])
    elif width / height > ratio[1]:
        wide = round(height * ratio[1])
    tall, wide = max(tall, 1), max(wide, 1)
    return round((height - tall) / 2.0), round((width - wide) / 2.0), tall, wide


class RandomResizedCrop(ImageOperation):
    """A part of random area and aspect ratio, resized.

    Args:
        size: of the result: one int for a square, or (height, width).
        scale: the smallest and the largest share of the image's area.
        ratio: the smallest and the largest width / height.
        interpolation: as in `Resize`.
        max_attempts: how many parts are drawn until one fits; then the middle is taken.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or not (min, max).
    """

    random = True

    def __init__(
        self,
        size: Size,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0),
        interpolation: Inter = Inter.BILINEAR,
        max_attempts: int = 10,
    ) -> None:
        name = type(self).__name__
        self.interpolation = arguments.interpolation(interpolation, f"{name}.interpolation")
        self.size = arguments.crop_size(size, f"{name}.size")
        arguments.scale_and_ratio(scale, ratio, max_attempts, name)
        self.scale = scale
        self.ratio = ratio
        self.max_attempts = max_attempts

    def _drawn(self, height: int, width: int) -> tuple[int, int, int, int]:
        return drawn_box(self.rng, height, width, self.scale, self.ratio, self.max_attempts)

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "RandomResizedCrop")
        part = cut(image, self._drawn(*image.shape[:2]), "RandomResizedCrop")
        return resize_array(part, self.size, self.interpolation, "RandomResizedCrop")

    def _pil(self, image: Image.Image) -> Image.Image:
        top, left, height, width = self._drawn(image.height, image.width)
        part = image.crop((left, top, left + width, top + height))
        return resize_pil(part, self.size, self.interpolation, "RandomResizedCrop")


class RandomCropDecodeResize(RandomResizedCrop):
    """`RandomResizedCrop` of an encoded image.

    Args:
        size: of the result: one int for a square, or (height, width).
        scale: the smallest and the largest share of the image's area.
        ratio: the smallest and the largest width / height.
        interpolation: as in `Resize`.
        max_attempts: how many parts are drawn until one fits; then the middle is taken.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or not (min, max).
    """

    def __call__(self, image: EncodedImage | Picture) -> np.ndarray:
        """Decode, crop and resize.

        Raises:
            TypeError: no bytes and no array of uint8 of one axis.
            RuntimeError: it cannot be decoded.
        """
        name = "RandomCropDecodeResize"
        if isinstance(image, np.ndarray) and (image.ndim != 1 or image.dtype != np.uint8):
            raise TypeError(
                f"{name}: expected an encoded image, an array of uint8 of one axis, got "
                f"{image.dtype} "
                f"of the shape {image.shape}."
            )
        data = encoded_bytes(image, name)
        picture = opened(data, name)
        part = decoded(data, picture, name, self._drawn(picture.height, picture.width))
        return resize_array(part, self.size, self.interpolation, name)
