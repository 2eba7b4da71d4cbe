"""Images and bytes from files and to files, and what an image is like."""

from __future__ import annotations

import io
import os

import numpy as np
from PIL import Image

from paramesh.array_types import HostArray
from paramesh.dataset.argument_types import Picture
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision.color_spaces import gray
from paramesh.dataset.vision.decoding import opened, rgb
from paramesh.dataset.vision.images import ranked
from paramesh.dataset.vision.modes import ImageReadMode
from paramesh.tensor import Tensor

__all__ = [
    "encode_jpeg",
    "encode_png",
    "get_image_num_channels",
    "get_image_size",
    "read_file",
    "read_image",
    "write_file",
    "write_jpeg",
    "write_png",
]


def _content(filename: str, name: str) -> bytes:
    check.of_type(filename, str, f"{name}(filename)")
    if not os.path.isfile(filename):
        what = "is not a regular file" if os.path.exists(filename) else "does not exist"
        raise RuntimeError(f"{name}: {filename} {what}.")
    with open(filename, "rb") as file:
        return file.read()


def read_file(filename: str) -> np.ndarray:
    """The bytes of a file, as uint8.

    Raises:
        TypeError: no string.
        RuntimeError: there is no such file.
    """
    return np.frombuffer(_content(filename, "read_file"), np.uint8).copy()


def read_image(filename: str, mode: ImageReadMode = ImageReadMode.UNCHANGED) -> np.ndarray:
    """An image file as (height, width, channels): 3 channels in RGB, or 1 in gray.

    Args:
        filename: its path.
        mode: UNCHANGED: gray files in gray, others in RGB.

    Raises:
        TypeError: one is of another kind.
        RuntimeError: there is no such file, or it cannot be decoded.
    """
    check.of_type(mode, ImageReadMode, "read_image(mode)")
    picture = opened(memoryview(_content(filename, "read_image")), "read_image")
    is_gray = picture.mode in ("1", "L", "I", "I;16")
    if mode == ImageReadMode.UNCHANGED and is_gray:
        return np.array(picture)[..., None]
    if mode == ImageReadMode.GRAYSCALE:
        if is_gray:
            return np.array(picture.convert("L"))[..., None]
        if picture.format == "JPEG":
            # The JPEG library gives the luma of the file itself.
            picture.draft("L", None)
            return np.array(picture.convert("L"))[..., None]
        return gray(np.asarray(rgb(picture, "read_image")))[..., None]
    return np.array(rgb(picture, "read_image"))


def write_file(filename: str, data: HostArray | Tensor) -> None:
    """Write bytes.

    Args:
        filename: its path; a file that is there is replaced.
        data: uint8 of one axis.

    Raises:
        TypeError: one is of another kind.
        RuntimeError: not uint8, or more axes.
    """
    check.of_type(filename, str, "write_file(filename)")
    data = _array(data, "write_file(data)")
    if data.dtype != np.uint8 or data.ndim != 1:
        raise RuntimeError(
            f"write_file: expected uint8 of one axis, got {data.dtype} of the shape {data.shape}."
        )
    with open(filename, "wb") as file:
        file.write(data.tobytes())


def _array(data: HostArray | Tensor, name: str) -> np.ndarray:
    if isinstance(data, np.ndarray):
        return data
    if hasattr(data, "asnumpy"):
        return np.asarray(data.asnumpy())
    raise TypeError(f"{name}: expected an array or a Tensor, got {type(data).__name__}.")


def _picture(image: HostArray | Tensor, name: str) -> Image.Image:
    pixels = ranked(_array(image, f"{name}(image)"), name, (1, 3))
    if pixels.dtype != np.uint8:
        raise RuntimeError(f"{name}: expected uint8, got {pixels.dtype}.")
    return Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels)


def _encoded(
    image: HostArray | Tensor, name: str, form: str, argument: str, value: int, low: int, high: int
) -> bytes:
    check.of_type(value, int, f"{name}({argument})")
    picture = _picture(image, name)
    if not low <= value <= high:
        raise RuntimeError(f"{name}({argument}): expected {low} to {high}, got {value}.")
    buffer = io.BytesIO()
    picture.save(buffer, form, **{argument.replace("compression_level", "compress_level"): value})
    return buffer.getvalue()


def encode_jpeg(image: HostArray | Tensor, quality: int = 75) -> np.ndarray:
    """The bytes of a JPEG file, as uint8.

    Args:
        image: uint8, of 1 or 3 channels.
        quality: from 1 to 100.

    Raises:
        TypeError: one is of another kind.
        RuntimeError: the image does not fit, or `quality` is outside.
    """
    return np.frombuffer(
        _encoded(image, "encode_jpeg", "JPEG", "quality", quality, 1, 100), np.uint8
    ).copy()


def encode_png(image: HostArray | Tensor, compression_level: int = 6) -> np.ndarray:
    """The bytes of a PNG file, as uint8.

    Args:
        image: uint8, of 1 or 3 channels.
        compression_level: from 0 to 9.

    Raises:
        TypeError: one is of another kind.
        RuntimeError: the image does not fit, or `compression_level` is outside.
    """
    data = _encoded(image, "encode_png", "PNG", "compression_level", compression_level, 0, 9)
    return np.frombuffer(data, np.uint8).copy()


def write_jpeg(filename: str, image: HostArray | Tensor, quality: int = 75) -> None:
    """Write a JPEG file.

    Args:
        filename: its path; a file that is there is replaced.
        image: uint8, of 1 or 3 channels.
        quality: from 1 to 100.

    Raises:
        TypeError: one is of another kind.
        RuntimeError: the image does not fit, or `quality` is outside.
    """
    check.of_type(filename, str, "write_jpeg(filename)")
    write_file(filename, encode_jpeg(image, quality))


def write_png(filename: str, image: HostArray | Tensor, compression_level: int = 6) -> None:
    """Write a PNG file.

    Args:
        filename: its path; a file that is there is replaced.
        image: uint8, of 1 or 3 channels.
        compression_level: from 0 to 9.

    Raises:
        TypeError: one is of another kind.
        RuntimeError: the image does not fit, or `compression_level` is outside.
    """
    check.of_type(filename, str, "write_png(filename)")
    write_file(filename, encode_png(image, compression_level))


def get_image_num_channels(image: Picture) -> int:
    """The number of channels.

    Args:
        image: an array (height, width) or (…, height, width, channels), or a Pillow image.

    Raises:
        TypeError: neither.
        RuntimeError: fewer than two axes.
    """
    if isinstance(image, Image.Image):
        return len(image.getbands())
    check.of_type(image, np.ndarray, "get_image_num_channels(image)")
    if image.ndim < 2:
        raise RuntimeError(
            f"get_image_num_channels: expected an image, got the shape {image.shape}."
        )
    return 1 if image.ndim == 2 else int(image.shape[-1])


def get_image_size(image: Picture) -> list[int]:
    """[height, width].

    Args:
        image: an array (height, width) or (…, height, width, channels), or a Pillow image.

    Raises:
        TypeError: neither.
        RuntimeError: fewer than two axes.
    """
    if isinstance(image, Image.Image):
        return [image.height, image.width]
    check.of_type(image, np.ndarray, "get_image_size(image)")
    if image.ndim < 2:
        raise RuntimeError(f"get_image_size: expected an image, got the shape {image.shape}.")
    return [int(n) for n in (image.shape if image.ndim == 2 else image.shape[-3:-1])]
