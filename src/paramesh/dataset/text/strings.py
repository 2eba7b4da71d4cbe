"""Columns of strings: what a text transform is given, and how it gives tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from paramesh.dataset.argument_types import Values
from paramesh.dataset.transforms.operation import TensorOperation

__all__ = ["to_bytes", "to_str"]


class TextTensorOperation(TensorOperation):
    """A transform of strings."""


def to_str(array: np.ndarray, encoding: str = "utf8") -> np.ndarray:
    """An array of bytes as strings.

    Args:
        array: of bytes (numpy's S).
        encoding: of the bytes.

    Raises:
        TypeError: no array.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"to_str(array): expected a numpy array, got {type(array).__name__}.")
    return np.char.decode(array, encoding)


def to_bytes(array: np.ndarray, encoding: str = "utf8") -> np.ndarray:
    """An array of strings as bytes.

    Args:
        array: of strings (numpy's U).
        encoding: of the bytes.

    Raises:
        ValueError: no array.
    """
    if not isinstance(array, np.ndarray):
        raise ValueError(f"to_bytes(array): expected a numpy array, got {type(array).__name__}.")
    return np.char.encode(array, encoding)


def words(column: Values, name: str) -> np.ndarray:
    """A column as an array of strings.

    Raises:
        RuntimeError: it holds no strings.
    """
    array = np.asarray(column)
    if array.dtype.kind == "S":
        return to_str(array)
    if array.dtype.kind == "O" and all(isinstance(e, str) for e in array.flat):
        return array.astype("U")
    if array.dtype.kind != "U":
        raise RuntimeError(f"{name}: expected strings, got {array.dtype}.")
    return array


def line(column: Values, name: str) -> str:
    """A column that is one string.

    Raises:
        RuntimeError: it holds no strings, or more than one.
    """
    array = words(column, name)
    if array.ndim:
        raise RuntimeError(f"{name}: expected one string, got an array of shape {array.shape}.")
    return str(array)


def mapped(column: Values, function: Callable[[str], str], name: str) -> np.ndarray:
    """A column with a function run over each string."""
    array = words(column, name)
    done = [function(str(w)) for w in array.flat]
    return np.array(done, "U").reshape(array.shape) if done else array


#: A token, and where it starts and ends, in bytes of UTF-8.
Token = tuple[str, int, int]


def tokens(found: Sequence[Token], with_offsets: bool) -> Any:
    """The result of a tokenizer: the tokens, or tokens, starts and ends (uint32).

    No token at all is one empty one, as in MindSpore.
    """
    found = found or [("", 0, 0)]
    array = np.array([t for t, _, _ in found])
    if not with_offsets:
        return array
    starts = np.array([s for _, s, _ in found], np.uint32)
    return array, starts, np.array([e for _, _, e in found], np.uint32)


def placed(parts: Sequence[tuple[str, bool]]) -> list[Token]:
    """Tokens of a text that is cut into parts.

    Args:
        parts: each part, and whether it is a token.
    """
    found, at = [], 0
    for part, kept in parts:
        end = at + len(part.encode())
        if kept:
            found.append((part, at, end))
        at = end
    return found
