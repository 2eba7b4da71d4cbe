"""OpenCV, where it is installed (`paramesh[images]`): the bits of Pillow and numpy, in less time.

What is done here is equal to the bit in OpenCV 4.10 to 5.0. Cubic interpolation and floats are not:
its builds have other arithmetic for them than MindSpore's.
"""

from __future__ import annotations

import functools
import importlib
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

#: OpenCV counts pixels of an axis in 16 bits.
_LONGEST = (1 << 15) - 1

_local = threading.local()

_END_OF_JPEG = b"\xff\xd9"


@functools.cache
def library() -> ModuleType | None:
    """OpenCV; None: it is not installed, or lacks libraries of the system."""
    try:
        return importlib.import_module("cv2")
    except ImportError:
        return None


def jpeg(data: memoryview | np.ndarray, opened: Image.Image) -> np.ndarray | None:
    """The pixels of a JPEG of three colours; None: Pillow is to decode it.

    Both use libjpeg-turbo with its defaults. OpenCV fills up what is cut off, where Pillow raises.

    Args:
        data: the encoded image, bytes or uint8.
        opened: what Pillow knows of it by its header.
    """
    cv2 = library()
    if cv2 is None or opened.format != "JPEG" or opened.mode != "RGB":
        return None
    if not hasattr(cv2, "IMREAD_COLOR_RGB") or bytes(data[-2:]) != _END_OF_JPEG:
        return None
    how = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    image: np.ndarray | None = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    if image is None or image.shape != (opened.height, opened.width, 3):
        return None
    return image


def resize(image: np.ndarray, height: int, width: int, interpolation: str) -> np.ndarray | None:
    """The image in another size; None: OpenCV is not to do it.

    Args:
        image: (height, width) or (height, width, channels).
        height: of the result.
        width: of the result.
        interpolation: "NEAREST", "LINEAR" or "AREA".
    """
    cv2 = library()
    if cv2 is None or image.dtype != np.uint8 or image.size == 0:
        return None
    if image.ndim == 3 and image.shape[2] > 4:
        return None
    if max(*image.shape[:2], height, width) > _LONGEST:
        return None
    how = getattr(cv2, f"INTER_{interpolation}")
    found: np.ndarray = cv2.resize(image, (width, height), interpolation=how)
    return found.reshape(height, width, *image.shape[2:])


def gray(image: np.ndarray) -> np.ndarray | None:
    """(height, width) of an image (height, width, 3) of uint8 in RGB; None: OpenCV is not there."""
    cv2 = library()
    if cv2 is None or not image.size:
        return None
    found: np.ndarray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return found


def hsv(image: np.ndarray) -> np.ndarray | None:
    """Hue (a circle of 256), saturation and value, likewise. OpenCV's way back differs between
    processors.
    """
    cv2 = library()
    if cv2 is None or not image.size:
        return None
    found: np.ndarray = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    return found


def blur(image: np.ndarray, size: tuple[int, int], sigma: tuple[float, float]) -> np.ndarray | None:
    """The image smoothed by a Gaussian; None: OpenCV is not to do it.

    Args:
        image: (height, width) or (height, width, channels).
        size: taps along x and y, odd.
        sigma: the standard deviations.
    """
    cv2 = library()
    if cv2 is None or image.dtype != np.uint8 or (image.ndim == 3 and image.shape[2] > 4):
        return None
    if min(image.shape[:2]) <= max(size):
        return None
    found: np.ndarray = cv2.GaussianBlur(image, size, sigma[0], sigmaY=sigma[1])
    return found.reshape(image.shape)


def planes(image: np.ndarray) -> Sequence[np.ndarray] | None:
    """The channels of an image of uint8, one after the other; None: OpenCV is not there.

    Args:
        image: (height, width, channels), or a view of it with left and right exchanged.

    Returns:
        Arrays (height, width) that this thread's next call may write to.
    """
    cv2 = library()
    if cv2 is None:
        return None
    height, width, channels = image.shape
    if channels == 1:
        return [np.ascontiguousarray(image[..., 0])]
    if image.strides[1] < 0 < image.strides[0]:
        image = cv2.flip(image[:, ::-1], 1)
    shape = channels, height, width
    memory: np.ndarray | None = getattr(_local, "planes", None)
    if memory is None or memory.shape != shape:
        memory = _local.planes = np.empty(shape, np.uint8)
    found: Sequence[np.ndarray] = cv2.split(image, list(memory))
    return found


def look_up(image: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """Put `table[image]` into `out`.

    Args:
        image: of uint8; (height, width) if the table is not of uint8.
        table: 256 values.
        out: of the image's shape and the table's type.
    """
    cv2 = library()
    if cv2 is None:
        np.take(table, image, out=out, mode="clip")
        return
    found = cv2.LUT(image, table, out)
    if found is not out:
        out[...] = found
