"""Transforms of plain arrays: types, labels, padding, selection.

Numbers and strings are checked against recordings of MindSpore 2.10; where MindSpore's C++ raises a
RuntimeError for a sample that does not fit, so do these.
"""

from __future__ import annotations

import enum
from types import EllipsisType
from typing import Any, TypeAlias

import numpy as np

from paramesh.dataset.argument_types import Values
from paramesh.dataset.pixels import Pixels, made
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.operation import TensorOperation
from paramesh.dtype import DType, DTypeLike, bool_, to_dtype

__all__ = [
    "Concatenate",
    "Duplicate",
    "Fill",
    "Mask",
    "OneHot",
    "PadEnd",
    "Relational",
    "Slice",
    "TypeCast",
    "Unique",
]

#: What `Slice` takes for an axis.
SlicePart: TypeAlias = int | list[int] | slice | EllipsisType | None

_SCALARS = (str, float, bool, int, bytes)


def numpy_type(data_type: DTypeLike | None, name: str) -> np.dtype[Any]:
    """The numpy dtype of an element type, however it is written.

    Args:
        data_type: of paramesh (`paramesh.float32`), of numpy, or its name.
        name: of the argument, for errors.

    Raises:
        TypeError: it is none.
    """
    if data_type is None:
        raise TypeError(f"{name}: expected an element type such as paramesh.float32, got None.")
    try:
        return np.dtype(data_type)
    except TypeError:
        pass
    try:
        return to_dtype(data_type).np_dtype
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}: expected an element type such as paramesh.float32 or np.float32, got "
            f"{data_type!r}."
        ) from None


def cast(array: np.ndarray, target: np.dtype[Any]) -> np.ndarray:
    """The array in another type, as C casts it: towards zero, and modulo the range of integers.

    Args:
        array: numbers or bools.
        target: a numeric type. Equal to the array's: the array itself.

    Raises:
        RuntimeError: strings to numbers, or numbers to strings.
    """
    if array.dtype == target:
        return array
    if (array.dtype.kind in "USO") != (target.kind in "USO"):
        raise RuntimeError(
            f"TypeCast: cannot cast {array.dtype} to {target}. Strings become numbers with "
            "text.ToNumber."
        )
    if array.dtype.kind == "f" and target.kind in "iu" and target.itemsize < 8:
        # Out of range, a direct cast differs between processors; numpy warns of it.
        with np.errstate(invalid="ignore"):
            array = array.astype(np.int64)
    return array.astype(target)


class TypeCast(TensorOperation):
    """The array in another element type.

    Args:
        data_type: of paramesh or numpy, or its name.

    Raises:
        TypeError: it is none.
    """

    #: Each element by itself, so that many rows can be one array.
    elementwise = True

    def __init__(self, data_type: DTypeLike) -> None:
        self.data_type = numpy_type(data_type, "TypeCast.data_type")

    def lazily(self, array: Values | Pixels) -> Any:
        """As when it is called; an image that waits and has the type already goes on waiting."""
        waits = isinstance(array, Pixels) and array.dtype == self.data_type
        return array if waits else self(made(array))

    def __call__(self, array: Values) -> np.ndarray:
        """Cast as C does.

        Raises:
            RuntimeError: strings to numbers, or numbers to strings.
        """
        return cast(np.asarray(array), self.data_type)


class OneHot(TensorOperation):
    """One row of `num_classes` for each label: 1 at the label, 0 elsewhere.

    Args:
        num_classes: above all labels.
        smoothing_rate: r gives `1 - r + r / num_classes` at the label and `r / num_classes`
            elsewhere, as float64 (as in MindSpore 2.10).

    Raises:
        TypeError: `num_classes` is no int, or `smoothing_rate` no number.
        ValueError: `num_classes` is not above 0, or `smoothing_rate` not from 0 to 1.
    """

    def __init__(self, num_classes: int, smoothing_rate: float = 0.0) -> None:
        check.number(smoothing_rate, "OneHot.smoothing_rate")
        check.of_type(num_classes, int, "OneHot.num_classes")
        check.positive(num_classes, "OneHot.num_classes")
        check.within(smoothing_rate, 0.0, 1.0, "OneHot.smoothing_rate")
        self.num_classes = num_classes
        self.smoothing_rate = smoothing_rate

    def __call__(self, labels: Values) -> np.ndarray:
        """The rows, in the labels' type and shape `labels.shape + (num_classes,)`; the last axis of
        labels of shape (n, 1) is dropped first.

        Raises:
            RuntimeError: the labels are not integers, or one is outside.
        """
        labels = np.asarray(labels)
        if labels.dtype.kind not in "iu":
            raise RuntimeError(f"OneHot: expected integer labels, got {labels.dtype}.")
        if labels.ndim == 2 and labels.shape[1] == 1:
            labels = labels[:, 0]
        if labels.ndim > 1:
            raise RuntimeError(
                f"OneHot: expected one label or a row of labels, got the shape {labels.shape}."
            )
        if labels.size and not (labels.min() >= 0 and labels.max() < self.num_classes):
            raise RuntimeError(
                f"OneHot: expected labels from 0 to {self.num_classes - 1} (num_classes="
                f"{self.num_classes}), got {labels.tolist()}."
            )
        rate = self.smoothing_rate
        rows = np.full(
            (*labels.shape, self.num_classes),
            rate / self.num_classes,
            np.float64 if rate else labels.dtype,
        )
        np.put_along_axis(
            rows, labels[..., None].astype(np.intp), 1 - rate + rate / self.num_classes, -1
        )
        return rows


class Fill(TensorOperation):
    """An array of the same shape and type, filled with one value.

    Args:
        fill_value: a number, bool, str or bytes.

    Raises:
        TypeError: it is none of these.
    """

    def __init__(self, fill_value: Values) -> None:
        check.of_type(fill_value, _SCALARS, "Fill.fill_value")
        self.fill_value = fill_value

    def __call__(self, array: Values) -> np.ndarray:
        """The filled array.

        Raises:
            RuntimeError: a string for an array of numbers, or the other way round.
        """
        array = np.asarray(array)
        value = _constant(self.fill_value, array.dtype, "Fill")
        return np.full(array.shape, value)


def _constant(value: Values, target: np.dtype[Any], name: str) -> np.ndarray:
    """A scalar in the type of a column; strings keep their own length."""
    given = np.array(value)
    if (given.dtype.kind in "US") != (target.kind in "US"):
        raise RuntimeError(f"{name}: the value {value!r} does not fit a column of type {target}.")
    if target.kind in "US":
        return given.astype(target.kind)
    return cast(given, target)


class PadEnd(TensorOperation):
    """The array padded at the end of each axis, or cut there, to a shape.

    Args:
        pad_shape: the lengths; None keeps that of the array.
        pad_value: what to pad with; None: 0, or the empty string.

    Raises:
        TypeError: `pad_shape` is no list of ints and None, or `pad_value` no scalar.
        ValueError: a length is not above 0.
    """

    def __init__(
        self, pad_shape: list[int | None], pad_value: float | str | bytes | None = None
    ) -> None:
        if pad_value is not None:
            check.of_type(pad_value, _SCALARS, "PadEnd.pad_value")
        check.of_type(pad_shape, list, "PadEnd.pad_shape")
        for i, length in enumerate(pad_shape):
            if length is not None:
                check.of_type(length, int, f"PadEnd.pad_shape[{i}]")
                check.positive(length, f"PadEnd.pad_shape[{i}]")
        self.pad_shape = list(pad_shape)
        self.pad_value = pad_value

    def __call__(self, array: Values) -> np.ndarray:
        """The padded array.

        Raises:
            RuntimeError: another number of axes, or a value of another kind.
        """
        array = np.asarray(array)
        if array.ndim != len(self.pad_shape):
            raise RuntimeError(
                f"PadEnd: pad_shape {self.pad_shape} is for {len(self.pad_shape)} axes, the array "
                f"has the shape {array.shape}."
            )
        shape = tuple(
            have if want is None else want
            for have, want in zip(array.shape, self.pad_shape, strict=True)
        )
        if shape == array.shape:
            return array
        empty: Any = ("" if array.dtype.kind == "U" else b"") if array.dtype.kind in "US" else 0
        value = _constant(
            empty if self.pad_value is None else self.pad_value, array.dtype, "PadEnd"
        )
        padded = np.full(shape, value, np.result_type(array.dtype, value.dtype))
        kept = tuple(slice(min(a, b)) for a, b in zip(array.shape, shape, strict=True))
        padded[kept] = array[kept]
        return padded


class Concatenate(TensorOperation):
    """Columns joined to one, with arrays before and after them.

    Args:
        axis: 0 or -1.
        prepend: an array of one axis that comes first.
        append: an array of one axis that comes last.

    Raises:
        TypeError: `axis` is no int, or an array none.
        ValueError: another axis, or an array of more axes.
    """

    def __init__(
        self, axis: int = 0, prepend: np.ndarray | None = None, append: np.ndarray | None = None
    ) -> None:
        check.of_type(axis, int, "Concatenate.axis")
        check.choice(axis, (0, -1), "Concatenate.axis")
        for array, name in ((prepend, "prepend"), (append, "append")):
            if array is not None:
                check.of_type(array, np.ndarray, f"Concatenate.{name}")
                if array.ndim != 1:
                    raise ValueError(
                        f"Concatenate.{name}: expected one axis, got the shape {array.shape}."
                    )
        self.axis = axis
        self.prepend = prepend
        self.append = append

    def __call__(self, *columns: Values) -> np.ndarray:
        """The joined array.

        Raises:
            RuntimeError: the types differ, or an array has more than one axis.
        """
        parts = [np.asarray(c) for c in columns]
        parts = [p for p in (self.prepend, *parts, self.append) if p is not None]
        first = parts[0]
        for part in parts:
            same = part.dtype.kind == first.dtype.kind
            if (
                part.ndim != 1
                or not same
                or (first.dtype.kind not in "US" and part.dtype != first.dtype)
            ):
                given = ", ".join(f"{p.dtype}{p.shape}" for p in parts)
                raise RuntimeError(
                    f"Concatenate: expected arrays of one axis and one type, got {given}."
                )
        return np.concatenate(parts)


class Duplicate(TensorOperation):
    """Two copies of one column."""

    def __call__(self, array: Values) -> tuple[np.ndarray, np.ndarray]:
        """The array twice."""
        array = np.asarray(array)
        return array, array.copy()


class Relational(enum.IntEnum):
    """How `Mask` compares."""

    EQ = 0
    NE = 1
    GT = 2
    GE = 3
    LT = 4
    LE = 5


_COMPARE = {
    Relational.EQ: np.equal,
    Relational.NE: np.not_equal,
    Relational.GT: np.greater,
    Relational.GE: np.greater_equal,
    Relational.LT: np.less,
    Relational.LE: np.less_equal,
}


class Mask(TensorOperation):
    """Where a relation holds.

    Args:
        operator: the relation.
        constant: what to compare with, after a cast to the column's type (as in MindSpore: 1.5 is 1
            for integers).
        dtype: the type of the mask.

    Raises:
        TypeError: one of them is of another kind.
    """

    def __init__(self, operator: Relational, constant: Values, dtype: DType | Any = bool_) -> None:
        check.of_type(operator, Relational, "Mask.operator")
        check.of_type(constant, _SCALARS, "Mask.constant")
        self.operator = operator
        self.constant = constant
        self.dtype = numpy_type(dtype, "Mask.dtype")

    def __call__(self, array: Values) -> np.ndarray:
        """The mask, of the array's shape.

        Raises:
            RuntimeError: a string for an array of numbers, or the other way round.
        """
        array = np.asarray(array)
        constant = _constant(self.constant, array.dtype, "Mask")
        return _COMPARE[self.operator](array, constant).astype(self.dtype, copy=False)


class Slice(TensorOperation):
    """A part of the array; every axis keeps its place (an int gives an axis of length 1).

    Args:
        slices: for each axis an int, a list of ints, a slice, or None, True or `...` for all of it.

    Raises:
        TypeError: one is none of these.
    """

    def __init__(self, *slices: SlicePart) -> None:
        for i, part in enumerate(slices):
            if part is None or part is Ellipsis or isinstance(part, (bool, slice)):
                continue
            check.of_type(part, (int, list), f"Slice.slices[{i}]")
            if isinstance(part, list):
                check.numbers_of(part, f"Slice.slices[{i}]", int)
        self.slices = slices

    def __call__(self, array: Values) -> np.ndarray:
        """The part.

        Raises:
            RuntimeError: an index is outside, the part is empty, or there are more slices than
                axes.
        """
        whole = kept = np.asarray(array)
        if len(self.slices) > whole.ndim:
            raise RuntimeError(f"Slice: {len(self.slices)} slices for the shape {whole.shape}.")
        for axis, part in enumerate(self.slices):
            if part is None or part is True or isinstance(part, EllipsisType):
                continue
            if isinstance(part, slice):
                kept = kept[(slice(None),) * axis + (part,)]
            else:
                try:
                    kept = np.take(kept, [part] if isinstance(part, int) else part, axis)
                except IndexError:
                    raise RuntimeError(
                        f"Slice: the index {part} is outside of axis {axis} of the shape "
                        f"{whole.shape}."
                    ) from None
        if not kept.size:
            raise RuntimeError(f"Slice: {self.slices} leaves nothing of the shape {whole.shape}.")
        return kept


class Unique(TensorOperation):
    """The values of the flattened array, each once, in the order in which they come first."""

    def __call__(self, array: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The values, for each element the index of its value (int32), and the counts (int32)."""
        flat = np.asarray(array).reshape(-1)
        values, first, inverse, counts = np.unique(
            flat, return_index=True, return_inverse=True, return_counts=True
        )
        order = np.argsort(first)
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        return values[order], place[inverse].astype(np.int32), counts[order].astype(np.int32)
