"""Flax's `.msgpack` files, to read: nested maps of arrays (`flax.serialization.to_bytes`).

An array is an extension of type 1, a numpy number one of type 3: msgpack of (shape, name of the
element type, bytes). A complex number of Python is one of type 2: msgpack of its parts. Large
arrays are cut: a map with `__msgpack_chunked_array__`, their shape, and chunks of the flat array.
Names are the keys that lead to an array, joined by dots; flax's `params/Dense_0/kernel` is
`params.Dense_0.kernel`.

Source: flax/serialization.py.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from paramesh.array_types import Tree
from paramesh.checkpoint.formats.interface import Entry
from paramesh.checkpoint.formats.loose_arrays import LooseSource
from paramesh.checkpoint.formats.msgpack_tree import Binary, MsgpackReader
from paramesh.checkpoint.formats.storage_dtypes import storage_dtype
from paramesh.dtype import DType

FORMAT = "flax"
SUFFIX = ".msgpack"
_ARRAY, _COMPLEX, _NUMBER = 1, 2, 3
_CHUNKED = "__msgpack_chunked_array__"


def recognise(head: bytes) -> bool:
    """Whether a file begins with a map whose first key is a str, as flax's do."""
    first = {0xDE: 3, 0xDF: 5}.get(head[0], 1 if 0x81 <= head[0] <= 0x8F else 0) if head else 0
    return (
        bool(first) and len(head) > first and (0xA1 <= head[first] <= 0xBF or head[first] == 0xD9)
    )


class FlaxSource(LooseSource):
    """A file of flax open for reading."""

    format = FORMAT

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            reader = MsgpackReader(self._map)
            tree = reader.read()
            if reader.at != self.nbytes:
                raise ValueError(f"its object ends at byte {reader.at}, the file at {self.nbytes}")
            self._take_tree(_joined(tree), self._leaf)
        except (ValueError, UnicodeError) as error:
            self.close()
            raise self.damage(str(error)) from error
        except BaseException:
            self.close()
            raise

    def _leaf(self, name: str, value: object) -> bool:
        if isinstance(value, _Chunks):
            parts = [self._array(each) for each in value.parts]
            kinds = {kind for kind, _, _ in parts}
            if len(kinds) != 1 or sum(math.prod(s) for _, s, _ in parts) != math.prod(value.shape):
                raise self.damage("its chunks do not make an array of its shape", name)
            (kind,) = kinds
            places = tuple((at, math.prod(shape) * kind.itemsize) for _, shape, at in parts)
            self._add(Entry.of(name, kind, value.shape, places[0][0]), places)
            return True
        if not isinstance(value, Binary):
            return False
        if value.code == _COMPLEX:
            self._add_complex(name, value)
            return True
        if value.code not in (_ARRAY, _NUMBER):
            raise self.damage("it is neither an array nor a number that is known", name)
        kind, shape, at = self._array(value)
        self._add_array(name, kind, shape, at)
        return True

    def _add_complex(self, name: str, value: Binary) -> None:
        """A complex number of Python: msgpack of its two parts."""
        found = MsgpackReader(self._map, value.at, value.at + value.size).read()
        if not isinstance(found, list) or [type(part) for part in found] != [float, float]:
            raise self.damage("a complex number is not (real part, imaginary part)", name)
        number = np.array(complex(*found))
        self._add_made(name, storage_dtype(number.dtype), (), lambda: number)

    def _array(self, value: object) -> tuple[DType, tuple[int, ...], int]:
        """Element type, shape and first byte of an extension."""
        if not isinstance(value, Binary) or value.code not in (_ARRAY, _NUMBER):
            raise ValueError("a chunk is no array")
        reader = MsgpackReader(self._map, value.at, value.at + value.size)
        found = reader.read()
        if not isinstance(found, list) or len(found) != 3 or not isinstance(found[2], Binary):
            raise ValueError("an array is not (shape, element type, bytes)")
        shape, name, data = found
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"an array has the shape {shape!r}")
        kind = _dtype(name)
        if math.prod(shape) * kind.itemsize != data.size:
            raise ValueError(f"{kind}{shape} does not take {data.size} bytes")
        return kind, tuple(shape), data.at


def _dtype(name: Any) -> DType:
    try:
        return storage_dtype(np.dtype(name))
    except TypeError as error:
        raise ValueError(f"an array has elements of {name!r}, which cannot be read") from error


class _Chunks:
    """An array that was cut."""

    def __init__(self, shape: tuple[int, ...], parts: list[Any]) -> None:
        self.shape, self.parts = shape, parts


def _joined(tree: Tree) -> Any:
    """The tree with `_Chunks` in the place of arrays that were cut."""
    if not isinstance(tree, dict):
        return [_joined(each) for each in tree] if isinstance(tree, list) else tree
    if _CHUNKED not in tree:
        return {key: _joined(value) for key, value in tree.items()}
    shape, parts = _in_order(tree.get("shape")), _in_order(tree.get("chunks"))
    if not all(type(n) is int and n >= 0 for n in shape) or not parts:
        raise ValueError("an array that was cut has no shape or no chunks")
    return _Chunks(tuple(shape), parts)


def _in_order(value: object) -> list[Any]:
    """A list, which flax writes as a map of its indices."""
    if isinstance(value, dict):
        return [value[key] for key in sorted(value, key=int)]
    return value if isinstance(value, list) else []
