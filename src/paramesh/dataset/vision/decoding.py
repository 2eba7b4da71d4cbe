"""Encoded images to pixels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from paramesh.dataset import opencv
from paramesh.dataset.argument_types import EncodedImage, Picture
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.operation import TensorOperation

__all__ = ["Decode"]


def encoded_bytes(image: object, name: str) -> memoryview:
    """The bytes of an encoded image.

    Args:
        image: bytes, or an array of one axis of uint8 (or of one `bytes`).
        name: of the transform, for errors.

    Raises:
        TypeError: it is none of these.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return memoryview(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"{name}: expected an encoded image as an array of uint8, got {type(image).__name__}."
        )
    if image.dtype.kind == "S" and image.ndim == 0:
        return memoryview(image.tobytes())
    if image.dtype.kind in "US" or image.ndim != 1:
        raise TypeError(
            f"{name}: expected an encoded image, an array of uint8 of one axis, got {image.dtype} "
            "of "
            f"the shape {image.shape}. Is it decoded already?"
        )
    return np.ascontiguousarray(image).data.cast("B")


def opened(data: memoryview, name: str) -> Image.Image:
    """A Pillow image whose pixels are not decoded yet.

    Raises:
        RuntimeError: no image, or of an unknown form.
    """
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise RuntimeError(
            f"{name}: these {data.nbytes} bytes are no image in a form that Pillow knows; they "
            "start "
            f"with {bytes(data[:8])!r}."
        ) from None
    except (OSError, ValueError) as error:
        raise RuntimeError(f"{name}: cannot decode these {data.nbytes} bytes: {error}.") from None


def rgb(picture: Image.Image, name: str) -> Image.Image:
    """The picture decoded, in RGB: alpha is dropped, gray is repeated.

    Raises:
        RuntimeError: the data are damaged.
    """
    try:
        picture.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise RuntimeError(f"{name}: the image is damaged: {error}") from None
    if picture.mode == "CMYK" and picture.format == "JPEG":
        return _of_cmyk(picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def decoded(
    data: memoryview, picture: Image.Image, name: str, box: tuple[int, int, int, int] | None = None
) -> np.ndarray:
    """The pixels, or a part of them.

    Args:
        data: the encoded image.
        picture: `opened` of it.
        name: of the transform, for errors.
        box: (top, left, height, width) of the part; None: all.

    Returns:
        (height, width, 3) of uint8.

    Raises:
        RuntimeError: the data are damaged.
    """
    image = opencv.jpeg(data, picture)
    if box is None:
        return np.array(rgb(picture, name)) if image is None else image
    top, left, height, width = box
    if image is not None:
        return image[top : top + height, left : left + width]
    return np.asarray(rgb(picture, name).crop((left, top, left + width, top + height)))


def _of_cmyk(picture: Image.Image) -> Image.Image:
    """MindSpore multiplies inks as integers; Pillow has inverted those of Adobe's files."""
    inks = np.asarray(picture).astype(np.int32)
    colors, black = 255 - inks[..., :3], 255 - inks[..., 3:]
    return Image.fromarray((colors * black // 255).astype(np.uint8))


class Decode(TensorOperation):
    """An encoded image (JPEG, PNG, BMP, TIFF, …) to RGB.

    JPEG and PNG give MindSpore's bits: both use libjpeg-turbo with its defaults.

    Args:
        to_pil: True: a Pillow image; False: an array (height, width, 3) of uint8.

    Raises:
        TypeError: `to_pil` is no bool.
    """

    def __init__(self, to_pil: bool = False) -> None:
        check.flag(to_pil, "Decode.to_pil")
        self.to_pil = to_pil

    def __call__(self, image: EncodedImage | Picture) -> Any:
        """Decode bytes, or an array of uint8.

        Raises:
            TypeError: it is neither.
            RuntimeError: it cannot be decoded (`to_pil=True`: a ValueError, as in MindSpore).
        """
        data = encoded_bytes(image, "Decode")
        try:
            picture = opened(data, "Decode")
            return rgb(picture, "Decode") if self.to_pil else decoded(data, picture, "Decode")
        except RuntimeError as error:
            if self.to_pil:
                raise ValueError(str(error)) from None
            raise
