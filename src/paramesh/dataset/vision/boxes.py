"""Transforms of an image and the boxes of what it shows.

Boxes are float32 rows x, y, width, height, and whatever follows; they have to lie in the image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import Size
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.operation import TensorOperation, seeded
from paramesh.dataset.vision import arguments
from paramesh.dataset.vision.cropping import RandomCrop
from paramesh.dataset.vision.images import ranked
from paramesh.dataset.vision.modes import Border, Inter
from paramesh.dataset.vision.sizes import (
    RandomResizedCrop,
    cut,
    drawn_interpolation,
    resize_array,
)

__all__ = [
    "BoundingBoxAugment",
    "RandomCropWithBBox",
    "RandomHorizontalFlipWithBBox",
    "RandomResizeWithBBox",
    "RandomResizedCropWithBBox",
    "RandomVerticalFlipWithBBox",
    "ResizeWithBBox",
]


def checked(image: np.ndarray, boxes: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The image, and a copy of its boxes.

    Raises:
        TypeError: no arrays.
        RuntimeError: the shapes do not fit, the boxes are not float32, or one reaches out of the
            image.
    """
    check.of_type(image, np.ndarray, f"{name}(image)")
    check.of_type(boxes, np.ndarray, f"{name}(boxes)")
    ranked(image, name)
    if boxes.ndim != 2 or boxes.shape[1] < 4 or boxes.dtype != np.float32:
        raise RuntimeError(
            f"{name}: expected boxes as float32 rows of x, y, width, height, got {boxes.dtype} of "
            "the "
            f"shape {boxes.shape}."
        )
    height, width = image.shape[:2]
    far = boxes[:, :2] + boxes[:, 2:4]
    if (boxes[:, :2] <= -1).any() or (far[:, 0] > width).any() or (far[:, 1] > height).any():
        raise RuntimeError(
            f"{name}: a box reaches out of the image of {height} x {width}: {boxes.tolist()}."
        )
    return image, boxes.copy()


def cut_boxes(boxes: np.ndarray, top: int, left: int, height: int, width: int) -> np.ndarray:
    """The boxes in a part of the image; those that do not touch it are dropped.

    Args:
        boxes: rows of x, y, width, height.
        top: of the part.
        left: of the part.
        height: of the part.
        width: of the part.
    """
    near = boxes[:, :2] - np.array([left, top], np.float32)
    far = near + boxes[:, 2:4]
    size = np.array([width, height], np.float32)
    kept = ((near <= size) & (far >= 0)).all(1)
    done = boxes[kept]
    low = np.maximum(near[kept], 0)
    done[:, :2] = low
    done[:, 2:4] = np.minimum(far[kept], size) - low
    return done


def scaled_boxes(boxes: np.ndarray, before: Sequence[int], after: Sequence[int]) -> np.ndarray:
    """The boxes of an image that goes from one (height, width) to another."""
    ratio = np.array([after[1] / before[1], after[0] / before[0]], np.float32)
    boxes[:, :2] *= ratio
    boxes[:, 2:4] *= ratio
    return boxes


class _Flip(TensorOperation):
    random = True
    _axis = 0

    def __init__(self, prob: float = 0.5) -> None:
        check.probability(prob, f"{type(self).__name__}.prob")
        self.prob = prob

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Flip an image (height, width, …) and its boxes.

        Raises:
            TypeError: no arrays.
            RuntimeError: the shapes do not fit, or a box reaches out of the image.
        """
        image, boxes = checked(image, boxes, type(self).__name__)
        if self.rng.random() < self.prob:
            at = 1 - self._axis
            boxes[:, at] = image.shape[self._axis] - boxes[:, at] - boxes[:, at + 2]
            image = np.ascontiguousarray(np.flip(image, self._axis))
        return image, boxes


class RandomHorizontalFlipWithBBox(_Flip):
    """`RandomHorizontalFlip` of an image and its boxes.

    Args:
        prob: from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """

    _axis = 1


class RandomVerticalFlipWithBBox(_Flip):
    """`RandomVerticalFlip` of an image and its boxes.

    Args:
        prob: from 0 to 1.

    Raises:
        TypeError: it is no number.
        ValueError: it is outside.
    """


class RandomCropWithBBox(RandomCrop):
    """`RandomCrop` of an image and its boxes; those outside of the part are dropped.

    Args:
        size: one int for a square, or (height, width).
        padding: added first, as in `RandomCrop`.
        pad_if_needed: True: an image that is too small gets what is missing on both sides.
        fill_value: of the padding.
        padding_mode: what the padding shows.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        size: Size,
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill_value: int | tuple[int, int, int] = 0,
        padding_mode: Border = Border.CONSTANT,
    ) -> None:
        super().__init__(size, padding, pad_if_needed, fill_value, padding_mode)

    def __call__(  # type: ignore[override]
        self, image: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Crop.

        Raises:
            TypeError: no arrays.
            RuntimeError: the shapes do not fit, or a box reaches out of the image.
        """
        image, boxes = checked(image, boxes, "RandomCropWithBBox")
        part, x, y = self.crop_array(image)
        return part, cut_boxes(boxes, y, x, *self.size)


class ResizeWithBBox(TensorOperation):
    """`Resize` of an image and its boxes.

    Args:
        size: the length of the shorter side, or (height, width), in pixels.
        interpolation: as in `Resize`.

    Raises:
        TypeError: one is of another kind.
        ValueError: a length is not above 0.
    """

    def __init__(self, size: Size, interpolation: Inter = Inter.LINEAR) -> None:
        self.size = arguments.resize_size(size, "ResizeWithBBox.size")
        self.interpolation = arguments.interpolation(interpolation, "ResizeWithBBox.interpolation")

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Resize.

        Raises:
            TypeError: no arrays.
            RuntimeError: the shapes do not fit, or a box reaches out of the image.
        """
        image, boxes = checked(image, boxes, "ResizeWithBBox")
        done = resize_array(image, self.size, self.interpolation, "ResizeWithBBox")
        return done, scaled_boxes(boxes, image.shape, done.shape)


class RandomResizeWithBBox(TensorOperation):
    """`RandomResize` of an image and its boxes.

    Args:
        size: the length of the shorter side, or (height, width), in pixels.

    Raises:
        TypeError: `size` is no int and no two ints.
        ValueError: a length is not above 0.
    """

    random = True

    def __init__(self, size: Size) -> None:
        self.size = arguments.resize_size(size, "RandomResizeWithBBox.size")

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Resize.

        Raises:
            TypeError: no arrays.
            RuntimeError: the shapes do not fit, or a box reaches out of the image.
        """
        name = "RandomResizeWithBBox"
        image, boxes = checked(image, boxes, name)
        done = resize_array(image, self.size, drawn_interpolation(self.rng), name)
        return done, scaled_boxes(boxes, image.shape, done.shape)


class RandomResizedCropWithBBox(RandomResizedCrop):
    """`RandomResizedCrop` of an image and its boxes; those outside of the part are dropped.

    Args:
        size: of the result: one int for a square, or (height, width).
        scale: the smallest and the largest share of the image's area.
        ratio: the smallest and the largest width / height.
        interpolation: as in `Resize`.
        max_attempts: how many parts are drawn until one fits; then the middle is taken.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside, or not (min, max).
    """

    def __call__(  # type: ignore[override]
        self, image: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Crop and resize.

        Raises:
            TypeError: no arrays.
            RuntimeError: the shapes do not fit, or a box reaches out of the image.
        """
        name = "RandomResizedCropWithBBox"
        image, boxes = checked(image, boxes, name)
        box = self._drawn(*image.shape[:2])
        done = resize_array(cut(image, box, name), self.size, self.interpolation, name)
        return done, scaled_boxes(cut_boxes(boxes, *box), box[2:], self.size)


class BoundingBoxAugment(TensorOperation):
    """A transform of the inside of each box, with probability `ratio`.

    Args:
        transform: of an image; what it gives is resized to the box.
        ratio: from 0 to 1.

    Raises:
        TypeError: `transform` cannot be called, or `ratio` is no number.
        ValueError: `transform` is a class, or `ratio` outside.
    """

    random = True

    def __init__(self, transform: Callable[..., Any], ratio: float = 0.3) -> None:
        check.probability(ratio, "BoundingBoxAugment.ratio")
        check.transform(transform, "BoundingBoxAugment.transform")
        self.transform = transform
        self.ratio = ratio

    def seeded(self, rng: np.random.Generator) -> BoundingBoxAugment:
        """A copy whose transform draws from `rng`, too."""
        made = super().seeded(rng)
        made.transform = seeded(self.transform, rng)
        return made

    def __call__(self, image: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Transform the boxes' insides.

        Raises:
            TypeError: no arrays.
            RuntimeError: the shapes do not fit, or a box reaches out of the image.
        """
        name = "BoundingBoxAugment"
        image, boxes = checked(image, boxes, name)
        done = image.copy()
        for left, top, width, height in boxes[:, :4].astype(np.int64).tolist():
            if self.rng.random() >= self.ratio:
                continue
            box = (top, left, height, width)
            part = np.asarray(self.transform(cut(done, box, name).copy()))
            if part.shape[:2] != (height, width):
                part = resize_array(part, (height, width), Inter.LINEAR, name)
            cut(done, box, name)[...] = part
        return done, boxes
