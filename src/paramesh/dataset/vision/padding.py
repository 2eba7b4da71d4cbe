"""Pixels added around an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision import arguments
from paramesh.dataset.vision.images import ImageOperation, ranked
from paramesh.dataset.vision.modes import Border

__all__ = ["Pad", "PadToSize"]

#: (left, top, right, bottom)
Widths = tuple[int, int, int, int]

_NUMPY = {Border.EDGE: "edge", Border.REFLECT: "reflect", Border.SYMMETRIC: "symmetric"}


def pad_array(image: np.ndarray, widths: Widths, colors: Sequence[int], mode: Border) -> np.ndarray:
    """An array with a border.

    Args:
        image: (height, width) or (height, width, channels).
        widths: left, top, right, bottom, in pixels.
        colors: red, green, blue, of `Border.CONSTANT`; a gray image takes the first.
        mode: what the border shows.
    """
    left, top, right, bottom = widths
    if not any(widths):
        return image
    around = ((top, bottom), (left, right), (0, 0))[: image.ndim]
    if mode != Border.CONSTANT:
        return np.pad(image, around, mode=_NUMPY[mode])  # type: ignore[call-overload]
    height, width = image.shape[:2]
    shape = (height + top + bottom, width + left + right, *image.shape[2:])
    channels = image.shape[2] if image.ndim == 3 else 1
    fill = np.zeros(max(channels, 3), image.dtype)
    fill[:3] = colors
    done = np.empty(shape, image.dtype)
    # As rows of values: numpy is slow where its innermost axis is as short as a colour.
    done.reshape(shape[0], -1)[...] = np.tile(fill[:channels], shape[1])
    done[top : top + height, left : left + width] = image
    return done


def pad_pil(
    image: Image.Image, widths: Widths, colors: int | Sequence[int], mode: Border
) -> Image.Image:
    """A Pillow image with a border; a palette is kept."""
    left, top, right, bottom = widths
    if mode == Border.CONSTANT:
        fill: Any = colors if isinstance(colors, int) else tuple(colors)
        if isinstance(fill, tuple) and image.mode in ("L", "1"):
            fill = fill[0]
        done = ImageOps.expand(image, border=widths, fill=fill)
        if image.mode == "P":
            done.putpalette(image.getpalette())  # type: ignore[arg-type]
        return done
    pixels = np.asarray(image)
    around = ((top, bottom), (left, right), (0, 0))[: pixels.ndim]
    done = Image.fromarray(np.pad(pixels, around, mode=_NUMPY[mode]))  # type: ignore[call-overload]
    if image.mode == "P":
        done.putpalette(image.getpalette())  # type: ignore[arg-type]
    return done


class Pad(ImageOperation):
    """The image with a border.

    Args:
        padding: the width on all sides, (left and right, top and bottom), or (left, top, right,
            bottom), in pixels.
        fill_value: one colour from 0 to 255, or a tuple of three.
        padding_mode: what the border shows.

    Raises:
        TypeError: one is of another kind.
        ValueError: another number of widths, or one is negative.
    """

    def __init__(
        self,
        padding: int | Sequence[int],
        fill_value: int | tuple[int, int, int] = 0,
        padding_mode: Border = Border.CONSTANT,
    ) -> None:
        self.padding = arguments.padding(padding, "Pad.padding")
        self.fill_value = arguments.colors(fill_value, "Pad.fill_value")
        self.padding_mode = arguments.border(padding_mode, "Pad.padding_mode")

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "Pad")
        return pad_array(image, self.padding, self.fill_value, self.padding_mode)

    def _pil(self, image: Image.Image) -> Image.Image:
        return pad_pil(image, self.padding, self.fill_value, self.padding_mode)


class PadToSize(ImageOperation):
    """The image with a border that brings it to a size.

    Args:
        size: of the result: one int for a square, or (height, width).
        offset: where the image lies: one int, or (top, left); None: in the middle.
        fill_value: one colour from 0 to 255, or a tuple of three.
        padding_mode: what the border shows.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        offset: int | Sequence[int] | None = None,
        fill_value: int | tuple[int, int, int] = 0,
        padding_mode: Border = Border.CONSTANT,
    ) -> None:
        check.of_type(size, (int, list, tuple), "PadToSize.size")
        sizes = [size, size] if isinstance(size, int) else list(size)
        if len(sizes) != 2:
            raise ValueError(f"PadToSize.size: expected one length or two, got {size!r}.")
        check.each(sizes, check.positive_int, "PadToSize.size")
        self.offset: list[int] | None = None
        if offset is not None:
            check.of_type(offset, (int, list, tuple), "PadToSize.offset")
            places = [offset, offset] if isinstance(offset, int) else list(offset)
            if len(places) not in (0, 2):
                raise ValueError(f"PadToSize.offset: expected one place or two, got {offset!r}.")
            check.each(places, check.natural, "PadToSize.offset")
            self.offset = places or None
        self.size = sizes
        self.fill_value = arguments.colors(fill_value, "PadToSize.fill_value")
        self.padding_mode = arguments.border(padding_mode, "PadToSize.padding_mode")

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "PadToSize")
        height, width = image.shape[:2]
        rest = self.size[0] - height, self.size[1] - width
        top, left = self.offset or (rest[0] // 2, rest[1] // 2)
        if rest[0] < top or rest[1] < left or min(rest) < 0:
            raise RuntimeError(
                f"PadToSize: the image of {height} x {width} at {(top, left)} does not fit into "
                f"{self.size[0]} x {self.size[1]}."
            )
        widths = (left, top, rest[1] - left, rest[0] - top)
        return pad_array(image, widths, self.fill_value, self.padding_mode)
