"""MindSpore 1.x's `dataset.transforms.c_transforms`: the same transforms at the old path."""

from paramesh.dataset.transforms import columns
from paramesh.dataset.transforms.columns import (
    Concatenate,
    Duplicate,
    Fill,
    Mask,
    PadEnd,
    Relational,
    Slice,
    TypeCast,
    Unique,
)
from paramesh.dataset.transforms.combining import Compose, RandomApply, RandomChoice
from paramesh.dataset.transforms.operation import TensorOperation

__all__ = [
    "Compose",
    "Concatenate",
    "Duplicate",
    "Fill",
    "Mask",
    "OneHot",
    "PadEnd",
    "RandomApply",
    "RandomChoice",
    "Relational",
    "Slice",
    "TensorOperation",
    "TypeCast",
    "Unique",
]


class OneHot(columns.OneHot):
    """`transforms.OneHot` without smoothing.

    Args:
        num_classes: above all labels.

    Raises:
        TypeError: it is no int.
        ValueError: it is not above 0.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
