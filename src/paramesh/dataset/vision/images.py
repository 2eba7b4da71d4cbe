"""What a transform of images is given: an array, or a Pillow image.

MindSpore computes the two differently (arrays with OpenCV, Pillow images with Pillow), and so do
these: a transform has `_array`, `_pil`, or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from paramesh.dataset import opencv
from paramesh.dataset.argument_types import Picture
from paramesh.dataset.transforms.operation import TensorOperation


def is_pil(image: Picture) -> bool:
    """True for a Pillow image."""
    return isinstance(image, Image.Image)


class ImageOperation(TensorOperation):
    """A transform of one image. A Pillow image becomes an array if there is no `_pil`."""

    def _array(self, image: np.ndarray) -> Any:
        raise NotImplementedError

    def __call__(self, image: Picture) -> Any:
        """Run over an array or a Pillow image.

        Raises:
            TypeError: it is neither.
            RuntimeError: its shape or element type does not fit.
        """
        if isinstance(image, np.ndarray):
            return self._array(image)
        if isinstance(image, Image.Image):
            run = getattr(self, "_pil", None)
            return self._array(np.asarray(image)) if run is None else run(image)
        raise TypeError(
            f"{type(self).__name__}: expected a numpy array or a Pillow image, got "
            f"{type(image).__name__}."
        )


class PilOperation(TensorOperation):
    """A transform of a Pillow image alone."""

    def _pil(self, image: Image.Image) -> Any:
        raise NotImplementedError

    def __call__(self, image: Picture) -> Any:
        """Run over a Pillow image.

        Raises:
            TypeError: it is none.
        """
        return self._pil(pil(image, type(self).__name__))


def pil(image: Picture, name: str) -> Image.Image:
    """The image, if it is Pillow's.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(image, Image.Image):
        raise TypeError(
            f"{name}: expected a Pillow image, got {type(image).__name__}. Use "
            "Decode(to_pil=True) for "
            "encoded images, ToPIL() for decoded ones."
        )
    return image


def ranked(image: np.ndarray, name: str, channels: Sequence[int] | None = None) -> np.ndarray:
    """The image, if it is (height, width) or (height, width, channels).

    Args:
        image: the array.
        name: of the transform, for errors.
        channels: those that (height, width, channels) may have; None: any.

    Raises:
        RuntimeError: another shape.
    """
    if image.ndim not in (2, 3):
        hint = " Decode it first." if image.ndim == 1 else ""
        raise RuntimeError(
            f"{name}: expected an image (height, width) or (height, width, channels), got the "
            "shape "
            f"{image.shape}.{hint}"
        )
    if channels is not None and image.ndim == 3 and image.shape[2] not in channels:
        wanted = " or ".join(map(str, channels))
        raise RuntimeError(f"{name}: expected {wanted} channels, got the shape {image.shape}.")
    return image


def colored(image: np.ndarray, name: str) -> np.ndarray:
    """The image, if it is (height, width, 3).

    Raises:
        RuntimeError: another shape.
    """
    if image.ndim != 3 or image.shape[2] != 3:
        raise RuntimeError(
            f"{name}: expected an image (height, width, 3), got the shape {image.shape}."
        )
    return image


def saturated(values: np.ndarray, kind: np.dtype[Any]) -> np.ndarray:
    """Float values in the image's type: integers are rounded to even and clipped to their range."""
    if kind.kind in "iu":
        info = np.iinfo(kind)
        np.rint(values, out=values)
        np.clip(values, info.min, info.max, out=values)
    return values.astype(kind, copy=False)


def looked_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """`table[image]`, both of uint8."""
    if opencv.library() is None:
        made = np.frombuffer(bytearray(image.tobytes()).translate(table.tobytes()), np.uint8)
        return made.reshape(image.shape)
    out = np.empty(image.shape, np.uint8)
    opencv.look_up(image, table, out)
    return out


def fill_colors(value: int | Sequence[int], channels: int) -> np.ndarray:
    """A colour for each channel, in uint8; of three colours a gray image takes the first."""
    colors = (
        np.broadcast_to(np.asarray(value, np.uint8), (3,))
        if np.ndim(value) == 0
        else (np.asarray(value, np.uint8))
    )
    return np.resize(colors, channels) if channels > colors.size else colors[:channels]
