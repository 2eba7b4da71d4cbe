"""Functions over Pillow images, by the names of MindSpore's `dataset.vision.py_transforms_util`.

They are internals of MindSpore that scripts import to write transforms of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from paramesh.dataset.argument_types import Picture
from paramesh.dataset.transforms.columns import cast, numpy_type
from paramesh.dataset.vision.adjusting import pil_hue
from paramesh.dataset.vision.images import is_pil, pil
from paramesh.dataset.vision.modes import Border, Inter
from paramesh.dataset.vision.padding import pad_pil
from paramesh.dataset.vision.sizes import resize_pil
from paramesh.dataset.vision.values import ToPIL, ToTensor
from paramesh.dataset.vision.warping import rotate_pil
from paramesh.dtype import DTypeLike

__all__ = [
    "adjust_brightness",
    "adjust_contrast",
    "adjust_hue",
    "adjust_saturation",
    "augment_error_message",
    "crop",
    "equalize",
    "horizontal_flip",
    "invert_color",
    "is_pil",
    "pad",
    "resize",
    "rotate",
    "to_pil",
    "to_tensor",
    "to_type",
    "vertical_flip",
]

#: For scripts that raise an error of their own with it; `{}` is the type that they were given.
augment_error_message = "Expected a Pillow image, got {}. Use Decode() or ToPIL() first."


def adjust_brightness(img: Image.Image, brightness_factor: float) -> Image.Image:
    """The image `brightness_factor` times as bright.

    Raises:
        TypeError: no Pillow image.
    """
    return ImageEnhance.Brightness(pil(img, "adjust_brightness")).enhance(brightness_factor)


def adjust_contrast(img: Image.Image, contrast_factor: float) -> Image.Image:
    """The image blended with its mean gray.

    Raises:
        TypeError: no Pillow image.
    """
    return ImageEnhance.Contrast(pil(img, "adjust_contrast")).enhance(contrast_factor)


def adjust_saturation(img: Image.Image, saturation_factor: float) -> Image.Image:
    """The image blended with its gray image.

    Raises:
        TypeError: no Pillow image.
    """
    return ImageEnhance.Color(pil(img, "adjust_saturation")).enhance(saturation_factor)


def adjust_hue(img: Image.Image, hue_factor: float) -> Image.Image:
    """The image with its hues turned by a share of the circle, from -0.5 to 0.5.

    Raises:
        TypeError: no Pillow image.
        ValueError: the share is outside.
    """
    if not -0.5 <= hue_factor <= 0.5:
        raise ValueError(f"adjust_hue(hue_factor): expected -0.5 to 0.5, got {hue_factor}.")
    return pil_hue(pil(img, "adjust_hue"), hue_factor)


def crop(img: Image.Image, top: int, left: int, height: int, width: int) -> Image.Image:
    """A part of the image; black where it reaches out.

    Raises:
        TypeError: no Pillow image.
    """
    return pil(img, "crop").crop((left, top, left + width, top + height))


def equalize(img: Image.Image) -> Image.Image:
    """The image with a flat histogram in each channel.

    Raises:
        TypeError: no Pillow image.
    """
    return ImageOps.equalize(pil(img, "equalize"))


def horizontal_flip(img: Image.Image) -> Image.Image:
    """The image with left and right exchanged.

    Raises:
        TypeError: no Pillow image.
    """
    return pil(img, "horizontal_flip").transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def vertical_flip(img: Image.Image) -> Image.Image:
    """The image with top and bottom exchanged.

    Raises:
        TypeError: no Pillow image.
    """
    return pil(img, "vertical_flip").transpose(Image.Transpose.FLIP_TOP_BOTTOM)


def invert_color(img: Image.Image) -> Image.Image:
    """255 minus the image.

    Raises:
        TypeError: no Pillow image.
    """
    return ImageOps.invert(pil(img, "invert_color"))


def pad(
    img: Image.Image,
    padding: Sequence[int],
    fill_value: int | Sequence[int],
    padding_mode: str | Border,
) -> Image.Image:
    """The image with a border (left, top, right, bottom).

    Raises:
        TypeError: no Pillow image.
        ValueError: no such mode.
    """
    left, top, right, bottom = padding if len(padding) == 4 else (*padding, *padding)
    return pad_pil(pil(img, "pad"), (left, top, right, bottom), fill_value, Border(padding_mode))


def resize(
    img: Image.Image, size: int | tuple[int, int], interpolation: Inter = Inter.BILINEAR
) -> Image.Image:
    """The image in another size: of the shorter side, or (height, width).

    Raises:
        TypeError: no Pillow image, or no interpolation of Pillow.
    """
    return resize_pil(pil(img, "resize"), size, interpolation, "resize")


def rotate(
    img: Image.Image,
    angle: float,
    resample: Inter,
    expand: bool,
    center: tuple[float, float] | None,
    fill_value: int | Sequence[int],
) -> Image.Image:
    """The image turned counterclockwise, in degrees.

    Raises:
        TypeError: no Pillow image, or no interpolation of Pillow.
        ValueError: ANTIALIAS at another angle than a multiple of 90, or with a centre.
    """
    colors = (fill_value,) * 3 if isinstance(fill_value, int) else fill_value
    return rotate_pil(pil(img, "rotate"), angle, resample, expand, center, colors, "rotate")


def to_pil(img: Picture) -> Image.Image:
    """A Pillow image of an array.

    Raises:
        TypeError: no array, or of a type that Pillow does not have.
        ValueError: of another shape.
    """
    return ToPIL()(img)


def to_tensor(img: Picture, output_type: DTypeLike) -> np.ndarray:
    """`image / 255`, as (channels, height, width).

    Raises:
        TypeError: no image.
    """
    return ToTensor(output_type)(img)


def to_type(img: np.ndarray, output_type: DTypeLike) -> np.ndarray:
    """The array in another element type.

    Raises:
        TypeError: no such type.
    """
    return cast(img, numpy_type(output_type, "to_type(output_type)"))
