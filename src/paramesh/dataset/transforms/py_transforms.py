"""MindSpore 1.x's `dataset.transforms.py_transforms`: the same transforms at the old path."""

import numpy as np

from paramesh.dataset.argument_types import Values
from paramesh.dataset.transforms import columns
from paramesh.dataset.transforms.combining import Compose, RandomApply, RandomChoice, RandomOrder
from paramesh.dataset.transforms.operation import PyTensorOperation, not_random

__all__ = [
    "Compose",
    "OneHotOp",
    "PyTensorOperation",
    "RandomApply",
    "RandomChoice",
    "RandomOrder",
    "not_random",
]


class OneHotOp(columns.OneHot):
    """`transforms.OneHot` as float64, as in MindSpore 1.x.

    Args:
        num_classes: above all labels.
        smoothing_rate: r gives `1 - r + r / num_classes` at the label.

    Raises:
        TypeError: `num_classes` is no int, or `smoothing_rate` no number.
        ValueError: `num_classes` is not above 0, or `smoothing_rate` not from 0 to 1.
    """

    def __call__(self, labels: Values) -> np.ndarray:
        """The rows, as float64."""
        return super().__call__(labels).astype(np.float64)
