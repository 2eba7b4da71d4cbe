"""Mixtures of the images of a batch and of their labels."""

from __future__ import annotations

import numpy as np

from paramesh.dataset.argument_types import Values
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.operation import PyTensorOperation, TensorOperation
from paramesh.dataset.vision.images import saturated
from paramesh.dataset.vision.modes import ImageBatchFormat

__all__ = ["CutMixBatch", "MixUp", "MixUpBatch"]


def _batch(images: Values, labels: Values, name: str) -> tuple[np.ndarray, np.ndarray]:
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim != 4 or labels.ndim not in (2, 3) or len(images) != len(labels):
        raise RuntimeError(
            f"{name}: expected a batch of images (four axes) and as many one-hot labels (two or "
            "three "
            f"axes), got the shapes {images.shape} and {labels.shape}. Batch them first."
        )
    return images, labels.astype(np.float32)


class MixUp(PyTensorOperation):
    """Each image mixed with the next one of the batch, or with those of the batch before.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization (2018).

    Args:
        batch_size: the number of images.
        alpha: of the Beta distribution of the weights, above 0.
        is_single: True: within the batch; False: with the mixture of the batch before.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is not above 0.
    """

    random = True

    def __init__(self, batch_size: int, alpha: float, is_single: bool = True) -> None:
        check.flag(is_single, "MixUp.is_single")
        check.of_type(batch_size, int, "MixUp.batch_size")
        check.number(alpha, "MixUp.alpha")
        check.within(batch_size, 1, check.LARGEST, "MixUp.batch_size")
        check.positive(alpha, "MixUp.alpha")
        self.batch_size = batch_size
        self.alpha = alpha
        self.is_single = is_single
        # Shared by the copies that `seeded` makes.
        self._last: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mix a batch.

        Args:
            image: (batch, …), of four axes.
            label: (batch, classes).

        Returns:
            Both as float64.
        """
        weights = self.rng.beta(self.alpha, self.alpha, self.batch_size)
        others = np.roll(image, -1, 0), np.roll(label, -1, 0)
        if not self.is_single:
            if not self._last:
                weights = np.ones(self.batch_size)
            else:
                others = self._last[0]
        first, second = weights.reshape(-1, 1, 1, 1), weights.reshape(-1, 1)
        mixed = (
            first * image + (1 - first) * others[0],
            second * label + (1 - second) * others[1],
        )
        if not self.is_single:
            self._last[:] = [mixed]
        return mixed


class MixUpBatch(TensorOperation):
    """The images of a batch mixed with others of it, all with the same weight.

    Source: Zhang et al., mixup: Beyond Empirical Risk Minimization (2018).

    Args:
        alpha: of the Beta distribution of the weight, above 0.

    Raises:
        TypeError: it is no number.
        ValueError: it is not above 0.
    """

    random = True

    def __init__(self, alpha: float = 1.0) -> None:
        check.number(alpha, "MixUpBatch.alpha")
        check.positive(alpha, "MixUpBatch.alpha")
        self.alpha = alpha

    def __call__(self, images: Values, labels: Values) -> tuple[np.ndarray, np.ndarray]:
        """Mix a batch.

        Args:
            images: (batch, height, width, channels) or (batch, channels, height, width).
            labels: one-hot, (batch, classes) or (batch, rows, classes).

        Returns:
            The images in their type, the labels as float32.

        Raises:
            RuntimeError: no batch.
        """
        images, labels = _batch(images, labels, "MixUpBatch")
        weight = np.float32(self.rng.beta(self.alpha, self.alpha))
        rest = np.float32(1) - weight
        order = self.rng.permutation(len(images))
        mixed = images * weight + images[order] * rest
        return saturated(mixed, images.dtype), labels * weight + labels[order] * rest


class CutMixBatch(TensorOperation):
    """The images of a batch with rectangles of others of it; the labels are mixed by area.

    Source: Yun et al., CutMix: Regularization Strategy to Train Strong Classifiers (2019).

    Args:
        image_batch_format: the order of the axes.
        alpha: of the Beta distribution of the area, above 0.
        prob: of each image, from 0 to 1.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    random = True

    def __init__(
        self, image_batch_format: ImageBatchFormat, alpha: float = 1.0, prob: float = 1.0
    ) -> None:
        check.of_type(image_batch_format, ImageBatchFormat, "CutMixBatch.image_batch_format")
        check.number(alpha, "CutMixBatch.alpha")
        check.positive(alpha, "CutMixBatch.alpha")
        check.probability(prob, "CutMixBatch.prob")
        self.image_batch_format = image_batch_format
        self.alpha = alpha
        self.prob = prob

    def __call__(self, images: Values, labels: Values) -> tuple[np.ndarray, np.ndarray]:
        """Mix a batch.

        Args:
            images: a batch of 1 or 3 channels.
            labels: one-hot integers, (batch, classes) or (batch, rows, classes).

        Returns:
            The images in their type, the labels as float32.

        Raises:
            RuntimeError: no batch, or labels that are not integers.
        """
        if np.asarray(labels).dtype.kind not in "iu":
            raise RuntimeError("CutMixBatch: expected one-hot labels of integers.")
        images, labels = _batch(images, labels, "CutMixBatch")
        last = self.image_batch_format == ImageBatchFormat.NHWC
        if images.shape[3 if last else 1] not in (1, 3):
            raise RuntimeError(
                f"CutMixBatch: expected 1 or 3 channels in {self.image_batch_format.name}, got the "
                f"shape {images.shape}."
            )
        done, mixed = images.copy(), labels.copy()
        to = done if last else done.transpose(0, 2, 3, 1)
        source = images if last else images.transpose(0, 2, 3, 1)
        height, width = to.shape[1:3]
        order = self.rng.permutation(len(images))
        for i, other in enumerate(order):
            kept = self.rng.beta(self.alpha, self.alpha)
            if self.rng.random() >= self.prob:
                continue
            y, x = self._box(height, width, 1.0 - kept)
            to[i, y, x] = source[other, y, x]
            area = (y.stop - y.start) * (x.stop - x.start)
            share = np.float32(1 - area / (height * width))
            mixed[i] = share * labels[i] + (np.float32(1) - share) * labels[other]
        return done, mixed

    def _box(self, height: int, width: int, ratio: float) -> tuple[slice, slice]:
        """Rows and columns; as in MindSpore, both sides are shortened by the whole `ratio`."""

        def side(length: int) -> slice:
            half = int(length * ratio) // 2
            middle = int(self.rng.integers(length + 1))
            low, high = np.clip([middle - half, middle + half], 0, length - 1).tolist()
            return slice(low, low + min(max(high - low, 1), max(length - 1, 1)))

        columns = side(width)
        return side(height), columns
