"""Transforms of sequences of tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import Values
from paramesh.dataset.text.strings import TextTensorOperation, to_str, words
from paramesh.dataset.transforms import arguments as check
from paramesh.dataset.transforms.columns import numpy_type
from paramesh.dataset.transforms.operation import TensorOperation
from paramesh.dtype import DTypeLike

__all__ = [
    "AddToken",
    "Ngram",
    "PythonTokenizer",
    "SlidingWindow",
    "ToNumber",
    "Truncate",
    "TruncateSequencePair",
]


class AddToken(TextTensorOperation):
    """A sequence, or rows of them, with one more token.

    Args:
        token: the token.
        begin: True: in front; False: at the end.

    Raises:
        TypeError: one is of another kind.
    """

    def __init__(self, token: str, begin: bool = True) -> None:
        check.of_type(token, str, "AddToken.token")
        check.flag(begin, "AddToken.begin")
        self.token = token
        self.begin = begin

    def __call__(self, column: Values) -> np.ndarray:
        """Add it to the last axis.

        Raises:
            RuntimeError: no strings, or not of one or two axes.
        """
        array = words(column, "AddToken")
        if array.ndim not in (1, 2):
            raise RuntimeError(f"AddToken: expected one or two axes, got the shape {array.shape}.")
        more = np.full((*array.shape[:-1], 1), self.token)
        return np.concatenate([more, array] if self.begin else [array, more], -1)


class Ngram(TextTensorOperation):
    """All runs of n neighbouring tokens, joined.

    Args:
        n: how many, or several such numbers.
        left_pad: (token, how many of it come first), as long as at most n - 1 are used.
        right_pad: (token, how many of it come last).
        separator: what joins them.

    Raises:
        TypeError: one is of another kind.
        ValueError: one is outside.
    """

    def __init__(
        self,
        n: int | list[int],
        left_pad: tuple[str, int] = ("", 0),
        right_pad: tuple[str, int] = ("", 0),
        separator: str = " ",
    ) -> None:
        many = [n] if isinstance(n, int) else n
        if not isinstance(many, list) or not many:
            raise ValueError(f"Ngram.n: expected an int or a list of ints, got {n!r}.")
        for i, size in enumerate(many):
            check.of_type(size, int, f"Ngram.n[{i}]")
            check.positive(size, f"Ngram.n[{i}]")
        for pad, name in ((left_pad, "left_pad"), (right_pad, "right_pad")):
            right = isinstance(pad, tuple) and len(pad) == 2
            if not (right and isinstance(pad[0], str) and isinstance(pad[1], int) and pad[1] >= 0):
                raise ValueError(f"Ngram.{name}: expected (token, width), got {pad!r}.")
        check.of_type(separator, str, "Ngram.separator")
        self.ngrams = many
        self.left_pad = left_pad
        self.right_pad = right_pad
        self.separator = separator

    def __call__(self, column: Values) -> np.ndarray:
        """The joined runs; an empty string for an n that is too large.

        Raises:
            RuntimeError: no strings, or not of one axis.
        """
        array = words(column, "Ngram")
        if array.ndim != 1:
            raise RuntimeError(f"Ngram: expected one axis, got the shape {array.shape}.")
        found: list[str] = []
        for n in self.ngrams:
            (first, before), (last, after) = self.left_pad, self.right_pad
            row = [first] * min(before, n - 1) + array.tolist() + [last] * min(after, n - 1)
            runs = [self.separator.join(row[i : i + n]) for i in range(len(row) - n + 1)]
            found += runs or [""]
        return np.array(found)


class SlidingWindow(TextTensorOperation):
    """All runs of neighbouring elements of an array of one axis, as rows.

    Args:
        width: of a run.
        axis: 0 or -1.

    Raises:
        TypeError: one is no int.
        ValueError: `width` is not above 0.
    """

    def __init__(self, width: int, axis: int = 0) -> None:
        check.positive_int(width, "SlidingWindow.width")
        check.of_type(axis, int, "SlidingWindow.axis")
        self.width = width
        self.axis = axis

    def __call__(self, column: Values) -> np.ndarray:
        """The rows; an empty array for a width that is too large.

        Raises:
            RuntimeError: more axes, or another `axis`.
        """
        array = np.asarray(column)
        if array.ndim != 1 or self.axis not in (0, -1):
            raise RuntimeError(
                f"SlidingWindow: expected one axis and axis 0 or -1, got the shape {array.shape} "
                f"and axis {self.axis}."
            )
        if self.width > len(array):
            return array[:0]
        return np.lib.stride_tricks.sliding_window_view(array, self.width).copy()


class ToNumber(TextTensorOperation):
    """Strings as numbers.

    Args:
        data_type: a numeric element type.

    Raises:
        TypeError: it is none.
    """

    def __init__(self, data_type: DTypeLike) -> None:
        self.data_type = numpy_type(data_type, "ToNumber.data_type")
        if self.data_type.kind not in "iuf":
            raise TypeError(f"ToNumber.data_type: expected a numeric type, got {data_type!r}.")

    def __call__(self, column: Values) -> np.ndarray:
        """The numbers, in the shape of the strings.

        Raises:
            RuntimeError: no strings, one that is no number, or a number that is too large.
        """
        array = words(column, "ToNumber")
        kind = self.data_type
        parse: Callable[[str], Any] = float if kind.kind == "f" else int
        try:
            values = [parse(w) for w in array.ravel().tolist()]
        except ValueError as error:
            raise RuntimeError(f"ToNumber: {error}, wanted {kind}.") from None
        info: Any = np.finfo(kind) if kind.kind == "f" else np.iinfo(kind)
        for value in values:
            if not info.min <= value <= info.max:
                raise RuntimeError(
                    f"ToNumber: {value} is outside of {kind}: {info.min} to {info.max}."
                )
        return np.array(values, kind).reshape(array.shape)


class Truncate(TextTensorOperation):
    """A sequence cut at a length; of rows, the last axis is cut.

    Args:
        max_seq_len: the length.

    Raises:
        TypeError: it is no int.
        ValueError: it is not above 0.
    """

    def __init__(self, max_seq_len: int) -> None:
        check.positive_int(max_seq_len, "Truncate.max_seq_len")
        self.max_seq_len = max_seq_len

    def __call__(self, column: Values) -> np.ndarray:
        """The start of the sequence.

        Raises:
            RuntimeError: not of one or two axes.
        """
        array = np.asarray(column)
        if array.ndim not in (1, 2):
            raise RuntimeError(f"Truncate: expected one or two axes, got the shape {array.shape}.")
        return array[..., : self.max_seq_len]


class TruncateSequencePair(TextTensorOperation):
    """Two sequences, cut so that they are not longer than a length together.

    The longer one is cut first; of two as long, the second.

    Args:
        max_length: of both together.

    Raises:
        TypeError: it is no int.
        ValueError: it is negative.
    """

    def __init__(self, max_length: int) -> None:
        check.natural(max_length, "TruncateSequencePair.max_length")
        self.max_length = max_length

    def __call__(self, first: Values, second: Values) -> tuple[np.ndarray, np.ndarray]:
        """The starts of both.

        Raises:
            RuntimeError: one is not of one axis.
        """
        first, second = np.asarray(first), np.asarray(second)
        if first.ndim != 1 or second.ndim != 1:
            raise RuntimeError(
                f"TruncateSequencePair: expected one axis each, got the shapes {first.shape} and "
                f"{second.shape}."
            )
        one, two = len(first), len(second)
        while one + two > self.max_length:
            if one > two:
                one -= 1
            else:
                two -= 1
        return first[:one], second[:two]


class PythonTokenizer(TensorOperation):
    """A function of the user that cuts a string into a list of strings.

    Args:
        tokenizer: the function.

    Raises:
        TypeError: it cannot be called.
    """

    def __init__(self, tokenizer: Callable[[str], list[str]]) -> None:
        if not callable(tokenizer):
            raise TypeError(f"PythonTokenizer.tokenizer: expected a function, got {tokenizer!r}.")
        self.pyfunc = tokenizer

    def __call__(self, column: np.ndarray) -> np.ndarray:
        """The tokens.

        Raises:
            TypeError: no array.
            RuntimeError: the function raised.
        """
        check.of_type(column, np.ndarray, "PythonTokenizer(column)")
        array = to_str(column) if column.dtype.kind == "S" else column
        try:
            rows = [list(self.pyfunc(str(text))) for text in array.flat]
        except Exception as error:
            name = getattr(self.pyfunc, "__name__", repr(self.pyfunc))
            raise RuntimeError(f"PythonTokenizer: {name} raised {error!r}.") from error
        if array.ndim == 0:
            return np.array(rows[0], "U")
        return np.array(rows, "U").reshape(*array.shape, -1)
