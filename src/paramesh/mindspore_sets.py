"""MindSpore's operators of sets along the last axis (`ops.operations.sparse_ops`).

The number of elements of a result hangs on values, so they are for use outside of programs. Source:
MindSpore's classes of these names, which are TensorFlow's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from paramesh.tensor.argument_types import TensorLike
from paramesh.tensor.base import Tensor

__all__ = ["DenseToDenseSetOperation", "DenseToSparseSetOperation"]

#: By the leading indices: the members of the set there.
Sets = dict[tuple[int, ...], np.ndarray]

_OPERATIONS = {
    "a-b": np.setdiff1d,
    "b-a": lambda a, b: np.setdiff1d(b, a),
    "intersection": np.intersect1d,
    "union": np.union1d,
}


class _SetOperation:
    """Sets of whole numbers: each last axis of a Tensor is one.

    Args:
        set_operation: `a-b`, `b-a`, `intersection` or `union`.
        validate_indices: whether a sparse operand has to have its positions in order.

    Raises:
        ValueError: another operation. TypeError: `validate_indices` is not a bool.
    """

    def __init__(self, set_operation: str = "a-b", validate_indices: bool = True) -> None:
        name = type(self).__name__
        if set_operation not in _OPERATIONS:
            known = ", ".join(_OPERATIONS)
            raise ValueError(
                f"{name}: set_operation must be one of {known}, got {set_operation!r}."
            )
        if not isinstance(validate_indices, bool):
            raise TypeError(f"{name}: validate_indices must be a bool, got {validate_indices!r}.")
        self.set_operation, self.validate_indices = set_operation, validate_indices

    def _of_rows(
        self, first: Sets, second: Sets, rows: tuple[int, ...], dtype: np.dtype[Any]
    ) -> Any:
        """(positions, elements, shape) of the results, sorted."""
        fn, found, longest = _OPERATIONS[self.set_operation], [], 0
        empty = np.zeros(0, dtype)
        for row in np.ndindex(rows):
            values = fn(first.get(row, empty), second.get(row, empty))
            found += [((*row, i), value) for i, value in enumerate(values)]
            longest = max(longest, len(values))
        places = np.array([place for place, _ in found], np.int64).reshape(-1, len(rows) + 1)
        values = np.array([value for _, value in found], dtype)
        return Tensor(places), Tensor(values), Tensor(np.array([*rows, longest], np.int64))


def _rows_of(x: TensorLike, name: str) -> tuple[Sets, np.ndarray]:
    value = np.asarray(x.asnumpy() if isinstance(x, Tensor) else x)
    if value.ndim < 2 or value.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be whole numbers of at least two axes, got {value.dtype}{value.shape}."
        )
    return {row: value[row] for row in np.ndindex(value.shape[:-1])}, value


class DenseToDenseSetOperation(_SetOperation):
    """A set operation on the last axes of two Tensors: (..., n) and (..., m)."""

    def __call__(self, x1: TensorLike, x2: TensorLike) -> Any:
        """(positions (k, axes), elements (k,), shape (axes,)), the elements of each set sorted.

        Raises:
            ValueError: fewer than two axes, no whole numbers, or other first axes.
        """
        first, one = _rows_of(x1, "x1")
        second, two = _rows_of(x2, "x2")
        if one.shape[:-1] != two.shape[:-1] or one.dtype != two.dtype:
            raise ValueError(
                "x1 and x2 must have one element type, and one shape but for the last axis, got "
                f"{one.dtype}{one.shape} and {two.dtype}{two.shape}."
            )
        return self._of_rows(first, second, one.shape[:-1], one.dtype)


class DenseToSparseSetOperation(_SetOperation):
    """A set operation on the last axes of a Tensor and of one that is given by its elements."""

    def __call__(
        self, x1: TensorLike, x2_indices: TensorLike, x2_values: TensorLike, x2_shape: TensorLike
    ) -> Any:
        """(positions (k, axes), elements (k,), shape (axes,)), the elements of each set sorted.

        Args:
            x1: (..., n).
            x2_indices: (k, axes): positions.
            x2_values: (k,): elements.
            x2_shape: (axes,).

        Raises:
            ValueError: fewer than two axes, other first axes, or positions out of order.
        """
        first, one = _rows_of(x1, "x1")
        places, values, shape = (
            np.asarray(each.asnumpy() if isinstance(each, Tensor) else each)
            for each in (x2_indices, x2_values, x2_shape)
        )
        if tuple(shape[:-1]) != one.shape[:-1] or places.shape != (len(values), one.ndim):
            raise ValueError(
                f"x2 must have the first axes {one.shape[:-1]} of x1 and a position for each "
                f"element, got shape {tuple(shape)} and positions {places.shape}."
            )
        rows = [tuple(int(n) for n in place) for place in places]
        if self.validate_indices and rows != sorted(rows):
            raise ValueError("x2_indices must be sorted; give validate_indices=False otherwise.")
        second: dict[tuple[int, ...], list[int]] = {}
        for place, value in zip(rows, values, strict=True):
            second.setdefault(place[:-1], []).append(value)
        sets = {row: np.array(members, one.dtype) for row, members in second.items()}
        return self._of_rows(first, sets, one.shape[:-1], one.dtype)
