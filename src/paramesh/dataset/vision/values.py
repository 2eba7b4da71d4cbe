"""Transforms of pixel values and of the order of axes: what comes last before a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from paramesh.dataset.argument_types import Picture
from paramesh.dataset.pixels import Pixels, Step, lazy, made
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.columns import TypeCast, cast, numpy_type
from paramesh.dataset.transforms.operation import PyTensorOperation
from paramesh.dataset.vision.images import ImageOperation, is_pil, ranked
from paramesh.dtype import DTypeLike

__all__ = [
    "HWC2CHW",
    "LinearTransformation",
    "Normalize",
    "NormalizePad",
    "Rescale",
    "ToNumpy",
    "ToPIL",
    "ToTensor",
    "ToType",
]


def check_mean_std(
    mean: Sequence[float], std: Sequence[float], name: str, largest: float = 255
) -> None:
    """Check the arguments of a normalization.

    Raises:
        TypeError: no lists or tuples of numbers.
        ValueError: of different lengths, or a value is outside.
    """
    check.numbers_of(mean, f"{name}.mean")
    check.numbers_of(std, f"{name}.std")
    if len(mean) != len(std):
        raise ValueError(
            f"{name}: mean and std must have the same length, got {len(mean)} and {len(std)}."
        )
    check.each(mean, lambda v, n: check.within(v, 0, largest, n), f"{name}.mean")
    check.each(std, lambda v, n: check.within(v, 0, largest, n, above=True), f"{name}.std")


class Normalize(ImageOperation):
    """`(image - mean) / std` for each channel, as float32.

    Args:
        mean: one value, or one for each channel, from 0 to 255.
        std: likewise, above 0.
        is_hwc: True: (height, width, channels), or (height, width); False: (channels, height,
            width).

    Raises:
        TypeError: `mean` or `std` is no list or tuple of numbers, or `is_hwc` no bool.
        ValueError: they have different lengths, or a value is outside.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], is_hwc: bool = True) -> None:
        check_mean_std(mean, std, "Normalize")
        check.flag(is_hwc, "Normalize.is_hwc")
        self.mean = mean
        self.std = std
        self.is_hwc = is_hwc
        self._mean = np.asarray(mean, np.float32)
        self._std = np.asarray(std, np.float32)
        self._steps: tuple[Step, ...] = (
            (np.subtract, tuple(self._mean.tolist())),
            (np.divide, tuple(self._std.tolist())),
        )

    def _check(self, shape: tuple[int, ...]) -> None:
        channels = 1 if len(shape) == 2 else shape[2 if self.is_hwc else 0]
        if len(self._std) not in (1, channels):
            raise RuntimeError(
                f"Normalize: mean and std have {len(self._std)} values, the image of shape "
                f"{shape} has {channels} channels."
            )

    def lazily(self, image: Picture | Pixels) -> Any:
        """As when it is called; the result may wait."""
        pixels = lazy(image)
        if pixels is None or (pixels.planar and self.is_hwc):
            return self(made(image))
        self._check(pixels.shape)
        if not (self.is_hwc or pixels.planar or pixels.source.ndim == 2):
            if pixels.steps:  # they are of the channels of the last axis
                return self(made(image))
            pixels = Pixels(pixels.source.transpose(1, 2, 0), True)
        return pixels.then(*self._steps)

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "Normalize")
        self._check(image.shape)
        planes = image if image.ndim == 3 else image[..., None] if self.is_hwc else image[None]
        mean, std = self._mean, self._std
        if planes.dtype.itemsize > 2 and planes.dtype != np.float32:
            planes = planes.astype(np.float32)
        if self.is_hwc:
            # As rows of values: numpy is slow where its innermost axis is as short as a colour.
            planes = planes.reshape(planes.shape[0], -1)
            if len(mean) > 1:
                times = planes.shape[1] // len(mean)
                mean, std = np.tile(mean, times), np.tile(std, times)
        else:
            mean, std = mean[:, None, None], std[:, None, None]
        done = np.subtract(planes, mean, dtype=np.float32)
        done /= std
        return done.reshape(image.shape)


class NormalizePad(ImageOperation):
    """`(image - mean) / std` for each of three channels, and a fourth channel of zeros.

    Args:
        mean: for each channel, from 0 to 255.
        std: likewise, above 0.
        dtype: "float32" or "float16".
        is_hwc: True: (height, width, channels); False: (channels, height, width).

    Raises:
        TypeError: `mean` or `std` is no list or tuple of numbers, `dtype` no string, or `is_hwc` no
            bool.
        ValueError: `mean` and `std` have different lengths, or a value is outside.
    """

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        dtype: str = "float32",
        is_hwc: bool = True,
    ) -> None:
        check_mean_std(mean, std, "NormalizePad")
        check.flag(is_hwc, "NormalizePad.is_hwc")
        check.of_type(dtype, str, "NormalizePad.dtype")
        check.choice(dtype, ("float32", "float16"), "NormalizePad.dtype")
        self.mean = mean
        self.std = std
        self.dtype = dtype
        self.is_hwc = is_hwc
        self._mean = np.asarray(mean, np.float32)
        self._std = np.asarray(std, np.float32)

    def _array(self, image: np.ndarray) -> np.ndarray:
        axis = 2 if self.is_hwc else 0
        if image.ndim != 3 or image.shape[axis] != 3 or len(self._std) != 3:
            raise RuntimeError(
                f"NormalizePad: expected an image of 3 channels along axis {axis} and 3 values of "
                "mean "
                f"and std, got the shape {image.shape} and {len(self._std)} values."
            )
        shape = list(image.shape)
        shape[axis] = 4
        done = np.zeros(shape, np.float32)
        mean, std = self._mean, self._std
        if not self.is_hwc:
            mean, std = mean[:, None, None], std[:, None, None]
        part = done[..., :3] if self.is_hwc else done[:3]
        np.subtract(image, mean, out=part, dtype=np.float32, casting="same_kind")
        part /= std
        return done.astype(np.float16) if self.dtype == "float16" else done


class Rescale(ImageOperation):
    """`image * rescale + shift`, as float32.

    Args:
        rescale: the factor.
        shift: the summand.

    Raises:
        TypeError: one is no number.
        ValueError: one is larger than 2**24.
    """

    def __init__(self, rescale: float, shift: float) -> None:
        for value, name in ((rescale, "rescale"), (shift, "shift")):
            check.number(value, f"Rescale.{name}")
            check.within(value, -check.LARGEST, check.LARGEST, f"Rescale.{name}")
        self.rescale = rescale
        self.shift = shift

    def lazily(self, image: Picture | Pixels) -> Any:
        """As when it is called; the result may wait."""
        pixels = lazy(image)
        if pixels is None:
            return self(image)
        steps: tuple[Step, ...] = ((np.multiply, (self.rescale,)), (np.add, (self.shift,)))
        return pixels.then(*(steps if self.shift else steps[:1]))

    def _array(self, image: np.ndarray) -> np.ndarray:
        if image.dtype.itemsize > 2 and image.dtype != np.float32:
            image = image.astype(np.float32)
        done = np.multiply(image, np.float32(self.rescale), dtype=np.float32)
        if self.shift:
            done += np.float32(self.shift)
        return done


class HWC2CHW(ImageOperation):
    """(height, width, channels) to (channels, height, width); (height, width) stays."""

    def lazily(self, image: Picture | Pixels) -> Any:
        """As when it is called; the result may wait."""
        pixels = lazy(image)
        if pixels is None or pixels.planar:
            return self(made(image))
        return image if pixels.source.ndim == 2 else pixels.with_planes()

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "HWC2CHW")
        return image if image.ndim == 2 else np.ascontiguousarray(image.transpose(2, 0, 1))


class ToTensor(ImageOperation):
    """`image / 255`, as (channels, height, width).

    Args:
        output_type: the element type of the result.

    Raises:
        TypeError: it is none.
    """

    def __init__(self, output_type: DTypeLike = np.float32) -> None:
        self.output_type = numpy_type(output_type, "ToTensor.output_type")

    def lazily(self, image: Picture | Pixels) -> Any:
        """As when it is called; the result may wait."""
        plain = is_pil(image)
        pixels = lazy(np.asarray(image) if plain else image)
        if pixels is None or pixels.planar or self.output_type != np.float32:
            return self(made(image))
        if pixels.source.ndim == 2:
            pixels = pixels.of(pixels.source[..., None])
        step = (np.divide, (255.0,)) if plain else (np.multiply, (1 / np.float32(255),))
        return pixels.with_planes().then(step)

    def _array(self, image: np.ndarray) -> np.ndarray:
        ranked(image, "ToTensor")
        planes = image.transpose(2, 0, 1) if image.ndim == 3 else image[None]
        done = np.multiply(
            planes,
            np.float32(1 / np.float32(255)),
            dtype=np.float32,
            order="C",
            casting="same_kind",
        )
        return cast(done, self.output_type)

    def _pil(self, image: Image.Image) -> np.ndarray:
        pixels = np.asarray(image)
        planes = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
        # The nearest float32 to the quotient, as from float64.
        return cast(
            np.divide(planes, np.float32(255), dtype=np.float32, order="C", casting="same_kind"),
            self.output_type,
        )


class ToPIL(ImageOperation):
    """A Pillow image of an array (height, width), or (height, width, channels) with up to 4
    channels of uint8.
    """

    def _array(self, image: np.ndarray) -> Image.Image:
        if image.ndim not in (2, 3):
            raise ValueError(
                f"ToPIL: expected (height, width) or (height, width, channels), got the shape "
                f"{image.shape}."
            )
        if image.ndim == 3 and image.shape[2] > 4:
            raise ValueError(f"ToPIL: expected up to 4 channels, got the shape {image.shape}.")
        if image.ndim == 3 and image.shape[2] == 1:
            image = image[..., 0]
        if image.ndim == 3 and image.dtype != np.uint8:
            raise TypeError(
                f"ToPIL: expected uint8 for {image.shape[2]} channels, got {image.dtype}."
            )
        if image.dtype.name in ("int64", "uint64", "float16") or image.dtype.kind in "cOUS":
            raise TypeError(f"ToPIL: Pillow has no images of {image.dtype}.")
        return Image.fromarray(image)

    def _pil(self, image: Image.Image) -> Image.Image:
        return image


class ToNumpy(ImageOperation):
    """An array of a Pillow image."""

    def _array(self, image: np.ndarray) -> np.ndarray:
        return image

    def _pil(self, image: Image.Image) -> np.ndarray:
        return np.array(image)


class ToType(TypeCast):
    """The array in another element type: `transforms.TypeCast` by another name."""


class LinearTransformation(PyTensorOperation):
    """`(flattened image - mean_vector) @ transformation_matrix`, in the image's shape.

    Args:
        transformation_matrix: (n, n), n the number of values of an image.
        mean_vector: (n,).

    Raises:
        TypeError: one is no array.
        ValueError: the shapes do not fit.
    """

    def __init__(self, transformation_matrix: np.ndarray, mean_vector: np.ndarray) -> None:
        name = "LinearTransformation"
        check.of_type(transformation_matrix, np.ndarray, f"{name}.transformation_matrix")
        check.of_type(mean_vector, np.ndarray, f"{name}.mean_vector")
        shape = transformation_matrix.shape
        if len(shape) != 2 or shape[0] != shape[1]:
            raise ValueError(
                f"{name}.transformation_matrix: expected a square, got the shape {shape}."
            )
        if mean_vector.shape[0] != shape[0]:
            raise ValueError(
                f"{name}: mean_vector has the length {mean_vector.shape[0]}, "
                "transformation_matrix the "
                f"shape {shape}."
            )
        self.transformation_matrix = transformation_matrix
        self.mean_vector = mean_vector

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The transformed image.

        Raises:
            TypeError: it is no array.
            ValueError: it has another number of values.
        """
        check.of_type(image, np.ndarray, "LinearTransformation(image)")
        if image.size != self.transformation_matrix.shape[0]:
            raise ValueError(
                f"LinearTransformation: the image of shape {image.shape} has {image.size} values, "
                f"transformation_matrix the shape {self.transformation_matrix.shape}."
            )
        centred = image.reshape(1, -1) - self.mean_vector
        return (centred @ self.transformation_matrix).reshape(image.shape)
