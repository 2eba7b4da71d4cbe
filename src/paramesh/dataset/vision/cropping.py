"""Parts of an image in its own resolution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from paramesh.dataset.argument_types import Size
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision import arguments
from paramesh.dataset.vision.images import ImageOperation, PilOperation, ranked
from paramesh.dataset.vision.modes import Border, SliceMode
from paramesh.dataset.vision.padding import pad_array, pad_pil
from paramesh.dataset.vision.sizes import cut

__all__ = ["CenterCrop", "Crop", "FiveCrop", "RandomCrop", "SlicePatches", "TenCrop"]


class Crop(ImageOperation):
    """A part of the image.

    Args:
        coordinates: (top, left).
        size: one int for a square, or (height, width).

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(self, coordinates: Sequence[int], size: Size) -> None:
        check.pair(coordinates, "Crop.coordinates")
        check.each(coordinates, check.natural, "Crop.coordinates")
        self.coordinates = coordinates
        self.size = arguments.crop_size(size, "Crop.size")

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "Crop")
        top, left = self.coordinates
        return cut(image, (top, left, *self.size), "Crop").copy()


class CenterCrop(ImageOperation):
    """The middle of the image; where it is too small, black is added.

    Args:
        size: one int for a square, or (height, width).

    Raises:
        TypeError: `size` is no int and no two ints.
        ValueError: a length is not above 0.
    """

    def __init__(self, size: Size) -> None:
        self.size = arguments.crop_size(size, "CenterCrop.size")

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "CenterCrop")
        height, width = self.size
        more = max(height - image.shape[0], 0), max(width - image.shape[1], 0)
        if any(more):
            widths = (more[1] - more[1] // 2, more[0] - more[0] // 2, more[1] // 2, more[0] // 2)
            image = pad_array(image, widths, (0, 0, 0), Border.CONSTANT)
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        return image[top : top + height, left : left + width].copy()

    def _pil(self, image: Image.Image) -> Image.Image:
        return _pil_centre(image, self.size)


def _pil_centre(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    height, width = size
    top, left = round((image.height - height) / 2.0), round((image.width - width) / 2.0)
    return image.crop((left, top, left + width, top + height))


class RandomCrop(ImageOperation):
    """A part of the image at a random place.

    Args:
        size: one int for a square, or (height, width).
        padding: added first: the width on all sides, (left and right, top and bottom), or (left,
            top, right, bottom); None: nothing.
        pad_if_needed: True: an image that is too small gets what is missing on both sides.
        fill_value: of the padding: one colour from 0 to 255, or a tuple of three.
        padding_mode: what the padding shows.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    random = True

    def __init__(
        self,
        size: Size,
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill_value: int | tuple[int, int, int] = 0,
        padding_mode: Border = Border.CONSTANT,
    ) -> None:
        name = type(self).__name__
        self.size = arguments.crop_size(size, f"{name}.size")
        check.flag(pad_if_needed, f"{name}.pad_if_needed")
        self.padding = (
            (0,) * 4 if padding is None else arguments.padding(padding, f"{name}.padding")
        )
        self.pad_if_needed = pad_if_needed
        self.fill_value = arguments.colors(fill_value, f"{name}.fill_value")
        self.padding_mode = arguments.border(padding_mode, f"{name}.padding_mode")

    def _widths(self, height: int, width: int) -> tuple[int, int, int, int]:
        """All that is added: left, top, right, bottom."""
        left, top, right, bottom = self.padding
        if self.pad_if_needed:
            tall = max(self.size[0] - (height + top + bottom), 0)
            wide = max(self.size[1] - (width + left + right), 0)
            left, top, right, bottom = left + wide, top + tall, right + wide, bottom + tall
        return left, top, right, bottom

    def _place(self, height: int, width: int) -> tuple[int, int]:
        """Top and left of the part."""
        tall, wide = height - self.size[0], width - self.size[1]
        return (
            int(self.rng.integers(tall + 1)) if tall else 0,
            int(self.rng.integers(wide + 1)) if wide else 0,
        )

    def _too_small(self, height: int, width: int) -> str | None:
        if self.size[0] <= height and self.size[1] <= width:
            return None
        return (
            f"{type(self).__name__}: the size {self.size} is larger than the padded image of "
            f"{height} "
            f"x {width}. Pass pad_if_needed=True."
        )

    def crop_array(self, image: np.ndarray) -> tuple[np.ndarray, int, int]:
        """The part, and where its corner lies in the image: x and y (negative: in the padding).

        Raises:
            RuntimeError: the image is too small.
        """
        ranked(image, type(self).__name__)
        widths = self._widths(*image.shape[:2])
        padded = pad_array(image, widths, self.fill_value, self.padding_mode)
        problem = self._too_small(*padded.shape[:2])
        if problem:
            raise RuntimeError(problem)
        top, left = self._place(*padded.shape[:2])
        part = padded[top : top + self.size[0], left : left + self.size[1]]
        return part.copy() if padded is image else part, left - widths[0], top - widths[1]

    def _array(self, image: np.ndarray) -> np.ndarray:
        return self.crop_array(image)[0]

    def _pil(self, image: Image.Image) -> Image.Image:
        widths = self._widths(image.height, image.width)
        if any(widths):
            image = pad_pil(image, widths, self.fill_value, self.padding_mode)
        problem = self._too_small(image.height, image.width)
        if problem:
            raise ValueError(problem)
        top, left = self._place(image.height, image.width)
        return image.crop((left, top, left + self.size[1], top + self.size[0]))


class FiveCrop(PilOperation):
    """The four corners and the middle of a Pillow image.

    Args:
        size: one int for squares, or (height, width).

    Raises:
        TypeError: `size` is no int and no two ints.
        ValueError: a length is not above 0.
    """

    def __init__(self, size: Size) -> None:
        self.size = arguments.crop_size(size, "FiveCrop.size")

    def _pil(self, image: Image.Image) -> tuple[Image.Image, ...]:
        return five(image, self.size, "FiveCrop")


def five(image: Image.Image, size: tuple[int, int], name: str) -> tuple[Image.Image, ...]:
    """Top left, top right, bottom left, bottom right, middle.

    Raises:
        ValueError: the image is smaller.
    """
    height, width = size
    right, bottom = image.width - width, image.height - height
    if right < 0 or bottom < 0:
        raise ValueError(
            f"{name}: the size {size} is larger than the image of {image.height} x {image.width}."
        )
    corners = ((0, 0), (right, 0), (0, bottom), (right, bottom))
    parts = [image.crop((x, y, x + width, y + height)) for x, y in corners]
    return (*parts, _pil_centre(image, size))


class TenCrop(PilOperation):
    """`FiveCrop` of a Pillow image and of its mirror image.

    Args:
        size: one int for squares, or (height, width).
        use_vertical_flip: True: the mirror image is upside down.

    Raises:
        TypeError: one is of another kind.
        ValueError: a length is not above 0.
    """

    def __init__(self, size: Size, use_vertical_flip: bool = False) -> None:
        self.size = arguments.crop_size(size, "TenCrop.size")
        check.flag(use_vertical_flip, "TenCrop.use_vertical_flip")
        self.use_vertical_flip = use_vertical_flip

    def _pil(self, image: Image.Image) -> tuple[Image.Image, ...]:
        turn = (
            Image.Transpose.FLIP_TOP_BOTTOM
            if self.use_vertical_flip
            else (Image.Transpose.FLIP_LEFT_RIGHT)
        )
        return (
            *five(image, self.size, "TenCrop"),
            *five(image.transpose(turn), self.size, "TenCrop"),
        )


class SlicePatches(ImageOperation):
    """The image cut into a grid, as a tuple, row by row.

    Args:
        num_height: the number of rows.
        num_width: the number of columns.
        slice_mode: what happens to an image that they do not divide: it is padded at its end, or
            its end is dropped.
        fill_value: of the padding, from 0 to 255.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        num_height: int = 1,
        num_width: int = 1,
        slice_mode: SliceMode = SliceMode.PAD,
        fill_value: int = 0,
    ) -> None:
        check.positive_int(num_height, "SlicePatches.num_height")
        check.positive_int(num_width, "SlicePatches.num_width")
        check.of_type(slice_mode, SliceMode, "SlicePatches.slice_mode")
        check.of_type(fill_value, int, "SlicePatches.fill_value")
        check.within(fill_value, 0, 255, "SlicePatches.fill_value")
        self.num_height = num_height
        self.num_width = num_width
        self.slice_mode = slice_mode
        self.fill_value = fill_value

    def _array(self, image: np.ndarray) -> Any:
        ranked(image, "SlicePatches")
        rows, columns = self.num_height, self.num_width
        if (rows, columns) == (1, 1):
            return image
        height, width = image.shape[:2]
        if rows > height or columns > width:
            raise RuntimeError(
                f"SlicePatches: {rows} x {columns} patches of an image of {height} x {width}."
            )
        if self.slice_mode == SliceMode.PAD:
            tall, wide = -(-height // rows), -(-width // columns)
            around = [(0, tall * rows - height), (0, wide * columns - width), (0, 0)][: image.ndim]
            if (tall * rows, wide * columns) != (height, width):
                image = np.pad(image, around, constant_values=self.fill_value)
        else:
            tall, wide = height // rows, width // columns
        return tuple(
            image[i * tall : (i + 1) * tall, j * wide : (j + 1) * wide].copy()
            for i in range(rows)
            for j in range(columns)
        )
