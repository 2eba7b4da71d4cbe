"""MindSpore 1.x's `dataset.vision.c_transforms`: the transforms of arrays at the old path.

What has changed its arguments since then is here with the old ones.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from paramesh.dataset.argument_types import EncodedImage, Picture, Size
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.vision import decoding, erasing, values
from paramesh.dataset.vision.adjusting import (
    AdjustGamma,
    RandomColor,
    RandomColorAdjust,
    RandomLighting,
)
from paramesh.dataset.vision.batches import CutMixBatch, MixUpBatch
from paramesh.dataset.vision.boxes import (
    BoundingBoxAugment,
    RandomCropWithBBox,
    RandomHorizontalFlipWithBBox,
    RandomResizedCropWithBBox,
    RandomResizeWithBBox,
    RandomVerticalFlipWithBBox,
    ResizeWithBBox,
)
from paramesh.dataset.vision.converting import ConvertColor
from paramesh.dataset.vision.cropping import CenterCrop, Crop, RandomCrop, SlicePatches
from paramesh.dataset.vision.flipping import (
    HorizontalFlip,
    RandomHorizontalFlip,
    RandomVerticalFlip,
    VerticalFlip,
)
from paramesh.dataset.vision.images import ImageOperation, colored
from paramesh.dataset.vision.modes import (
    AutoAugmentPolicy,
    Border,
    ConvertMode,
    ImageBatchFormat,
    Inter,
    SliceMode,
)
from paramesh.dataset.vision.padding import Pad, PadToSize
from paramesh.dataset.vision.policies import AutoAugment, RandomSelectSubpolicy, UniformAugment
from paramesh.dataset.vision.sharpening import (
    GaussianBlur,
    RandomAdjustSharpness,
    RandomSharpness,
)
from paramesh.dataset.vision.sizes import (
    RandomCropDecodeResize,
    RandomResize,
    RandomResizedCrop,
    Resize,
)
from paramesh.dataset.vision.tones import (
    AutoContrast,
    Equalize,
    Invert,
    RandomAutoContrast,
    RandomEqualize,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
from paramesh.dataset.vision.values import HWC2CHW, Rescale
from paramesh.dataset.vision.warping import RandomAffine, RandomRotation, Rotate

__all__ = [
    "AdjustGamma",
    "AutoAugment",
    "AutoAugmentPolicy",
    "AutoContrast",
    "Border",
    "BoundingBoxAugment",
    "CenterCrop",
    "ConvertColor",
    "ConvertMode",
    "Crop",
    "CutMixBatch",
    "CutOut",
    "Decode",
    "Equalize",
    "GaussianBlur",
    "HWC2CHW",
    "HorizontalFlip",
    "ImageBatchFormat",
    "Inter",
    "Invert",
    "MixUpBatch",
    "Normalize",
    "NormalizePad",
    "Pad",
    "PadToSize",
    "RandomAdjustSharpness",
    "RandomAffine",
    "RandomAutoContrast",
    "RandomColor",
    "RandomColorAdjust",
    "RandomCrop",
    "RandomCropDecodeResize",
    "RandomCropWithBBox",
    "RandomEqualize",
    "RandomHorizontalFlip",
    "RandomHorizontalFlipWithBBox",
    "RandomInvert",
    "RandomLighting",
    "RandomPosterize",
    "RandomResize",
    "RandomResizeWithBBox",
    "RandomResizedCrop",
    "RandomResizedCropWithBBox",
    "RandomRotation",
    "RandomSelectSubpolicy",
    "RandomSharpness",
    "RandomSolarize",
    "RandomVerticalFlip",
    "RandomVerticalFlipWithBBox",
    "Rescale",
    "Resize",
    "ResizeWithBBox",
    "RgbToBgr",
    "Rotate",
    "SliceMode",
    "SlicePatches",
    "SoftDvppDecodeRandomCropResizeJpeg",
    "SoftDvppDecodeResizeJpeg",
    "UniformAugment",
    "VerticalFlip",
]


class CutOut(erasing.CutOut):
    """`vision.CutOut` of (height, width, channels).

    Args:
        length: of a side, in pixels.
        num_patches: how many.

    Raises:
        TypeError: one is no int.
        ValueError: one is not above 0.
    """

    def __init__(self, length: int, num_patches: int = 1) -> None:
        super().__init__(length, num_patches)


class Decode(decoding.Decode):
    """`vision.Decode` to an array.

    Args:
        rgb: True: RGB; False: BGR.

    Raises:
        TypeError: it is no bool.
    """

    def __init__(self, rgb: bool = True) -> None:
        check.flag(rgb, "Decode.rgb")
        super().__init__()
        self.rgb = rgb

    def __call__(self, image: EncodedImage | Picture) -> np.ndarray:
        """Decode bytes, or an array of uint8.

        Raises:
            TypeError: it is neither.
            RuntimeError: it cannot be decoded.
        """
        done = super().__call__(image)
        return done if self.rgb else np.ascontiguousarray(done[..., ::-1])


class Normalize(values.Normalize):
    """`vision.Normalize` of (height, width, channels).

    Args:
        mean: one value, or one for each channel, from 0 to 255.
        std: likewise, above 0.

    Raises:
        TypeError: one is no list or tuple of numbers.
        ValueError: they have different lengths, or a value is outside.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(mean, std)


class NormalizePad(values.NormalizePad):
    """`vision.NormalizePad` of (height, width, channels).

    Args:
        mean: for each channel, from 0 to 255.
        std: likewise, above 0.
        dtype: "float32" or "float16".

    Raises:
        TypeError: one is of another kind.
        ValueError: `mean` and `std` have different lengths, or a value is outside.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], dtype: str = "float32") -> None:
        super().__init__(mean, std, dtype)


class RgbToBgr(ImageOperation):
    """An array (height, width, 3) with red and blue exchanged."""

    def _array(self, image: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(colored(image, "RgbToBgr")[..., ::-1])


class SoftDvppDecodeResizeJpeg(ImageOperation):
    """An encoded image, decoded and resized.

    MindSpore imitates the decoder of Ascend here, whose pixels differ by some levels.

    Args:
        size: the length of the shorter side, or (height, width), in pixels.

    Raises:
        TypeError: `size` is no int and no two ints.
        ValueError: a length is not above 0.
    """

    def __init__(self, size: Size) -> None:
        self._resize = Resize(size)
        self._decode = decoding.Decode()

    def __call__(self, image: EncodedImage | Picture) -> np.ndarray:
        """Decode and resize.

        Raises:
            TypeError: no bytes and no array of uint8 of one axis.
            RuntimeError: it cannot be decoded.
        """
        return self._resize(self._decode(image))


class SoftDvppDecodeRandomCropResizeJpeg(RandomCropDecodeResize):
    """`RandomCropDecodeResize`; MindSpore imitates the decoder of Ascend here.

    Args:
        size: of the result: one int for a square, or (height, width).
        scale: the smallest and the largest share of the image's area.
        ratio: the smallest and the largest width / height.
        max_attempts: how many parts are drawn until one fits; then the middle is taken.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or not (min, max).
    """

    def __init__(
        self,
        size: Size,
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0),
        max_attempts: int = 10,
    ) -> None:
        super().__init__(size, scale, ratio, max_attempts=max_attempts)
