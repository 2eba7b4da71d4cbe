"""msgpack, to read: maps, lists, numbers, texts, and where binary data lies in the file.

A reader of its own: the usual one copies binary data, and arrays are to be views of the file's map.

Source: the specification of MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

_DEEPEST = 100
#: Numbers by their first byte: what `struct` calls them.
_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_PLAIN = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(frozen=True)
class Binary:
    """Bytes of the file: from byte `at`, so many.

    Args:
        at: the first.
        size: how many.
        code: of an extension type; None for plain bytes.
    """

    at: int
    size: int
    code: int | None = None


class MsgpackReader:
    """Reads one object from some bytes.

    Attributes:
        at: how far it is.
    """

    def __init__(self, data: Any, at: int = 0, end: int | None = None) -> None:
        self._data, self.at = data, at
        self._end = len(data) if end is None else end

    def read(self, depth: int = 0) -> Any:
        """The object; binary data as `Binary`.

        Raises:
            ValueError: it is damaged.
        """
        if depth > _DEEPEST:
            raise ValueError(f"its objects are nested more than {_DEEPEST} deep")
        first = self._take(1)[0]
        if first <= 0x7F:
            return first
        if first >= 0xE0:
            return first - 0x100
        if first in _PLAIN:
            return _PLAIN[first]
        if first in _NUMBERS:
            form = _NUMBERS[first]
            return struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return self._long(first, depth)

    def _long(self, first: int, depth: int) -> Any:
        if first <= 0x8F or first in (0xDE, 0xDF):
            return self._map(self._count(first, 0x80, 0x0F, 0xDE), depth)
        if first <= 0x9F or first in (0xDC, 0xDD):
            count = self._count(first, 0x90, 0x0F, 0xDC)
            return [self.read(depth + 1) for _ in range(self._few(count))]
        if first <= 0xBF or 0xD9 <= first <= 0xDB:
            size = first & 0x1F if first <= 0xBF else self._length(first - 0xD9)
            return self._take(size).decode("utf-8")
        if 0xC4 <= first <= 0xC6:
            return self._binary(self._length(first - 0xC4))
        if 0xC7 <= first <= 0xC9:
            size = self._length(first - 0xC7)
            return self._binary(size, self._take(1)[0])
        if 0xD4 <= first <= 0xD8:
            return self._binary(1 << (first - 0xD4), self._take(1)[0])
        raise ValueError(f"byte {first:#x} begins nothing")

    def _count(self, first: int, least: int, mask: int, long: int) -> int:
        return first & mask if least <= first <= least + mask else self._length(first - long + 1)

    def _length(self, power: int) -> int:
        return int.from_bytes(self._take(1 << power), "big")

    def _few(self, count: int) -> int:
        """A number of objects, each of which takes a byte at least."""
        if count > self._end - self.at:
            raise ValueError(f"it ends before {count} objects do")
        return count

    def _map(self, count: int, depth: int) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for _ in range(self._few(count)):
            key = self.read(depth + 1)
            if not isinstance(key, str | int) or key in found:
                raise ValueError(f"a map has the key {key!r}")
            found[key] = self.read(depth + 1)
        return found

    def _binary(self, size: int, code: int | None = None) -> Binary:
        begin = self.at
        if begin + size > self._end:
            raise ValueError("it ends in the middle of an array")
        self.at += size
        return Binary(begin, size, code)

    def _take(self, size: int) -> bytes:
        if self.at + size > self._end:
            raise ValueError("it ends in the middle of an object")
        found = bytes(self._data[self.at : self.at + size])
        self.at += size
        return found
