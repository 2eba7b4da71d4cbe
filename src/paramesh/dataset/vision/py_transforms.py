"""MindSpore 1.x's `dataset.vision.py_transforms`: the transforms of Pillow images at the old path.

What has changed its arguments or its numbers since then is here with the old ones. Most take
arrays, too, which MindSpore's refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.columns import TypeCast
from paramesh.dataset.transforms.combining import Compose
from paramesh.dataset.transforms.operation import PyTensorOperation, not_random
from paramesh.dataset.vision import decoding
from paramesh.dataset.vision.adjusting import (
    AdjustGamma,
    RandomColor,
    RandomColorAdjust,
    RandomLighting,
)
from paramesh.dataset.vision.batches import MixUp
from paramesh.dataset.vision.converting import Grayscale, HsvToRgb, RandomGrayscale, RgbToHsv
from paramesh.dataset.vision.cropping import CenterCrop, FiveCrop, RandomCrop, TenCrop
from paramesh.dataset.vision.erasing import RandomErasing
from paramesh.dataset.vision.flipping import RandomHorizontalFlip, RandomVerticalFlip
from paramesh.dataset.vision.images import is_pil
from paramesh.dataset.vision.modes import Border, Inter
from paramesh.dataset.vision.padding import Pad
from paramesh.dataset.vision.policies import UniformAugment
from paramesh.dataset.vision.sharpening import RandomSharpness
from paramesh.dataset.vision.sizes import RandomResizedCrop, Resize
from paramesh.dataset.vision.tones import AutoContrast, Equalize, Invert
from paramesh.dataset.vision.values import (
    HWC2CHW,
    LinearTransformation,
    ToPIL,
    ToTensor,
    check_mean_std,
)
from paramesh.dataset.vision.warping import RandomAffine, RandomPerspective, RandomRotation
from paramesh.dtype import DTypeLike

__all__ = [
    "AdjustGamma",
    "AutoContrast",
    "Border",
    "CenterCrop",
    "Compose",
    "Cutout",
    "Decode",
    "Equalize",
    "FiveCrop",
    "Grayscale",
    "HWC2CHW",
    "HsvToRgb",
    "Inter",
    "Invert",
    "LinearTransformation",
    "MixUp",
    "Normalize",
    "NormalizePad",
    "Pad",
    "RandomAffine",
    "RandomColor",
    "RandomColorAdjust",
    "RandomCrop",
    "RandomErasing",
    "RandomGrayscale",
    "RandomHorizontalFlip",
    "RandomLighting",
    "RandomPerspective",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomSharpness",
    "RandomVerticalFlip",
    "Resize",
    "RgbToBgr",
    "RgbToHsv",
    "TenCrop",
    "ToPIL",
    "ToTensor",
    "ToType",
    "UniformAugment",
    "is_pil",
    "not_random",
]


class Decode(decoding.Decode):
    """An encoded image to a Pillow image in RGB."""

    def __init__(self) -> None:
        super().__init__(to_pil=True)


class Normalize(PyTensorOperation):
    """`(image - mean) / std` of an array of floats (channels, height, width), in its type.

    Args:
        mean: one value, or one for each channel, from 0 to 1.
        std: likewise, above 0.

    Raises:
        TypeError: one is no list or tuple of numbers.
        ValueError: they have different lengths, or a value is outside.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        check_mean_std(mean, std, type(self).__name__, 1.0)
        self.mean = mean
        self.std = std

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Normalize.

        Raises:
            TypeError: no array, or not of three axes.
            NotImplementedError: integers.
            ValueError: another number of channels.
        """
        name = type(self).__name__
        check.of_type(image, np.ndarray, f"{name}(image)")
        if image.ndim != 3:
            raise TypeError(
                f"{name}: expected an array (channels, height, width), got the shape {image.shape}."
            )
        if image.dtype.kind in "iu":
            raise NotImplementedError(
                f"{name}: expected floats, got {image.dtype}. Use ToTensor first."
            )
        if len(self.mean) not in (1, image.shape[0]):
            raise ValueError(
                f"{name}: mean and std have {len(self.mean)} values, the image of shape "
                f"{image.shape} "
                f"has {image.shape[0]} channels."
            )
        mean, std = (np.asarray(v, image.dtype)[:, None, None] for v in (self.mean, self.std))
        done = image - mean
        done /= std
        return done


class NormalizePad(Normalize):
    """`Normalize` with one more channel, of zeros.

    Args:
        mean: one value, or one for each channel, from 0 to 1.
        std: likewise, above 0.
        dtype: "float32" (in fact, the image's) or "float16".

    Raises:
        TypeError: one is of another kind.
        ValueError: `mean` and `std` have different lengths, or a value is outside.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], dtype: str = "float32") -> None:
        super().__init__(mean, std)
        check.of_type(dtype, str, "NormalizePad.dtype")
        check.choice(dtype, ("float32", "float16"), "NormalizePad.dtype")
        self.dtype = dtype

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Normalize.

        Raises:
            TypeError: no array, or not of three axes.
            NotImplementedError: integers.
            ValueError: another number of channels.
        """
        done = super().__call__(image)
        done = np.concatenate([done, np.zeros((1, *done.shape[1:]), np.float32)])
        return done.astype(np.float16) if self.dtype == "float16" else done


class Cutout(PyTensorOperation):
    """An array (channels, height, width) with black squares about random middles.

    Args:
        length: of a side, in pixels.
        num_patches: how many.

    Raises:
        TypeError: one is no int.
        ValueError: one is not above 0.
    """

    random = True

    def __init__(self, length: int, num_patches: int = 1) -> None:
        check.of_type(length, int, "Cutout.length")
        check.of_type(num_patches, int, "Cutout.num_patches")
        check.within(length, 1, check.LARGEST, "Cutout.length")
        check.within(num_patches, 1, check.LARGEST, "Cutout.num_patches")
        self.length = length
        self.num_patches = num_patches

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Erase squares.

        Raises:
            TypeError: no array of three axes.
        """
        check.of_type(image, np.ndarray, "Cutout(image)")
        if image.ndim != 3:
            raise TypeError(
                f"Cutout: expected an array (channels, height, width), got the shape {image.shape}."
            )
        done = image.copy()
        height, width = image.shape[1:]
        half = self.length // 2
        for _ in range(self.num_patches):
            y, x = int(self.rng.integers(height)), int(self.rng.integers(width))
            done[:, max(y - half, 0) : y + half, max(x - half, 0) : x + half] = 0
        return done


class RgbToBgr(PyTensorOperation):
    """An image, or a batch of them, with red and blue exchanged.

    Args:
        is_hwc: True: the channels are the last axis; False: the third from the end.

    Raises:
        TypeError: it is no bool.
    """

    def __init__(self, is_hwc: bool = False) -> None:
        check.flag(is_hwc, "RgbToBgr.is_hwc")
        self.is_hwc = is_hwc

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Exchange them.

        Raises:
            TypeError: no array, or of another shape.
        """
        check.of_type(image, np.ndarray, "RgbToBgr(image)")
        axis = -1 if self.is_hwc else -3
        if image.ndim not in (3, 4) or image.shape[axis] != 3:
            raise TypeError(
                f"RgbToBgr: expected 3 channels along axis {axis}, got the shape {image.shape}."
            )
        return np.ascontiguousarray(np.flip(image, axis))


class ToType(TypeCast):
    """The array in another element type.

    Args:
        output_type: of paramesh or numpy, or its name.

    Raises:
        TypeError: it is none.
    """

    def __init__(self, output_type: DTypeLike) -> None:
        super().__init__(output_type)
        self.output_type = output_type
